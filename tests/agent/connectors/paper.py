"""A platform that a test plays: what is sent to it stays in `sent`, and it fails when told to.

`failing` holds what its next calls of `say` raise, `losing` what they raise after the message got through, and
`refusing` what its next calls of `fetch` and `hand` raise.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from agent.care import Consent
from agent.connectors.connector import Attachment, Incoming, Take
from agent.speech import Audio


class Paper:
    """A `Connector`; `deliver` hands a message to the agent as the platform would."""

    def __init__(self, name: str = "paper", *, max_chars: int = 2_000, most: Consent | None = None) -> None:
        self.name, self.max_chars = name, max_chars
        self.most = most or Consent(voice=True, face=True)
        self.sent: list[tuple[str, str]] = []
        self.played: list[tuple[str, Audio]] = []
        self.files: list[tuple[str, str, bytes]] = []
        self.typed: list[str] = []
        self.keys: set[tuple[str, str]] = set()
        self.asked: list[tuple[str, str]] = []
        self.failing: list[Exception] = []
        self.losing: list[Exception] = []
        self.refusing: list[Exception] = []
        self.attachments: dict[str, bytes] = {}
        self._take: asyncio.Future[Take] = asyncio.get_running_loop().create_future()

    async def run(self, take: Take) -> None:
        self._take.set_result(take)
        await asyncio.Event().wait()

    async def deliver(self, *messages: Incoming) -> None:
        for message in messages:
            await (await self._take)(message)

    async def fetch(self, attachment: Attachment) -> bytes:
        if self.refusing:
            raise self.refusing.pop(0)
        return self.attachments[attachment.ref]

    async def say(self, chat: str, text: str, key: str) -> None:
        if self.failing:
            raise self.failing.pop(0)
        self.sent.append((chat, text))
        self.keys.add((chat, key))
        if self.losing:
            raise self.losing.pop(0)

    async def said(self, chat: str, key: str) -> bool:
        self.asked.append((chat, key))
        return (chat, key) in self.keys

    async def play(self, chat: str, sound: Audio) -> None:
        self.played.append((chat, sound))

    async def hand(self, chat: str, name: str, content: bytes) -> None:
        if self.refusing:
            raise self.refusing.pop(0)
        self.files.append((chat, name, content))

    @contextlib.asynccontextmanager
    async def typing(self, chat: str) -> AsyncIterator[None]:
        self.typed.append(chat)
        yield

    async def until(self, n: int) -> list[str]:
        """The first n texts that were sent, once they are."""
        async with asyncio.timeout(10):
            while len(self.sent) < n:
                await asyncio.sleep(0.005)
        await asyncio.sleep(0.02)  # more than there should be would come now
        return [text for _, text in self.sent]
