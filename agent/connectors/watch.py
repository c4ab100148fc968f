"""Desks at work beside a server: one that fails is begun again, later each time, and the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence

from .backoff import Backoff
from .desk import Desk

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 300.0
"""Before a platform is tried again; one that worked for so long is tried again at once."""


@contextlib.asynccontextmanager
async def at_work(desks: Sequence[Desk]) -> AsyncIterator[None]:
    """Each of them runs while this is entered."""
    tasks = [asyncio.create_task(keep_running(desk)) for desk in desks]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def keep_running(desk: Desk, backoff: Backoff | None = None, clock: Callable[[], float] = time.monotonic) -> None:
    """Run a desk, again and again if need be, until cancelled."""
    backoff = backoff or Backoff(longest_s=LONGEST_WAIT_S)
    while True:
        began = clock()
        try:
            await desk.run()
            logger.error("%s ended by itself", desk.platform)
        except Exception as error:  # whatever is wrong there, the server goes on
            logger.error("%s does not work: %s", desk.platform, type(error).__name__)
        if clock() - began >= backoff.longest_s:
            backoff.over()
        await asyncio.sleep(backoff.wait_s())
