"""What the feature cache saves: `python -m bench.features --data DIR`, DIR holding `av/ravdess_actor01`.

Training steps on video clips, from the cache and by decoding the clip, finding the face and encoding both every time,
as the authors' code does: whole steps of phase 2, language model and all; steps in which branches learn alone, as most
samples of phases 1.1 and 1.2 are seen (training/warm_up.py); and what is fetched for them, without any learning. The
same clips in the same run; medians of steps after a warm-up. Writes `bench/results/features.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from bench.machine import machine, timed
from model.build import NANO_EMOX_EMBEDDED, compose, load_encoders
from model.device import keep_freed_memory
from model.nano_emox import EncoderOutputs, NanoEmoX
from model.processor import Processor
from model.weights import locate
from perception.face import FaceFinder
from training import warm_up
from training.config import Phase, RunConfig
from training.data.features import FeatureCache, Part, encoder_ids, outputs
from training.data.mixture import Drawn, Mixture
from training.data.questions import emotion
from training.data.sample import Clip, Sample
from training.freeze import freeze
from training.loop import train_phase
from training.prepare import prepare, read_turn

PARTS: tuple[Part, ...] = ("acoustic", "facial")
OUT = Path(__file__).parent / "results" / "features.json"
STEPS, BATCH = 6, 8
"""The first step of the six is a warm-up."""
STEPS_ALONE = 4
LOOKED_AT = 1024
"""Samples that `warm_up` looks at before its first step."""

Fetch = Callable[[Drawn], EncoderOutputs]


def video_clips(data: Path) -> list[Sample]:
    """The full videos of RAVDESS' one actor: 640 x 360 pixels, 30 frames a second, three to four seconds."""
    videos = sorted((data / "av" / "ravdess_actor01" / "full_mp4").glob("*.mp4"))
    if not videos:
        raise FileNotFoundError(f"there are no videos in {data}/av/ravdess_actor01/full_mp4: name their --data folder")
    asked = emotion("", "sad")
    return [
        Sample(**{**vars(asked), "clip": Clip(video, video), "corpus": "av", "name": video.name}) for video in videos
    ]


def steps_s(model: NanoEmoX, processor: Processor, samples: list[Sample], fetch: Fetch) -> list[float]:
    """Seconds of each training step of phase 2 after the first."""
    phase = Phase({"av": 1.0}, STEPS, lr=1e-4, min_lr=1e-4, batch=BATCH)
    ends: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(
            "nano_emox_embedded", Path(folder), Path(folder), {"2": phase}, log_every=1, save_every=STEPS
        )
        mixture = Mixture({"av": samples}, phase.mixture, config.seed)
        train_phase("2", config, model, processor, mixture, [], fetch, Path(folder), log=lambda _: ends.append(now()))
    return [end - start for start, end in pairwise(ends)]


def steps_alone_s(model: NanoEmoX, samples: list[Sample], cached: Fetch, fetch: Fetch) -> list[float]:
    """Seconds of each step in which the branches learn without the language model."""
    freeze(model, "2")
    mixture = Mixture({"av": samples}, {"av": 1.0}, 0)
    starts: list[float] = []
    n = 0

    def fetched(drawn: Drawn) -> EncoderOutputs:
        nonlocal n
        if n >= LOOKED_AT and (n - LOOKED_AT) % warm_up.BATCH == 0:
            starts.append(now())
        n += 1
        return cached(drawn) if n <= LOOKED_AT else fetch(drawn)

    warm_up.warm_up(model, ("audio", "face"), mixture, fetched, STEPS_ALONE, 0.05)
    return [end - start for start, end in pairwise([*starts, now()])][1:]


def now() -> float:
    """Seconds of a clock that only goes forward."""
    return time.perf_counter()


def bench(data: Path, console: Console) -> dict[str, Any]:
    """Run everything and return the figures."""
    keep_freed_memory()
    facts: dict[str, Any] = {"command": "python -m bench.features", "machine": machine()}
    lm: nn.Module = AutoModelForCausalLM.from_pretrained(
        locate("smollm2"), dtype=torch.bfloat16, local_files_only=True, attn_implementation="eager"
    )
    model = compose(NANO_EMOX_EMBEDDED, lm=lm, branches={"audio", "face", "fusion"}, lora=False)
    load_encoders(model)
    processor = Processor(AutoTokenizer.from_pretrained(locate("smollm2")), NANO_EMOX_EMBEDDED.prompt, face_px=48)
    samples = video_clips(data)
    finder = FaceFinder(locate("mtcnn"))

    def live(drawn: Drawn) -> EncoderOutputs:
        turn = read_turn(drawn.sample.clip, PARTS, lambda: finder)
        return model.encode(processor.inputs(turn, ("audio", "face")))

    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(Path(folder))
        console.print(f"preparing {len(samples)} clips ...")
        facts["prepare_s"], _ = timed(lambda: prepare(samples, model, processor, cache, views={}, parts=PARTS))
        cache = FeatureCache(Path(folder))
        encoders = encoder_ids(model, processor)

        def cached(drawn: Drawn) -> EncoderOutputs:
            return outputs(drawn.sample.clip, cache, encoders)

        for sample in samples:
            a, b = cached(Drawn(sample)), live(Drawn(sample))
            assert a.acoustic is not None
            assert b.acoustic is not None
            torch.testing.assert_close(a.acoustic.hidden.float(), b.acoustic.hidden.float(), rtol=2e-3, atol=2e-3)
        for name, fetch in (("cached", cached), ("live", live)):
            console.print(f"{STEPS} steps of {BATCH}, {name} ...")
            facts[f"{name}_step_s"] = statistics.median(steps_s(model, processor, samples, fetch))
            facts[f"{name}_alone_s"] = statistics.median(steps_alone_s(model, samples, cached, fetch))
            rounds = [timed(lambda f=fetch: [f(Drawn(s)) for s in samples])[0] for _ in range(5)]  # type: ignore[misc]
            facts[f"{name}_fetch_s"] = statistics.median(rounds) / len(samples)
    facts |= {
        "clips": len(samples),
        "batch": BATCH,
        "step_ratio": facts["live_step_s"] / facts["cached_step_s"],
        "alone_ratio": facts["live_alone_s"] / facts["cached_alone_s"],
        "fetch_ratio": facts["live_fetch_s"] / facts["cached_fetch_s"],
    }
    return facts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds av/ravdess_actor01")
    console = Console(highlight=False)
    facts = bench(parser.parse_args().data, console)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(facts, indent=1) + "\n")
    console.print(
        f"a step from the cache {facts['cached_step_s']:.2f} s, decoding and encoding {facts['live_step_s']:.1f} s: "
        f"{facts['step_ratio']:.1f} times the samples/s; branches alone {facts['cached_alone_s']:.2f} s and "
        f"{facts['live_alone_s']:.1f} s: {facts['alone_ratio']:.0f} times; without learning "
        f"{facts['fetch_ratio']:.0f} times\nwritten to {OUT}"
    )


if __name__ == "__main__":
    main()
