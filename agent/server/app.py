"""The web server: turns, memory, an OpenAI-compatible API, live voice, and the page, in one process.

/                 the page                         /v1/...         as OpenAI's API (openai_api.py)
/api/...          turns, consent (turns_api.py)    /api/offer ...  live voice (agent/voice/server.py)
/api/memory/...   memory (memory_api.py)           /health /ready /metrics
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.host import Host

from . import memory_api, turns_api
from .access import Access
from .errors import problem_of
from .metrics import Metrics
from .seam import User

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


class Problem(BaseModel):
    """What is wrong, and what to do."""

    detail: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": why}
    for status, why in {
        401: "No valid token came along.",
        403: "Another web site's page asks, or what is asked for needs consent.",
        413: "The request is too long.",
        422: "The request cannot be used.",
        429: "Too much is asked at once; Retry-After says when to ask again.",
        503: "The agent is stopping, or its memory cannot do its work; Retry-After says when to ask again.",
    }.items()
}


def make_app(
    host: Host,
    access: Access,
    *,
    voice: APIRouter | None = None,
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
        access.check_page(connection)

    app = FastAPI(
        title="emox",
        summary="An empathetic agent: it listens, notices what you feel, understands why, remembers, and answers.",
        version=_version(),
        lifespan=running,
        dependencies=[Depends(check_page)],
        responses=PROBLEMS,
        max_body_size=BODY_BYTES,
        docs_url=None,  # these pages fetch their scripts from elsewhere
        redoc_url=None,
        telemetry={"auto_configure": False, "logs": False},
    )
    app.state.host, app.state.access = host, access
    metrics = Metrics(host)
    app.add_middleware(_Wrapped, metrics=metrics)
    app.add_middleware(CORSMiddleware, allow_origins=access.origins, allow_methods=["*"], allow_headers=["*"])

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(HTTPException)
    async def on_problem(request: Request, error: Exception) -> Response:
        return _answer(error)

    @app.get("/health", tags=["operation"], summary="Whether the server is alive")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/ready", tags=["operation"], summary="Whether it takes turns now")
    async def ready() -> dict[str, str]:
        host.check_open()
        return {"status": "ready"}

    @app.get("/metrics", tags=["operation"], summary="Numbers for Prometheus", response_class=Response)
    async def numbers(user: User) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    app.include_router(turns_api.router)
    app.include_router(memory_api.router)
    for router in (*([voice] if voice is not None else []), *chats):
        app.include_router(router)
    app.mount("/", StaticFiles(directory=WEB, html=True))
    return app


def _answer(error: Exception) -> JSONResponse:
    problem = problem_of(error)
    return JSONResponse({"detail": problem.detail}, problem.status, problem.headers)


class _Wrapped:
    """Turns errors into answers, counts responses, and adds the headers that tell browsers what they may do.

    Starlette's own last handler raises the error again, and with its text the log would say what was said.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        started = False

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
            await self._app(scope, receive, send_more)
        except Exception as error:
            response = _answer(error)
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
