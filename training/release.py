"""Make a checkpoint of a trained run: calibrate its label tasks, measure them, write it: `python -m training.release`.

Calibration is vector scaling (Guo et al. 2017, arXiv:1706.04599), one for each set of modalities, fitted on samples of
the validation splits. The manifest's figures are honest all the same: they come from two scalings, each fitted on every
second unit (speaker, dialogue or sample) and measured on the others.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from rich.progress import track
from torch import Tensor
from torch.nn import functional as F

from model.build import Manifest, checkpoints_language_model, load, save
from model.cache import new_folder
from model.device import keep_freed_memory, on_device
from model.engine import LocalModel
from model.manifest import read_manifest, write_manifest
from model.nano_emox import NanoEmoX
from model.readings import CAUSE_LINES, Scaling, line_logits
from model.types import EMOTIONS, INTENTS, SENTIMENTS, VOICE_EMOTIONS, ModelCard
from model.weights import WeightsError
from perception.face import FaceTracker
from perception.types import Modality, UserTurn

from .benches import MINTREC_INTENTS, find
from .config import RunConfig, load_config
from .data.cases import Case
from .data.mixture import Mixture
from .data.sample import Sample
from .evaluate import chosen
from .loop import TrainingError
from .metrics import classification
from .prepare import read_turn
from .run import build, read_corpora, start_from

DATA = {
    "ravdess": "RAVDESS", "ravdess_av": "RAVDESS", "fer2013": "FER2013", "goemotions": "GoEmotions", "meld": "MELD",
    "situations": "EmpatheticDialogues", "dialogues": "EmpatheticDialogues", "support": "ESConv", "isear": "ISEAR",
    "mintrec_text": "MIntRec", "mintrec2_text": "MIntRec2.0", "reccon": "RECCON", "merr_text": "MERR",
    "meld_text": "MELD",
}  # fmt: skip
"""Corpora as the manifest names them."""

MOST_TOGETHER = 200

LICENCE = "research and personal use: trained on CC BY-NC(-SA) and research-only corpora"


def labels_of(key: str, modalities: Sequence[Modality]) -> tuple[str, ...]:
    """The labels that the model scores for `task/modalities`, with those of the corpus if one is named, when it reads
    these modalities.
    """
    task = key.partition("/")[0]
    if key.endswith(" of MIntRec"):
        return MINTREC_INTENTS
    if task == "emotion":
        return VOICE_EMOTIONS if "voice" in modalities else EMOTIONS
    return {"sentiment": SENTIMENTS, "intent": INTENTS}[task]


@on_device
def score(model: LocalModel, key: str, samples: Sequence[Sample]) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Uncalibrated log-probabilities (N, C) of the labels of `task/modalities`, gold indices (N,), and the labels."""
    task = key.partition("/")[0]
    rows, gold = [], []
    labels: tuple[str, ...] = ()
    for sample in track(samples, f"{key}, {len(samples)} samples"):
        turn = UserTurn(sample.text)
        if sample.clip.sound or sample.clip.pictures:
            turn = replace(read_turn(sample.clip, ("acoustic", "facial"), _no_finder), text=sample.text)
        prefix = model.attend(turn)
        labels = labels_of(key, tuple(prefix.single))
        found = model.classify(prefix, task, labels)
        rows.append(torch.tensor([found[label] for label in labels]).clamp(min=1e-30).log())
        gold.append(labels.index(sample.label))
    return torch.stack(rows), torch.tensor(gold), labels


def fit_scaling(scores: Tensor, gold: Tensor, labels: tuple[str, ...], penalty: float = 0.05) -> Scaling:
    """Weights and biases of least negative log-likelihood; the penalty holds rare labels near one temperature."""
    weight = torch.ones(len(labels), requires_grad=True)
    bias = torch.zeros(len(labels), requires_grad=True)

    def loss() -> Tensor:
        found = F.cross_entropy(weight * scores + bias, gold)
        return found + penalty * ((weight - weight.mean()).square().mean() + bias.square().mean())

    _minimise(loss, weight, bias)
    return Scaling(labels, tuple(weight.tolist()), tuple(bias.tolist()))


