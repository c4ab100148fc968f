"""One device, one queue: what many conversations ask at once is answered in rounds.

A request is a generator that yields what it needs of the device (an encoding, a pass, a step) and is sent what came of
it. Each round serves the needs of all requests together, as far as they fit into one batch, and those that come while a
round lasts take part in the next: a new one joins while others decode. Who gave up is closed before the next round.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch

from .device import is_device_thread, queue_on_device
from .types import Busy

T = TypeVar("T")
Request = Generator[Any, Any, T]

AHEAD = 4
"""Pieces that a stream may be ahead of who reads it while others wait, so that all take their steps together. Alone
nothing is done before it is asked for: who says a first sentence aloud needs the processor."""


@dataclass(frozen=True)
class Say:
    """A need of a stream: hand this to its reader."""

    piece: str


@dataclass(frozen=True)
class _Ended(Generic[T]):
    result: T | None
    error: BaseException | None


@dataclass(eq=False)
class _Running:
    request: Request[Any]
    deadline: float
    need: Any = None
    n_ahead: int = 0  # pieces said without those asked for
    given_up: bool = False
    out: SimpleQueue[Any] = field(default_factory=SimpleQueue)


class Stream(Iterator[str]):
    """What a request says, piece by piece. Once it is closed, which any thread may do, it ends for who reads it, and
    its request is closed before the next round.

    Raises:
        Busy: as `Scheduler.run`, with the first piece.
    """

    def __init__(self, scheduler: Scheduler, request: Request[None]) -> None:
        self._scheduler = scheduler
        self._request = request
        self._running: _Running | None = None
        self._over = False

    def __next__(self) -> str:
        """The next piece, which is waited for."""
        if self._over:
            raise StopIteration
        if self._running is None:
            self._running = self._scheduler.enter(self._request)
            if self._over:  # closed meanwhile
                self.close()
        item = self._scheduler.read(self._running)
        if not isinstance(item, _Ended):
            return item
        closed, self._over, self._running = self._over, True, None
        if item.error is not None and not closed:
            raise item.error
        raise StopIteration

    def close(self) -> None:
        """Want no more."""
        self._over = True
        if (running := self._running) is not None:
            self._scheduler.give_up(running)

    def __del__(self) -> None:
        """Who forgets a stream wants no more of it."""
        self.close()


class Scheduler:
    """Runs requests on the device's thread.

    `serve` gets the needs that wait, the most urgent first, and returns results by index, of as many as it served: an
    exception as a result is raised in that request alone. It may leave needs for later, but not all of them unless
    they wait for a request that is there. Beyond `limit` requests `Busy` is raised.
    """

    def __init__(self, serve: Callable[[Sequence[Any]], dict[int, Any]], limit: int) -> None:
        self._serve = serve
        self._limit = limit
        self._lock = threading.Lock()
        self._running: list[_Running] = []
        self._going = False

    def run(self, request: Request[T], patience_s: float = 0.0) -> T:
        """Run a request to its end; one with patience lets others go first for so long.

        Raises:
            Busy: too many requests are there already.
        """
        running = self.enter(request, patience_s)
        ended: _Ended[T] = self.read(running)
        if ended.error is not None:
            raise ended.error
        return ended.result  # type: ignore[return-value]

    def stream(self, request: Request[None]) -> Stream:
        """Run a request, once its first piece is asked for, and give what it says."""
        return Stream(self, request)

    def enter(self, request: Request[Any], patience_s: float = 0.0) -> _Running:
        """Let a request take part in the rounds from now on; raises as `run`."""
        running = _Running(request, time.monotonic() + patience_s)
        with self._lock:
            if len(self._running) >= self._limit:
                raise Busy(f"the model answers {self._limit} requests already: ask again in a moment")
            self._running.append(running)
        self._go()
        return running

    def give_up(self, running: _Running) -> None:
        """Close a request before the next round."""
        running.given_up = True
        self._go()

    def read(self, running: _Running) -> Any:
        """What a request says next, or that it has ended."""
        with self._lock:
            running.n_ahead -= 1
        self._go()
        while is_device_thread() and running.out.empty():  # asked by other work of the device: go on from here
            self._round()
        return running.out.get()

    def _go(self) -> None:
        """See that a round comes."""
        with self._lock:
            if self._going:
                return
            self._going = True
        queue_on_device(self._next_round)

    def _next_round(self) -> None:
        with self._lock:
            self._going = False  # who comes from here on calls for the next
        if self._round():
            self._go()

    @torch.inference_mode()
    def _round(self) -> bool:
        """Serve once all who wait; returns whether anything came of it."""
        with self._lock:
            present = sorted(self._running, key=lambda running: running.deadline)
        moved = False
        for running in present:
            if running.given_up:
                running.request.close()
                self._leave(running)
            elif running.need is None:
                self._advance(running, None)
                moved = True
        ahead = AHEAD if len(present) > 1 else 0
        waiting = [one for one in present if one.need is not None and one.n_ahead < ahead]
        if not waiting:
            return moved
        try:
            results = self._serve([running.need for running in waiting])
        except Exception as error:
            results = dict.fromkeys(range(len(waiting)), error)
        for number, result in results.items():
            self._advance(waiting[number], result)
        return moved or bool(results)

    def _advance(self, running: _Running, result: Any) -> None:
        """Send a request what it waited for, and hear what it needs next."""
        try:
            if isinstance(result, Exception):
                running.need = running.request.throw(result)
            else:
                running.need = running.request.send(result)
            while isinstance(running.need, Say):
                with self._lock:
                    running.n_ahead += 1
                running.out.put(running.need.piece)
                running.need = next(running.request)
        except StopIteration as end:
            self._leave(running, _Ended(end.value, None))
        except Exception as error:
            self._leave(running, _Ended(None, error))

    def _leave(self, running: _Running, ended: _Ended[Any] | None = None) -> None:
        running.need = None
        with self._lock:
            self._running.remove(running)
        running.out.put(ended or _Ended(None, GeneratorExit()))
