"""Whether voice conversations stay healthy: `python -m bench.voice_soak --data DIR --minutes 60 --model fake`.

soak      one long conversation, recorded clips in a loop; every fifth turn the reply is broken in upon, every fifth a
          "mm-hm" is said into it. Resident memory after the warm-up and at the end, and every error nobody handled.
sessions  some conversations at once on one agent, each of another person, with the real models. Each hears its own
          words only, every turn is answered, and waiting grows evenly.

With `--model fake` the models answer at once and sound goes `--speed` times as fast; waits for the end of a turn are
made of real seconds, so a minute of sound still takes 60 / speed seconds. With `--model real` nothing is sped up and
`--turns` says how long the soak is. Writes `bench/results/voice_soak.json`, where a run replaces what it measured.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from loguru import logger
from pipecat.workers.runner import WorkerRunner
from rich.console import Console

from agent.care import Consent
from agent.conversations import open_checkpoints
from agent.edge import main_guard
from agent.nodes import Ears
from agent.opening import open_agent, open_ears
from agent.session import Agent
from agent.settings import load_settings
from agent.voice.clips import ClipTransport
from agent.voice.pipeline import OUT_RATE_HZ, build_session, smart_turn
from bench.interruption import NeverHappened, recordings, until
from bench.machine import machine
from memory.store import InMemoryStore
from perception.types import Speech, Transcript
from tests.fakes import FakeAsr, FakeEmbedder, FakeFaceFinder, FakeModel, FakeSpeaker

OUT = Path(__file__).parent / "results" / "voice_soak.json"
CLIPS = 40
WARM_UP = 0.1
"""Share of the soak after which memory counts, at least 20 turns: by then every library has what it keeps."""
ANSWERED_S = 60.0
"""A turn that is not answered and played by then counts as unanswered."""
GROWTH = 0.05

FAKE_REPLY = "That sounds like a very long day. I am glad that you told me about it. What was the worst of it?"


class Errors:
    """Counts what nobody handled: errors logged by Pipecat or by us, in tasks and in threads."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        logger.remove()
        logger.add(lambda line: self.seen.append(f"pipecat: {line.record['message'][:200]}"), level="ERROR")
        handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: self.seen.append(f"{record.name}: {record.getMessage()[:200]}")  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)
        threading.excepthook = lambda given: self.seen.append(f"thread: {given.exc_type.__name__}")
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self.seen.append(f"asyncio: {context['message']}"))


def resident_mb() -> float:
    """Memory of this process that lies in RAM."""
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


class QuickSpeaker(FakeSpeaker):
    """The scripted voice at the rate of the output."""

    sample_rate_hz = OUT_RATE_HZ


class Marked:
    """A recogniser that ends what it hears with the name of the one who speaks."""

    def __init__(self, asr: Any, name: str) -> None:
        self._asr, self._name = asr, name

    def transcribe(self, speech: Speech, language: str | None = None, *, in_haste: bool = False) -> Transcript:
        """See `Asr.transcribe`."""
        heard = self._asr.transcribe(speech, language, in_haste=in_haste)
        return Transcript(f"{heard.text} I am {self._name}." if heard.text else "", heard.language, heard.words)