def fit_cause_lines(model: LocalModel, cases: Sequence[Case], penalty: float = 0.05) -> Scaling:
    """How the share of a line's clauses becomes the probability that it holds a cause, by how long ago it was said.

    Args:
        model: whose clause shares are read; it must not be calibrated yet.
        cases: dialogues with annotated cause lines, of the training split: there are few others.
    """
    points = [
        (logit, CAUSE_LINES.index(ago), float(line in case.cause_lines))
        for case in track(cases, f"causes, {len(cases)} dialogues")
        for line, logit, ago in line_logits(
            model.causes(model.attend(UserTurn(case.text), case.history), case.gold["emotion"]), len(case.history)
        )
    ]
    logits, at, gold = (torch.tensor(column) for column in zip(*points, strict=True))
    weight = torch.ones(len(CAUSE_LINES), requires_grad=True)
    bias = torch.zeros(len(CAUSE_LINES), requires_grad=True)

    def loss() -> Tensor:
        found = F.binary_cross_entropy_with_logits(weight[at] * logits + bias[at], gold)
        return found + penalty * (weight - weight.mean()).square().mean()

    _minimise(loss, weight, bias)
    return Scaling(CAUSE_LINES, tuple(weight.tolist()), tuple(bias.tolist()))


def _minimise(loss: Callable[[], Tensor], *parameters: Tensor) -> None:
    optimiser = torch.optim.LBFGS(parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        found = loss()
        found.backward()
        return found

    optimiser.step(closure)


def calibration_samples(config: RunConfig, n: int, seed: int = 7) -> dict[str, list[Sample]]:
    """Validation samples by `task/modalities`, at most `n` each, half as many of what several modalities say together,
    which takes longest, and of that at most `MOST_TOGETHER`; a corpus with labels of its own is named behind.
    """
    corpora = read_corpora(config, "valid")
    draw = random.Random(seed)

    def some(task: str, shares: Mapping[str, float]) -> list[Sample]:
        found = []
        for name, share in shares.items():
            mine = [sample for sample in corpora.get(name, ()) if sample.task == task]
            found += draw.sample(mine, min(len(mine), int(share * n)))
        return found

    chosen = {
        "emotion/text": some("emotion", {"goemotions": 0.5, "isear": 0.25, "meld_text": 0.25}),
        "sentiment/text": some("sentiment", {"goemotions": 0.6, "meld_text": 0.4}),
        "intent/text": some("intent", {"mintrec2_text": 1.0}),
        "intent/text of MIntRec": some("intent", {"mintrec_text": 1.0}),
        "emotion/voice": some("emotion", {"ravdess": 1.0}),
        "emotion/face": some("emotion", {"fer2013": 1.0}),
    }
    for pair in ("voice+face", "text+voice", "text+face", "text+voice+face"):
        together = min(n // 2, MOST_TOGETHER)
        drawn = [each.sample for each in Mixture(corpora, {pair: 1.0}, seed).batch(1, 4 * together)]
        chosen[f"emotion/{pair}"] = [sample for sample in drawn if sample.task == "emotion"][:together]
    return chosen


def halves(samples: Sequence[Sample]) -> tuple[list[int], list[int]]:
    """Indices of every second unit, and of the others; a unit is a speaker where speakers are known."""
    units = sorted({sample.speaker or str(i) for i, sample in enumerate(samples)})
    first = set(units[::2])
    mine = [i for i, sample in enumerate(samples) if (sample.speaker or str(i)) in first]
    return mine, sorted(set(range(len(samples))) - set(mine))


def calibrate(model: LocalModel, chosen: Mapping[str, Sequence[Sample]]) -> tuple[dict[str, Scaling], dict[str, float]]:
    """Fit each scaling on its samples; the figures are of each half under the scaling of the other."""
    scaling: dict[str, Scaling] = {}
    metrics: dict[str, float] = {}
    for key, samples in chosen.items():
        if not samples:
            continue
        scores, gold, labels = score(model, key, samples)
        scaling[key] = fit_scaling(scores, gold, labels)
        crossed = torch.empty_like(scores)
        first, second = halves(samples)
        for fitting, unseen in ((first, second), (second, first)):
            crossed[unseen] = scaled(scores[unseen], fit_scaling(scores[fitting], gold[fitting], labels))
        found = classification.scores(crossed.numpy(), gold.numpy())
        metrics |= {f"{key} {name}": round(float(value), 4) for name, value in found.items()}
        metrics[f"{key} n"] = len(samples)
    return scaling, metrics


def scaled(scores: Tensor, scaling: Scaling) -> Tensor:
    """Probabilities (N, C) of scores (N, C)."""
    return (torch.tensor(scaling.weight) * scores + torch.tensor(scaling.bias)).softmax(-1)


def release(config: RunConfig, phase: str, out: Path, n_samples: int, *, lm: Path | None = None) -> Manifest:
    """Calibrate, measure and write the checkpoint of a finished phase."""
    keep_freed_memory()
    after = replace(config, phases={**config.phases, "release": replace(config.phases[phase], start=(phase,))})

    def trained() -> NanoEmoX:
        model, _ = build(config, lm)
        start_from(model, "release", after)
        return model

    model, processor = build(config, lm)
    start_from(model, "release", after)
    model.lm = model.lm.merge_and_unload()
    modalities: tuple[Modality, ...] = ("text", "voice", "face")
    asked = LocalModel(model, processor, ModelCard(config.variant, "", frozenset(modalities)))
    scaling, metrics = calibrate_all(asked, config, n_samples)
    today = datetime.now(UTC).date().isoformat()
    manifest = Manifest(
        variant=config.variant,
        version=f"p2e-{today}-{config.phases[phase].steps}",
        phase=phase,
        modalities=modalities,
        data=tuple(sorted({DATA[name] for name in trained_on(config) if name in DATA})),
        date=today,
        licence=LICENCE,
        metrics=metrics,
        scaling=scaling,
    )
    whole = trained()
    assert isinstance(whole.lm, PeftModel)
    for name, parameter in whole.lm.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    return save(whole, out, manifest)


def recalibrate(config: RunConfig, checkpoint: Path, out: Path, n_samples: int) -> Manifest:
    """Calibrate and measure the weights of a checkpoint again, as is due when it is asked or read otherwise."""
    manifest = read_manifest(checkpoint)
    today = datetime.now(UTC).date().isoformat()
    with new_folder(out) as partial:
        shutil.copytree(checkpoint, partial, dirs_exist_ok=True)
        write_manifest(partial, replace(manifest, scaling={}))
        asked = load(checkpoints_language_model(partial, config.weights), partial)
        scaling, metrics = calibrate_all(asked, config, n_samples)
        version = calibrated_again(manifest.version, today)
        return write_manifest(partial, replace(manifest, version=version, metrics=metrics, scaling=scaling))


def calibrated_again(version: str, today: str) -> str:
    """The version of a checkpoint after a calibration; of several on one day the number is told."""
    weights, _, before = version.partition("+")
    day, _, number = before.partition(".")
    return f"{weights}+{today}" if day != today else f"{weights}+{today}.{int(number or 1) + 1}"


def calibrate_all(
    model: LocalModel, config: RunConfig, n_samples: int
) -> tuple[dict[str, dict[str, Any]], dict[str, float]]:
    """Scalings as a manifest holds them, and its figures, of an uncalibrated model."""
    scaling, metrics = calibrate(model, calibration_samples(config, n_samples))
    if "reccon" in trained_on(config):
        cases = find("reccon", config.data, "train").cases
        scaling["cause/line"] = fit_cause_lines(model, chosen(cases, n_samples, seed=7))
    table = {key: {"labels": [*s.labels], "weight": [*s.weight], "bias": [*s.bias]} for key, s in scaling.items()}
    return table, metrics


def trained_on(config: RunConfig) -> set[str]:
    """The corpora of all phases."""
    return {name.partition("/")[0] for each in config.phases.values() for name in each.mixture}


def _no_finder() -> FaceTracker:
    raise AssertionError("the pictures of calibration samples are faces already")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="the run's YAML")
    parser.add_argument("--data", type=Path, help="folder of the corpora, instead of the configuration's")
    parser.add_argument("--phase", default="3", help="the phase whose result is released")
    parser.add_argument("--checkpoint", type=Path, help="calibrate this one again, instead of what a phase trained")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the checkpoint")
    parser.add_argument("--samples", type=int, default=400, help="validation samples of each kind, as far as there are")
    options = parser.parse_args()
    try:
        config = load_config(options.config, data=options.data)
        if options.checkpoint:
            manifest = recalibrate(config, options.checkpoint, options.out, options.samples)
        else:
            manifest = release(config, options.phase, options.out, options.samples)
    except (ValueError, OSError, WeightsError, TrainingError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")
    print(json.dumps(manifest.metrics, indent=1))


if __name__ == "__main__":
    main()
