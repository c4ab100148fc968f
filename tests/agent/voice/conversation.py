"""A conversation by voice, all of it scripted: what somebody says is a tone, and the recogniser knows the tones."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams
from pipecat.frames.frames import Frame, LLMTextFrame, StartFrame
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frameworks.rtvi import RTVIServerMessageFrame
from pipecat.workers.runner import WorkerRunner

from agent.care import Consent
from agent.events import TurnResult
from agent.nodes import Ears
from agent.session import Agent
from agent.speech import Audio, VoiceStyle
from agent.voice.clips import ClipTransport
from agent.voice.companion import Companion
from agent.voice.echo import Echo
from agent.voice.frames import WordFrame
from agent.voice.pipeline import OUT_RATE_HZ, build_session
from agent.voice.timing import TurnTiming
from memory.store import InMemoryStore
from model.types import Utterance
from perception.types import SAMPLE_RATE_HZ, Speech, Transcript, UserTurn
from tests.fakes import FakeAsr, FakeEmbedder, FakeFaceFinder, FakeModel, FakeSpeaker

LONGEST_WAIT_S = 20.0
"""Nothing here takes so long; a test that waits for it has failed."""

REPLY = "That sounds like a very long day. I am glad that you told me about it. What was the worst of it?"

STEP = 400
"""Tones are levels: the first thing said has this one (16-bit), the second twice as much, and so on."""


class SeeingModel(FakeModel):
    """Keeps the turns it was given."""

    def __init__(self, reply: str = REPLY) -> None:
        super().__init__(reply)
        self.turns: list[UserTurn] = []

    def attend(self, turn: UserTurn, history: Sequence[Utterance] = (), ahead: Any = None) -> UserTurn:
        self.turns.append(turn)
        return super().attend(turn, history, ahead)


class Tones(FakeAsr):
    """A recogniser that knows what each tone says, and writes down those that it hears, in their order.

    `in_full` holds texts that it hears otherwise where it is not in haste, which it is not before `may_take_its_time`.
    """

    def __init__(self) -> None:
        super().__init__("")
        self.texts: list[str] = []
        self.in_full: dict[str, str] = {}
        self.heard_in_full: list[str] = []
        self.may_take_its_time = threading.Event()
        self.may_take_its_time.set()

    def tone(self, text: str, seconds: float) -> np.ndarray:
        """The sound of a text."""
        self.texts.append(text)
        return np.full(round(seconds * SAMPLE_RATE_HZ), STEP * len(self.texts) / 32767, np.float32)

    def transcribe(self, speech: Speech, language: str | None = None, *, in_haste: bool = False) -> Transcript:
        levels = np.rint(speech.samples * 32768 / STEP).astype(int)
        heard = levels[np.flatnonzero(np.diff(levels, prepend=0))]
        texts = [text for level in heard if level and (text := self.texts[level - 1])]
        if in_haste:
            self.transcribed.append(speech)
            return Transcript(" ".join(texts), "en")
        self.may_take_its_time.wait(LONGEST_WAIT_S)
        self.heard_in_full.append(" ".join(self.in_full.get(text, text) for text in texts))
        return Transcript(self.heard_in_full[-1], "en")


class Loudness(VADAnalyzer):
    """Whatever is not silent is speech."""

    def __init__(self) -> None:
        super().__init__(params=VADParams(start_secs=0.06, stop_secs=0.06, min_volume=0))

    def num_frames_required(self) -> int:
        return SAMPLE_RATE_HZ // 50

    def voice_confidence(self, buffer: bytes) -> float:
        return float(np.frombuffer(buffer, np.int16).any())


class SlowSpeaker(FakeSpeaker):
    """A voice with time to break in: 50 ms of tone a word, at the rate of the output."""

    sample_rate_hz = OUT_RATE_HZ


class HeldVoice(SlowSpeaker):
    """A voice that says nothing before it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.release = threading.Event()

    def speak(self, sentences: str | Iterable[str], style: VoiceStyle) -> Iterator[Audio]:
        for sound in super().speak(sentences, style):
            self.release.wait(LONGEST_WAIT_S)
            yield sound


class Watcher(BaseObserver):
    """Keeps what the companion sent, and what of it reached the person."""

    def __init__(self) -> None:
        super().__init__()
        self.started = False
        self.sent: list[Frame] = []
        self.words: list[WordFrame] = []

    async def on_push_frame(self, data: FramePushed) -> None:
        self.started |= isinstance(data.frame, StartFrame) and isinstance(data.destination, Echo)
        if isinstance(data.source, Companion) and data.first_push:
            self.sent.append(data.frame)
        if isinstance(data.frame, WordFrame) and isinstance(data.destination, Echo):
            self.words.append(data.frame)


