"""The public API: one turn in, typed events out.

with open_agent() as agent:
    async for event in agent.turn("I got the job!"):
        ...
    print(agent.ask("And I start on Monday.").reply)
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from functools import cache, cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from memory.store import MemoryStore
from model.types import AffectModel
from perception.listen import clean_text
from perception.types import Absence, UserTurn

from .care import Consent, disclosure
from .events import (
    Event,
    Finished,
    Heard,
    Perceived,
    Planned,
    Remembered,
    ReplyText,
    Screened,
    Spoken,
    Started,
    TurnResult,
    Understood,
)
from .graph import build_graph
from .nodes import Ears
from .reply import NanoEmoxReply, ReplyModel
from .sentences import split_sentences
from .settings import Settings, SetupError, keep_private, load_settings
from .speech import STYLES, Audio, Speaker, write_wav
from .state import PERSISTED, LiveTurn, Plan, TurnBuffer, TurnState

logger = logging.getLogger(__name__)

_END = object()


class Agent(AbstractContextManager["Agent"]):
    """One agent over one model and one memory. Turns of different threads may run at the same time.

    `speaker` is a factory, called at the first turn that is to be spoken. Close the agent, or use it in a `with`
    statement, so that its memory is free for another process.
    """

    def __init__(
        self,
        *,
        model: AffectModel,
        store: MemoryStore,
        ears: Ears,
        reply_model: ReplyModel | None = None,
        speaker: Callable[[], Speaker] | None = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        consent: Consent | None = None,
        locale: str = "en",
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.store = store
        self._consent = consent or Consent()
        self._speaker = speaker
        self._close = close
        self._turns = TurnBuffer()
        self._graph = build_graph(
            turns=self._turns,
            ears=ears,
            model=model,
            store=store,
            reply_model=reply_model or NanoEmoxReply(model),
            locale=locale,
            checkpointer=checkpointer,
        )

    @cached_property
    def speaker(self) -> Speaker:
        """The voice.

        Raises:
            SetupError: this agent has none.
        """
        if self._speaker is None:
            raise SetupError("this agent has no voice: give it a speaker")
        return self._speaker()

    def events(
        self,
        text: str | None = None,
        *,
        clip: Path | None = None,
        user: str = "me",
        thread: str = "main",
        consent: Consent | None = None,
        speak: bool = False,
        speak_to: Path | None = None,
    ) -> Iterator[Event]:
        """Run one turn, yielding what happens as it happens.

        Args:
            text: what was typed; goes before the words of the clip.
            clip: a recording or picture.
            user, thread: whose turn, in which conversation.
            consent: what may be read of this person; by default the agent's own.
            speak: say the reply aloud, as `Spoken` events.
            speak_to: also write it to this WAV file.

        Raises:
            PerceptionError: the text or the clip cannot be used.
            MemoryStoreError: the memory cannot do its work.
        """
        turn_id = uuid.uuid4().hex[:16]
        allowed = consent or self._consent
        live = LiveTurn(text, clip, allowed)
        if clip is None:
            words = clean_text(text or "") if "text" in allowed.allowed() else ""
            absent = {"voice": Absence.NOT_GIVEN, "face": Absence.NOT_GIVEN}
            if words:
                live.turn = UserTurn(words, absent=absent)  # type: ignore[arg-type]
        first_contact = self.store.count(user) == 0
        told = disclosure(allowed, self.model.card.modalities | {"text"}) if first_contact else None
        yield Started(turn_id, thread, told)
        self._turns.put(turn_id, live)
        voice = _Voice(self.speaker, speak_to) if speak or speak_to else None
        try:
            yield from self._run(turn_id, user, thread, live, voice)
        finally:
            self._turns.drop(turn_id)
            if voice is not None:
                voice.stop()

    def _run(self, turn_id: str, user: str, thread: str, live: LiveTurn, voice: _Voice | None) -> Iterator[Event]:
        started = last = time.perf_counter()
        timings: dict[str, float] = {}
        state: dict[str, Any] = {
            "user": user,
            "thread_id": thread,
            "turn_id": turn_id,
            "text": live.turn.text if live.turn is not None else "",
            "modalities": (),
            "affect": None,
            "screening": None,
            "recalled": (),
            "recall_policy": "none",
            "understanding": None,
            "plan": None,
            "thought": None,
            "reply": "",
        }
        config: RunnableConfig = {"configurable": {"thread_id": f"{user}\x1f{thread}"}}
        if live.turn is not None:
            yield Heard(live.turn.text)
        stream = self._graph.stream(
            cast(TurnState, state), config, stream_mode=["updates", "custom"], durability="exit", version="v1"
        )
        mode: str
        chunk: Any
        with closing(cast(Generator[Any], stream)):  # a turn given up halfway must not leave a graph running
            for mode, chunk in stream:
                if mode == "custom":
                    if isinstance(chunk, Plan):
                        if voice is not None:
                            voice.begin(chunk)
                        yield Planned(chunk, None)
                        continue
                    timings.setdefault("first_text", 1000 * (time.perf_counter() - started))
                    if voice is not None:
                        voice.say(chunk)
                    yield ReplyText(chunk)
                else:
                    ((node, update),) = chunk.items()
                    now = time.perf_counter()
                    timings[node], last = 1000 * (now - last), now
                    state |= update
                    if node == "plan" and voice is not None:
                        voice.begin(state["plan"])
                    yield from self._told(node, state, live)
                if voice is not None:
                    yield from voice.ready()
        audio = None
        if voice is not None:
            voice.finish()
            yield from voice.rest()
            audio = (voice.path, voice.seconds) if voice.path is not None else None
            timings["first_audio"] = 1000 * (voice.first_at - started)
        timings["total"] = 1000 * (time.perf_counter() - started)
        yield Finished(
            TurnResult(
                turn_id=turn_id,
                thread_id=thread,
                transcript=state["text"],
                modalities=state["modalities"],
                affect=state["affect"],
                understanding=state["understanding"],
                recalled=state["recalled"],
                plan=state["plan"],
                thought=state["thought"],
                reply=state["reply"],
                screening=state["screening"],
                absent=dict(state["affect"].absent),
                audio=audio,
                timings_ms=timings,
            )
        )

    def _told(self, node: str, state: dict[str, Any], live: LiveTurn) -> Iterator[Event]:
        """The event a finished node stands for."""
        if node == "listen":
            yield Heard(state["text"])
        elif node == "perceive":
            yield Perceived(state["affect"], state["modalities"])
        elif node == "screen":
            yield Screened(state["screening"])
        elif node == "recall":
            yield Remembered(tuple(live.recollections))
        elif node == "understand":
            yield Understood(state["understanding"], state["affect"])
        elif node == "plan":
            yield Planned(state["plan"], state["thought"])

    async def turn(self, text: str | None = None, **options: Any) -> AsyncIterator[Event]:
        """`events` for asyncio: the turn runs in a thread and does not block the loop."""
        events = self.events(text, **options)
        while (event := await asyncio.to_thread(next, events, _END)) is not _END:
            yield event  # type: ignore[misc]

    def ask(self, text: str | None = None, **options: Any) -> TurnResult:
        """Run one turn to its end and return what it came to; same arguments as `events`."""
        for event in self.events(text, **options):
            if isinstance(event, Finished):
                return event.result
        raise AssertionError("a turn ends with Finished")

    def close(self) -> None:
        """Let go of the memory and the checkpoints."""
        self._close()

    def __enter__(self) -> Self:
        """The agent itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()


