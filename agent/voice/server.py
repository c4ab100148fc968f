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
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, WebSocket, WebSocketException
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pipecat.evals.transport import EvalTransportParams
from pipecat.runner.types import RunnerArguments, SmallWebRTCRunnerArguments, WebSocketRunnerArguments
from pipecat.runner.utils import create_transport
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.base_transport import BaseTransport, TransportParams, VideoInSourceParams
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
from agent.server.access import why_foreign
from agent.server.errors import sentence_of
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

CAMERA_FPS = 5
"""Pictures that are looked at in a second; `Hearing` keeps fewer."""


def _listed(value: Any) -> Any:
    return [part for part in value.split(",") if part] if isinstance(value, str) else value


Name = Annotated[str, Field(min_length=1, max_length=200)]


class Caller(BaseModel):
    """Who wants to talk, in which conversation, and what may be read of them: modalities, or "text,voice"."""

    user: Name | None = None
    thread: Name | None = None
    consent: Annotated[list[Modality] | None, BeforeValidator(_listed)] = None


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


class Forbidden(Exception):
    """This one may not talk here; says why."""


@dataclass(frozen=True)
class Talker:
    """Somebody who may talk: as whom, in which conversation (None for a new one), and what may be read of them."""

    user: str
    thread: str | None
    consent: Consent


Who = Callable[[HTTPConnection, Caller], Talker]
"""Decides as whom somebody talks; raises what the server makes a refusal of."""


class VoiceRoutes:
    """The routes above, to be included in an app: `router` those of HTTP, `sockets` the others. Close them at its end.

    Args:
        agent, ears: shared by all conversations. Warm them up before (`pipeline.warm_up`).
        who: decides as whom somebody talks.
        limit: so many conversations at once.
        report: told of each turn that is remembered.
        options: more for `build_session`.
    """

    def __init__(
        self,
        agent: Agent,
        ears: Ears,
        who: Who,
        *,
        limit: int = 4,
        report: Report = lambda result, timing: None,
        **options: Any,
    ) -> None:
        self._agent, self._ears, self._who = agent, ears, who
        self._limit, self._report, self._options = limit, report, options
        self._talking: set[asyncio.Task[None]] = set()
        self.waiting: dict[str, Talker] = {}
        self._peers = SmallWebRTCRequestHandler()
        self.router = APIRouter(tags=["voice"])
        add = self.router.add_api_route
        add("/start", self._start, methods=["POST"], summary="Say that you want to talk, and learn where")
        add("/api/offer", self._offer, methods=["POST"], summary="Talk by WebRTC")
        add("/api/offer", self._candidates, methods=["PATCH"], summary="More ways to reach you by WebRTC")
        add("/sessions/{session_id}/api/offer", self._offer_of_session, methods=["POST"], summary="Talk, after /start")
        add("/sessions/{session_id}/api/offer", self._candidates, methods=["PATCH"], summary="More ways, after /start")
        self.sockets = APIRouter()
        self.sockets.add_api_websocket_route("/ws-client", self._client)
        self.sockets.add_api_websocket_route("/ws", self._evaluation)

    async def close(self) -> None:
        """End all conversations."""
        await self._peers.close()
        for task in self._talking:
            task.cancel()
        await asyncio.gather(*self._talking, return_exceptions=True)

    async def _start(self, request: Request, wish: Start | None = None) -> dict[str, str]:
        wish = wish or Start()
        session_id = str(uuid.uuid4())
        self.waiting[session_id] = self._who(request, wish.body)
        while len(self.waiting) > WAITING:
            del self.waiting[next(iter(self.waiting))]
        if wish.transport == "websocket":
            scheme = "wss" if request.url.scheme == "https" else "ws"
            return {"wsUrl": str(request.url.replace(scheme=scheme, path="/ws-client", query=f"session={session_id}"))}
        return {"sessionId": session_id}

    async def _offer(self, request: Request, offer: Offer) -> dict[str, str] | None:
        return await self._connect(offer, self._who(request, offer.caller or Caller()))

    async def _offer_of_session(self, session_id: str, offer: Offer) -> dict[str, str] | None:
        if session_id not in self.waiting:
            raise HTTPException(404, "this session is not known here: ask /start for a new one")
        return await self._connect(offer, self.waiting[session_id])

    async def _candidates(self, patch: SmallWebRTCPatchRequest) -> dict[str, str]:
        await self._peers.handle_patch_request(
            patch
        )  # who does not know the connection's id is told that there is none
        return {"status": "success"}

    async def _connect(self, offer: Offer, talker: Talker) -> dict[str, str] | None:
        async def connected(connection: Any) -> None:
            self._begin(SmallWebRTCRunnerArguments(webrtc_connection=connection), talker)

        if "\nm=" not in offer.sdp:
            raise HTTPException(422, "this WebRTC offer cannot be used: its sdp has neither sound nor data")
        if offer.pc_id is None:
            try:
                self._check_room()
            except Refused as error:
                raise HTTPException(503, str(error)) from None
        request = SmallWebRTCRequest(offer.sdp, offer.type, offer.pc_id, offer.restart_pc)
        try:
            return await self._peers.handle_web_request(request, connected)
        except HTTPException:
            raise
        except Exception as error:
            logger.error("a WebRTC offer failed: %s", type(error).__name__)
            raise HTTPException(422, "this WebRTC offer cannot be used: its sdp cannot be read") from None

    async def _client(self, websocket: WebSocket) -> None:
        await self._talk_over(websocket, "websocket")

    async def _evaluation(self, websocket: WebSocket) -> None:
        await self._talk_over(websocket, None)

    async def _talk_over(self, websocket: WebSocket, kind: str | None) -> None:
        await websocket.accept()
        try:
            talker = self.waiting.get(websocket.query_params.get("session", ""))
            if talker is None:
                talker = self._who(websocket, Caller.model_validate(dict(websocket.query_params)))
            await self._begin(WebSocketRunnerArguments(websocket=websocket, transport_type=kind), talker)
        except ValidationError as error:
            await _close(websocket, 1008, sentence_of(error))
        except Refused as error:
            await _close(websocket, 1013, str(error))
        except Forbidden as error:
            await _close(websocket, 1008, str(error))
        except Exception:  # told by `_ended`
            await _close(websocket, 1011, "something went wrong on this side: connect again")

    def _check_room(self) -> None:
        if len(self._talking) >= self._limit:
            raise Refused(f"{self._limit} people are talking here already, which is as many as may: try again later")

    def _begin(self, arguments: RunnerArguments, talker: Talker) -> asyncio.Task[None]:
        self._check_room()
        task = asyncio.create_task(self._converse(arguments, talker))
        self._talking.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._talking.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Refused):
            logger.error("a conversation failed: %s", type(error).__name__)

    async def _converse(self, arguments: RunnerArguments, talker: Talker) -> None:
        transport = await _transport(arguments, talker.consent)
        session = build_session(
            self._agent,
            self._ears,
            transport,
            user=talker.user,
            thread=talker.thread or f"talk-{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}",
            consent=talker.consent,
            report=self._report,
            **self._options,
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


def make_app(
    agent: Agent,
    ears: Ears,
    *,
    consent: Consent,
    user: str = "me",
    hosts: Iterable[str] = (),
    origins: Sequence[str] = (),
    **options: Any,
) -> FastAPI:
    """A server of voice alone, with Pipecat's page, for the people at this machine.

    Args:
        agent, ears: shared by all conversations. Warm them up before (`pipeline.warm_up`).
        consent: what may be read at most; a caller may allow less.
        user: who speaks where a caller does not say.
        hosts: names by which browsers may reach it, beside localhost and numeric addresses.
        origins: other web sites whose pages may talk with it.
        options: more for `VoiceRoutes`.
    """
    names = {"localhost", *hosts}

    def who(_: HTTPConnection, caller: Caller) -> Talker:
        return Talker(caller.user or user, caller.thread, both(consent, caller.consent))

    def guard(connection: HTTPConnection) -> None:
        if why := _refusal(connection, names, origins):
            if connection.scope["type"] == "websocket":
                raise WebSocketException(1008, why)
            raise HTTPException(403, why)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await routes.close()

    routes = VoiceRoutes(agent, ears, who, **options)
    app = FastAPI(title="emox", lifespan=lifespan, dependencies=[Depends(guard)], docs_url=None, redoc_url=None)
    app.add_middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"])
    app.include_router(routes.router)
    app.include_router(routes.sockets)

    @app.exception_handler(RequestValidationError)
    async def on_bad_request(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"detail": sentence_of(error)}, 422)

    @app.exception_handler(Refused)
    async def on_refused(_: Request, error: Refused) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503)

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("/client/")

    app.mount("/client", StaticFiles(directory=page(), html=True))
    return app


