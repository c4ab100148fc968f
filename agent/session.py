"""The public API: one turn in, typed events out.

with open_agent() as agent:  # agent.opening
    async for event in agent.turn("I got the job!"):
        ...
    print(agent.ask("And I start on Monday.").reply)
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import numpy as np
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Overwrite

from memory.digest import digest
from memory.store import MemoryStore
from model.types import AffectModel, ReplyBrief, Utterance
from perception.listen import clean_text
from perception.types import SAMPLE_RATE_HZ, Absence, Speech, UserTurn

from .afterthought import Afterthoughts
from .background import Background, in_background
from .care import Consent, disclosure, screen
from .events import AllSpoken, Event, Finished, Heard, ReplyText, Spoken, Started, TurnResult, Unspoken, result_of, told
from .graph import build_graph
from .nodes import Ears, lines_of
from .reply import NanoEmoxReply, ReplyModel
from .settings import SetupError
from .speaking import Voice
from .speech import STYLES, Audio, Speaker, write_wav
from .state import DIALOGUE_LINES, LiveTurn, Playback, TurnBuffer, TurnState, checkpoint_id, latest, new_turn
from .subgraph import Said, Turn, as_subgraph

Step = tuple[float, str | Audio | Exception | AllSpoken | dict[str, Any]]
"""When (`time.perf_counter`), and what was done: a piece of the reply, a sentence as sound or why there is none, or
what a finished node of the graph returned."""


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
        self.ears = ears
        self.checkpointer = checkpointer
        self._consent = consent or Consent()
        self._speaker = speaker
        self._close = close
        self._turns = TurnBuffer()
        self._caught_up: set[tuple[str, str]] = set()
        self._met: set[str] = set()
        self._afterthoughts = Afterthoughts()
        self._build = partial(
            build_graph,
            turns=self._turns,
            ears=ears,
            model=model,
            store=store,
            reply_model=reply_model or NanoEmoxReply(model),
            locale=locale,
        )
        self._graph = self._build(checkpointer=checkpointer)

    @cached_property
    def speaker(self) -> Speaker:
        """The voice.

        Raises:
            SetupError: this agent has none.
        """
        if self._speaker is None:
            raise SetupError("this agent has no voice: give it a speaker")
        return self._speaker()

    @property
    def has_voice(self) -> bool:
        """Whether it can speak."""
        return self._speaker is not None

    def events(
        self,
        text: str | None = None,
        *,
        clip: Path | None = None,
        turn: UserTurn | None = None,
        ahead: Any = None,
        user: str = "me",
        thread: str = "main",
        consent: Consent | None = None,
        speak: bool = False,
        speak_to: Path | None = None,
        playback: Playback | None = None,
        turn_id: str | None = None,
        dialogue: Sequence[Utterance] | None = None,
        max_tokens: int | None = None,
    ) -> Generator[Event]:
        """Run one turn, yielding what happens as it happens.

        The turn goes on while an event is looked at. Closing the iterator ends it where it next has something to tell.

        Args:
            text: what was typed; goes before the words of the clip.
            clip: a recording or picture.
            turn: what was heard and seen already, instead of text and clip.
            ahead: what `overhear` returned while the person still spoke, to be used once.
            user, thread: whose turn, in which conversation.
            consent: what may be read of this person; by default the agent's own.
            speak: say the reply aloud, as `Spoken` events.
            speak_to: also write it to this WAV file.
            playback: where the caller says what was heard of the reply; the turn is remembered only then, and not at
                all if it is dropped or the iterator closed before.
            turn_id: of this turn, never used before; by default a new one.
            dialogue: what was said before, oldest first, in place of what this conversation is known to have been.
            max_tokens: of the reply, fewer than it would have anyway.

        Raises:
            PerceptionError: the text or the clip cannot be used.
            MemoryStoreError: the memory cannot do its work.
            SetupError: it is to be spoken, and this agent has no voice.
            TurnDropped: the playback was dropped.
        """
        turn_id = turn_id or uuid.uuid4().hex[:16]
        allowed = consent or self._consent
        live = LiveTurn(text, clip, allowed, turn, ahead, playback=playback, max_tokens=max_tokens)
        if clip is None and turn is None:
            words = clean_text(text or "") if "text" in allowed.allowed() else ""
            absent = {"voice": Absence.NOT_GIVEN, "face": Absence.NOT_GIVEN}
            if words:
                live.turn = UserTurn(words, absent=absent)  # type: ignore[arg-type]
        to_say = disclosure(allowed, self.model.card.modalities | {"text"}) if self._is_new(user) else None
        yield Started(turn_id, thread, to_say)
        speaker = self.speaker if speak or speak_to else None
        self._turns.put(turn_id, live)
        state = new_turn(turn_id, user, thread, live.turn.text if live.turn is not None else "")
        if dialogue is None:
            dialogue = self._catch_up(user, thread)
        if dialogue is not None:
            state["dialogue"] = Overwrite(latest(dialogue))  # type: ignore[typeddict-item]
        try:
            yield from self._run(state, live, speaker, speak_to)
        finally:
            self._turns.drop(turn_id)

    def _is_new(self, user: str) -> bool:
        """Whether nothing is remembered of a person; of whom something was, it is not asked again."""
        if user not in self._met and self.store.count(user):
            self._met.add(user)
        return user not in self._met

    def forgotten(self, user: str) -> None:
        """Know that everything of a person was forgotten: they are told again what they talk with."""
        self._met.discard(user)

    def _catch_up(self, user: str, thread: str) -> list[Utterance] | None:
        """The dialogue of a conversation with turns that are remembered and missing in its checkpoint; None if none is.

        A process that was killed after a turn was remembered, and before its dialogue was kept, leaves it so.
        """
        if (user, thread) in self._caught_up:
            return None
        self._caught_up.add((user, thread))
        config: RunnableConfig = {"configurable": {"thread_id": checkpoint_id(user, thread)}}
        known = self._graph.get_state(config).values
        if not known:  # new, or begun afresh after something of it was forgotten
            return None
        newest = [episode for episode in self.store.list(user, limit=DIALOGUE_LINES) if episode.thread_id == thread]
        missing = list(takewhile(lambda episode: episode.id != known["turn_id"], newest))
        if not missing or len(missing) == len(newest):
            return None
        return [*known.get("dialogue", ()), *(line for episode in reversed(missing) for line in lines_of(episode))]

    def _run(self, state: TurnState, live: LiveTurn, speaker: Speaker | None, speak_to: Path | None) -> Iterator[Event]:
        started = last = time.perf_counter()
        timings: dict[str, float] = {}
        said: list[Audio] = []
        failed: Exception | None = None
        if live.turn is not None:
            yield Heard(live.turn.text)
        steps = Background(partial(self._work, state.copy(), live, speaker))
        try:
            for at, step in steps.rest():
                if isinstance(step, str):
                    timings.setdefault("first_text", 1000 * (at - started))
                    yield ReplyText(step)
                elif isinstance(step, Audio):
                    timings.setdefault("first_audio", 1000 * (at - started))
                    said.append(step)
                    yield Spoken(step)
                elif isinstance(step, Exception):
                    failed = step
                    yield Unspoken(step)
                elif isinstance(step, AllSpoken):
                    yield step
                else:
                    ((node, update),) = step.items()
                    timings[node], last = 1000 * (at - last), at
                    state.update(update)
                    if node == "support":
                        timings.setdefault("first_text", 1000 * (at - started))
                    yield from told(node, state, live)
        finally:  # a turn given up halfway must not leave a graph running
            if live.playback is not None:
                live.playback.drop()
            steps.give_up()
            steps.join()
        if failed is not None and live.playback is None:
            raise failed
        if speak_to is not None:
            write_wav(speak_to, said)
        timings["total"] = 1000 * (time.perf_counter() - started)
        audio = (speak_to, sum(sound.duration_s for sound in said)) if speak_to is not None else None
        yield Finished(result_of(state, audio, timings))

    def _work(self, state: TurnState, live: LiveTurn, speaker: Speaker | None, tell: Callable[[Step], None]) -> None:
        """Run the graph in the background. Its steps then cost no change of thread, and a piece of a reply waits for
        nobody; LangGraph's own streaming of pieces hands every step to a pool of threads.
        """

        def tell_now(step: str | Audio | Exception | AllSpoken | dict[str, Any]) -> None:
            tell((time.perf_counter(), step))

        def over() -> bool:
            return live.playback is not None and live.playback.over

        voice = Voice(speaker, tell_now, over) if speaker is not None else None

        def reply(piece: str) -> None:
            tell_now(piece)
            if voice is not None:
                voice.say(piece)

        live.tell = reply
        config: RunnableConfig = {"configurable": {"thread_id": checkpoint_id(state["user"], state["thread_id"])}}
        stream = self._graph.stream(state, config, stream_mode="updates", durability="exit", version="v1")
        try:
            with contextlib.closing(cast(Generator[dict[str, Any]], stream)):
                for update in stream:
                    tell_now(update)
                    ((node, changed),) = update.items()
                    if voice is not None and node in ("plan", "support"):
                        voice.begin(STYLES[changed["plan"].voice])
                    if voice is not None and node == "support":
                        voice.say(changed["reply"])
                    if voice is not None and node in ("empathize", "support"):
                        voice.finish()
        finally:
            if voice is not None:
                voice.finish()
                voice.join()
            live.tell = LiveTurn.tell  # else the turn holds itself, and all that was read until garbage is collected
        self._reflect(state["user"], state["thread_id"], state["turn_id"])

    def _reflect(self, user: str, thread_id: str, turn_id: str) -> None:
        self._afterthoughts.add((user, thread_id), lambda: digest(self.store, user, thread_id), turn_id)

    async def turn(self, text: str | None = None, **options: Any) -> AsyncGenerator[Event]:
        """`events` for asyncio: the turn runs in a thread of its own and does not block the loop."""
        async with contextlib.aclosing(in_background(self.events(text, **options))) as events:
            async for event in events:
                yield event

    def ask(self, text: str | None = None, **options: Any) -> TurnResult:
        """Run one turn to its end and return what it came to; same arguments as `events`."""
        for event in self.events(text, **options):
            if isinstance(event, Finished):
                return event.result
        raise AssertionError("a turn ends with Finished")

    def as_graph(self) -> CompiledStateGraph[Turn, None, Said, Turn]:
        """This agent as a LangGraph graph of typed turns, to be a node in another one.

        Its episodes go into this agent's memory; the conversation is kept by the graph that it runs in.
        """
        return as_subgraph(self._build(), self._turns, self._consent, self._reflect)

    def overhear(self, turn: UserTurn, user: str, thread: str) -> Any:
        """Let the model read, while the person still speaks, what comes before their words; for `events`."""
        config: RunnableConfig = {"configurable": {"thread_id": checkpoint_id(user, thread)}}
        return self.model.overhear(turn, self._graph.get_state(config).values.get("dialogue", ()))

    def warm_up(self) -> None:
        """Do once what the first turn would wait for: load the voice and the memory's embedder, and use each part."""
        speech = Speech(np.zeros(2 * SAMPLE_RATE_HZ, np.float32))
        prefix = self.model.attend(UserTurn("Hello there, how are you?", speech))
        affect = self.model.perceive(prefix)
        self.model.understand(prefix, affect)
        words = self.model.empathize(prefix, ReplyBrief(None, max_tokens=4))
        list(self.speaker.speak("".join(words) or "Hello.", STYLES["plain"]))
        self.store.embedder.embed(["Hello."])
        screen("Hello.", [])

    def settle(self) -> None:
        """Wait until the memory has taken in the turns so far: their outcomes, and the facts that follow."""
        self._afterthoughts.settle()

    def close(self) -> None:
        """Let go of the memory and the checkpoints, once the afterthoughts are done."""
        self._afterthoughts.close()
        self._close()

    def __enter__(self) -> Self:
        """The agent itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
