"""The web server: turns, memory, an OpenAI-compatible API, live voice, and the page, in one process.

/                 the page                         /v1/...         as OpenAI's API (openai_api.py)
/api/...          turns, consent (turns_api.py)    /api/offer ...  live voice (agent/voice/server.py)
/api/memory/...   memory (memory_api.py)           /health /ready /metrics
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response, WebSocketException
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.host import Host

if TYPE_CHECKING:
    from agent.voice.server import VoiceRoutes

from . import memory_api, openai_api, openai_errors, turns_api
from .access import Access, Refused
from .errors import problem_of
from .metrics import Metrics
from .seam import User, problems, user_of

BODY_BYTES = 34 * 2**20
"""No request is longer: a clip of 25 MiB, which base64 makes a third longer."""

WEB = Path(__file__).parent / "web"

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
}

TOKEN = [Depends(HTTPBearer(auto_error=False, description="A token of `emox token new`; not needed without any."))]
"""Only for the document: `User` decides."""

ANY = problems(400, 401, 403, 413, 422, 429, 503)
"""What can be wrong with any request that is about a person."""


def make_app(
    host: Host,
    access: Access,
    *,
    voice: VoiceRoutes | None = None,
    chats: Sequence[APIRouter] = (),
    lifespan: Callable[[FastAPI], Any] | None = None,
) -> FastAPI:
    """The server.

    Args:
        host: gives turns to people; it is closed, with its turns finished, when the server stops.
        access: decides who may ask.
        voice: routes of live voice.
        chats: routes by which chat platforms deliver.
        lifespan: more that runs while the server does.
    """

    @contextlib.asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app) if lifespan else contextlib.nullcontext():
            yield
        await host.close()

    async def check_page(connection: HTTPConnection) -> None:
        try:
            access.check_page(connection)
        except Refused as error:
            if connection.scope["type"] == "websocket":
                raise WebSocketException(1008, str(error)) from None
            raise

    app = FastAPI(
        title="emox",
        summary="An empathetic agent: it listens, notices what you feel, understands why, remembers, and answers.",
        version=_version(),
        lifespan=running,
        dependencies=[Depends(check_page)],
        docs_url=None,  # these pages fetch their scripts from elsewhere
        redoc_url=None,
        telemetry={"auto_configure": False, "logs": False},
    )
    app.state.host, app.state.access = host, access
    app.state.greeted = {}
    metrics = Metrics(host)
    app.add_middleware(_Wrapped, metrics=metrics)
    app.add_middleware(CORSMiddleware, allow_origins=access.origins, allow_methods=["*"], allow_headers=["*"])

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(HTTPException)
    async def on_problem(request: Request, error: Exception) -> Response:
        return _answer(request.scope, error)

    @app.get("/health", tags=["operation"], summary="Whether the server is alive", responses=problems(403))
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", tags=["operation"], summary="Whether it takes turns now", responses=problems(403, 503))
    async def ready() -> dict[str, str]:
        host.check_open()
        return {"status": "ready"}

    @app.get(
        "/metrics", tags=["operation"], summary="Numbers for Prometheus", response_class=Response, dependencies=TOKEN,
        responses=problems(401, 403, 429) | {200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}},
    )  # fmt: skip
    async def numbers(user: User) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    app.include_router(turns_api.router, responses=ANY, dependencies=TOKEN)
    app.include_router(memory_api.router, responses=ANY, dependencies=TOKEN)
    app.include_router(openai_api.router, dependencies=TOKEN)
    if voice is not None:
        app.include_router(voice.router, responses=ANY, dependencies=[*TOKEN, Depends(user_of)])
        app.include_router(voice.sockets)
    for router in chats:
        app.include_router(router)
    if WEB.is_dir():  # whoever only wants the API may leave the page out
        app.mount("/", StaticFiles(directory=WEB, html=True))
    app.openapi = lambda: openai_errors.without_422(FastAPI.openapi(app))  # type: ignore[method-assign]
    return app


def _answer(scope: Scope, error: Exception) -> JSONResponse:
    if scope["path"].startswith("/v1/"):
        return openai_errors.response_of(error)
    problem = problem_of(error)
    return JSONResponse({"detail": problem.detail}, problem.status, problem.headers)


class _Wrapped:
    """Bounds requests, turns errors into answers, counts these, and adds headers that tell browsers what they may do.

    Starlette's own last handler raises the error again, and with its text the log would say what was said; its own
    bound answers with plain text.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        length = 0

        async def receive_less() -> Message:
            nonlocal length
            if not declared.isdigit() or int(declared) <= BODY_BYTES:
                message = await receive()
                length += len(message.get("body", b""))
                if length <= BODY_BYTES:
                    return message
            raise HTTPException(413, f"the request is longer than {BODY_BYTES >> 20} MiB: send less at a time")

        async def send_more(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                route = getattr(scope.get("route"), "path", "page")
                self._metrics.requests.labels(scope["method"], route, message["status"]).inc()
                fresh = {} if _has(message, b"cache-control") else {"Cache-Control": _fresh(route)}
                more = [(name.lower().encode(), value.encode()) for name, value in (SECURITY_HEADERS | fresh).items()]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            await self._app(scope, receive_less, send_more)
        except Exception as error:
            response = _answer(scope, error)
            if not started:
                await response(scope, receive, send_more)


def _has(message: Message, name: bytes) -> bool:
    return any(one.lower() == name for one, _ in message["headers"])


def _fresh(route: str) -> str:
    """What is somebody's own is kept by no browser; the page's files are, and asked for whether they changed."""
    return "no-cache" if route == "page" else "no-store"


def _version() -> str:
    from importlib.metadata import version

    return version("emox")