class _Voice:
    """Says a reply sentence by sentence in a thread of its own, while the text still comes."""

    def __init__(self, speaker: Speaker, path: Path | None) -> None:
        self.path = path
        self.seconds = 0.0
        self.first_at = float("nan")
        self._speaker = speaker
        self._texts: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._sounds: queue.SimpleQueue[Audio | BaseException | None] = queue.SimpleQueue()
        self._said: list[Audio] = []
        self._thread: threading.Thread | None = None
        self._stopped = False

    def begin(self, plan: Plan) -> None:
        """Start speaking in the plan's style."""
        self._thread = threading.Thread(target=self._speak, args=(STYLES[plan.voice],), daemon=True)
        self._thread.start()

    def say(self, piece: str) -> None:
        """Add text."""
        self._texts.put(piece)

    def ready(self) -> Iterator[Spoken]:
        """Sentences that are synthesised by now."""
        while not self._sounds.empty():
            yield from self._take()

    def finish(self) -> None:
        """No more text comes."""
        self._texts.put(None)

    def rest(self) -> Iterator[Spoken]:
        """Wait for what is left, and write the file if one is wanted."""
        while self._thread is not None:
            yield from self._take()
        if self.path is not None:
            write_wav(self.path, self._said)

    def stop(self) -> None:
        """Say no more."""
        self._stopped = True
        self._texts.put(None)

    def _take(self) -> Iterator[Spoken]:
        sound = self._sounds.get()
        if sound is None:
            self._thread = None
        elif isinstance(sound, BaseException):
            self._thread = None
            raise sound
        else:
            if not self._said:
                self.first_at = time.perf_counter()
            self._said.append(sound)
            self.seconds += sound.duration_s
            yield Spoken(sound)

    def _speak(self, style: Any) -> None:
        try:
            for sound in self._speaker.speak(split_sentences(iter(self._texts.get, None)), style):
                if self._stopped:
                    break
                self._sounds.put(sound)
        except BaseException as error:  # handed to the turn, which raises it
            self._sounds.put(error)
        self._sounds.put(None)