class Conversation:
    """One person and the agent, talking."""

    def __init__(self, agent: Agent, asr: Tones, transport: ClipTransport) -> None:
        self.agent, self.asr, self.transport = agent, asr, transport
        self.watcher = Watcher()
        self.reported: list[tuple[TurnResult, TurnTiming]] = []
        self.session: Any = None

    async def say(self, text: str, seconds: float = 0.3) -> None:
        """Speak until all is said."""
        await self.transport.say(self.asr.tone(text, seconds))

    async def make_noise(self, seconds: float = 0.2) -> None:
        """A sound without words."""
        await self.say("", seconds)

    async def push(self, frame: Frame) -> None:
        """What a client sends."""
        await self.session.worker.queue_frame(frame)

    def shown(self) -> str:
        """The text that the companion sent to be shown."""
        return "".join(frame.text for frame in self.watcher.sent if isinstance(frame, LLMTextFrame))

    def told(self, kind: str) -> list[dict[str, Any]]:
        """Messages to the client."""
        frames = (frame for frame in self.watcher.sent if isinstance(frame, RTVIServerMessageFrame))
        return [frame.data for frame in frames if frame.data["type"] == kind]

    def spoken(self) -> str:
        """The words that were played to their end."""
        return " ".join(frame.text for frame in self.watcher.words)

    def numbers(self) -> list[int]:
        """Which words of replies were played to their end."""
        return [frame.number for frame in self.watcher.words]

    def episodes(self) -> list[tuple[str, str, bool]]:
        """What is remembered, oldest first: words of the person, words they heard, whether cut off."""
        return [(one.text, one.reply, one.cut_off) for one in reversed(self.agent.store.list("ann"))]

    async def heard(self, n: int) -> None:
        """Until so many words were played."""
        await until(lambda: len(self.watcher.words) >= n)

    async def remembered(self, n: int) -> None:
        """Until so many turns are remembered and reported."""
        await until(lambda: len(self.reported) >= n)


@asynccontextmanager
async def conversation(agent: Agent, **options: Any) -> AsyncIterator[Conversation]:
    """A conversation that goes on inside the block, and is over after it, leaving no thread or task behind."""
    asr = options.pop("asr", None) or Tones()
    talk = Conversation(agent, asr, ClipTransport(speed=options.pop("speed", 2.0)))
    options = {
        "user": "ann",
        "consent": Consent(True, True, True),
        "silence_s": 0,
        "completeness": lambda samples: 1.0,
    } | options
    talk.session = build_session(
        agent,
        Ears(lambda: asr, FakeFaceFinder),
        talk.transport,
        thread="main",
        vad=Loudness(),
        report=lambda result, timing: talk.reported.append((result, timing)),
        observers=[talk.watcher],
        idle_timeout_s=None,
        **options,
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(talk.session.worker)
    running = asyncio.create_task(runner.run())
    try:
        await until(lambda: talk.watcher.started)
        yield talk
    finally:
        await talk.session.worker.cancel()
        await running


async def until(condition: Callable[[], Any]) -> None:
    """Wait for something that is about to happen."""
    deadline = time.monotonic() + LONGEST_WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.01)


def agent_of(model: FakeModel, speaker: Any = SlowSpeaker) -> Agent:
    """An agent of scripted parts."""
    from langgraph.checkpoint.memory import InMemorySaver

    return Agent(
        model=model,
        store=InMemoryStore(FakeEmbedder()),
        ears=Ears(FakeAsr, FakeFaceFinder),
        speaker=speaker,
        checkpointer=InMemorySaver(),
    )


def live_threads() -> set[threading.Thread]:
    """Threads of turns and voices; those of executors and of the agent itself stay for the next turn."""
    return {
        thread
        for thread in threading.enumerate()
        if thread.daemon and not thread.name.startswith(("ThreadPool", "asyncio", "afterthoughts"))
    }


def heard_seconds(transport: ClipTransport) -> float:
    """How long something was heard that is not silent."""
    samples = np.frombuffer(b"".join(audio for _, audio in transport.heard), np.int16)
    return np.count_nonzero(samples) / transport.out_rate_hz
