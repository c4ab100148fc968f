"""Slack, by Socket Mode or by its requests to /slack/events, whose signatures Bolt checks.

Slack is told that an event arrived only when its message is kept; else it sends it again. Read are direct messages,
mentions, and threads that the agent takes part in. Only words are read unless the operator decides otherwise: the EU
forbids to infer feelings of people at work from their voice or face (AI Act, article 5 (1) (f)).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
from fastapi import APIRouter
from slack_bolt.adapter.socket_mode.aiohttp import AsyncSocketModeHandler
from slack_bolt.adapter.starlette.async_handler import to_async_bolt_request, to_starlette_response
from slack_bolt.async_app import AsyncApp
from slack_bolt.authorization import AuthorizeResult
from slack_sdk.errors import SlackApiError
from slack_sdk.http_retry.builtin_async_handlers import AsyncRateLimitErrorRetryHandler
from slack_sdk.web.async_client import AsyncWebClient
from starlette.requests import Request
from starlette.responses import Response

from agent.care import Consent
from agent.speech import Audio

from .connector import Attachment, Incoming, Take, Undeliverable
from .opus import ogg_opus

logger = logging.getLogger(__name__)

URL = "https://slack.com/api/"

PATH = "/slack/events"

BODY_BYTES = 2**20
"""Slack's requests are far shorter."""

PING_S = 10.0
"""A connection is checked so often."""

LOST_PINGS = 6
"""After so many checks without a connection all is begun anew."""

STATUS_S = 3.0
"""The answer waits no longer for it to be announced."""

THREADS = 1000
"""Threads of which is known whether the agent takes part; the others are looked up."""

NEWEST = 200
"""Among so many messages one that was sent is looked for."""

GONE = {
    "account_inactive", "cannot_dm_bot", "channel_not_found", "is_archived", "msg_too_long", "no_text",
    "not_in_channel", "restricted_action", "thread_not_found", "user_not_found",
}  # fmt: skip
"""Errors of Slack that will not pass."""

SAID_HERE = (None, "file_share", "thread_broadcast")
"""Subtypes of messages that somebody wrote; the others tell of edits, deletions and what happened in a channel."""


