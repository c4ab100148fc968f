"""Discord as far as the agent meets it, played by a test: its HTTP API and its gateway, over real sockets.

A direct-message channel of each of two people (HOME, BENS), a server with a channel (CLUB) and two threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "a.good.token"
BOT, ROLE, ANN, BEN = 100, 101, 1001, 1002
HOME, BENS, SERVER, CLUB, THREAD, OTHER_THREAD = 600, 601, 500, 700, 800, 801
MESSAGE_CONTENT = 1 << 15
EPOCH_MS = 1_420_070_400_000


@dataclass
class Posted:
    """A message that the bot has sent."""

    channel: int
    payload: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.payload.get("content") or ""


class Double:
    """What it is told to say goes through `write`; what the bot sends is in `posted`."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.typed: list[int] = []
        self.fetched: list[str] = []
        self.refusing: list[tuple[int, int]] = []  # status and code of the next answers to sending
        self.not_listing: dict[int, list[int]] = {}  # channel -> status of the next answers to a question for messages
        self.no_voice_messages = False
        self.intent_is_on = True
        self.identified = self.resumed = self.heartbeats = 0
        self.heartbeat_ms = 40_000
        self.history: dict[int, list[dict[str, Any]]] = {}
        self.events: list[dict[str, Any]] = []
        self.session = 0
        self._files: dict[int, bytes] = {}
        self._links = 0
        self._ms = 0
        self._nonces: dict[str, dict[str, Any]] = {}
        self._sockets: set[web.WebSocketResponse] = set()
        self.address = ""

    # ---- what a test does --------------------------------------------------------------------------------------------

    async def write(
        self,
        text: str = "",
        channel: int = HOME,
        author: int = ANN,
        *,
        attachments: tuple[tuple[str, str, bytes], ...] = (),
        size: int | None = None,
        bot: bool = False,
        reply_to: int | None = None,
        times: int = 1,
        told: bool = True,
        **more: Any,
    ) -> dict[str, Any]:
        """Somebody writes; `told` says whether the gateway tells of it, and how often."""
        message = self.message(text, channel, author, bot=bot, **more)
        for name, kind, content in attachments:
            id = self._id()
            self._files[id] = content
            one = {"id": str(id), "filename": name, "content_type": kind, "size": size or len(content)}
            message["attachments"].append(one)
        if reply_to is not None:
            message |= {
                "type": 19,
                "message_reference": {"channel_id": str(channel), "message_id": "1"},
                "referenced_message": self.message("An earlier line.", channel, reply_to, keep=False),
            }
        for _ in range(times if told else 0):
            await self.tell(message)
        return message

    def message(
        self, text: str, channel: int, author: int, *, bot: bool = False, keep: bool = True, **more: Any
    ) -> Any:
        made = {
            "id": str(self._id()), "channel_id": str(channel), "author": user(author, bot), "content": text,
            "timestamp": "2026-01-01T00:00:00+00:00", "edited_timestamp": None, "tts": False, "mention_everyone": False,
            "mentions": [], "mention_roles": [], "attachments": [], "embeds": [], "pinned": False, "type": 0, **more,
        }  # fmt: skip
        if keep:
            self.history.setdefault(channel, []).append(made)
        return made

    async def tell(self, message: dict[str, Any], event: str = "MESSAGE_CREATE") -> None:
        server = {"guild_id": str(SERVER), "member": member()} if int(message["channel_id"]) >= CLUB else {}
        await self._dispatch(event, self._linked(message) | server)

    async def drop(self, code: int = 1006) -> None:
        """The connection breaks; messages are kept for a client that resumes."""
        for socket in list(self._sockets):
            await socket.close(code=code)
        await self._until(lambda: not self._sockets)

    async def ask_to_reconnect(self) -> None:
        await self._send({"op": 7, "d": None})

    async def forget_session(self) -> None:
        """The connection breaks, and cannot be resumed."""
        self.session += 1
        self.events.clear()
        await self.drop()

    def expire_links(self) -> None:
        self._links += 1

    async def texts(self, n: int) -> list[str]:
        """The first n texts that were sent, once they are."""
        await self._until(lambda: len(self.posted) >= n)
        await asyncio.sleep(0.05)  # more than there should be would come now
        return [one.text for one in self.posted]

    async def connected(self, n: int = 1) -> None:
        await self._until(lambda: self.identified + self.resumed >= n and self._sockets)

    async def _until(self, true: Any) -> None:
        async with asyncio.timeout(8):
            while not true():
                await asyncio.sleep(0.005)

    # ---- the gateway -------------------------------------------------------------------------------------------------

    async def _gateway(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"op": 10, "d": {"heartbeat_interval": self.heartbeat_ms}})
        async for frame in socket:
            said = json.loads(frame.data)
            if said["op"] == 1:
                self.heartbeats += 1
                await socket.send_json({"op": 11})
            elif said["op"] == 2:
                if said["d"]["token"] != TOKEN:
                    await socket.close(code=4004)
                elif said["d"]["intents"] & MESSAGE_CONTENT and not self.intent_is_on:
                    await socket.close(code=4014)
                else:
                    await self._begin(socket)
            elif said["op"] == 6:
                if said["d"]["session_id"] != str(self.session):
                    await socket.send_json({"op": 9, "d": False})
                    continue
                for event in [event for event in self.events if event["s"] > said["d"]["seq"]]:
                    await socket.send_json(event)
                self._sockets.add(socket)
                await self._dispatch("RESUMED", {})
                self.resumed += 1
        self._sockets.discard(socket)
        return socket

    async def _begin(self, socket: web.WebSocketResponse) -> None:
        self.session += 1
        self.events.clear()
        self._sockets.add(socket)
        ready = {
            "v": 10, "user": user(BOT, True), "session_id": str(self.session), "guilds": [],
            "resume_gateway_url": self.gateway, "application": {"id": str(BOT), "flags": 0},
        }  # fmt: skip
        await self._dispatch("READY", ready)
        server = {
            "id": str(SERVER), "name": "a server", "owner_id": str(BEN), "member_count": 3, "emojis": [],
            "roles": [{"id": str(ROLE), "name": "bot", "tags": {"bot_id": str(BOT)}}],
            "channels": [self._channel(CLUB)], "threads": [self._channel(THREAD), self._channel(OTHER_THREAD)],
            "members": [member() | {"user": user(BOT, True)}],
        }  # fmt: skip
        await self._dispatch("GUILD_CREATE", server)
        self.identified += 1

    async def _dispatch(self, event: str, data: dict[str, Any]) -> None:
        told = {"op": 0, "t": event, "s": len(self.events) + 1, "d": data}
        self.events.append(told)
        await self._send(told)

    async def _send(self, told: dict[str, Any]) -> None:
        for socket in list(self._sockets):
            await socket.send_json(told)

    # ---- the HTTP API ------------------------------------------------------------------------------------------------

    async def _me(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != f"Bot {TOKEN}":
            return refusal(401, 0)
        return answer(user(BOT, True))

    async def _application(self, request: web.Request) -> web.Response:
        about = {"id": str(BOT), "name": "emox", "description": "", "icon": None, "bot_public": True}
        about |= {"bot_require_code_grant": False, "owner": user(BEN), "verify_key": "", "flags": 0}
        return answer(about)

    async def _post(self, request: web.Request) -> web.Response:
        channel = int(request.match_info["channel"])
        files = {}
        if request.content_type.startswith("multipart/"):
            form = await request.post()
            payload = json.loads(form["payload_json"])
            for i, one in enumerate(payload["attachments"]):
                files[one["filename"]] = form[f"files[{i}]"].file.read()
        else:
            payload = await request.json()
        if self.refusing:
            return refusal(*self.refusing.pop(0))
        if self.no_voice_messages and payload.get("flags", 0) & 8192:
            return refusal(403, 50173)
        if not files and not 0 < len(payload["content"]) <= 2_000:
            return refusal(400, 50035)
        known = self._nonces.get(payload.get("nonce")) if payload.get("enforce_nonce") else None
        if known is None:
            self.posted.append(Posted(channel, payload, files))
            known = self._nonces[payload.get("nonce")] = self.message(
                payload.get("content") or "", channel, BOT, bot=True
            )
        return answer(known)

    async def _list(self, request: web.Request) -> web.Response:
        after, limit = int(request.query.get("after", 0)), int(request.query.get("limit", 50))
        if refused := self.not_listing.get(int(request.match_info["channel"])):
            return refusal(refused.pop(0), 0)
        here = self.history.get(int(request.match_info["channel"]), [])
        found = sorted((one for one in here if int(one["id"]) > after), key=lambda one: int(one["id"]))[:limit]
        return answer([self._linked(one) for one in reversed(found)])

    async def _one(self, request: web.Request) -> web.Response:
        here = self.history.get(int(request.match_info["channel"]), [])
        found = next((one for one in here if one["id"] == request.match_info["message"]), None)
        return answer(self._linked(found)) if found is not None else refusal(404, 10008)

    async def _typing(self, request: web.Request) -> web.Response:
        self.typed.append(int(request.match_info["channel"]))
        return web.Response(status=204)

    async def _about(self, request: web.Request) -> web.Response:
        return answer(self._channel(int(request.match_info["channel"])))

    async def _file(self, request: web.Request) -> web.Response:
        self.fetched.append(request.match_info["id"])
        if int(request.query["until"]) < self._links:
            return web.Response(status=404)
        return web.Response(body=self._files[int(request.match_info["id"])])

    # ---- its data ----------------------------------------------------------------------------------------------------

    @property
    def gateway(self) -> str:
        return self.address.replace("http", "ws") + "/gateway"

    def _id(self) -> int:
        """A snowflake: it grows with the milliseconds, of which each has one here."""
        self._ms = max(self._ms + 1, round(time.time() * 1000) - EPOCH_MS)
        return self._ms << 22

    def _linked(self, message: dict[str, Any]) -> dict[str, Any]:
        links = [
            one | {"url": f"{self.address}/files/{one['id']}?until={self._links}", "proxy_url": ""}
            for one in message["attachments"]
        ]
        return message | {"attachments": links}

    def _channel(self, id: int) -> dict[str, Any]:
        if id < CLUB:
            return {"id": str(id), "type": 1, "recipients": [user(ANN if id == HOME else BEN)]}
        channel = {"id": str(id), "type": 0, "name": "a channel", "position": 0, "guild_id": str(SERVER)}
        if id == CLUB:
            return channel
        when = "2026-01-01T00:00:00+00:00"
        return channel | {
            "type": 11, "parent_id": str(CLUB), "owner_id": str(BEN), "message_count": 0, "member_count": 1,
            "thread_metadata": {"archived": False, "auto_archive_duration": 60, "archive_timestamp": when},
        }  # fmt: skip


def user(id: int, bot: bool = False) -> dict[str, Any]:
    return {"id": str(id), "username": f"user{id}", "discriminator": "0", "avatar": None, "bot": bot}


def member() -> dict[str, Any]:
    return {"roles": [], "joined_at": "2026-01-01T00:00:00+00:00", "deaf": False, "mute": False, "flags": 0}


def refusal(status: int, code: int) -> web.Response:
    return answer({"code": code, "message": "refused"}, status)


def answer(document: Any, status: int = 200) -> web.Response:
    """JSON; discord.py takes a type with a charset for another one."""
    return web.Response(body=json.dumps(document).encode(), status=status, content_type="application/json")


@contextlib.asynccontextmanager
async def double() -> AsyncIterator[Double]:
    """It, at work at `address`."""
    one = Double()
    app = web.Application(client_max_size=30 * 2**20)
    app.add_routes(
        [
            web.get("/gateway", one._gateway),
            web.get("/api/users/@me", one._me),
            web.get("/api/oauth2/applications/@me", one._application),
            web.get("/api/channels/{channel}", one._about),
            web.get("/api/channels/{channel}/messages", one._list),
            web.post("/api/channels/{channel}/messages", one._post),
            web.get("/api/channels/{channel}/messages/{message}", one._one),
            web.post("/api/channels/{channel}/typing", one._typing),
            web.get("/files/{id}", one._file),
        ]
    )
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    one.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield one
    finally:
        await runner.cleanup()
