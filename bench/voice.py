"""How long a person waits for an answer: `python -m bench.voice --data DIR`, or `make bench-voice`.

Real recordings are played through the voice loop and through a plain Pipecat pipeline (plain_pipeline.py), five turns a
conversation, the two in turns on the same machine. Latency is from the end of speech to the first sample out, as
Pipecat's `UserBotLatencyObserver` measures it for both. Writes `bench/results/voice.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from pipecat.observers.user_bot_latency_observer import UserBotLatencyObserver
from pipecat.pipeline.worker import PipelineWorker
from pipecat.workers.runner import WorkerRunner
from rich.console import Console
from rich.table import Table

from agent.care import Consent
from agent.edge import main_guard
from agent.opening import open_agent, open_ears
from agent.settings import load_settings
from agent.voice.clips import ClipTransport
from agent.voice.pipeline import build_session, smart_turn
from agent.voice.timing import STAGES
from bench.machine import machine
from bench.plain_pipeline import plain_pipeline
from perception.media import read_clip
from perception.types import Speech

OUT = Path(__file__).parent / "results" / "voice.json"
TURNS = 5
"""Of a conversation, so that most turns have a dialogue before them."""
AFTER_S = 0.6
"""Between the end of a reply and the next turn."""


def clips(data: Path, n: int, seed: int = 7) -> list[Path]:
    """English speech of people: four fifths acted by voice alone (validation speakers), a fifth with a face."""
    alone = [
        file for actor in range(17, 21) for file in sorted((data / "speech/ravdess" / f"Actor_{actor}").glob("*.ogg"))
    ]
    faces = sorted((data / "av/ravdess_actor01/full_mp4").glob("*.mp4"))
    draw = random.Random(seed)
    n_faces = min(len(faces), n // 5)
    chosen = draw.sample(alone, n - n_faces) + draw.sample(faces, n_faces)
    draw.shuffle(chosen)
    return chosen


async def converse(worker: PipelineWorker, transport: ClipTransport, sounds: list[np.ndarray], over: Callable[[], int]):
    """Say each clip after the reply to the one before has ended; returns how many got no reply within 30 s."""
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    await asyncio.sleep(1.0)
    unanswered = 0
    for sound in sounds:
        before = over()
        await transport.say(sound)
        for _ in range(1500):
            if over() > before:
                break
            await asyncio.sleep(0.02)
        else:
            unanswered += 1
        await asyncio.sleep(AFTER_S)
    await worker.cancel()
    await running
    return unanswered


class Latencies(UserBotLatencyObserver):
    """Keeps what it measures, and how often a reply has been played to its end."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.parts: list[dict[str, float]] = []
        self.add_event_handler("on_latency_measured", self._measured)
        self.add_event_handler("on_latency_breakdown", self._broken_down)

    async def _measured(self, _: Any, seconds: float) -> None:
        self.seconds.append(seconds)

    async def _broken_down(self, _: Any, breakdown: Any) -> None:
        self.parts.append({part.key: part.duration_secs for part in breakdown.contributions})


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p95 and p99, rounded to milliseconds."""
    return {f"p{q}": round(float(np.percentile(values, q)), 1) for q in (50, 95, 99)} if values else {}


async def measure(data: Path, n: int) -> dict[str, Any]:
    """Run both pipelines over the clips; milliseconds."""
    settings = load_settings()
    ears = open_ears(settings)
    files = clips(data, n)
    sounds = []
    for file in files:
        speech = read_clip(file, want_frames=False).speech
        assert speech is not None
        sounds.append(speech.samples)
    ours: dict[str, list[float]] = {stage: [] for stage in STAGES}
    latencies, peers, peer_parts = [], [], []
    unanswered = {"ours": 0, "plain": 0}
    replies: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as home, open_agent(settings.model_copy(update={"home": Path(home)})) as agent:
        agent.warm_up()
        ears.asr().transcribe(Speech(np.zeros(32_000, np.float32)), "en", in_haste=True)
        smart_turn()(np.zeros(32_000, np.float32))
        for start in range(0, len(sounds), TURNS):
            part = sounds[start : start + TURNS]
            done: list[Any] = []
            transport, observer = ClipTransport(), Latencies()
            session = build_session(
                agent,
                ears,
                transport,
                user="bench",
                thread=f"voice-{start}",
                consent=Consent(),
                report=lambda result, timing, done=done: done.append((result, timing)),
                observers=[observer],
                silence_s=0,
            )
            unanswered["ours"] += await converse(session.worker, transport, part, lambda done=done: len(done))
            latencies += observer.seconds
            for result, timing in done:
                replies.append((result.transcript, result.reply))
                for stage, ms in timing.stages_ms().items():
                    ours[stage].append(ms)

            transport, observer = ClipTransport(), Latencies()
            worker = plain_pipeline(ears.asr(), agent.model, agent.speaker, transport, [observer])
            ended = _count_ends(worker)
            unanswered["plain"] += await converse(worker, transport, part, lambda ended=ended: ended[0])
            peers += observer.seconds
            peer_parts += observer.parts
    keys = dict.fromkeys(key for parts in peer_parts for key in parts)
    return {
        "clips": len(sounds),
        "latency_ms": quantiles([1000 * s for s in latencies]),
        "plain_latency_ms": quantiles([1000 * s for s in peers]),
        "ratio_p50": round(float(np.median(latencies) / np.median(peers)), 3),
        "answered": {"ours": len(latencies), "plain": len(peers)},
        "unanswered": unanswered,
        "stages_ms": {stage: quantiles(values) for stage, values in ours.items()},
        "plain_stages_ms": {
            key: quantiles([1000 * parts[key] for parts in peer_parts if key in parts]) for key in keys
        },
        "replies": replies,
    }


def _count_ends(worker: PipelineWorker) -> list[int]:
    """How often the agent has stopped speaking, counted where frames reach the end of the pipeline."""
    from pipecat.frames.frames import BotStoppedSpeakingFrame

    ends = [0]
    worker.set_reached_downstream_filter((BotStoppedSpeakingFrame,))

    @worker.event_handler("on_frame_reached_downstream")
    async def on_frame_reached_downstream(_: Any, frame: Any) -> None:
        ends[0] += isinstance(frame, BotStoppedSpeakingFrame)

    return ends


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    with main_guard():
        found = asyncio.run(measure(options.data, options.clips))
    replies = found.pop("replies")
    found["command"] = f"python -m bench.voice --data DIR --clips {options.clips}"
    found["machine"] = machine()
    if options.json:
        print(json.dumps(found, indent=1))
        return
    console = Console()
    for said, reply in replies:
        console.print(f"[dim]{said} -> {reply}[/dim]", markup=True, highlight=False)
    table = Table("", "p50", "p95", "p99", title=f"milliseconds over {found['clips']} clips")
    rows = {"latency": found["latency_ms"], "plain Pipecat": found["plain_latency_ms"]}
    rows |= {f"  {stage}": values for stage, values in found["stages_ms"].items()}
    rows |= {f"  plain: {stage}": values for stage, values in found["plain_stages_ms"].items()}
    for name, values in rows.items():
        table.add_row(name, *(str(values.get(q, "")) for q in ("p50", "p95", "p99")))
    console.print(table, f"p50 against the plain pipeline: {found['ratio_p50']}", found["answered"])
    OUT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
