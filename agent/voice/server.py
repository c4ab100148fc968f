"""Voice conversations in a browser, by WebRTC, or with any of Pipecat's clients, by WebSocket.

/client                   Pipecat's page
POST /start               what Pipecat's clients ask first; says where to connect
POST, PATCH /api/offer    WebRTC; after /start as /sessions/ID/api/offer
/ws-client                WebSocket with Pipecat's protobuf frames
/ws                       WebSocket for Pipecat's evaluations

The paths are those of Pipecat's development runner, so that its clients find them. The runner itself is not used: it
answers every web site that the browser has open, logs what is said, and runs Python files that lie where it is started.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlencode, urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request, WebSocket, WebSocketException
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pipecat.evals.transport import EvalTransportParams
from pipecat.runner.types import RunnerArguments, SmallWebRTCRunnerArguments, WebSocketRunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.transports.smallwebrtc.request_handler import (
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.workers.runner import WorkerRunner
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, ValidationError
from starlette.requests import HTTPConnection

from agent.care import Consent
from agent.nodes import Ears
from agent.session import Agent
from perception.types import MODALITIES, Modality

from .companion import Report
from .pipeline import build_session

logger = logging.getLogger(__name__)

MESSAGE_BYTES = 2**20
"""No message and no request may be longer."""

WAITING = 100
"""Sessions asked for by /start that have not connected yet; older ones are forgotten."""

HANDSHAKE_S = 10.0


def _listed(value: Any) -> Any:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


Name = Annotated[str, Field(min_length=1, max_length=200)]


class Caller(BaseModel):
    """Who wants to talk, in which conversation, and what may be read of them: modalities, or "text,voice"."""

    user: Name | None = None
    thread: Name | None = None
    consent: Annotated[list[Modality] | None, BeforeValidator(_listed)] = None

    def as_query(self) -> str:
        """The same in an address."""
        given = {"user": self.user, "thread": self.thread}
        if self.consent is not None:
            given["consent"] = ",".join(self.consent)
        return urlencode({name: value for name, value in given.items() if value is not None})


class Start(BaseModel):
    """The body of /start."""

    transport: Literal["webrtc", "websocket"] = "webrtc"
    body: Caller = Caller()


class Offer(BaseModel):
    """A WebRTC offer as Pipecat's clients send it."""

    sdp: str
    type: Literal["offer"]
    pc_id: str | None = None
    restart_pc: bool | None = None
    caller: Caller | None = Field(None, validation_alias=AliasChoices("request_data", "requestData"))


class Refused(Exception):
    """Nobody can talk here in this way or now; says why."""