class Talk:
    """A running conversation of one person."""

    def __init__(self, agent: Agent, ears: Ears, user: str, *, speed: float = 1.0, **options: Any) -> None:
        self.transport = ClipTransport(speed=speed)
        self.latencies_ms: list[float] = []
        self.stages_ms: list[dict[str, float]] = []
        self.n_over = 0
        self.unanswered = 0
        self._session = build_session(
            agent,
            ears,
            self.transport,
            user=user,
            thread="soak",
            consent=Consent(voice=True),
            report=self._over,
            idle_timeout_s=None,
            **options,
        )

    def _over(self, result: Any, timing: Any) -> None:
        self.n_over += 1
        stages = timing.stages_ms()
        if "latency" in stages:
            self.stages_ms.append(stages)
            self.latencies_ms.append(stages["latency"])

    async def __aenter__(self) -> Talk:
        """Begin."""
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self._session.worker)
        self._running = asyncio.create_task(runner.run())
        await asyncio.sleep(1.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""
        await self._session.worker.cancel()
        await self._running

    async def turn(self, sound: np.ndarray, within: Sequence[tuple[str, np.ndarray]] = (), hear: Any = None) -> None:
        """Say something and hear the answer; `within` are sounds made while it is played, with what `hear` is told."""
        before, first = self.n_over, len(self.transport.heard)
        await self.transport.say(sound)
        try:
            await until(lambda: len(self.transport.heard) > first + 20 or self.n_over > before, ANSWERED_S)
            for text, other in within:
                hear(text)
                await self.transport.say(other)
            await until(lambda: self.n_over > before, ANSWERED_S)
        except NeverHappened:
            self.unanswered += 1
        await asyncio.sleep(0.2)
        self.transport.heard.clear()


async def soak_fake(data: Path, minutes: float, speed: float, errors: Errors, folder: Path) -> dict[str, Any]:
    """The long conversation with scripted models."""
    asr, model, speaker = FakeAsr(), FakeModel(FAKE_REPLY), QuickSpeaker()
    embedder = FakeEmbedder()
    checkpoints = open_checkpoints(folder / "threads.sqlite")
    kept: list[list[Any]] = [asr.heard, asr.transcribed, speaker.said, embedder.embedded]
    kept += [model.calls, model.briefs, model.histories]
    ears = Ears(lambda: asr, FakeFaceFinder)
    with Agent(
        model=model,
        store=InMemoryStore(embedder),
        ears=ears,
        speaker=lambda: speaker,
        checkpointer=checkpoints,
        close=checkpoints.conn.close,
    ) as agent:

        def forget() -> None:
            for notes in kept:
                notes.clear()

        async with Talk(agent, ears, "ann", speed=speed, completeness=lambda samples: 1.0) as talk:
            return await soak(data, talk, asr, errors, forget, lambda spent_s, _: spent_s * speed / 60 / minutes)


async def soak_real(data: Path, turns: int, errors: Errors, folder: Path) -> dict[str, Any]:
    """The long conversation with the real models."""
    settings = load_settings().model_copy(update={"home": folder})
    ears = open_ears(settings)
    with open_agent(settings) as agent:
        warm_up(agent, ears)
        async with Talk(agent, ears, "ann") as talk:
            return await soak(data, talk, None, errors, lambda: None, lambda _, n: n / turns)


async def soak(
    data: Path,
    talk: Talk,
    asr: FakeAsr | None,
    errors: Errors,
    forget: Callable[[], None],
    done: Callable[[float, int], float],
) -> dict[str, Any]:
    """Talk until `done`, which is told seconds and turns, says 1; a scripted recogniser makes more of the sounds."""
    clips = [samples for samples, _ in recordings(data, CLIPS, random.Random(7))]
    began, n, baseline, at_baseline = time.monotonic(), 0, 0.0, 0
    threads = 0
    while (share := done(time.monotonic() - began, n)) < 1:
        if not baseline and share >= WARM_UP and n >= 20:
            baseline, at_baseline, threads = resident_mb(), n, threading.active_count()
        clip = clips[n % CLIPS]
        within: list[tuple[str, np.ndarray]] = []
        if asr is not None:
            asr.text = f"This is turn {n}."
            if n % 5 == 3:
                within = [("Mm-hm.", clip[: len(clip) // 4])]
            elif n % 5 == 4:
                within = [("But that is not all.", clips[(n + 1) % CLIPS])]
        await talk.turn(clip, within, lambda text: setattr(asr, "text", text))
        if len(within) and n % 5 == 4:
            await until(lambda n=talk.n_over: talk.n_over > n, ANSWERED_S)  # what broke in is answered, too
        n += 1
        forget()
    memory = resident_mb()
    growth = memory / baseline - 1 if baseline else None
    return {
        "turns": n,
        "wall_s": round(time.monotonic() - began, 1),
        "unanswered": talk.unanswered,
        "memory_mb": {"after_warm_up": round(baseline, 1), "end": round(memory, 1)},
        "turns_measured": n - at_baseline,
        "growth": None if growth is None else round(growth, 4),
        "growth_allowed": GROWTH,
        "threads_more": threading.active_count() - threads if threads else None,
        "errors": len(errors.seen),
        "first_errors": errors.seen[:5],
        "latency_p50_ms": round(statistics.median(talk.latencies_ms), 1) if talk.latencies_ms else None,
    }


async def sessions(data: Path, n_sessions: int, turns: int, errors: Errors, folder: Path) -> dict[str, Any]:
    """Conversations at once, each of another person, with the real models."""
    settings = load_settings().model_copy(update={"home": folder})
    ears = open_ears(settings)
    names = [f"person {chr(ord('A') + i)}" for i in range(n_sessions)]
    before = len(errors.seen)
    with open_agent(settings) as agent:
        warm_up(agent, ears)

        async def one(name: str, seed: int) -> Talk:
            clips = [samples for samples, _ in recordings(data, turns, random.Random(seed))]
            asr = Marked(ears.asr(), name)
            async with Talk(agent, Ears(lambda: asr, ears.face_finder), name, silence_s=0) as talk:
                await asyncio.sleep(random.Random(seed).uniform(0, 3))
                for clip in clips:
                    await talk.turn(clip)
            return talk

        began = time.monotonic()
        talks = await asyncio.gather(*(one(name, seed) for seed, name in enumerate(names)))
        agent.settle()
        texts = {name: [episode.text for episode in agent.store.list(name)] for name in names}
    foreign = sum(not text.endswith(f"I am {name}.") for name in names for text in texts[name])
    foreign += sum(
        f"I am {other}." in text for name in names for text in texts[name] for other in names if other != name
    )
    medians = [statistics.median(talk.latencies_ms) for talk in talks if talk.latencies_ms]
    rows = [row for talk in talks for row in talk.stages_ms]
    return {
        "sessions": n_sessions,
        "turns_each": turns,
        "answered": sum(talk.n_over for talk in talks),
        "unanswered": sum(talk.unanswered for talk in talks),
        "foreign_words": foreign,
        "session_p50_ms": [round(median, 1) for median in medians],
        "p50_ms": round(statistics.median(ms for talk in talks for ms in talk.latencies_ms), 1),
        "slowest_to_fastest": round(max(medians) / min(medians), 2),
        "stages_p50_ms": {
            stage: round(statistics.median([row[stage] for row in rows if stage in row]), 1)
            for stage in dict.fromkeys(stage for row in rows for stage in row)
        },
        "wall_s": round(time.monotonic() - began, 1),
        "errors": len(errors.seen) - before,
        "first_errors": errors.seen[before : before + 5],
    }


def warm_up(agent: Agent, ears: Ears) -> None:
    """Load what the first turn would wait for."""
    agent.warm_up()
    ears.asr().transcribe(Speech(np.zeros(32_000, np.float32)), "en", in_haste=True)
    smart_turn()(np.zeros(32_000, np.float32))


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """What was asked for."""
    errors = Errors()
    found: dict[str, Any] = {}
    with ExitStack() as folders:

        def folder() -> Path:
            return Path(folders.enter_context(tempfile.TemporaryDirectory()))

        if options.minutes and options.model == "fake":
            found["soak_fake"] = {
                "minutes": options.minutes,
                "speed": options.speed,
                **await soak_fake(options.data, options.minutes, options.speed, errors, folder()),
            }
        if options.turns and options.model == "real":
            found["soak_real"] = await soak_real(options.data, options.turns, errors, folder())
        if options.sessions:
            found["sessions"] = await sessions(options.data, options.sessions, options.session_turns, errors, folder())
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--model", choices=("fake", "real"), default="fake", help="models of the soak")
    parser.add_argument("--minutes", type=float, default=60, help="of sound, in a soak with scripted models; 0: none")
    parser.add_argument("--speed", type=float, default=4.0, help="of its sound, as a multiple of real time")
    parser.add_argument("--turns", type=int, default=100, help="of a soak with real models; 0: none")
    parser.add_argument("--sessions", type=int, default=0, help="conversations at once, with real models; 0: none")
    parser.add_argument("--session-turns", type=int, default=5, help="turns of each")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    with main_guard():
        found = asyncio.run(measure(options))
    command = " ".join(["python -m bench.voice_soak --data DIR", *_given(sys.argv[1:])])
    for part in found.values():
        part |= {"command": command, "machine": machine()}
    OUT.write_text(json.dumps((json.loads(OUT.read_text()) if OUT.is_file() else {}) | found, indent=1) + "\n")
    if options.json:
        print(json.dumps(found, indent=1))
        return
    console = Console(highlight=False)
    for name, part in found.items():
        console.print(f"[bold]{name}[/bold]", *(f"  {key}: {value}" for key, value in part.items()), sep="\n")


def _given(arguments: list[str]) -> list[str]:
    """The command line without the folder of the data and the form of the output."""
    at = next((i for i, argument in enumerate(arguments) if argument == "--data"), len(arguments))
    return [argument for argument in arguments[:at] + arguments[at + 2 :] if argument != "--json"]


if __name__ == "__main__":
    main()
