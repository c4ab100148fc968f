"""What happens when somebody makes a sound while the agent speaks: `python -m bench.interruption --data DIR`.

The voice (its sound and when each word sounds) and the voice activity are the real ones; what is understood of a sound
is scripted, and so are the replies, so that nothing waits for a model. Three series over one output:

interruptions  recorded speech, in each reply at a drawn moment: how long until the output is silent, and whether what
               is remembered is what was heard. The truth is counted in samples that were played.
backchannels   "Mm-hm." and the like, said by the same voice: no reply may be cut.
false alarms   bursts of noise, and scraps of speech that no recogniser understands: every reply is heard whole.

A chunk of sound counts as spoken when it is handed over, so the figures include the 20 ms that it takes to record.
Writes `bench/results/interruption.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from langgraph.checkpoint.memory import InMemorySaver
from loguru import logger
from pipecat.workers.runner import WorkerRunner
from rich.console import Console
from rich.table import Table

from agent.care import Consent
from agent.conversations import serializer
from agent.edge import main_guard
from agent.nodes import Ears
from agent.opening import open_speaker
from agent.sentences import split_sentences
from agent.session import Agent
from agent.settings import load_settings
from agent.speech import STYLES, Audio, Speaker, VoiceStyle
from agent.voice.clips import TICK_S, ClipTransport
from agent.voice.pipeline import OUT_RATE_HZ, build_session
from agent.word_timing import SpokenWord
from bench.machine import machine
from memory.store import InMemoryStore
from perception.media import read_clip
from perception.types import SAMPLE_RATE_HZ
from tests.fakes import FakeAsr, FakeEmbedder, FakeFaceFinder, FakeModel

OUT = Path(__file__).parent / "results" / "interruption.json"
TARGET_MS = 250

REPLIES = (
    "That sounds like a very long day. You have carried a lot of it alone, and it is no wonder that you are tired. "
    "I am glad that you told me about it. What would help you to rest a little tonight?",
    "I am so sorry to hear that. Losing somebody who was always there leaves the house very quiet. "
    "There is no right way to feel about it, and there is no hurry at all. Would you like to tell me about them?",
    "What wonderful news, and what a relief it must be after all these weeks. You worked hard for this, and it shows. "
    "Who did you tell first? I hope that you find a good way to celebrate on Saturday.",
)
SIGNS = ("Mm-hm.", "Yeah.", "Right.", "Uh-huh.", "I see.", "Okay.")
LEAD_S = 0.3
"""Of a recording, kept from before the speech in it."""
LOUD = 0.1
LASTS_S = 0.2
"""Speech begins with the first hundredth of a second that reaches this share of the loud ones' level (root mean square)
and is followed by mostly such ones for so long; a click of the lips or a breath before it does not count."""
APART_S = 2.2
"""Between two sounds in one reply."""
GAP_S = 0.06
"""The output is silent where nothing was played for so long."""


class NeverHappened(RuntimeError):
    """What was waited for did not happen in time."""


class CachedVoice:
    """A voice that says a sentence twice in the same way, so that what was played can be compared with it."""

    def __init__(self, voice: Speaker) -> None:
        self._voice = voice
        self._said: dict[tuple[str, str], list[Audio]] = {}

    def speak(self, sentences: str | Iterable[str], style: VoiceStyle) -> Iterator[Audio]:
        """See `Speaker.speak`."""
        pause_s = 0.0
        for sentence in split_sentences([sentences]) if isinstance(sentences, str) else sentences:
            key = (sentence, style.name)
            if key not in self._said:
                self._said[key] = list(self._voice.speak([sentence], style))
            for audio in self._said[key]:
                pause = np.zeros(round(pause_s * audio.sample_rate_hz), np.float32)
                shift = len(pause) / audio.sample_rate_hz
                words = tuple(SpokenWord(w.text, w.start_s + shift, w.end_s + shift) for w in audio.words)
                yield Audio(np.concatenate([pause, audio.samples]), audio.sample_rate_hz, words)
                pause_s = style.pause_s


class Stage:
    """One person and the agent. What the recogniser understands, and what the agent replies, is set before."""

    def __init__(self, voice: CachedVoice) -> None:
        self.voice = voice
        self.asr = FakeAsr("I had a long day.")
        self.model = FakeModel()
        self.transport = ClipTransport()
        self.turns: list[Any] = []
        self.agent = Agent(
            model=self.model,
            store=InMemoryStore(FakeEmbedder()),
            ears=Ears(lambda: self.asr, FakeFaceFinder),
            speaker=lambda: voice,
            checkpointer=InMemorySaver(serde=serializer()),
        )
        self.session = build_session(
            self.agent,
            Ears(lambda: self.asr, FakeFaceFinder),
            self.transport,
            user="bench",
            thread="interruption",
            consent=Consent(),
            completeness=lambda samples: 1.0,
            report=lambda result, timing: self.turns.append(result),
            silence_s=0,
            idle_timeout_s=None,
        )

    async def __aenter__(self) -> Stage:
        """Begin."""
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(self.session.worker)
        self._running = asyncio.create_task(runner.run())
        await asyncio.sleep(1.0)
        return self

    async def __aexit__(self, *_: object) -> None:
        """End."""
        await self.session.worker.cancel()
        await self._running
        self.agent.close()

    async def say(self, samples: np.ndarray, text: str) -> float:
        """Speak; returns when the first sample was spoken: `time.monotonic`."""
        self.asr.text = text
        ended = await self.transport.say(samples)
        return ended - TICK_S * (1 + -(-len(samples) // round(TICK_S * SAMPLE_RATE_HZ)))

    async def reply_begins(self, n_heard: int) -> float:
        """Wait for the first sample after so many chunks of output; returns when."""
        await until(lambda: len(self.transport.heard) > n_heard)
        return self.transport.heard[n_heard][0]

    def pieces(self, first: int) -> list[tuple[float, float, bytes]]:
        """What was played without a gap from this chunk on: when it began and ended (`time.monotonic`), and the PCM."""
        runs: list[tuple[float, float, bytearray]] = []
        for at, audio in self.transport.heard[first:]:
            ends = at + len(audio) / 2 / self.transport.out_rate_hz
            if runs and at - runs[-1][1] < GAP_S:
                runs[-1] = (runs[-1][0], ends, runs[-1][2] + audio)
            else:
                runs.append((at, ends, bytearray(audio)))
        return [(begins, ends, bytes(audio)) for begins, ends, audio in runs]

    def sound_of(self, turn: Any, reply: str) -> tuple[np.ndarray, list[tuple[str, int]]]:
        """A whole reply as 16-bit samples, and each word with the sample at which it ends."""
        sounds = list(self.voice.speak(reply, STYLES[turn.plan.voice]))
        words, at = [], 0
        for sound in sounds:
            words += [(word.text, at + round(word.end_s * sound.sample_rate_hz)) for word in sound.words]
            at += len(sound.samples)
        samples = np.concatenate([sound.samples for sound in sounds])
        return (np.clip(samples, -1, 1) * 32767).round().astype("<i2"), words


async def until(condition: Any, seconds: float = 30.0) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NeverHappened("the voice loop did not do what was waited for")
        await asyncio.sleep(0.005)


def recordings(data: Path, n: int, draw: random.Random) -> list[tuple[np.ndarray, int]]:
    """Speech at 16 kHz from shortly before its onset, and the sample at which it begins."""
    files = sorted((data / "speech/ravdess").glob("Actor_*/*.ogg"))
    found = []
    for file in draw.sample(files, n):
        speech = read_clip(file, want_frames=False).speech
        assert speech is not None
        begins, ends = speech_in(speech.samples)
        lead = min(begins, round(LEAD_S * SAMPLE_RATE_HZ))
        found.append((speech.samples[begins - lead : ends], lead))
    return found


def speech_in(samples: np.ndarray) -> tuple[int, int]:
    """The samples at which the speech in a recording at 16 kHz begins and ends."""
    size = SAMPLE_RATE_HZ // 100
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    levels = np.sqrt(np.square(frames).mean(1))
    loud = levels >= LOUD * np.percentile(levels, 95)
    lasts = round(LASTS_S * 100)
    begins = next(i for i in np.flatnonzero(loud) if loud[i : i + lasts].mean() > 0.5)
    return int(begins) * size, int(np.flatnonzero(loud)[-1] + 1) * size


async def interruptions(voice: CachedVoice, data: Path, n: int, seed: int) -> dict[str, Any]:
    """Break in on every reply."""
    draw = random.Random(seed)
    speech = recordings(data, n + 1, draw)
    silent_ms, off_by, altered, missed = [], [], 0, 0
    async with Stage(voice) as stage:
        stage.model.reply = REPLIES[0]
        await stage.say(speech[0][0], "This is turn 0.")
        first = 0
        for i, (samples, onset) in enumerate(speech[1:]):
            reply = REPLIES[i % len(REPLIES)]
            began = await stage.reply_begins(first)
            await asyncio.sleep(max(0.0, began + draw.uniform(0.5, 6.0) - time.monotonic()))
            stage.model.reply = REPLIES[(i + 1) % len(REPLIES)]
            spoke = await stage.say(samples, f"But this is turn {i + 1}.") + onset / SAMPLE_RATE_HZ
            try:
                await until(lambda i=i: len(stage.turns) > i, 12.0)  # the turn is closed
            except NeverHappened:
                missed += 1
                break
            _, ended, audio = stage.pieces(first)[0]
            first += len(audio) // len(stage.transport.heard[first][1])
            silent_ms.append(1000 * (ended - spoke))
            whole, words = stage.sound_of(stage.turns[i], reply)
            played = np.frombuffer(audio, "<i2")
            altered += not np.array_equal(played, whole[: len(played)])
            heard = sum(end <= len(played) for _, end in words)
            stored = stage.turns[i].reply.split()
            off_by.append(len(stored) - len(" ".join(text for text, _ in words[:heard]).split()))
            altered += not reply.startswith(stage.turns[i].reply)
        cut = [episode.cut_off for episode in stage.agent.store.list("bench")]
    return {
        "n": len(silent_ms),
        "missed": missed,
        "silent_ms": {f"p{q}": round(float(np.percentile(silent_ms, q)), 1) for q in (50, 95, 100)},
        "within_target": sum(ms <= TARGET_MS for ms in silent_ms),
        "cut_off": sum(cut),
        "words_off_by": {str(k): off_by.count(k) for k in sorted(set(off_by))},
        "altered": altered,
    }


async def false_alarms(voice: CachedVoice, sounds: Sequence[tuple[np.ndarray, str]], seed: int) -> dict[str, Any]:
    """Make sounds in replies that are to go on: what is meant by each is written beside it."""
    draw = random.Random(seed)
    left = list(sounds)
    greeting = next(iter(voice.speak("I had a long day.", STYLES["plain"])))
    opening = soxr.resample(greeting.samples, greeting.sample_rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
    made = late = cut = whole = replies = repeated = 0
    held_ms = []
    async with Stage(voice) as stage:
        while left:
            reply = stage.model.reply = REPLIES[replies % len(REPLIES)]
            first = len(stage.transport.heard)
            await stage.say(opening, f"This is turn {replies}.")
            began = await stage.reply_begins(first)
            at = draw.uniform(0.5, 2.0)
            while left and at < 9.0 and len(stage.turns) == replies:
                await asyncio.sleep(max(0.0, began + at - time.monotonic()))
                sound, text = left.pop()
                await stage.say(sound, text)
                made += 1
                at = time.monotonic() - began + APART_S + draw.uniform(0, 0.5)
            await until(lambda replies=replies: len(stage.turns) > replies)
            await asyncio.sleep(0.5)
            runs = stage.pieces(first)
            (episode,) = [one for one in stage.agent.store.list("bench") if one.id == stage.turns[replies].turn_id]
            cut += episode.cut_off
            samples, words = stage.sound_of(stage.turns[replies], reply)
            ends = [0, *(end for _, end in words)]
            places = _places(runs, samples, ends)
            for before, after in pairwise(range(len(runs))):
                was, now = places[before], places[after]
                if was is not None and now is not None and now[0] == was[1]:
                    late += 1
                else:
                    held_ms.append(1000 * (runs[after][0] - runs[before][1]))
            repeated = max(repeated, _repeated(places, ends))
            whole += episode.reply == reply and _all_heard(places, len(samples), round(TICK_S * OUT_RATE_HZ))
            replies += 1
    return {
        "sounds": made,
        "stopped_for": len(held_ms),
        "output_ran_dry": late,
        "replies": replies,
        "cut": cut,
        "heard_whole": whole,
        "words_repeated_at_most": repeated,
        "held_ms": {f"p{q}": round(float(np.percentile(held_ms, q)), 1) for q in (50, 95)} if held_ms else {},
    }


def _places(runs: list[tuple[float, float, bytes]], sound: np.ndarray, ends: list[int]) -> list[tuple[int, int] | None]:
    """Which samples of a reply each run played: on from where the one before stopped, or from the start of a word."""
    places: list[tuple[int, int] | None] = []
    at = 0
    for _, _, audio in runs:
        played = np.frombuffer(audio, "<i2")
        start = next((i for i in (at, *ends) if np.array_equal(played[:2000], sound[i : i + len(played[:2000])])), None)
        places.append(None if start is None else (start, start + len(played)))
        at = at if start is None else start + len(played)
    return places


def _all_heard(places: list[tuple[int, int] | None], whole: int, chunk: int) -> bool:
    """Whether the runs play every sample in order; of a word before a stop up to a chunk may be missing."""
    at = 0
    for place in places:
        if place is None or place[0] > at + chunk:
            return False
        at = place[1]
    return at >= whole


def _repeated(places: list[tuple[int, int] | None], ends: list[int]) -> int:
    """How many words were heard again, whole or in part, where the reply went on."""
    known = [place for place in places if place is not None]
    return max((sum(after[0] <= end < before[1] for end in ends) for before, after in pairwise(known)), default=0)


def signs(voice: Speaker, n: int, draw: random.Random) -> list[tuple[np.ndarray, str]]:
    """Signs of listening as sound at 16 kHz, and their words."""
    said = []
    for text in SIGNS:
        audio = next(iter(voice.speak([text], STYLES["plain"])))
        said.append((soxr.resample(audio.samples, audio.sample_rate_hz, SAMPLE_RATE_HZ).astype(np.float32), text))
    return [draw.choice(said) for _ in range(n)]


def noises(data: Path, n: int, draw: random.Random) -> list[tuple[np.ndarray, str]]:
    """By halves, bursts of noise and scraps of speech, of which nothing is understood."""
    random_source = np.random.default_rng(draw.randrange(2**32))
    bursts = []
    for _ in range(n // 2):
        length = draw.uniform(0.15, 0.5)
        bursts.append(random_source.normal(0, draw.uniform(0.05, 0.3), round(length * SAMPLE_RATE_HZ)))
    scraps = [
        samples[onset : onset + SAMPLE_RATE_HZ // 3] for samples, onset in recordings(data, n - len(bursts), draw)
    ]
    made = [(np.asarray(sound, np.float32), "") for sound in [*bursts, *scraps]]
    draw.shuffle(made)
    return made


async def measure(data: Path, n: int, seed: int) -> dict[str, Any]:
    """All three series."""
    real = open_speaker(load_settings())
    voice = CachedVoice(real)
    for reply in REPLIES:
        for style in STYLES.values():
            list(voice.speak(reply, style))
    draw = random.Random(seed)
    return {
        "interruptions": await interruptions(voice, data, n, seed),
        "backchannels": await false_alarms(voice, signs(real, n, draw), seed),
        "false_alarms": await false_alarms(voice, noises(data, n, draw), seed),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--n", type=int, default=50, help="sounds of each series")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    with main_guard():
        found = asyncio.run(measure(options.data, options.n, options.seed))
    found["command"] = f"python -m bench.interruption --data DIR --n {options.n} --seed {options.seed}"
    found["machine"] = machine()
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    if options.json:
        print(json.dumps(found, indent=1))
        return
    table = Table("", "", show_edge=False)
    for series in ("interruptions", "backchannels", "false_alarms"):
        table.add_row(f"[bold]{series}[/bold]", "")
        for name, value in found[series].items():
            table.add_row(f"  {name}", str(value))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    main()
