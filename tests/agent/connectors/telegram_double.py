"""The Bot API of Telegram on this machine: it checks what the real one checks, and fails when told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "123456:AAexampleTokenOfATestDouble"
ME = {"id": 123456, "is_bot": True, "first_name": "Emox", "username": "emox_bot"}
MAX_DOWNLOAD = 20 * 2**20


@dataclass(frozen=True)
class Sent:
    """A message of the bot: which method, its chat and topic, its text or file, and when it came."""

    method: str
    chat: int
    topic: int | None
    text: str = ""
    file: bytes = b""
    fields: dict[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.monotonic)


class TelegramDouble:
    """`say` as somebody; look at `sent`. `failing` holds, per method, what its next calls end with.

    An int is a status, ("wait", n) a rate limit, ("moved", id) a group that became a supergroup, "drop" a connection
    that is cut before anything was done, and "lose" one that is cut after it was.
    """

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.updates: list[dict[str, Any]] = []
        self.confirmed = 0
        self.files: dict[str, bytes] = {}
        self.failing: dict[str, list[Any]] = {}
        self.polls = 0
        self.hold: asyncio.Event | None = None
        self.n_actions = 0
        self.url = ""
        self._n = 0
        self._news = asyncio.Condition()
        self._closing = False

    def message(
        self, text: str | None = None, *, user: int = 1, chat: int | None = None, **more: Any
    ) -> dict[str, Any]:
        """A message as Telegram writes it: in private, unless a chat (of a group, below 0) is given."""
        self._n += 1
        chat = user if chat is None else chat
        kind = "private" if chat > 0 else "supergroup"
        sender = {"id": user, "is_bot": False, "first_name": f"Person {user}"}
        base = {"message_id": self._n, "date": 1_800_000_000 + self._n, "chat": {"id": chat, "type": kind}}
        return base | {"from": sender} | ({"text": text} if text is not None else {}) | more

    def say(self, text: str | None = None, **more: Any) -> int:
        """Somebody says something; returns its update's id."""
        return self.deliver({"message": self.message(text, **more)})

    def deliver(self, update: dict[str, Any]) -> int:
        id = len(self.updates) + 1
        self.updates.append({"update_id": id} | update)
        asyncio.get_running_loop().create_task(self._notify())
        return id

    async def until(self, n: int, method: str = "sendMessage", timeout_s: float = 10) -> list[Sent]:
        """What was sent by a method, once it is n."""
        async with asyncio.timeout(timeout_s), self._news:
            await self._news.wait_for(lambda: len(self.of(method)) >= n)
        return self.of(method)

    def of(self, method: str) -> list[Sent]:
        return [sent for sent in self.sent if sent.method == method]

    def texts(self, chat: int | None = None) -> list[str]:
        return [sent.text for sent in self.of("sendMessage") if chat is None or sent.chat == chat]

    async def _notify(self) -> None:
        async with self._news:
            self._news.notify_all()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[TelegramDouble]:
        """At work; `url` says where."""
        app = web.Application(client_max_size=60 * 2**20)
        app.router.add_route("*", "/bot{token}/{method}", self._call)
        app.router.add_get("/file/bot{token}/{path:.*}", self._download)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self._closing = True
            await self._notify()
            await runner.cleanup()

    async def _call(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        if request.match_info["token"] != TOKEN:
            return _error(401, "Unauthorized")
        fields: dict[str, Any] = {}
        for name, value in (await request.post()).items():
            fields[name] = value.file.read() if isinstance(value, web.FileField) else value
        ending = self.failing[method].pop(0) if self.failing.get(method) else None
        match ending:
            case int():
                return _error(ending, {403: "Forbidden: bot was blocked by the user"}.get(ending, "it failed"))
            case ("wait", seconds):
                return _error(429, f"Too Many Requests: retry after {seconds}", retry_after=seconds)
            case ("moved", chat):
                return _error(400, "Bad Request: group chat was upgraded", migrate_to_chat_id=chat)
            case "drop":
                request.transport.abort()
                return web.Response()
        call = getattr(self, f"_{method}", None)
        if call is None:
            return _error(404, "Not Found: method not found")
        answer = await call(fields)
        if ending == "lose":
            request.transport.abort()
        if method.startswith("send") and self.hold is not None:
            await self.hold.wait()
        return answer if isinstance(answer, web.Response) else web.json_response({"ok": True, "result": answer})

    async def _getMe(self, fields: dict[str, Any]) -> Any:
        return ME

    async def _getUpdates(self, fields: dict[str, Any]) -> Any:
        self.polls += 1
        offset = int(fields.get("offset", 0))
        self.confirmed = max(self.confirmed, offset - 1)

        def new() -> list[dict[str, Any]]:
            return [update for update in self.updates if update["update_id"] > self.confirmed]

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(fields.get("timeout", 0))), self._news:
                self._news.notify_all()
                await self._news.wait_for(lambda: self._closing or new())
        return new()[:100]

    async def _sendMessage(self, fields: dict[str, Any]) -> Any:
        if not 0 < len(fields["text"]) <= 4096:
            return _error(400, "Bad Request: message is too long or empty")
        assert "parse_mode" not in fields
        assert json.loads(fields["link_preview_options"])["is_disabled"]
        return await self._keep("sendMessage", fields, text=fields["text"])

    async def _sendVoice(self, fields: dict[str, Any]) -> Any:
        return await self._keep("sendVoice", fields, file=self._upload(fields, "voice"))

    async def _sendDocument(self, fields: dict[str, Any]) -> Any:
        return await self._keep("sendDocument", fields, file=self._upload(fields, "document"))

    async def _sendChatAction(self, fields: dict[str, Any]) -> Any:
        assert fields["action"] == "typing"
        self.n_actions += 1
        return True

    def _upload(self, fields: dict[str, Any], what: str) -> bytes:
        """A file comes as another part of the form, which the field names, or as the field itself."""
        value = fields.pop(what)
        return fields.pop(value.removeprefix("attach://")) if isinstance(value, str) else value

    async def _getFile(self, fields: dict[str, Any]) -> Any:
        content = self.files.get(fields["file_id"])
        if content is None:
            return _error(400, "Bad Request: invalid file_id")
        if len(content) > MAX_DOWNLOAD:
            return _error(400, "Bad Request: file is too big")
        id = fields["file_id"]
        return {"file_id": id, "file_unique_id": id, "file_size": len(content), "file_path": f"voice/{id}.oga"}

    async def _download(self, request: web.Request) -> web.Response:
        if request.match_info["token"] != TOKEN:
            return web.Response(status=401)
        if self.failing.get("download"):
            return web.Response(status=self.failing["download"].pop(0))
        return web.Response(body=self.files[request.match_info["path"].removeprefix("voice/").removesuffix(".oga")])

    async def _keep(self, method: str, fields: dict[str, Any], **what: Any) -> Any:
        chat, topic = int(fields["chat_id"]), fields.get("message_thread_id")
        self.sent.append(Sent(method, chat, int(topic) if topic else None, fields=fields, **what))
        await self._notify()
        return self.message(what.get("text", ""), user=ME["id"], chat=chat) | {"from": ME}


def _error(status: int, description: str, **parameters: Any) -> web.Response:
    body = {"ok": False, "error_code": status, "description": description}
    return web.json_response(body | ({"parameters": parameters} if parameters else {}), status=status)
