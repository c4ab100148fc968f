"""Work on the memory after turns, on a thread of its own: their outcomes, and the facts that follow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

logger = logging.getLogger(__name__)

PAUSE_S = 20.0
"""A conversation that has paused for so long is thought about: while people talk, their turns go before."""

AT_MOST = 3
"""Turns of a conversation that are thought about together, even if it does not pause."""


@dataclass
class _Waiting:
    work: Callable[[], object]
    turn_id: str
    due: float
    n: int = 1


class Afterthoughts:
    """Runs one piece of work after the other; a failure is logged without words and stops nothing.

    Args:
        pause_s: see `PAUSE_S`.
    """

    def __init__(self, pause_s: float = PAUSE_S) -> None:
        self._pause_s = pause_s
        self._changed = threading.Condition()
        self._waiting: dict[Hashable, _Waiting] = {}
        self._busy = self._hurried = self._closing = False
        self._thread: threading.Thread | None = None  # once there is work

    def add(self, about: Hashable, work: Callable[[], object], turn_id: str) -> None:
        """Do this when its conversation pauses; what was added about it before, and has not begun, is done with it."""
        with self._changed:
            n = self._waiting[about].n + 1 if about in self._waiting else 1
            due = time.monotonic() + (self._pause_s if n < AT_MOST else 0)
            self._waiting[about] = _Waiting(work, turn_id, due, n)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="afterthoughts", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def settle(self, timeout_s: float | None = None) -> None:
        """Do everything added so far now, and wait until it is done."""
        with self._changed:
            self._hurried = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_s)
            self._hurried = False

    def close(self) -> None:
        """Finish what was added; nothing is done afterwards."""
        self.settle()
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (next_one := self._next()) is not None:
            try:
                next_one.work()
            except Exception as error:  # the turn is over, so nobody is there to be told
                logger.warning("turn %s: the afterthought failed: %s", next_one.turn_id, type(error).__name__)
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _next(self) -> _Waiting | None:
        with self._changed:
            while not self._closing:
                if self._waiting:
                    about = min(self._waiting, key=lambda key: self._waiting[key].due)
                    left_s = self._waiting[about].due - time.monotonic()
                    if self._hurried or left_s <= 0:
                        self._busy = True
                        return self._waiting.pop(about)
                    self._changed.wait(left_s)
                else:
                    self._changed.wait()
            return None
