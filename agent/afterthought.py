"""Work on the memory after a turn, on a thread of its own: its outcomes, and the facts that follow."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

logger = logging.getLogger(__name__)


class Afterthoughts:
    """Runs one piece of work after the other; a failure is logged without words and stops nothing."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None  # a thread once there is work
        self._lock = threading.Lock()
        self._waiting: set[object] = set()

    def add(self, work: Callable[[], object], turn_id: str) -> None:
        """Do this when what was added before is done."""

        def run() -> None:
            try:
                work()
            except Exception as error:  # the turn is over, so nobody is there to be told
                logger.warning("turn %s: the afterthought failed: %s", turn_id, type(error).__name__)

        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "afterthoughts")
            future = self._pool.submit(run)
            self._waiting.add(future)
            future.add_done_callback(self._waiting.discard)

    def settle(self, timeout_s: float | None = None) -> None:
        """Wait until everything added so far is done."""
        wait(list(self._waiting), timeout_s)  # type: ignore[arg-type]

    def close(self) -> None:
        """Finish what was added; nothing can be added afterwards."""
        if self._pool is not None:
            self._pool.shutdown()
