"""Fit the embedded variant's voice network on labelled voices: `python -m training.voice_network --help`.

Like the face network it is made before the curriculum and frozen from then on. It is fitted in closed form, a linear
discriminant for each feature of Whisper (model/encoders/discriminant.py), once on all speakers and once for each of
some folds without the speakers of the fold: in the curriculum a voice is read by the network that never heard its
speaker. Otherwise the branches would learn to trust voices that were learnt by heart, and fusion to overrule words by
them (stacked generalisation, Wolpert 1992).

out/statistics.safetensors      of each utterance and its augmented views; encoded once
out/voice_network.safetensors   the network of each fold; fold 0 has heard everybody
out/scores.json                 unweighted recall on speakers that were not fitted on, by shrinkage
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from model.build import ACOUSTICS, NANO_EMOX_EMBEDDED
from model.encoders.acoustic import WhisperAcoustic
from model.types import VOICE_EMOTIONS
from model.weights import WeightsError, locate, read_state
from perception.media import read_clip

from .data.augment import augment, generator
from .data.contents import content_hash
from .data.sample import Sample
from .data.sources import read_corpus
from .files import save_tensors, write_bytes
from .metrics import classification

FITTED_ON = ("ravdess",)
"""Corpora it learns from."""

N_FOLDS = 4
SHRINKAGES = (0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Settings:
    """One run over the corpora in `data`, into the folder `out`."""

    data: Path
    out: Path
    views: int = 8
    """Augmented views of each utterance."""
    shrinkage: float = 0.7
    """0.5 reads unseen actors of the same corpus as well; other corpora are read better with more (docs/LOG.md)."""


def folds(samples: Sequence[Sample]) -> dict[Path, int]:
    """Sound -> the fold, from 1, whose network has not heard its speaker."""
    speakers = sorted({sample.speaker for sample in samples})
    return {s.clip.sound: 1 + speakers.index(s.speaker) % N_FOLDS for s in samples if s.clip.sound is not None}


def load_voice(encoder: WhisperAcoustic, path: Path, left_out: int = 0) -> None:
    """Fill an encoder's discriminants with those of a fold."""
    prefix = f"{left_out}."
    state = {name.removeprefix(prefix): value for name, value in load_file(path).items() if name.startswith(prefix)}
    encoder.discriminants.load_state_dict(state)


def statistics(samples: Sequence[Sample], encoder: WhisperAcoustic, views: int) -> Tensor:
    """Statistics of each sample's utterance and its views: float16 (N, 1 + views, n_blocks, 2 D)."""
    rows = []
    for sample in track(samples, "voices", console=Console(stderr=True)):
        assert sample.clip.sound is not None
        speech = read_clip(sample.clip.sound, want_frames=False).speech
        if speech is None:
            raise ValueError(f"{sample.clip.sound} has no sound: correct the corpus")
        content = content_hash(sample.clip.sound)
        heard = [speech.samples, *(augment(speech.samples, generator(content, v)) for v in range(1, views + 1))]
        rows.append(torch.stack([encoder.statistics(torch.from_numpy(each)) for each in heard]).half())
    return torch.stack(rows)


def fit(
    encoder: WhisperAcoustic, rows: Tensor, labels: Tensor, shrinkage: float, temperatures: Sequence[float]
) -> None:
    """Fit all discriminants on statistics (N, 1 + views, n_blocks, 2 D) with labels (N,)."""
    parts, repeated = encoder.parts(rows.flatten(0, 1).float()), labels.repeat_interleave(rows.shape[1])
    for discriminant, part, temperature in zip(encoder.discriminants, parts, temperatures, strict=True):
        discriminant.fit(part, repeated, shrinkage=shrinkage, temperature=temperature)  # type: ignore[operator]


def temperature(log_probabilities: Tensor, labels: Tensor) -> float:
    """By what to divide scores (N, C) so that they are as sure as they are right, among steps of a tenth."""
    tried = [1.1**k for k in range(40)]
    losses = [F.cross_entropy(log_probabilities / t, labels).item() for t in tried]
    return tried[losses.index(min(losses))]


