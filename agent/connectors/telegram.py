"""Telegram, by long polling: nothing of this machine need be reachable from outside.

Telegram keeps an update until a later one is asked for, so one is confirmed only when its message is kept. In groups
only what is meant for the agent is kept: mentions of it, replies to it, and its commands. Telegram cannot be asked what
was sent: an answer whose sending breaks off unanswered is sent again, and may then stand there twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

os.environ.setdefault("PTB_TIMEDELTA", "true")  # times as timedeltas, without a warning at each

from telegram import Bot, LinkPreviewOptions, Message, Update
from telegram.error import (
    BadRequest,
    ChatMigrated,
    Conflict,
    Forbidden,
    InvalidToken,
    RetryAfter,
    TelegramError,
)
from telegram.request import HTTPXRequest

from agent.care import Consent
from agent.speech import Audio

from .backoff import Backoff
from .commands import command_in
from .connector import Attachment, Incoming, Take, Undeliverable
from .opus import ogg_opus

logger = logging.getLogger(__name__)

URL = "https://api.telegram.org"

POLL_S = 30
"""Telegram answers as soon as there is something new, or with nothing after so long."""

ANSWER_S = 30.0
"""Telegram answers anything else within this; giving up earlier would send twice what had arrived."""

TYPING_S = 4.0
"""Telegram shows "typing" for five seconds."""

NO_PREVIEW = LinkPreviewOptions(is_disabled=True)


class TelegramConnector:
    """A bot of Telegram; a `Connector`.

    Args:
        token: from @BotFather.
        url: of the Bot API, or of a server of one's own that speaks it.
        backoff: between attempts to connect.
    """

    name = "telegram"
    max_chars = 4096
    most = Consent(voice=True, face=True)

    def __init__(self, token: str, url: str = URL, *, backoff: Backoff | None = None) -> None:
        # These would log the token, which stands in every address, and words that came in a broken response.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        logging.getLogger("telegram").setLevel(logging.CRITICAL)
        request = HTTPXRequest(read_timeout=ANSWER_S, connect_timeout=10.0, pool_timeout=ANSWER_S)
        url = url.rstrip("/")
        self._bot = Bot(token, f"{url}/bot", f"{url}/file/bot", request=request)
        self._backoff = backoff or Backoff()

    async def run(self, take: Take) -> None:
        """See `Connector.run`; raises what waiting does not mend, as a wrong token."""
        async with self._bot:
            offset = 0
            while True:
                try:
                    updates = await self._bot.get_updates(offset, timeout=POLL_S, allowed_updates=[Update.MESSAGE])
                    self._backoff.over()
                except (InvalidToken, Forbidden, Conflict):
                    raise
                except TelegramError as error:
                    logger.warning("telegram cannot be reached: %s", type(error).__name__)
                    wait_s = self._backoff.wait_s()
                    await asyncio.sleep(_retry_after_s(error) if isinstance(error, RetryAfter) else wait_s)
                    continue
                for update in updates:
                    message = update.message and incoming(update.message, self._bot.id, self._bot.username)
                    if message:
                        await take(message)
                    offset = update.update_id + 1

    async def fetch(self, attachment: Attachment) -> bytes:
        """See `Connector.fetch`."""
        try:
            file = await self._bot.get_file(attachment.ref)
        except BadRequest as error:
            if "too big" in error.message:
                raise ValueError("the file is larger than Telegram gives out") from None
            raise
        return bytes(await file.download_as_bytearray())

    async def say(self, chat: str, text: str, key: str) -> None:
        """See `Connector.say`; the text is shown as it is, without markup or previews of links."""
        await self._send(self._bot.send_message, chat, text=text, link_preview_options=NO_PREVIEW)

    async def said(self, chat: str, key: str) -> bool:
        """See `Connector.said`."""
        return False

    async def play(self, chat: str, sound: Audio) -> None:
        """See `Connector.play`."""
        voice = await asyncio.to_thread(ogg_opus, sound)
        duration = timedelta(seconds=round(sound.duration_s))
        await self._send(self._bot.send_voice, chat, voice=voice, filename="reply.ogg", duration=duration)

    async def hand(self, chat: str, name: str, content: bytes) -> None:
        """See `Connector.hand`."""
        await self._send(self._bot.send_document, chat, document=content, filename=name)

    @contextlib.asynccontextmanager
    async def typing(self, chat: str) -> AsyncIterator[None]:
        """See `Connector.typing`."""
        to, topic = _parts(chat)

        async def type() -> None:
            while True:
                with contextlib.suppress(TelegramError):
                    await self._bot.send_chat_action(to, "typing", message_thread_id=topic)
                await asyncio.sleep(TYPING_S)

        task = asyncio.create_task(type())
        try:
            yield
        finally:
            task.cancel()

    async def _send(self, call: Callable[..., Awaitable[Any]], chat: str, **what: Any) -> None:
        to, topic = _parts(chat)
        while True:
            try:
                await call(to, message_thread_id=topic, **what)
                return
            except RetryAfter as error:
                await asyncio.sleep(_retry_after_s(error))
            except ChatMigrated as error:  # a group became a supergroup
                to = error.new_chat_id
            except (Forbidden, BadRequest) as error:
                raise Undeliverable(type(error).__name__) from None


def incoming(message: Message, me: int, username: str) -> Incoming | None:
    """What a message of Telegram is to the agent; None if it is not meant for it."""
    sender = message.from_user
    if sender is None or sender.is_bot:
        return None
    private = message.chat.type == message.chat.PRIVATE
    text = message.text or message.caption or (message.sticker.emoji if message.sticker else None) or ""
    if not private:
        mention = re.compile(rf"(?<!\w)@{re.escape(username)}\b", re.IGNORECASE)
        mentioned = mention.search(text)
        if not (mentioned or _commands(text, username) or _replies_to(message, me)):
            return None
        text = mention.sub("", text).strip() or ("" if message.effective_attachment else "/help")
    attachment = _attachment(message)
    if not text and attachment is None:
        return None  # somebody came or went, a location, a poll
    chat = str(message.chat.id)
    if message.is_topic_message:
        chat += f"/{message.message_thread_id}"
    return Incoming(
        str(message.message_id), chat, str(sender.id), message.message_id, text, attachment, private=private
    )


def _commands(text: str, username: str) -> bool:
    """Whether a message of a group is a command for the agent and for no other bot there."""
    addressed = re.match(r"/\w+@(\w+)", text)
    return command_in(text) is not None and (addressed is None or addressed[1].lower() == username.lower())


def _replies_to(message: Message, me: int) -> bool:
    before = message.reply_to_message
    if before is None or before.forum_topic_created:  # in a topic every message replies to its beginning
        return False
    return before.from_user is not None and before.from_user.id == me


def _attachment(message: Message) -> Attachment | None:
    file: Any
    if file := message.voice or message.audio:
        kind = "voice"
    elif file := message.video_note or message.video:
        kind = "video"
    elif message.photo:
        file, kind = message.photo[-1], "picture"  # the largest of its sizes
    elif file := message.document:
        kinds = {"audio": "voice", "video": "video", "image": "picture"}
        kind = kinds.get((file.mime_type or "").partition("/")[0], "file")
    else:
        return None
    return Attachment(kind, file.file_id, file.file_size or 0)  # type: ignore[arg-type]


def _parts(chat: str) -> tuple[int, int | None]:
    """Id of a chat, and of its topic."""
    id, _, topic = chat.partition("/")
    return int(id), int(topic) if topic else None


def _retry_after_s(error: RetryAfter) -> float:
    wait = error.retry_after
    return wait.total_seconds() if isinstance(wait, timedelta) else wait
