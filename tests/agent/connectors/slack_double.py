"""Slack on this machine: its web API, Socket Mode, and signed events. It checks what the real one checks."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
from aiohttp import WSMsgType, web

BOT_TOKEN, APP_TOKEN, SECRET = "xoxb-1-example-double", "xapp-1-example-double", "0123456789abcdef"
ME = {"user_id": "UEMOX", "bot_id": "BEMOX", "team_id": "T1", "user": "emox", "team": "Tests"}


class SlackDouble:
    """`event` makes what Slack sends, `emit` sends it over Socket Mode, `post` by a signed request.

    `failing` holds, per method, what its next calls end with: a word is an error of Slack, an int a status, ("wait", n)
    a rate limit, and "drop" and "lose" a connection cut before and after it was done.
    """

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.threads: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self.files: dict[str, bytes] = {}
        self.uploads: list[tuple[str, str | None, str, bytes]] = []
        self.failing: dict[str, list[Any]] = {}
        self.calls: list[str] = []
        self.acks: list[str] = []
        self.statuses: list[tuple[str, str]] = []
        self.n_connections = 0
        self.hold: asyncio.Event | None = None
        self.url = ""
        self._sockets: set[web.WebSocketResponse] = set()
        self._pending: dict[str, bytes] = {}
        self._n = 0
        self._news = asyncio.Condition()

    def event(self, text: str = "", *, user: str = "UANN", channel: str = "DANN", **more: Any) -> dict[str, Any]:
        """A message event as Slack writes it: direct, unless another channel is given."""
        self._n += 1
        kind = "im" if channel.startswith("D") else "channel"
        event = {"type": "message", "user": user, "text": text, "channel": channel, "channel_type": kind}
        return event | {"ts": f"{time.time():.0f}.{self._n:06d}"} | more

    def callback(self, event: dict[str, Any]) -> dict[str, Any]:
        self._n += 1
        return {
            "type": "event_callback", "team_id": "T1", "api_app_id": "A1", "event_id": f"Ev{self._n}",
            "event_time": int(time.time()), "event": event,
        }  # fmt: skip

    async def emit(self, payload: dict[str, Any], kind: str = "events_api") -> str:
        """Over Socket Mode, once somebody is connected; returns its envelope's id."""
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: self._sockets)
        self._n += 1
        envelope = f"env{self._n}"
        message = {"type": kind, "envelope_id": envelope, "payload": payload, "accepts_response_payload": False}
        await next(iter(self._sockets)).send_json(message)
        return envelope

    async def say(self, text: str = "", **more: Any) -> dict[str, Any]:
        """Somebody writes; over Socket Mode."""
        event = self.event(text, **more)
        await self.emit(self.callback(event))
        return event

    async def drop(self, kindly: bool) -> None:
        """End the connections of Socket Mode: announced, or cut."""
        for socket in list(self._sockets):
            self._sockets.discard(socket)
            if kindly:
                await socket.send_json({"type": "disconnect", "reason": "refresh_requested"})
                await asyncio.sleep(0.1)
            await socket.close()

    async def until(self, n: int, timeout_s: float = 10) -> list[str]:
        """The texts of what was posted, once it is n."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: len(self.posted) >= n)
        return [posted["text"] for posted in self.posted]

    async def acknowledged(self, envelope: str) -> None:
        async with asyncio.timeout(10), self._news:
            await self._news.wait_for(lambda: envelope in self.acks)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[SlackDouble]:
        app = web.Application(client_max_size=30 * 2**20)
        app.router.add_get("/socket", self._socket)
        app.router.add_get("/files/{id}", self._download)
        app.router.add_post("/upload/{id}", self._upload)
        app.router.add_route("*", "/api/{method}", self._call)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await self.drop(kindly=False)
            await runner.cleanup()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.n_connections += 1
        await socket.send_json({"type": "hello", "num_connections": 1})
        self._sockets.add(socket)
        await self._tell()
        async for message in socket:
            if message.type == WSMsgType.TEXT:
                self.acks.append(json.loads(message.data)["envelope_id"])
                await self._tell()
        self._sockets.discard(socket)
        return socket

    async def _call(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        self.calls.append(method)
        fields: dict[str, Any] = dict(request.query) | {k: v for k, v in (await request.post()).items()}
        if request.content_type == "application/json":
            fields |= await request.json()
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token != (APP_TOKEN if method == "apps.connections.open" else BOT_TOKEN):
            return web.json_response({"ok": False, "error": "invalid_auth"})
        ending = self.failing[method].pop(0) if self.failing.get(method) else None
        match ending:
            case int():
                return web.Response(status=ending, text="it failed", content_type="text/html")
            case ("wait", seconds):
                headers = {"Retry-After": str(seconds)}
                return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)
            case "drop":
                request.transport.abort()
                return web.Response()
            case str() if ending != "lose":
                return web.json_response({"ok": False, "error": ending})
        answer = await getattr(self, "_" + method.replace(".", "_"))(fields)
        if ending == "lose":
            request.transport.abort()
        if method == "chat.postMessage" and self.hold is not None:
            await self.hold.wait()
        return web.json_response(answer | {"ok": "error" not in answer})

    async def _auth_test(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {**ME, "url": "https://tests.slack.example/"}

    async def _apps_connections_open(self, fields: dict[str, Any]) -> dict[str, Any]:
        return {"url": self.url.replace("http", "ws") + "/socket"}

    async def _chat_postMessage(self, fields: dict[str, Any]) -> dict[str, Any]:
        self._n += 1
        metadata = fields.get("metadata")
        metadata = json.loads(metadata) if isinstance(metadata, str) else metadata
        posted = {k: fields.get(k) for k in ("channel", "thread_ts", "text", "mrkdwn", "unfurl_links", "unfurl_media")}
        posted |= {"metadata": metadata, "ts": f"{time.time():.0f}.{self._n:06d}", "user": ME["user_id"]}
        self.posted.append(posted)
        await self._tell()
        return {"channel": fields["channel"], "ts": posted["ts"]}

    async def _conversations_history(self, fields: dict[str, Any]) -> dict[str, Any]:
        return self._found(fields, lambda m: m["channel"] == fields["channel"] and not m["thread_ts"])

    async def _conversations_replies(self, fields: dict[str, Any]) -> dict[str, Any]:
        found = self._found(fields, lambda m: (m["channel"], m["thread_ts"]) == (fields["channel"], fields["ts"]))
        return {"messages": self.threads.get((fields["channel"], fields["ts"]), []) + found["messages"]}

    def _found(self, fields: dict[str, Any], fits: Any) -> dict[str, Any]:
        newer = [m for m in self.posted if fits(m) and float(m["ts"]) > float(fields.get("oldest", 0))]
        if fields.get("include_all_metadata") not in ("1", "true", True):
            newer = [{k: v for k, v in m.items() if k != "metadata"} for m in newer]
        return {"messages": newer}

    async def _assistant_threads_setStatus(self, fields: dict[str, Any]) -> dict[str, Any]:
        self.statuses.append((fields["channel_id"], fields["thread_ts"]))
        return {}

    async def _files_info(self, fields: dict[str, Any]) -> dict[str, Any]:
        id = fields["file"]
        return {"file": {"id": id, "url_private_download": f"{self.url}/files/{id}"}}

    async def _files_getUploadURLExternal(self, fields: dict[str, Any]) -> dict[str, Any]:
        self._n += 1
        self._pending[f"F{self._n}"] = b""
        return {"file_id": f"F{self._n}", "upload_url": f"{self.url}/upload/F{self._n}"}

    async def _files_completeUploadExternal(self, fields: dict[str, Any]) -> dict[str, Any]:
        files = json.loads(fields["files"])
        for file in files:
            content = self._pending[file["id"]]
            self.uploads.append((fields["channel_id"], fields.get("thread_ts"), file["title"], content))
        return {"files": files}

    async def _download(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {BOT_TOKEN}":
            return web.Response(text="<html>sign in</html>", content_type="text/html")
        return web.Response(body=self.files[request.match_info["id"]])

    async def _upload(self, request: web.Request) -> web.Response:
        self._pending[request.match_info["id"]] = await request.read()
        return web.Response(text="OK")


def signed(body: bytes, *, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
    """The headers by which a request is known to come from Slack."""
    stamp = str(int(time.time() if at is None else at))
    made = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
    return {"X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": f"v0={made}"}


async def post(client: httpx.AsyncClient, payload: Any, headers: dict[str, str] | None = None, **how: Any) -> int:
    """Send an event as Slack does; returns the status."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    sent = {"Content-Type": "application/json"} | signed(body, **how) | (headers or {})
    return (await client.post("/slack/events", content=body, headers=sent)).status_code
