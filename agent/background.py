"""Work in a thread of its own, which tells what it has while it goes on."""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


class GivenUp(BaseException):
    """Nobody listens any more: raised in the work where it next tells something."""


@dataclass(frozen=True)
class _End:
    error: BaseException | None


class Background(Generic[T]):
    """Runs `work(tell)` at once, in the context of whoever started it; what it tells waits here until it is taken."""

    def __init__(self, work: Callable[[Callable[[T], None]], None]) -> None:
        self._work = work
        self._told: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
        self._given_up = False
        self._end: _End | None = None
        self._thread = threading.Thread(target=contextvars.copy_context().run, args=(self._run,), daemon=True)
        self._thread.start()

    def ready(self) -> Iterator[T]:
        """What has been told by now."""
        while self._end is None and not self._told.empty():
            yield from self._take()

    def rest(self) -> Iterator[T]:
        """Everything else until the work is over, waiting for it; then raises what the work raised."""
        while self._end is None:
            yield from self._take()
        if self._end.error is not None:
            raise self._end.error

    def give_up(self) -> None:
        """Listen no more: the work ends where it next tells something."""
        self._given_up = True

    def join(self) -> None:
        """Wait until the work is over."""
        self._thread.join()

    def _take(self) -> Iterator[T]:
        told = self._told.get()
        if isinstance(told, _End):
            self._end = told
        else:
            yield told

    def _tell(self, item: T) -> None:
        if self._given_up:
            raise GivenUp
        self._told.put(item)

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            self._work(self._tell)
        except GivenUp:
            pass
        except BaseException as raised:  # handed to whoever listens
            error = raised
        self._told.put(_End(error))


async def in_background(items: Generator[T]) -> AsyncGenerator[T]:
    """What a generator yields, for asyncio: it runs in a thread of its own, ahead of whoever takes from it.

    Closing this closes the generator where it next yields.
    """
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[T | _End] = asyncio.Queue()
    given_up = threading.Event()

    def tell(item: T | _End) -> None:
        try:
            loop.call_soon_threadsafe(told.put_nowait, item)
        except RuntimeError:  # the loop is closed, so nobody takes
            given_up.set()

    def run() -> None:
        error: BaseException | None = None
        try:
            with closing(items):
                for item in items:
                    tell(item)
                    if given_up.is_set():
                        break
        except BaseException as raised:  # handed to whoever takes
            error = raised
        tell(_End(error))

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    try:
        while not isinstance(item := await told.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        given_up.set()