def cross_fit(
    encoder: WhisperAcoustic, rows: Tensor, labels: Tensor, fold: Tensor, shrinkage: float
) -> tuple[list[float], float]:
    """The temperatures, and unweighted recall, of networks that have not heard the speaker."""
    whole = torch.zeros(len(rows), len(encoder.discriminants), len(VOICE_EMOTIONS))
    ones = [1.0] * len(encoder.discriminants)
    for k in range(1, N_FOLDS + 1):
        fit(encoder, rows[fold != k], labels[fold != k], shrinkage, ones)
        whole[fold == k] = _scores(encoder, rows[fold == k, 0].float())
    found = [temperature(whole[:, i], labels) for i in range(len(encoder.discriminants))]
    return found, classification.scores(whole[:, 0].softmax(-1).numpy(), labels.numpy())["uar"]


def train(settings: Settings, encoder: WhisperAcoustic) -> dict[float, float]:
    """Fit and write; unweighted recall on unheard speakers by shrinkage."""
    samples = [s for name in FITTED_ON for s in read_corpus(name, settings.data, "train").samples]
    labels = torch.tensor([VOICE_EMOTIONS.index(sample.label) for sample in samples])
    at = folds(samples)
    fold = torch.tensor([at[sample.clip.sound] for sample in samples if sample.clip.sound is not None])
    kept = settings.out / "statistics.safetensors"
    rows = load_file(kept)["rows"] if kept.is_file() else statistics(samples, encoder, settings.views)
    if rows.shape[:2] != (len(samples), 1 + settings.views):
        raise ValueError(f"{kept} is of other voices: name another folder with --out, or remove it")
    settings.out.mkdir(parents=True, exist_ok=True)
    save_tensors({"rows": rows}, kept)

    crossed = {s: cross_fit(encoder, rows, labels, fold, s) for s in sorted({*SHRINKAGES, settings.shrinkage})}
    recalls = {shrinkage: recall for shrinkage, (_, recall) in crossed.items()}
    temperatures, _ = crossed[settings.shrinkage]
    state: dict[str, Tensor] = {}
    for k in range(N_FOLDS + 1):
        fit(encoder, rows[fold != k], labels[fold != k], settings.shrinkage, temperatures)
        state |= {f"{k}.{name}": value.clone() for name, value in encoder.discriminants.state_dict().items()}
    save_tensors(state, settings.out / "voice_network.safetensors")
    facts = {"shrinkage": settings.shrinkage, "temperatures": temperatures, "uar": recalls, "n": len(samples)}
    write_bytes((json.dumps(facts, indent=1) + "\n").encode(), settings.out / "scores.json")
    return recalls


def _scores(encoder: WhisperAcoustic, rows: Tensor) -> Tensor:
    """Scores before they become log-probabilities, which are cut off below: (N, n_discriminants, C)."""
    read = zip(encoder.discriminants, encoder.parts(rows), strict=True)
    return torch.stack([discriminant.scores(part) for discriminant, part in read], 1)  # type: ignore[operator]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--out", type=Path, required=True, help="folder for the network")
    parser.add_argument("--views", type=int, default=Settings.views, help="augmented views of each utterance")
    parser.add_argument("--shrinkage", type=float, default=Settings.shrinkage, help="of the covariance, 0 to 1")
    settings = Settings(**vars(parser.parse_args()))
    encoder = ACOUSTICS[NANO_EMOX_EMBEDDED.acoustic]()
    assert isinstance(encoder, WhisperAcoustic)
    try:
        encoder.load_encoder(read_state(locate("whisper-base-encoder")))
        recalls = train(settings, encoder)
    except (ValueError, OSError, WeightsError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    for shrinkage, recall in recalls.items():
        print(f"shrinkage {shrinkage}: unweighted recall {recall:.3f} on speakers not fitted on")


if __name__ == "__main__":
    main()