def open_agent(settings: Settings | None = None, *, consent: Consent | None = None) -> Agent:
    """An agent on this machine: embedded model, Chroma memory and SQLite checkpoints under `settings.home`.

    Raises:
        SetupError: weights or an extra are missing, or the home folder cannot be used.
        MemoryStoreError: the memory is open in another process or cannot be used.
    """
    keep_private()
    settings = settings or load_settings()
    store = open_store(settings)  # first: it is quick to say that another process has the memory
    try:
        model = load_model(settings)
        checkpointer = _checkpointer(settings.home / "threads.sqlite")
    except BaseException:
        store.close()
        raise

    def close() -> None:
        checkpointer.conn.close()
        store.close()

    return Agent(
        model=model,
        store=store,
        ears=open_ears(settings),
        reply_model=_reply_model(settings),
        speaker=lambda: open_speaker(settings),
        checkpointer=checkpointer,
        consent=consent or settings.consent.as_consent(),
        locale=settings.locale,
        close=close,
    )


def load_model(settings: Settings) -> AffectModel:
    """The Nano-EmoX that the settings name."""
    import torch

    from model.build import load
    from model.weights import locate

    if settings.threads:
        torch.set_num_threads(settings.threads)
    return load(locate("smollm2"), settings.checkpoint)


def open_store(settings: Settings) -> MemoryStore:
    """The memory under the home folder; opening it makes it."""
    from memory.chroma import ChromaStore
    from memory.embedding import MiniLmEmbedder
    from model.device import on_device
    from model.weights import locate

    embedder = MiniLmEmbedder(locate("minilm"))
    embedder.embed = on_device(embedder.embed)  # type: ignore[method-assign]  # torch computes on one thread only
    return ChromaStore(settings.home / "memory", embedder)


def open_ears(settings: Settings) -> Ears:
    """Recogniser and face finder, each built at its first use."""

    @cache
    def asr() -> Any:
        from model.weights import locate
        from perception.asr import WhisperAsr

        return WhisperAsr(locate(settings.recogniser), cpu_threads=1)  # a second team would slow the model (device.py)

    @cache
    def face_finder() -> Any:
        from model.weights import locate
        from perception.face import FaceFinder

        return FaceFinder(locate("mtcnn"))

    return Ears(asr, face_finder)


def open_speaker(settings: Settings) -> Speaker:
    """The voice that the settings name."""
    from model.weights import locate

    from .speech import CoquiSpeaker, PiperSpeaker

    kind, _, name = settings.speaker.partition(":")
    if kind == "piper":
        return PiperSpeaker(Path(name) if name else locate("piper-joe"))
    if kind == "coqui" and name:
        return CoquiSpeaker(name)
    raise SetupError(f'the speaker "{settings.speaker}" is none of piper, piper:VOICE.onnx, coqui:MODEL')


def _reply_model(settings: Settings) -> ReplyModel | None:
    if settings.reply_model is None:
        return None
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise SetupError("a reply model needs langchain-openai: pip install 'emox[chat]'") from error
    from .reply import ChatModelReply

    return ChatModelReply(
        ChatOpenAI(model=settings.reply_model, base_url=settings.reply_url, api_key=settings.reply_key)
    )


def serializer() -> JsonPlusSerializer:
    """How checkpoints are written: only our own types are read back."""
    return JsonPlusSerializer(allowed_msgpack_modules=PERSISTED)


def _checkpointer(path: Path) -> SqliteSaver:
    try:
        connection = sqlite3.connect(path, check_same_thread=False)
        saver = SqliteSaver(connection, serde=serializer())
        saver.setup()
    except sqlite3.Error as error:
        raise SetupError(f"the conversations in {path} cannot be opened ({error}): is the folder writable?") from None
    return saver
