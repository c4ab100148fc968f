"""The chat platforms of a server, each at its desk: one that fails is begun again, and the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from agent.host import Host

from .backoff import Backoff
from .connector import Connector
from .desk import Desk
from .inbox import Inbox

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 300.0
"""Before a platform is tried again; one that worked for so long is tried again at once."""


@dataclass(frozen=True)
class Chats:
    """Platforms, and the inbox that they share."""

    connectors: Sequence[Connector]
    inbox: Inbox

    @property
    def names(self) -> str:
        """For a person to read."""
        return ", ".join(one.name for one in self.connectors)

    @property
    def routers(self) -> list[Any]:
        """Routes of a server by which platforms deliver; most need none."""
        return [router for one in self.connectors if (router := getattr(one, "router", None)) is not None]

    def answered_by(self, host: Host, locale: str) -> AbstractAsyncContextManager[None]:
        """All are answered while this is entered; `locale` chooses helplines."""
        return at_work([Desk(host, one, self.inbox, locale=locale) for one in self.connectors])


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