class SlackConnector:
    """An app of Slack; a `Connector`.

    Args:
        token: of the bot, "xoxb-...".
        app_token: "xapp-...", for Socket Mode.
        signing_secret: without Socket Mode, checks what is sent to `router`.
        voice: whether voice messages and videos are heard, and how they sound is read where the person agrees.
        url: of Slack's API.

    Raises:
        ValueError: there is neither an app token nor a signing secret.
    """

    name = "slack"
    max_chars = 3000

    def __init__(
        self,
        token: str,
        *,
        app_token: str | None = None,
        signing_secret: str | None = None,
        voice: bool = False,
        url: str = URL,
        ping_s: float = PING_S,
    ) -> None:
        if not (app_token or signing_secret):
            raise ValueError("Slack needs an app token (Socket Mode) or a signing secret (its requests)")
        self.most = Consent(voice=voice)
        self._token, self._app_token, self._voice, self._ping_s = token, app_token, voice, ping_s
        # What the libraries log holds addresses with tickets and, at times, what was said.
        self._silent = logging.getLogger(f"{__name__}.library")
        self._silent.setLevel(logging.CRITICAL)

        async def authorize() -> AuthorizeResult:
            return AuthorizeResult.from_auth_test_response(bot_token=self._token, auth_test_response=self._me)

        # By default the client would also send again, without looking, what broke off.
        handlers: list[Any] = [AsyncRateLimitErrorRetryHandler(max_retry_count=3)]
        self._client = AsyncWebClient(token, url, logger=self._silent, retry_handlers=handlers)
        self._app = AsyncApp(
            name="emox",
            logger=self._silent,
            client=AsyncWebClient(None, url, logger=self._silent, retry_handlers=handlers),
            authorize=authorize,
            signing_secret=signing_secret or "",
            process_before_response=True,  # an event is acknowledged when its listener is through
        )
        self._app.event(re.compile(".*"))(self._on_event)
        self._app.command(re.compile(".*"))(self._on_command)
        self._app.error(self._on_error)
        self._take: Take | None = None
        self._me: Any = {}
        self._takes_part: OrderedDict[str, bool] = OrderedDict()
        self._has_status = True

    @property
    def router(self) -> APIRouter | None:
        """Where Slack sends events, without Socket Mode."""
        if self._app_token:
            return None
        router = APIRouter()
        router.add_route(PATH, self._on_request, methods=["POST"], include_in_schema=False)
        return router

    async def run(self, take: Take) -> None:
        """See `Connector.run`; raises if a token is wrong, or no connection comes about for long."""
        self._me = await self._client.auth_test()
        self._take = take
        try:
            if self._app_token:
                await self._listen(self._app_token)
            else:
                await asyncio.Event().wait()
        finally:
            self._take = None

    async def fetch(self, attachment: Attachment) -> bytes:
        """See `Connector.fetch`."""
        file: dict[str, Any] = (await self._client.files_info(file=attachment.ref))["file"]
        headers = {"Authorization": f"Bearer {self._token}"}
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            session.get(file["url_private_download"], headers=headers) as response,
        ):
            if response.content_type == "text/html":  # the page of who may not read files
                raise PermissionError("the app may not read files: add the scope files:read")
            return await response.read()

    async def say(self, chat: str, text: str, key: str) -> None:
        """See `Connector.say`; the text is shown as it is, without markup, mentions or previews of links."""
        channel, thread = _parts(chat)
        with _telling_what_is_gone():
            await self._client.chat_postMessage(
                channel=channel,
                thread_ts=thread,
                text=_escaped(text),
                mrkdwn=False,
                unfurl_links=False,
                unfurl_media=False,
                metadata={"event_type": "emox_reply", "event_payload": {"key": key}},
            )

    async def said(self, chat: str, key: str) -> bool:
        """See `Connector.said`; each message carries its key as metadata."""
        channel, thread = _parts(chat)
        options: dict[str, Any] = {"channel": channel, "limit": NEWEST, "include_all_metadata": True}
        if asked_at := re.match(r"\d+\.\d+(?=:)", key):
            options["oldest"] = asked_at[0]  # an answer is newer than what it answers
        with _telling_what_is_gone():
            if thread:
                found = await self._client.conversations_replies(ts=thread, **options)
            else:
                found = await self._client.conversations_history(**options)
        sent = [message.get("metadata", {}) for message in found["messages"]]
        return any(m.get("event_type") == "emox_reply" and m["event_payload"].get("key") == key for m in sent)

    async def play(self, chat: str, sound: Audio) -> None:
        """See `Connector.play`."""
        await self.hand(chat, "reply.ogg", await asyncio.to_thread(ogg_opus, sound))

    async def hand(self, chat: str, name: str, content: bytes) -> None:
        """See `Connector.hand`."""
        channel, thread = _parts(chat)
        with _telling_what_is_gone():
            await self._client.files_upload_v2(channel=channel, thread_ts=thread, filename=name, content=content)

    @contextlib.asynccontextmanager
    async def typing(self, chat: str) -> AsyncIterator[None]:
        """See `Connector.typing`; Slack shows it in threads of assistants only, until the answer comes."""
        channel, thread = _parts(chat)
        if thread and channel.startswith("D") and self._has_status:
            try:
                async with asyncio.timeout(STATUS_S):
                    await self._client.assistant_threads_setStatus(
                        channel_id=channel, thread_ts=thread, status="is typing…"
                    )
            except SlackApiError:
                self._has_status = False  # the app is no assistant
            except Exception as error:
                logger.info("slack shows no status: %s", type(error).__name__)
        yield

    async def _listen(self, app_token: str) -> None:
        """Socket Mode. Bolt connects again by itself, by and by."""
        handler = AsyncSocketModeHandler(self._app, app_token, self._silent, self._client, ping_interval=self._ping_s)
        socket = handler.client
        try:
            socket.wss_uri = await socket.issue_new_wss_url()
            async with asyncio.timeout(LOST_PINGS * self._ping_s):
                await handler.connect_async()
            n_lost = 0
            while n_lost < LOST_PINGS:
                await asyncio.sleep(self._ping_s)
                n_lost = 0 if await socket.is_connected() else n_lost + 1
            raise ConnectionError("Slack cannot be reached")
        finally:
            await handler.close_async()

    async def _on_request(self, request: Request) -> Response:
        """A request of Slack."""
        if self._take is None:
            return Response(status_code=503, headers={"Retry-After": "10"})
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > BODY_BYTES:
                return Response(status_code=413)
        try:
            asked = to_async_bolt_request(request, body)
        except UnicodeDecodeError:
            return Response(status_code=400)
        return to_starlette_response(await self._app.async_dispatch(asked))

    async def _on_error(self, error: Exception) -> None:
        logger.error("an event of slack failed, which sends it again: %s", type(error).__name__)

    async def _on_event(self, event: dict[str, Any]) -> None:
        if event["type"] in ("message", "app_mention"):
            message = await self._incoming(event)
            if message is not None:
                await self._keep(message)

    async def _on_command(self, command: dict[str, Any], ack: Any) -> None:
        """A slash command; Slack gives it no time of its own."""
        text = f"{command['command']} {_plain(command.get('text') or '')}".strip()
        private = command.get("channel_name") == "directmessage"
        id, channel, user = command["trigger_id"], command["channel_id"], command["user_id"]
        await self._keep(Incoming(id, channel, user, time.time(), text, private=private))
        await ack()

    async def _keep(self, message: Incoming) -> None:
        if self._take is None:
            raise ConnectionError("the agent is stopping")  # Slack will send it again
        await self._take(message)

    async def _incoming(self, event: dict[str, Any]) -> Incoming | None:
        """What a message of Slack is to the agent; None if it is not meant for it."""
        user, me = event.get("user"), self._me["user_id"]
        if event.get("subtype") not in SAID_HERE or event.get("bot_id") or event.get("edited") or user in (None, me):
            return None
        channel, ts, thread = event["channel"], event["ts"], event.get("thread_ts")
        private = event.get("channel_type") == "im"
        words, mention = event.get("text") or "", f"<@{me}>"
        if private:
            chat = f"{channel}/{thread}" if thread else channel
        else:
            chat = f"{channel}/{thread or ts}"
            if mention in words:
                self._know(chat, True)
            elif not thread or words.startswith("<@") or not await self._is_in(channel, thread):
                return None
        attachment = self._attachment(event.get("files") or [])
        text = _plain(words.replace(mention, "")).strip()
        if not text and attachment is None:
            text = "/help"
        return Incoming(ts, chat, str(user), float(ts), text, attachment, private=private)

    def _attachment(self, files: list[dict[str, Any]]) -> Attachment | None:
        if not files:
            return None
        kinds = {"audio": "voice", "video": "video"} if self._voice else {}
        kind = kinds.get((files[0].get("mimetype") or "").partition("/")[0], "file")
        return Attachment(kind, files[0]["id"], files[0].get("size") or 0)  # type: ignore[arg-type]

    async def _is_in(self, channel: str, thread: str) -> bool:
        """Whether the agent said something in a thread, or was mentioned there."""
        chat = f"{channel}/{thread}"
        if chat not in self._takes_part:
            try:
                found = await self._client.conversations_replies(channel=channel, ts=thread, limit=NEWEST)
            except SlackApiError as error:
                logger.warning("a thread of slack cannot be read: %s", error.response["error"])
                return False
            me = self._me["user_id"]
            said = [m for m in found["messages"] if m.get("user") == me or f"<@{me}>" in (m.get("text") or "")]
            self._know(chat, bool(said))
        return self._takes_part[chat]

    def _know(self, chat: str, takes_part: bool) -> None:
        self._takes_part[chat] = takes_part
        self._takes_part.move_to_end(chat)
        if len(self._takes_part) > THREADS:
            self._takes_part.popitem(last=False)


@contextlib.contextmanager
def _telling_what_is_gone() -> Iterator[None]:
    try:
        yield
    except SlackApiError as error:
        if error.response["error"] in GONE:
            raise Undeliverable(error.response["error"]) from None
        raise


def _parts(chat: str) -> tuple[str, str | None]:
    """A channel, and a thread in it."""
    channel, _, thread = chat.partition("/")
    return channel, thread or None


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _plain(text: str) -> str:
    """Slack's markup as a person sees it: `<@U1|ann>` is @ann, `<http://x.org|this>` is this."""

    def shown(found: re.Match[str]) -> str:
        sign, name, label = found.groups()
        return (sign or "").replace("!", "@") + (label or name)

    text = re.sub(r"<([@#!])?([^<>|]*)(?:\|([^<>]*))?>", shown, text)
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
