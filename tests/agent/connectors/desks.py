"""The desk of a platform at work, for the tests of all of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from agent.connectors.connector import Connector
from agent.connectors.desk import Desk
from agent.connectors.inbox import Inbox
from tests.agent.server.house import House

SAID = "I am sad about my cat, she ran away yesterday."
REPLY = "I hear you. Tell me more?"


@contextlib.asynccontextmanager
async def desk_of(
    at: House, connector: Connector, *, inbox: Inbox | None = None, **options: Any
) -> AsyncIterator[Inbox]:
    """It runs, in a hurry, while this is entered; gives its inbox."""
    inbox = inbox or Inbox(at.home / "inbox.sqlite")
    desk = Desk(at.host, connector, inbox, **{"settle_s": 0.02, "retries_s": (0.01, 0.01)} | options)
    running = asyncio.create_task(desk.run())
    try:
        yield inbox
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
