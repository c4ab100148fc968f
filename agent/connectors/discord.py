"""Discord, through the gateway of discord.py.

In private everything is meant for the agent. In servers what mentions it is, what replies to it, and what is said in a
thread into which it was called; nothing else is looked at.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import logging
import mimetypes
import re
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Literal

import aiohttp
import discord
import numpy as np
from discord.backoff import ExponentialBackoff
from discord.http import handle_message_parameters

from agent.care import Consent
from agent.settings import SetupError
from agent.speech import Audio

from .connector import Attachment, Incoming, Take, Undeliverable
from .opus import ogg_opus

logger = logging.getLogger(__name__)

OVERLAP_S = 60
"""What was missed is looked for from so long before the last message that was kept: an earlier one may be missing."""

WAVEFORM = 256
"""Bars that Discord draws of a voice message at most, ten a second."""

NONCE = 25
"""Characters of the name by which Discord knows, for a few minutes, that it has shown a message."""

REFUSED = {400, 403, 404, 413}
"""Answers of Discord that stay the same however often it is asked."""

_PASSING = (discord.DiscordException, aiohttp.ClientError, OSError)
_KINDS: dict[str, Literal["voice", "video", "picture"]] = {"audio": "voice", "video": "video", "image": "picture"}

NO_TOKEN = (
    "Discord does not know the bot's token: copy it again from https://discord.com/developers/applications, under Bot"
)
NO_INTENT = (
    "Discord does not let the bot read messages: switch on its message content intent at "
    "https://discord.com/developers/applications, under Bot"
)


class DiscordConnector:
    """A bot.

    Args:
        token: its own.
        latest: chat -> id of the last message kept of it, as `Inbox.latest` gives them; what was said there after it,
            while the agent was away, is fetched.
        options: of `discord.Client`, such as `proxy`.
    """

    name = "discord"
    max_chars = 2_000
    most = Consent(voice=True, face=True)

    def __init__(self, token: str, latest: Callable[[], Mapping[str, str]] = dict, **options: Any) -> None:
        self._token, self._latest, self._options = token, latest, options
        self._client: discord.Client | None = None
        self._logged_in = asyncio.Event()

    async def run(self, take: Take) -> None:
        """See `Connector.run`.

        Raises:
            SetupError: Discord does not know the token, or does not let the bot read messages.
        """
        backoff = ExponentialBackoff()
        while True:
            try:
                async with _Client(take, self._latest, self._options) as client:
                    await client.login(self._token)
                    self._client = client
                    self._logged_in.set()
                    await client.connect()  # and again, when the connection is lost
            except discord.LoginFailure:
                raise SetupError(NO_TOKEN) from None
            except discord.PrivilegedIntentsRequired:
                raise SetupError(NO_INTENT) from None
            except discord.ConnectionClosed as error:
                if error.code == 4004:
                    raise SetupError(NO_TOKEN) from None
                raise
            except _PASSING as error:  # there is no way to Discord yet
                logger.warning("logging in to Discord failed: %s", type(error).__name__)
            finally:
                self._logged_in.clear()
            await asyncio.sleep(backoff.delay())

    async def fetch(self, attachment: Attachment) -> bytes:
        """See `Connector.fetch`. The links of attachments work for a day only, so the message is asked for new ones."""
        chat, message_id, attachment_id = attachment.ref.split("/")
        async with self._chat(chat) as channel:
            message = await channel.fetch_message(int(message_id))
            found = discord.utils.get(message.attachments, id=int(attachment_id))
            if found is None:
                raise Undeliverable("the attachment was taken out of its message")
            return await found.read()

    async def say(self, chat: str, text: str, key: str) -> None:
        """See `Connector.say`."""
        nonce = hashlib.sha256(key.encode()).hexdigest()[:NONCE]
        async with self._chat(chat) as channel:
            await channel.send(text, nonce=nonce)  # discord.py asks for it to be enforced

    async def said(self, chat: str, key: str) -> bool:
        """See `Connector.said`: Discord itself does not show a message of the same nonce again."""
        return False

    async def play(self, chat: str, sound: Audio) -> None:
        """See `Connector.play`; a file where voice messages are not allowed."""
        content = await asyncio.to_thread(ogg_opus, sound)
        with handle_message_parameters(
            file=_VoiceNote(content, sound), flags=discord.MessageFlags(voice=True)
        ) as parameters:
            try:
                async with self._chat(chat) as channel:
                    await channel._state.http.send_message(channel.id, params=parameters)
            except Undeliverable:
                await self.hand(chat, "voice-message.ogg", content)

    async def hand(self, chat: str, name: str, content: bytes) -> None:
        """See `Connector.hand`."""
        async with self._chat(chat) as channel:
            await channel.send(file=discord.File(io.BytesIO(content), name))

    @contextlib.asynccontextmanager
    async def typing(self, chat: str) -> AsyncIterator[None]:
        """See `Connector.typing`."""
        async with contextlib.AsyncExitStack() as shown:
            with contextlib.suppress(Undeliverable, *_PASSING):  # an answer is worth more than its announcement
                async with self._chat(chat) as channel:
                    await shown.enter_async_context(channel.typing())
            yield

    @contextlib.asynccontextmanager
    async def _chat(self, chat: str) -> AsyncIterator[discord.PartialMessageable]:
        """A chat, once there is a way to it; what Discord refuses in it is `Undeliverable`."""
        await self._logged_in.wait()
        assert self._client is not None
        try:
            yield self._client.get_partial_messageable(int(chat))
        except discord.HTTPException as error:
            if error.status in REFUSED:
                raise Undeliverable(f"Discord refuses it: {error.status}, code {error.code}") from None
            raise


class _Client(discord.Client):
    """Hands on what is meant for the agent, and after an absence what it missed."""

    def __init__(self, take: Take, latest: Callable[[], Mapping[str, str]], options: dict[str, Any]) -> None:
        intents = discord.Intents(guilds=True, messages=True, message_content=True)
        nobody = discord.AllowedMentions.none()  # what a hostile text makes the agent say calls nobody
        super().__init__(intents=intents, allowed_mentions=nobody, max_messages=None, **options)
        self._take, self._latest = take, latest
        self._missed: dict[str, str] = {}
        self._called: dict[str, int] = {}  # thread -> id of the message since which the agent is in it

    async def on_connect(self) -> None:
        """A session begins; nothing of it was received yet, and what came before it will not be."""
        known = self._latest()
        self._called = {chat: int(last) for chat, last in known.items()} | self._called
        self._missed = {**known, **self._missed}  # what was not fetched yet goes further back

    async def on_ready(self) -> None:
        """Servers and threads are known: fetch what was missed in the chats that are known to the agent."""
        backoff = ExponentialBackoff()
        while self._missed:
            chat, last = next(iter(self._missed.items()))
            try:
                await self._catch_up(int(chat), int(last))
            except _PASSING as error:
                logger.warning("messages missed on Discord could not be fetched: %s", type(error).__name__)
                if not isinstance(error, discord.DiscordException) or getattr(error, "status", 0) >= 500:
                    await asyncio.sleep(backoff.delay())
                    continue  # anything else means that the chat is gone
            self._missed.pop(chat, None)

    async def _catch_up(self, chat: int, last: int) -> None:
        channel = self.get_channel(chat) or await self.fetch_channel(chat)
        if isinstance(channel, discord.abc.Messageable):
            since = discord.Object(max(last - (OVERLAP_S * 1000 << 22), 0))
            async for message in channel.history(limit=None, after=since, oldest_first=True):
                await self.on_message(message)

    async def on_message(self, message: discord.Message) -> None:
        """Keep it, if it is meant for the agent."""
        if self._is_meant(message):
            self._called.setdefault(str(message.channel.id), message.id)
            await self._take(incoming_of(message, self._names(message)))

    def _is_meant(self, message: discord.Message) -> bool:
        if message.author.bot or message.webhook_id is not None:
            return False
        if message.type not in (discord.MessageType.default, discord.MessageType.reply):
            return False
        if isinstance(message.channel, discord.DMChannel):
            return True
        replied_to = message.reference.resolved if message.reference is not None else None
        if isinstance(replied_to, discord.Message) and replied_to.author == self.user:
            return True
        if any(name in message.content for name in self._names(message)):
            return True
        if not isinstance(message.channel, discord.Thread):
            return False
        called = self._called.get(str(message.channel.id), 0 if message.channel.me is not None else None)
        return called is not None and message.id > called

    def _names(self, message: discord.Message) -> list[str]:
        """How the agent is mentioned: itself, or the role that Discord gives to each bot."""
        assert self.user is not None
        role = message.guild.self_role if message.guild is not None else None
        return [f"<@{self.user.id}>", f"<@!{self.user.id}>", *([role.mention] if role is not None else [])]


def incoming_of(message: discord.Message, names: list[str]) -> Incoming:
    """A message for the desk, without the mentions of the agent at its ends."""
    mention = "|".join(map(re.escape, names))
    text = re.sub(rf"^(?:\s*(?:{mention}))+|(?:(?:{mention})\s*)+$", "", message.content).strip()
    chat = str(message.channel.id)
    readable = ((kind_of(one), one) for one in message.attachments)
    attachment = next(
        (Attachment(kind, f"{chat}/{message.id}/{one.id}", one.size) for kind, one in readable if kind), None
    )
    private = isinstance(message.channel, discord.DMChannel)
    return Incoming(
        str(message.id), chat, str(message.author.id), float(message.id), text, attachment=attachment, private=private
    )


def kind_of(attachment: discord.Attachment) -> Literal["voice", "video", "picture"] | None:
    """What an attachment is, or None of one that cannot be read."""
    said = attachment.content_type or mimetypes.guess_type(attachment.filename)[0] or ""
    return _KINDS.get(said.partition("/")[0])


class _VoiceNote(discord.File):
    """A file that Discord shows as a voice message: it wants to know how long it is and what to draw."""

    def __init__(self, content: bytes, sound: Audio) -> None:
        super().__init__(io.BytesIO(content), "voice-message.ogg")
        self._sound = sound

    def to_dict(self, index: int) -> dict[str, Any]:
        bars = base64.b64encode(waveform(self._sound)).decode()
        return {**super().to_dict(index), "duration_secs": self._sound.duration_s, "waveform": bars}


def waveform(sound: Audio) -> bytes:
    """How loud a sound is from its beginning to its end, each bar in [0, 255]."""
    n_bars = min(max(round(sound.duration_s * 10), 1), WAVEFORM, max(len(sound.samples), 1))
    peaks = [np.abs(part).max(initial=0) for part in np.array_split(sound.samples, n_bars)]
    return bytes(round(255 * min(float(peak), 1)) for peak in peaks)
