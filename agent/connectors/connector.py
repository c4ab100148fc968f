"""A chat platform as the agent sees it. A new one is a file with a class that has these methods; desk.py does the rest.

class Paper:                                  # somebody who writes letters
    name, max_chars, most = "paper", 2_000, Consent()

    async def run(self, take):
        async for letter in self.letters():
            await take(Incoming(letter.id, chat=letter.street, user=letter.sender, order=letter.date, text=letter.text))
            letter.acknowledge()              # it is kept now, and will be answered, whatever happens
    ...
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.care import Consent
from agent.speech import Audio


@dataclass(frozen=True)
class Attachment:
    """A recording or picture that came with a message; by `ref` `Connector.fetch` finds it, after a restart too.

    A "file" is anything else, or what is not read on that platform; it is not fetched, and the person is told so.
    """

    kind: Literal["voice", "video", "picture", "file"]
    ref: str
    n_bytes: int = 0


@dataclass(frozen=True)
class Incoming:
    """A message that is meant for the agent.

    `id` is its name on the platform and `order` grows within a chat. `chat` is where it was said and where the answer
    goes, a thread of the platform included ("channel/thread", which is silent where its channel is); `user` is who said
    it there. `private` means that nobody else reads along.
    """

    id: str
    chat: str
    user: str
    order: float
    text: str = ""
    attachment: Attachment | None = None
    private: bool = True


Take = Callable[[Incoming], Awaitable[None]]
"""When it returns, the message is kept, and the platform may be told so. The same message twice is taken once."""


class Undeliverable(Exception):
    """The platform will never do this: the chat or the attachment is gone, or the person has turned the agent away."""


class Connector(Protocol):
    """A platform. What its methods raise, other than `Undeliverable`, is taken to pass, and tried again later.

    `name` goes before its users' names; `max_chars` is the length of its longest message; `most` is what may be read of
    people there at most.
    """

    name: str
    max_chars: int
    most: Consent

    async def run(self, take: Take) -> None:
        """Receive messages until cancelled, connecting again as often as it needs."""

    async def fetch(self, attachment: Attachment) -> bytes:
        """The content of an attachment.

        Raises:
            ValueError: it is larger than the platform gives out.
        """

    async def say(self, chat: str, text: str, key: str) -> None:
        """Send a message; `key` names it, so that a platform that can will not show it twice."""

    async def said(self, chat: str, key: str) -> bool:
        """Whether a message of this key was sent before; False where a platform cannot tell.

        It is asked only where an earlier attempt may have got through: after a failure, or after a restart.
        """

    async def play(self, chat: str, sound: Audio) -> None:
        """Send a voice note."""

    async def hand(self, chat: str, name: str, content: bytes) -> None:
        """Send a file."""

    def typing(self, chat: str) -> AbstractAsyncContextManager[None]:
        """Show that an answer is on its way, as long as this is entered."""
