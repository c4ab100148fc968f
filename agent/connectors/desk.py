"""What happens to a message of any chat platform: it is kept, waits for its turn, is answered, and the answer is sent.

Messages of one chat are answered in their order, those of different chats at the same time. Nothing of a person is read
before they were told what the agent is and agreed; only the crisis screen looks at words it will not keep.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import TypeVar

import numpy as np

from agent import care
from agent.care import Consent
from agent.events import Finished, Spoken
from agent.host import Busy, Closing, Host, Message
from agent.nodes import NothingPerceived
from agent.speech import Audio
from perception.errors import PerceptionError
from perception.types import MODALITIES

from .commands import Reply, answer_to, command_in
from .connector import Attachment, Connector, Incoming, Undeliverable
from .inbox import Inbox, Kept

logger = logging.getLogger(__name__)

SETTLE_S = 0.5
"""A message waits so long for an earlier one that the platform delivers late."""

RETRIES_S = (1, 2, 5, 15, 30, 60, 120, 300)
"""What cannot be sent is tried again after so many seconds each, and after the next start."""

MAX_BYTES = 20 * 2**20
"""Of an attachment; Telegram gives bots no larger files."""

APOLOGY = "I am sorry, something went wrong on my side, and I could not answer that. Please try again in a while."
TOO_LARGE = "I am sorry, that file is too large for me: I can take recordings and pictures of up to 20 MB."
GONE = "I am sorry, I could not get that file any more. Could you send it again?"
UNSENT = "I am sorry, I cannot send files here."
UNOPENED = "I have not opened your file: I cannot read files of that kind here."
SILENT = "I am silent here from now on. /quiet off lets me speak again."
SPEAKS = "I am here again."
UNREAD = "I may not read what you write: /agree changes that."
AGREE = "If that is all right with you, write /agree{choices}. I will then answer what you have just written."

T = TypeVar("T")


class Desk:
    """One platform's messages.

    Args:
        locale: chooses helplines.
        settle_s, retries_s: see `SETTLE_S`, `RETRIES_S`.
    """

    def __init__(
        self,
        host: Host,
        connector: Connector,
        inbox: Inbox,
        *,
        locale: str = "en",
        settle_s: float = SETTLE_S,
        retries_s: Sequence[float] = RETRIES_S,
    ) -> None:
        self._host, self._connector, self._inbox = host, connector, inbox
        self._locale, self._settle_s, self._retries_s = locale, settle_s, retries_s
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._woken: set[str] = set()
        self._begun: set[tuple[str, str]] = set()  # messages of which something may have been sent before

    @property
    def platform(self) -> str:
        """Its name."""
        return self._connector.name

    async def run(self) -> None:
        """See to what was left unanswered, and to what comes, until cancelled; may be run again."""
        left = self._inbox.left(self._connector.name)
        self._begun.update(left)
        for chat in dict.fromkeys(chat for chat, _ in left):
            self._wake(chat)
        try:
            await self._connector.run(self.take)
        finally:
            tasks = list(self._at_work.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._at_work.clear()

    async def take(self, message: Incoming) -> None:
        """Keep a message and see to it."""
        if await asyncio.to_thread(self._inbox.keep, self._connector.name, message):
            self._wake(message.chat)

    def _wake(self, chat: str) -> None:
        self._woken.add(chat)
        if chat not in self._at_work:
            self._at_work[chat] = asyncio.create_task(self._work(chat))

    async def _work(self, chat: str) -> None:
        try:
            await asyncio.sleep(self._settle_s)
            while chat in self._woken:  # again, for a message that came while none was found
                self._woken.discard(chat)
                while (kept := await asyncio.to_thread(self._inbox.first, self._connector.name, chat)) is not None:
                    await self._see_to(kept)
        except Closing:
            pass  # it is answered after the next start
        except Exception as error:  # as above
            logger.error("a message of %s failed: %s", self._connector.name, type(error).__name__)
        finally:
            del self._at_work[chat]

    async def _see_to(self, kept: Kept) -> None:
        message, platform = kept.message, self._connector.name
        begun = (message.chat, message.id) in self._begun
        self._begun.add((message.chat, message.id))
        sound: Audio | None = None
        try:
            if kept.state == "waiting":
                reply = await self._reply(message, begun)
                if reply is None:
                    self._begun.discard((message.chat, message.id))
                    return
                sound = reply.sound
                if reply.file is not None and not await self._handed(message, *reply.file):
                    reply = Reply(UNSENT)
                kept = self._inbox.answer(kept, platform, chunks(reply.text, self._connector.max_chars))
            for i in range(kept.n_sent, len(kept.answer)):
                await self._deliver(message, kept.answer[i], f"{message.id}:{i}", begun)
                self._inbox.sent(platform, message, i + 1)
                begun = False
        except Undeliverable:
            logger.warning("an answer on %s cannot be delivered", platform)
        else:
            if sound is not None:
                await self._play(message.chat, sound)
        self._inbox.done(platform, message)
        self._begun.discard((message.chat, message.id))

    async def _handed(self, message: Incoming, name: str, content: bytes) -> bool:
        """Send a file; whether the platform takes it."""
        try:
            await self._patiently(lambda: self._connector.hand(message.chat, name, content))
        except Undeliverable:
            return False
        return True

    async def _play(self, chat: str, sound: Audio) -> None:
        """Send a voice note once; its words were sent."""
        try:
            await self._connector.play(chat, sound)
        except Exception as error:
            logger.warning("a voice note of %s was not sent: %s", self._connector.name, type(error).__name__)

    async def _deliver(self, message: Incoming, text: str, key: str, begun: bool) -> None:
        """Send a message; one that may have been sent before, as that failed half-way, is looked for first."""
        tried = begun

        async def attempt() -> None:
            nonlocal tried
            if not (tried and await self._connector.said(message.chat, key)):
                tried = True
                await self._connector.say(message.chat, text, key)

        await self._patiently(attempt)

    async def _patiently(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Do something with the platform, trying again while it fails."""
        for wait_s in self._retries_s:
            try:
                return await attempt()
            except (Undeliverable, ValueError):
                raise
            except Exception as error:
                logger.warning("%s failed, and is asked again: %s", self._connector.name, type(error).__name__)
                await asyncio.sleep(wait_s)
        return await attempt()

    async def _reply(self, message: Incoming, begun: bool) -> Reply | None:
        """What to say to a message; None if its answer has to wait, or it has none."""
        platform, user = self._connector.name, f"{self._connector.name}:{message.user}"
        command = command_in(message.text)
        if command is not None and command.name == "quiet":
            self._inbox.quiet(platform, message.chat, command.rest != "off")
            return Reply(SPEAKS if command.rest == "off" else SILENT)
        consent = self._host.people.consent_of(user)
        if command is not None and not (command.name == "start" and consent is None):
            try:
                reply = await answer_to(command, message, self._host, user, self.possible())
            except Exception as error:  # once more would fail once more, and hold up what comes after it
                logger.error("a command on %s failed: %s", platform, type(error).__name__)
                return Reply(APOLOGY)
            if command.name == "agree":
                for chat in self._inbox.release(platform, message.user):
                    self._wake(chat)
            elif command.name == "disagree":
                self._inbox.drop_held(platform, message.user)
            return reply
        if any(self._inbox.is_quiet(platform, place) for place in (message.chat, message.chat.partition("/")[0])):
            self._inbox.done(platform, message)
            return None
        if consent is None:
            return await self._first_contact(message, user, begun)
        if not consent.text:
            return Reply(UNREAD)
        async with self._connector.typing(message.chat):
            return await self._turn(message, user)

    async def _first_contact(self, message: Incoming, user: str, begun: bool) -> Reply | None:
        """Tell what the agent is and ask for consent; the message waits for it, unless it is an emergency."""
        told = self._host.disclosure(user, controls="/memory, /forget, /export and /quiet")
        screening = care.screen(message.text)
        if screening.level != "safe":
            return Reply(f"{care.crisis_reply(screening, self._locale)}\n\n{told}")
        possible = self.possible().allowed()
        more = " ".join(m for m in MODALITIES if m in possible and m != "text")
        choices = f" (or /agree {more}, if I may hear and see how you feel, too)" if more else ""
        text = f"{told}\n\n{AGREE.format(choices=choices)}"
        for i, part in enumerate(chunks(text, self._connector.max_chars)):
            await self._deliver(message, part, f"{message.id}:told:{i}", begun)
        self._inbox.hold(self._connector.name, message)
        return None

    def possible(self) -> Consent:
        """What could be read of people on this platform."""
        readable = self._host.agent.model.card.modalities | {"text"}
        allowed = readable & self._host.most.allowed() & self._connector.most.allowed()
        return Consent(**{m: m in allowed for m in MODALITIES})

    async def _turn(self, message: Incoming, user: str) -> Reply:
        attachment = message.attachment
        unopened = attachment is not None and attachment.kind == "file"
        if unopened and not message.text:
            return Reply(UNOPENED)
        try:
            clip = await self._fetched(attachment) if attachment is not None and not unopened else None
        except ValueError:
            return Reply(TOO_LARGE)
        except Exception as error:
            logger.warning("a file on %s was not fetched: %s", self._connector.name, type(error).__name__)
            return Reply(GONE)
        spoken_to = attachment is not None and attachment.kind in ("voice", "video")
        turn = Message(
            user=user,
            thread=f"{self._connector.name}:{message.chat}"[:200],
            text=message.text or None,
            clip=clip,
            id=message.id,
            speak=spoken_to and self._host.agent.has_voice,
            most=self._connector.most,
        )
        said: list[Audio] = []
        while True:
            try:
                async with aclosing(self._host.turn(turn)) as events:
                    async for event in events:
                        if isinstance(event, Spoken):
                            said.append(event.audio)
                        elif isinstance(event, Finished):
                            text = event.result.reply + (f"\n\n{UNOPENED}" if unopened else "")
                            return Reply(text, sound=_joined(said))
                raise AssertionError("a turn ends with Finished")
            except Busy as busy:
                await asyncio.sleep(busy.retry_after_s)
            except Closing:
                raise
            except NothingPerceived:
                return Reply("I could not make out any words. Could you say that again, or write it?")
            except PerceptionError as error:
                return Reply(f"I could not use that: {error}")
            except Exception as error:
                logger.error("a turn on %s failed: %s", self._connector.name, type(error).__name__)
                return Reply(APOLOGY)

    async def _fetched(self, attachment: Attachment) -> bytes:
        if attachment.n_bytes > MAX_BYTES:
            raise ValueError
        content = await self._patiently(lambda: self._connector.fetch(attachment))
        if len(content) > MAX_BYTES:
            raise ValueError
        return content


def _joined(said: list[Audio]) -> Audio | None:
    if not said:
        return None
    return Audio(np.concatenate([sound.samples for sound in said]), said[0].sample_rate_hz)


def chunks(text: str, max_chars: int) -> tuple[str, ...]:
    """Text in parts that a platform takes, cut at the end of a paragraph, of a sentence or of a word."""
    parts = []
    while len(text) > max_chars:
        cut = max((text.rfind(mark, 1, max_chars) + len(mark) - 1 for mark in ("\n\n", "\n", ". ", " ") if
                   text.rfind(mark, max_chars // 2, max_chars) > 0), default=max_chars)  # fmt: skip
        parts.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return (*parts, text) if text else tuple(parts)
