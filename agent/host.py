"""One agent for many people: whose turn it is, what may be read of each, and that no message is answered twice.

The web server and the chat platforms talk to this, not to the agent. It runs in one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

from memory import privacy
from memory.store import MemoryStore, check_name
from memory.types import Episode
from model.types import Utterance

from . import care
from .background import in_background
from .care import Consent, Screening
from .conversations import Conversations, shared, take
from .events import Event, Finished, Heard, Planned, Replied, ReplyText, Started, TurnResult
from .forgetting import Forgotten, forget
from .people import People
from .session import Agent
from .state import Plan

logger = logging.getLogger(__name__)

T = TypeVar("T")

TEXT_ONLY = Consent()
"""What is read of a person before they were asked: words, without which nothing can be answered."""

TURN_S = 60.0
"""A turn is expected to take no longer; who is turned away is told to come again within this."""


_AGAIN_S = 0.05
"""After so long it is asked again whether another agent is done with a conversation."""


class Busy(Exception):
    """Too much is asked at once; `retry_after_s` says when to ask again."""

    def __init__(self, why: str, retry_after_s: int) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class Closing(Exception):
    """The agent is about to stop and begins no new turns."""

    def __init__(self) -> None:
        super().__init__("the agent is stopping: ask again in a minute")


@dataclass(frozen=True)
class Message:
    """What a person says in one conversation.

    `id` is the sender's own name for it: said again under the same one it is not answered again, but told the same
    answer. `clip` is the content of a sound, video or picture file. `dialogue`, oldest first, takes the place of what
    the conversation is known to have been. `most` is what may be read at most where it was said.
    """

    user: str
    thread: str
    text: str | None = None
    clip: bytes | None = None
    id: str | None = None
    dialogue: Sequence[Utterance] | None = None
    max_tokens: int | None = None
    speak: bool = False
    most: Consent | None = None


class Host:
    """Gives people their turns.

    Args:
        agent: shared by all.
        people: who they are and what they agreed to.
        home: folder of everything that is kept, searched after forgetting.
        most: what may be read of anybody; a person's own consent is within it.
        at_once: turns that run at the same time; on one processor more are only slower.
        waiting: turns that wait for their run; more are turned away.
        each: turns of one person that run or wait, so that nobody takes every place.
        elsewhere: what keeps a part of it all on other machines, where nothing can be searched.
    """

    def __init__(
        self,
        agent: Agent,
        people: People,
        home: Path,
        *,
        most: Consent | None = None,
        at_once: int = 4,
        waiting: int = 16,
        each: int = 4,
        elsewhere: str | None = None,
    ) -> None:
        self.agent = agent
        self.people = people
        self.most = most or Consent(voice=True, face=True)
        self.elsewhere = elsewhere
        self._home = home
        self._at_once, self._waiting, self._each = at_once, waiting, each
        self._room = asyncio.Semaphore(at_once)
        self._here: Counter[str] = Counter()
        self._in_order: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._running: dict[asyncio.Task[None], str] = {}
        self._closing = False
        self.on_finished: Callable[[Finished], None] = lambda event: None

    @property
    def store(self) -> MemoryStore:
        """The memory."""
        return self.agent.store

    @property
    def n_here(self) -> int:
        """Turns that run or wait."""
        return self._here.total()

    def consent_of(self, user: str) -> Consent:
        """What may be read of a person: what they agreed to, within what may be read of anybody."""
        return (self.people.consent_of(user) or TEXT_ONLY).within(self.most)

    def disclosure(self, user: str, **where: str) -> str:
        """What a person is told at first contact; `where` as `care.disclosure` takes it."""
        return care.disclosure(self.consent_of(user), self.agent.model.card.modalities | {"text"}, **where)

    async def turn(self, message: Message) -> AsyncGenerator[Event]:
        """Answer a message, yielding what happens. A turn that has begun is finished, whoever stops listening.

        Messages of one conversation are answered one after the other, in the order in which they came.

        Raises:
            Busy: too many turns wait, of everybody or of this person.
            Closing: the agent is stopping.
            PerceptionError, MemoryStoreError, SetupError, ValueError: as `Agent.events`.
        """
        check_name("user", message.user)
        check_name("thread", message.thread)
        key = (message.user, message.thread)
        lock = self._in_order.setdefault(key, asyncio.Lock())
        told, _ = self._begin(message.user, self._events(message), lock)
        while (event := await told()) is not None:
            yield event

    async def ask(self, message: Message) -> TurnResult:
        """Answer a message and return what its turn came to; raises as `turn`."""
        result = None
        async for event in self.turn(message):
            if isinstance(event, Finished):
                result = event.result
        assert result is not None, "a turn ends with Finished"
        return result

    async def work(self, user: str, items: Generator[T]) -> AsyncGenerator[T]:
        """Do other work for a person in a thread, yielding what it yields: it waits and counts as a turn does.

        It ends where it next yields something once nobody listens.

        Raises:
            Busy, Closing: as `turn`.
        """
        told, task = self._begin(user, in_background(items))
        try:
            while (item := await told()) is not None:
                yield item
        finally:
            task.cancel()

    async def do(self, user: str, work: Callable[[], T]) -> T:
        """`work`, with one result."""
        (result,) = [one async for one in self.work(user, (work() for _ in range(1)))]
        return result

    def check_open(self) -> None:
        """Go on, unless the agent is stopping.

        Raises:
            Closing: it is.
        """
        if self._closing:
            raise Closing

    def _admit(self, user: str) -> None:
        self.check_open()
        n = self._here.total()
        if n >= self._at_once + self._waiting:
            raise Busy(f"{n} turns are being answered or waiting, which is as many as may", self._later(n))
        if self._here[user] >= self._each:
            raise Busy(f"{self._each} turns of yours are being answered or waiting: let them end first", self._later(1))
        self._here[user] += 1

    def _later(self, n: int) -> int:
        return max(1, min(round(n / self._at_once), round(TURN_S)))

    def _begin(
        self, user: str, items: AsyncGenerator[T], order: asyncio.Lock | None = None
    ) -> tuple[Callable[[], Awaitable[T | None]], asyncio.Task[None]]:
        """Run something in a task of its own as soon as there is room, after what holds `order`.

        Returns what gives its next item, and None at the end; and the task.
        """
        self._admit(user)
        told: asyncio.Queue[T | BaseException | None] = asyncio.Queue()

        def over(task: asyncio.Task[None]) -> None:
            self._running.pop(task)
            self._here[user] -= 1
            if not self._here[user]:
                del self._here[user]
            error = None if task.cancelled() else task.exception()
            if error is not None:
                logger.info("a turn or other work failed: %s", type(error).__name__)
            told.put_nowait(error)

        task = asyncio.create_task(self._run(items, order or asyncio.Lock(), told.put_nowait))
        self._running[task] = user
        task.add_done_callback(over)  # which also comes of a task that is cancelled before it starts

        async def following() -> T | None:
            item = await told.get()
            if isinstance(item, BaseException):
                raise item
            return item

        return following, task

    async def _run(self, items: AsyncGenerator[T], order: asyncio.Lock, tell: Callable[[T], None]) -> None:
        async with order, self._room, contextlib.aclosing(items):
            async for item in items:
                tell(item)
                if isinstance(item, Finished):
                    self.on_finished(item)

    async def _events(self, message: Message) -> AsyncGenerator[Event]:
        async with self._alone(message), contextlib.aclosing(self._answered(message)) as events:
            async for event in events:
                yield event

    @contextlib.asynccontextmanager
    async def _alone(self, message: Message) -> AsyncIterator[None]:
        """While no other agent that shares the conversations answers in this one."""
        conversations: Any = self.agent.checkpointer
        if not shared(conversations):
            yield
            return
        while (let_go := await asyncio.to_thread(take, conversations, message.user, message.thread)) is None:
            await asyncio.sleep(_AGAIN_S)
        try:
            yield
        finally:
            await asyncio.to_thread(let_go)

    async def _answered(self, message: Message) -> AsyncGenerator[Event]:
        turn_id = turn_id_of(message)
        if turn_id is not None:
            known = await asyncio.to_thread(self.store.get, message.user, turn_id)
            if known is not None:
                for event in again(known):
                    yield event
                return
        options: dict[str, Any] = {
            "user": message.user,
            "thread": message.thread,
            "consent": self.consent_of(message.user).within(message.most or self.most),
            "speak": message.speak,
            "turn_id": turn_id,
            "dialogue": message.dialogue,
            "max_tokens": message.max_tokens,
        }
        with file_of(message.clip) as clip:
            async with contextlib.aclosing(self.agent.turn(message.text, clip=clip, **options)) as events:
                async for event in events:
                    yield event

    async def forget(self, user: str, **what: Any) -> Forgotten:
        """Forget what `privacy.chosen` chooses, or with `all=True` everything of a person, and prove it.

        Turns of theirs that have begun are finished first.

        Raises:
            MemoryStoreError, ValueError: as `privacy.chosen` and `forgetting.forget`.
        """

        def work() -> Forgotten:
            self.agent.settle()
            going = None if what.get("all") else privacy.chosen(self.store, user, **what)
            return forget(self.store, cast(Conversations, self.agent.checkpointer), self._home, user, going)

        theirs = [task for task, whose in self._running.items() if whose == user]
        if theirs:
            await asyncio.wait(theirs)
        forgotten = await asyncio.to_thread(work)
        if not self.store.count(user):
            self.agent.forgotten(user)
        return forgotten

    async def close(self, patience_s: float = TURN_S) -> None:
        """Begin no more turns, and finish those that have begun, for so long."""
        self._closing = True
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=patience_s)
            if late:
                logger.warning("%d turns were not finished in %.0f s", len(late), patience_s)


@contextlib.contextmanager
def file_of(clip: bytes | None) -> Iterator[Path | None]:
    """What was sent, as a file that only its owner can read and that is gone afterwards."""
    if clip is None:
        yield None
        return
    with tempfile.NamedTemporaryFile(prefix="emox-") as file:
        file.write(clip)
        file.flush()
        yield Path(file.name)


def turn_id_of(message: Message) -> str | None:
    """The turn that a message with an id makes: the same one each time it arrives; None for a message without."""
    if message.id is None:
        return None
    check_name("id", message.id)
    named = "\x1f".join((message.user, message.thread, message.id))
    return hashlib.sha256(named.encode()).hexdigest()[:16]


def again(episode: Episode) -> list[Event]:
    """What a turn tells that was answered before."""
    plan = Plan(episode.route, episode.strategy, episode.recall_policy, episode.voice)  # type: ignore[arg-type]
    result = TurnResult(
        turn_id=episode.id,
        thread_id=episode.thread_id,
        transcript=episode.text,
        modalities=episode.modalities,  # type: ignore[arg-type]
        affect=episode.affect,
        understanding=episode.understanding,
        recalled=episode.recalled,
        plan=plan,
        thought=episode.thought,
        reply=episode.reply,
        screening=Screening("crisis" if episode.route == "crisis" else "safe"),
        absent=dict(episode.affect.absent),
    )
    return [
        Started(episode.id, episode.thread_id, None),
        Heard(episode.text),
        Planned(plan, episode.thought),
        ReplyText(episode.reply),
        Replied(episode.reply),
        Finished(result),
    ]