def make_app(
    agent: Agent,
    ears: Ears,
    *,
    consent: Consent,
    user: str = "me",
    hosts: Iterable[str] = (),
    origins: Sequence[str] = (),
    limit: int = 4,
    report: Report = lambda result, timing: None,
    **options: Any,
) -> FastAPI:
    """The server; more routes may be mounted on it.

    Args:
        agent, ears: shared by all conversations. Warm them up before (`pipeline.warm_up`).
        consent: what may be read at most; a caller may allow less.
        user: who speaks where a caller does not say.
        hosts: names by which browsers may reach it, beside localhost and numeric addresses.
        origins: other web sites whose pages may talk with it.
        limit: so many conversations at once.
        report: told of each turn that is remembered.
        options: more for `build_session`.
    """
    talking: set[asyncio.Task[None]] = set()
    waiting: dict[str, Caller] = {}
    peers = SmallWebRTCRequestHandler()
    names = {"localhost", *hosts}

    async def converse(arguments: RunnerArguments, caller: Caller) -> None:
        allowed = _both(consent, caller.consent)
        transport = await _transport(arguments, allowed)
        session = build_session(
            agent,
            ears,
            transport,
            user=caller.user or user,
            thread=caller.thread or f"talk-{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}",
            consent=allowed,
            report=report,
            **options,
        )

        @session.worker.rtvi.event_handler("on_client_ready")
        async def on_client_ready(*_: Any) -> None:
            await session.companion.greet()

        @transport.event_handler("on_client_disconnected")
        async def on_client_disconnected(*_: Any) -> None:
            await session.worker.cancel()

        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(session.worker)
        await runner.run()

    def check_room() -> None:
        if len(talking) >= limit:
            raise Refused(f"{limit} people are talking here already, which is as many as may: try again later")

    def begin(arguments: RunnerArguments, caller: Caller) -> asyncio.Task[None]:
        check_room()
        task = asyncio.create_task(converse(arguments, caller))
        talking.add(task)
        task.add_done_callback(ended)
        return task

    def ended(task: asyncio.Task[None]) -> None:
        talking.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Refused):
            logger.error("a conversation failed: %s", type(error).__name__)

    def guard(connection: HTTPConnection) -> None:
        if why := _refusal(connection, names, origins):
            if connection.scope["type"] == "websocket":
                raise WebSocketException(1008, why)
            raise HTTPException(403, why)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await peers.close()
        for task in talking:
            task.cancel()
        await asyncio.gather(*talking, return_exceptions=True)

    app = FastAPI(title="emox", lifespan=lifespan, dependencies=[Depends(guard)], docs_url=None, redoc_url=None)
    app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])

    @app.exception_handler(RequestValidationError)
    async def on_bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": _sentence(error)}, 422)

    @app.exception_handler(Refused)
    async def on_refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503)

    @app.post("/start")
    async def start(request: Request, wish: Start | None = None) -> dict[str, str]:
        wish = wish or Start()
        if wish.transport == "websocket":
            scheme = "wss" if request.url.scheme == "https" else "ws"
            return {"wsUrl": str(request.url.replace(scheme=scheme, path="/ws-client", query=wish.body.as_query()))}
        session_id = str(uuid.uuid4())
        waiting[session_id] = wish.body
        while len(waiting) > WAITING:
            del waiting[next(iter(waiting))]
        return {"sessionId": session_id}

    @app.post("/api/offer")
    @app.post("/sessions/{session_id}/api/offer")
    async def offer(offer: Offer, session_id: str | None = None) -> dict[str, str] | None:
        if session_id is not None and session_id not in waiting:
            raise HTTPException(404, "this session is not known here: ask /start for a new one")
        caller = offer.caller or waiting.get(session_id or "") or Caller()

        async def connected(connection: Any) -> None:
            begin(SmallWebRTCRunnerArguments(webrtc_connection=connection), caller)

        if "\nm=" not in offer.sdp:
            raise HTTPException(422, "this WebRTC offer cannot be used: its sdp has neither sound nor data")
        if offer.pc_id is None:
            check_room()
        request = SmallWebRTCRequest(offer.sdp, offer.type, offer.pc_id, offer.restart_pc)
        try:
            return await peers.handle_web_request(request, connected)
        except HTTPException:
            raise
        except Exception as error:
            logger.error("a WebRTC offer failed: %s", type(error).__name__)
            raise HTTPException(422, "this WebRTC offer cannot be used: its sdp cannot be read") from None

    @app.patch("/api/offer")
    @app.patch("/sessions/{session_id}/api/offer")
    async def candidates(patch: SmallWebRTCPatchRequest, session_id: str | None = None) -> dict[str, str]:
        await peers.handle_patch_request(patch)
        return {"status": "success"}

    async def talk_over(websocket: WebSocket, kind: str | None) -> None:
        await websocket.accept()
        try:
            caller = Caller.model_validate(dict(websocket.query_params))
            await begin(WebSocketRunnerArguments(websocket=websocket, transport_type=kind), caller)
        except ValidationError as error:
            await _close(websocket, 1008, _sentence(error))
        except Refused as error:
            await _close(websocket, 1013, str(error))
        except Exception:  # told by `ended`
            await _close(websocket, 1011, "something went wrong on this side: connect again")

    @app.websocket("/ws-client")
    async def client(websocket: WebSocket) -> None:
        await talk_over(websocket, "websocket")

    @app.websocket("/ws")
    async def evaluation(websocket: WebSocket) -> None:
        await talk_over(websocket, None)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/client/")

    app.mount("/client", StaticFiles(directory=_page(), html=True))
    return app


async def _transport(arguments: RunnerArguments, consent: Consent) -> BaseTransport:
    """How sound and pictures come and go; a camera is not looked at without consent."""
    sound: dict[str, Any] = {"audio_in_enabled": True, "audio_out_enabled": True, "audio_out_10ms_chunks": 2}
    params: dict[str, Any] = {
        "webrtc": lambda: TransportParams(**sound, video_in_enabled=consent.face),
        "websocket": lambda: FastAPIWebsocketParams(**sound, serializer=ProtobufFrameSerializer()),
        "eval": lambda: EvalTransportParams(**sound),
    }
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            return await create_transport(arguments, params)
    except (ValueError, KeyError, TimeoutError):
        raise Refused("this address is for Pipecat's evaluations; clients connect to /ws-client") from None


def _both(consent: Consent, wanted: list[Modality] | None) -> Consent:
    """What both the settings and the caller allow."""
    return Consent(**{m: m in consent.allowed() and (wanted is None or m in wanted) for m in MODALITIES})


def _refusal(connection: HTTPConnection, names: set[str], origins: Sequence[str]) -> str | None:
    """Why a request is not answered: another web site's page sent it, or it is too long."""
    host = connection.headers.get("host", "")
    name = urlsplit(f"//{host}").hostname or ""
    if name not in names and not _is_address(name):
        return "this server is reached by localhost or by its address in numbers"
    origin = connection.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != host and origin not in origins:
        return f"only this server's own page may talk with it; to let {origin} do so, add it to the setting origins"
    if int(connection.headers.get("content-length", 0)) > MESSAGE_BYTES or "transfer-encoding" in connection.headers:
        return f"a request may have {MESSAGE_BYTES:,} bytes at most, and says how many it has"
    return None


def _is_address(name: str) -> bool:
    """Numeric addresses cannot be made to lead elsewhere, as names can."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _sentence(error: ValidationError | RequestValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body")
    return f"{where or 'the request'} is wrong: {first['msg']}"


async def _close(websocket: WebSocket, code: int, why: str) -> None:
    with contextlib.suppress(RuntimeError):  # they are gone already
        await websocket.close(code, why.encode()[:123].decode(errors="ignore"))


def _page() -> Path:
    """Pipecat's page; its package prints when it is imported."""
    spec = find_spec("pipecat_ai_prebuilt")
    if spec is None or spec.origin is None:
        raise ImportError("Pipecat's page is missing: pip install 'emox[voice]'")
    return Path(spec.origin).parent / "client" / "dist"