async def _transport(arguments: RunnerArguments, consent: Consent) -> BaseTransport:
    """How sound and pictures come and go; a camera is not looked at without consent."""
    sound: dict[str, Any] = {"audio_in_enabled": True, "audio_out_enabled": True, "audio_out_10ms_chunks": 2}
    camera = {"camera": VideoInSourceParams(framerate=CAMERA_FPS)} if consent.face else {}
    params: dict[str, Any] = {
        "webrtc": lambda: TransportParams(**sound, video_in_enabled=consent.face, video_in_sources=camera),
        "websocket": lambda: FastAPIWebsocketParams(**sound, serializer=ProtobufFrameSerializer()),
        "eval": lambda: EvalTransportParams(**sound),
    }
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            return await create_transport(arguments, params)
    except (ValueError, KeyError, TimeoutError):
        raise Refused("this address is for Pipecat's evaluations; clients connect to /ws-client") from None


def both(consent: Consent, wanted: list[Modality] | None) -> Consent:
    """What both the settings and the caller allow."""
    return consent if wanted is None else consent.within(Consent(**{m: m in wanted for m in MODALITIES}))


def _refusal(connection: HTTPConnection, names: set[str], origins: Sequence[str]) -> str | None:
    """Why a request is not answered: another web site's page sent it, or it is too long."""
    if why := why_foreign(connection, names, origins):
        return why
    if int(connection.headers.get("content-length", 0)) > MESSAGE_BYTES or "transfer-encoding" in connection.headers:
        return f"a request may have {MESSAGE_BYTES:,} bytes at most, and says how many it has"
    return None


async def _close(websocket: WebSocket, code: int, why: str) -> None:
    with contextlib.suppress(RuntimeError):  # they are gone already
        await websocket.close(code, why.encode()[:123].decode(errors="ignore"))


def page() -> Path:
    """Pipecat's page; its package prints when it is imported."""
    spec = find_spec("pipecat_ai_prebuilt")
    if spec is None or spec.origin is None:
        raise ImportError("Pipecat's page is missing: pip install 'emox[voice]'")
    return Path(spec.origin).parent / "client" / "dist"
