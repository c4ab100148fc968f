"""What the feature cache saves: `python -m bench.features --data DIR`, DIR holding `speech/ravdess`.

Batches of encoder outputs as phase 1.1 trains on them, from the cache and by decoding and encoding each clip again,
the same clips in the same run with the embedded variant's speech encoder; medians of five rounds after a warm-up.
The trained branches and the language model, which cost the same either way, are left out.
Writes `bench/results/features.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from transformers import AutoTokenizer

from bench.turn import machine, timed
from model.build import ACOUSTICS, NANO_EMOX_EMBEDDED
from model.encoders.features import Features
from model.nano_emox import NanoEmoX
from model.processor import Processor
from model.weights import locate, read_state
from perception.face import FaceTracker
from training.data.clips import ravdess
from training.data.features import FeatureCache, Part, encoder_ids, outputs, stack
from training.data.sample import Sample
from training.prepare import prepare, read_turn

PARTS: tuple[Part, ...] = ("acoustic",)
OUT = Path(__file__).parent / "results" / "features.json"
N_CLIPS, BATCH, ROUNDS = 40, 8, 5


def from_cache(batch: Sequence[Sample], cache: FeatureCache, encoders: dict[Part, str]) -> Features:
    """A batch as training reads it."""
    rows = [outputs(sample.clip, cache, encoders).acoustic for sample in batch]
    return stack([row for row in rows if row is not None])


def live(batch: Sequence[Sample], model: NanoEmoX, processor: Processor) -> Features:
    """The same batch without a cache."""
    rows = []
    for sample in batch:
        turn = read_turn(sample.clip, PARTS, _no_faces)
        rows.append(model.encode(processor.inputs(turn, ("audio",))).acoustic)
    return stack([row for row in rows if row is not None])


def _no_faces() -> FaceTracker:
    raise AssertionError("voices have no faces to find")


@torch.inference_mode()
def bench(data: Path, console: Console) -> dict[str, Any]:
    """Run everything and return the figures."""
    facts: dict[str, Any] = {"command": "python -m bench.features", "machine": machine()}
    acoustic = ACOUSTICS[NANO_EMOX_EMBEDDED.acoustic]()
    acoustic.load_encoder(read_state(locate("whisper-base-encoder")))  # type: ignore[operator]
    model = NanoEmoX(nn.Identity(), acoustic=acoustic)
    processor = Processor(AutoTokenizer.from_pretrained(locate("smollm2")), NANO_EMOX_EMBEDDED.prompt)
    samples = list(islice(ravdess(data / "speech" / "ravdess", "train"), 0, None, 23))[:N_CLIPS]
    batches = [samples[i : i + BATCH] for i in range(0, len(samples), BATCH)]
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder))
        console.print(f"preparing {len(samples)} clips ...")
        facts["prepare_s"], report = timed(lambda: prepare(samples, model, processor, cache, views={}, parts=PARTS))
        if report.skipped:
            raise ValueError(f"{report.skipped[0][0]} cannot be used: {report.skipped[0][1]}")
        facts["cache_mb"] = sum(path.stat().st_size for path in Path(folder).glob("*.safetensors")) / 1e6
        encoders = encoder_ids(model, processor)
        facts["open_s"], cache = timed(lambda: FeatureCache(Path(folder)))
        rounds = []
        for number in range(ROUNDS + 1):
            console.print(f"round {number} of {ROUNDS} ...")
            cached_s, cached = timed(lambda: [from_cache(batch, cache, encoders) for batch in batches])
            live_s, encoded = timed(lambda: [live(batch, model, processor) for batch in batches])
            for a, b in zip(cached, encoded, strict=True):
                torch.testing.assert_close(a.hidden, b.hidden, rtol=2e-3, atol=2e-3)
            rounds.append((len(samples) / cached_s, len(samples) / live_s))
    rounds = rounds[1:]
    facts |= {
        "clips": len(samples),
        "batch": BATCH,
        "cached_samples_per_s": statistics.median(cached for cached, _ in rounds),
        "live_samples_per_s": statistics.median(live for _, live in rounds),
        "ratio": statistics.median(cached / live for cached, live in rounds),
    }
    return facts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds speech/ravdess")
    console = Console(highlight=False)
    facts = bench(parser.parse_args().data, console)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(facts, indent=1) + "\n")
    console.print(
        f"from the cache {facts['cached_samples_per_s']:.0f} samples/s, decoding and encoding "
        f"{facts['live_samples_per_s']:.1f} samples/s, ratio {facts['ratio']:.0f}\nwritten to {OUT}"
    )


if __name__ == "__main__":
    main()
