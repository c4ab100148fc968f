"""The public API: one turn in, typed events out.

with open_agent() as agent:  # agent.opening
    async for event in agent.turn("I got the job!"):
        ...
    print(agent.ask("And I start on Monday.").reply)
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver

from memory.digest import digest
from memory.store import MemoryStore
from model.types import AffectModel
from perception.listen import clean_text
from perception.types import Absence, UserTurn

from .afterthought import Afterthoughts
from .background import Background
from .care import Consent, disclosure
from .events import Event, Finished, Heard, Planned, ReplyText, Spoken, Started, TurnResult, result_of, told
from .graph import build_graph
from .nodes import Ears
from .reply import NanoEmoxReply, ReplyModel
from .settings import SetupError
from .speaking import Voice
from .speech import STYLES, Speaker
from .state import LiveTurn, TurnBuffer, TurnState, checkpoint_id, new_turn

_END = object()

Step = tuple[float, str | dict[str, Any]]
"""When (`time.perf_counter`), and what the graph did: a piece of the reply, or what a finished node returned."""


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
        self._afterthoughts = Afterthoughts()
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

        The turn goes on while an event is looked at. Closing the iterator ends it where it next has something to tell.

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
            SetupError: it is to be spoken, and this agent has no voice.
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
        to_say = disclosure(allowed, self.model.card.modalities | {"text"}) if first_contact else None
        yield Started(turn_id, thread, to_say)
        voice = Voice(self.speaker, speak_to) if speak or speak_to else None
        self._turns.put(turn_id, live)
        state = new_turn(turn_id, user, thread, live.turn.text if live.turn is not None else "")
        try:
            yield from self._run(state, live, voice)
        finally:
            self._turns.drop(turn_id)
            if voice is not None:
                voice.stop()

    def _run(self, state: TurnState, live: LiveTurn, voice: Voice | None) -> Iterator[Event]:
        started = last = time.perf_counter()
        timings: dict[str, float] = {}
        if live.turn is not None:
            yield Heard(live.turn.text)
        steps = Background(partial(self._work, state.copy(), live))
        try:
            for at, step in steps.rest():
                if isinstance(step, str):
                    events: Iterator[Event] = iter([ReplyText(step)])
                else:
                    ((node, update),) = step.items()
                    timings[node], last = 1000 * (at - last), at
                    state.update(update)
                    events = told(node, state, live)
                for event in events:
                    if isinstance(event, Planned) and voice is not None:
                        voice.begin(STYLES[event.plan.voice])
                    if isinstance(event, ReplyText):
                        timings.setdefault("first_text", 1000 * (at - started))
                        if voice is not None:
                            voice.say(event.text)
                    yield event
                if voice is not None:
                    yield from map(Spoken, voice.ready())
        finally:  # a turn given up halfway must not leave a graph running
            steps.give_up()
            steps.join()
        audio = None
        if voice is not None:
            yield from map(Spoken, voice.rest())
            audio = (voice.path, voice.seconds) if voice.path is not None else None
            timings["first_audio"] = 1000 * (voice.first_at - started)
        timings["total"] = 1000 * (time.perf_counter() - started)
        yield Finished(result_of(state, audio, timings))

    def _work(self, state: TurnState, live: LiveTurn, tell: Callable[[Step], None]) -> None:
        """Run the graph in the background. Its steps then cost no change of thread, and a piece of a reply waits for
        nobody; LangGraph's own streaming of pieces hands every step to a pool of threads.
        """
        live.tell = lambda piece: tell((time.perf_counter(), piece))
        config: RunnableConfig = {"configurable": {"thread_id": checkpoint_id(state["user"], state["thread_id"])}}
        stream = self._graph.stream(state, config, stream_mode="updates", durability="exit", version="v1")
        with closing(cast(Generator[dict[str, Any]], stream)):
            for update in stream:
                tell((time.perf_counter(), update))
        user, thread_id = state["user"], state["thread_id"]
        self._afterthoughts.add(lambda: digest(self.store, user, thread_id), state["turn_id"])

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
