"""A model behind HTTP, for `RemoteModel`: any `AffectModel` as an ASGI app.

GET  /card /health
POST /overhear /attend /perceive /understand /classify    JSON to JSON
POST /empathize                                           JSON to lines of JSON, as they come

Documents are those of wire.py. A prefix stays here, under the name that its asker gave it, until it is the oldest of
too many or has not been asked for a while; whoever asks then is told that it is gone, and sends the turn again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from . import wire
from .tokens import hash_of
from .types import AffectModel, Busy

logger = logging.getLogger(__name__)

T = TypeVar("T")

KEPT = 128
"""Prefixes that are kept: some 30 MB each of the paper's model, half of that of the embedded one."""
KEEP_S = 300.0
"""A prefix that nobody asks about for so long is let go, and with it the words and the voice that it was read from."""
AT_ONCE = 256
"""Requests that are answered at the same time; who comes then is told to come again."""
AT_MOST_S = 120.0
"""No request takes longer, whatever its asker has time for."""
RETRY_AFTER_S = 1


class Refusal(Exception):
    """A request that is not answered; `error` is one of `wire.STATUSES`."""

    def __init__(self, error: str, why: str) -> None:
        super().__init__(why)
        self.error = error


class Kept:
    """What was read, by name: the latest `limit`, each for `keep_s` after it was last asked for."""

    def __init__(self, limit: int, keep_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._keep_s = keep_s
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[Any, float]] = OrderedDict()  # the one that was asked for last comes last

    def put(self, name: str, value: Any) -> None:
        """Keep this."""
        with self._lock:
            self._kept[name] = value, self._clock()
            self._kept.move_to_end(name)
            self._clean()

    def get(self, name: str) -> Any:
        """What is kept under a name; None if it is gone."""
        with self._lock:
            self._clean()
            if name not in self._kept:
                return None
            self._kept[name] = self._kept[name][0], self._clock()
            self._kept.move_to_end(name)
            return self._kept[name][0]

    def pop(self, name: str) -> Any:
        """`get`, and let it go."""
        value = self.get(name)
        with self._lock:
            self._kept.pop(name, None)
        return value

    def clean(self) -> None:
        """Let go of what nobody has asked for."""
        with self._lock:
            self._clean()

    def clear(self) -> None:
        """Let go of everything."""
        with self._lock:
            self._kept.clear()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._kept)

    def _clean(self) -> None:
        oldest = self._clock() - self._keep_s
        while self._kept and (len(self._kept) > self._limit or next(iter(self._kept.values()))[1] <= oldest):
            self._kept.popitem(last=False)


class Answers:
    """What a server answers, for one model; called in threads."""

    def __init__(self, model: AffectModel, kept: int = KEPT, keep_s: float = KEEP_S) -> None:
        self.model = model
        self.prefixes = Kept(kept, keep_s)
        self.aheads = Kept(kept, keep_s)

    def overhear(self, asked: wire.Read) -> bytes:
        """Read ahead, and keep it for the `attend` that names it."""
        ahead = self.model.overhear(wire.turn_of(asked.reading.turn), asked.reading.history)
        self.aheads.put(asked.id, ahead)
        return b"{}"

    def attend(self, asked: wire.Read) -> bytes:
        """Read a turn, if that has not been done, and tell which model has."""
        ahead = self.aheads.pop(asked.ahead) if asked.ahead else None
        self._prefix(asked, ahead)
        return wire.write(self.model.card)

    def perceive(self, asked: wire.Ask) -> bytes:
        """Level 1."""
        return wire.write(self.model.perceive(self._prefix(asked)))

    def understand(self, asked: wire.Understand) -> bytes:
        """Level 2."""
        prefix = self._prefix(asked)
        understanding, words = self.model.understand(prefix, asked.affect, in_haste=asked.in_haste)
        return wire.write(wire.Understood(understanding=understanding, open=words))

    def classify(self, asked: wire.Classify) -> bytes:
        """Any labels of a task."""
        classify = getattr(self.model, "classify", None)
        if classify is None:
            raise ValueError("this model scores no labels")
        return wire.write(classify(self._prefix(asked), asked.task, asked.labels), dict[str, float])

    def empathize(self, asked: wire.Empathize) -> Iterator[str]:
        """Level 3."""
        return self.model.empathize(self._prefix(asked), asked.brief)

    def forget(self) -> None:
        """Let go of all that was read."""
        self.prefixes.clear()
        self.aheads.clear()

    def _prefix(self, asked: wire.Ask, ahead: Any = None) -> Any:
        prefix = self.prefixes.get(asked.id)
        if prefix is None:
            if asked.reading is None:
                raise Refusal("gone", "what was read is not here: send the turn again")
            prefix = self.model.attend(wire.turn_of(asked.reading.turn), asked.reading.history, ahead)
            self.prefixes.put(asked.id, prefix)
        return prefix


def make_app(
    model: AffectModel,
    hashes: Collection[str] = (),
    *,
    at_once: int = AT_ONCE,
    kept: int = KEPT,
    keep_s: float = KEEP_S,
) -> Starlette:
    """The server of a model.

    Args:
        model: is asked from several threads.
        hashes: of the tokens by which it is used (`hash_of`); without any it asks for none.
        at_once: requests that are answered at the same time.
        kept: prefixes that are kept,
        keep_s: and for how long after the last question.
    """
    answers = Answers(model, kept, keep_s)
    desk = _Desk(frozenset(hashes), at_once)

    async def card(request: Request) -> Response:
        desk.admit(request)
        return _json(wire.write(model.card))

    async def health(request: Request) -> Response:
        return _json(b'{"status":"ok","answering":%d,"kept":%d}' % (desk.n_here, len(answers.prefixes)))

    def question(kind: Any, answer: Callable[[Any], bytes]) -> Callable[[Request], Awaitable[Response]]:
        async def ask(request: Request) -> Response:
            async with desk.deadline(request):
                body = await desk.body(request)
                found = await _while_wanted(request, desk.in_thread(lambda: answer(wire.read(kind, body))))
            clean_later()
            return _json(found)

        return _guarded(ask)

    async def empathize(request: Request) -> Response:
        deadline = desk.deadline(request)
        async with deadline:
            body = await desk.body(request)
            pieces = desk.stream(lambda: answers.empathize(wire.read(wire.Empathize, body)))
            first = await _while_wanted(request, anext(pieces, None))  # what goes wrong before it is told by the status
        clean_later()
        return StreamingResponse(_told(first, pieces, deadline.when()), media_type="application/x-ndjson")

    def clean_later() -> None:
        for shelf in (answers.prefixes, answers.aheads):
            asyncio.get_running_loop().call_later(keep_s + 1, shelf.clean)

    routes = [
        Route("/card", _guarded(card)),
        Route("/health", health),
        Route("/overhear", question(wire.Read, answers.overhear), methods=["POST"]),
        Route("/attend", question(wire.Read, answers.attend), methods=["POST"]),
        Route("/perceive", question(wire.Ask, answers.perceive), methods=["POST"]),
        Route("/understand", question(wire.Understand, answers.understand), methods=["POST"]),
        Route("/classify", question(wire.Classify, answers.classify), methods=["POST"]),
        Route("/empathize", _guarded(empathize), methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    app.state.answers, app.state.desk = answers, desk
    return app


def under_names(apps: Mapping[str, ASGIApp]) -> Starlette:
    """Several models side by side, each under /models/NAME."""
    return Starlette(routes=[Mount(f"/models/{name}", app) for name, app in apps.items()])


@dataclass(frozen=True)
class _End:
    error: BaseException | None


class _Desk:
    """Lets requests in, and has their work done in threads; `n_here` counts it until it is over, whoever waits."""

    def __init__(self, hashes: frozenset[str], at_once: int) -> None:
        self._hashes = hashes
        self._at_once = at_once
        self._threads = ThreadPoolExecutor(at_once, "model-server")
        self._lock = threading.Lock()
        self.n_here = 0

    def admit(self, request: Request) -> None:
        """Turn away who has no token, and what a web page sends through somebody's browser."""
        if "origin" in request.headers:
            raise Refusal("no page", "this server is for programs, not for web pages")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if self._hashes and (scheme.lower() != "bearer" or hash_of(token.strip()) not in self._hashes):
            raise Refusal("no token", "this model needs a token, in EMOX_MODEL_TOKEN; `emox token model` makes one")

    def deadline(self, request: Request) -> asyncio.Timeout:
        """Ends what its asker does not wait for."""
        try:
            wanted = float(request.headers.get(wire.SECONDS, AT_MOST_S))
        except ValueError:
            raise Refusal("unusable", f"{wire.SECONDS} is no number") from None
        return asyncio.timeout(min(wanted, AT_MOST_S) if wanted >= 0 else 0)

    async def body(self, request: Request) -> bytes:
        """What was sent, by somebody who may."""
        self.admit(request)
        if self.n_here >= self._at_once:
            raise Busy(f"{self._at_once} requests are being answered, which is as many as may: ask again in a moment")
        declared = request.headers.get("content-length", "0")
        parts: list[bytes] = []
        length = int(declared) if declared.isdigit() else 0
        if length <= wire.MAX_BYTES:
            length = 0
            async for part in request.stream():
                parts.append(part)
                length += len(part)
                if length > wire.MAX_BYTES:
                    break
        if length > wire.MAX_BYTES:
            raise Refusal("too long", f"the request is longer than {wire.MAX_BYTES >> 20} MiB")
        return b"".join(parts)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do this; what has not begun when nobody waits for it any more is left."""
        with self._lock:
            self.n_here += 1
        future = self._threads.submit(work)
        future.add_done_callback(lambda _: self._leave())
        return await asyncio.wrap_future(future)

    async def stream(self, make: Callable[[], Iterator[str]]) -> AsyncGenerator[str]:
        """What an iterator gives. When this is closed, so is the iterator, at once where other threads may do that."""
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[str | _End] = asyncio.Queue()
        made: list[Any] = []
        given_up = threading.Event()

        def run() -> None:
            error: BaseException | None = None
            try:
                pieces = make()
                made.append(pieces)
                with contextlib.closing(pieces):  # type: ignore[type-var]
                    while not given_up.is_set() and (piece := next(pieces, None)) is not None:
                        loop.call_soon_threadsafe(told.put_nowait, piece)
            except BaseException as raised:  # handed to whoever takes
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody takes
                loop.call_soon_threadsafe(told.put_nowait, _End(error))

        work = asyncio.ensure_future(self.in_thread(run))
        try:
            while not isinstance(item := await told.get(), _End):
                yield item
            if item.error is not None:
                raise item.error
        finally:
            given_up.set()
            for pieces in made:
                if not isinstance(pieces, Generator):  # which is closed between two pieces only, by its own thread
                    pieces.close()
            work.cancel()

    def _leave(self) -> None:
        with self._lock:
            self.n_here -= 1


async def _told(first: str | None, pieces: AsyncGenerator[str], until: float | None) -> AsyncGenerator[bytes]:
    """A reply as lines, of which `end` is the last."""
    async with contextlib.aclosing(pieces):
        piece = first
        try:
            while piece is not None:
                yield wire.line_of(piece)
                async with asyncio.timeout_at(until):
                    piece = await anext(pieces, None)
            yield wire.write(wire.Line(end=True)) + b"\n"
        except Exception as error:  # the reply has begun: its status cannot tell any more
            problem = problem_of(error)
            yield wire.write(wire.Line(error=problem.error, detail=problem.detail)) + b"\n"


async def _while_wanted(request: Request, work: Awaitable[T]) -> T:
    """Wait for work that is given up when its asker goes away."""

    async def asker_is_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    doing, gone = asyncio.ensure_future(work), asyncio.ensure_future(asker_is_gone())
    try:
        await asyncio.wait((doing, gone), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientDisconnect
        return doing.result()
    finally:
        for task in (doing, gone):
            task.cancel()
        await asyncio.wait((doing, gone))


def problem_of(error: BaseException) -> wire.Problem:
    """What is said of an error; one of ours is logged by its type only, as its text may hold what was said."""
    match error:
        case Refusal():
            return wire.Problem(error=error.error, detail=str(error))
        case Busy():
            return wire.Problem(error="busy", detail=str(error))
        case TimeoutError():
            return wire.Problem(error="late", detail="this took longer than its asker waits")
        case ValueError():
            return wire.Problem(error="unusable", detail=str(error))
        case ClientDisconnect():
            return wire.Problem(error="late", detail="nobody waits for this any more")
    logger.error("fault: %s", type(error).__name__)
    return wire.Problem(error="fault", detail=f"something went wrong in the model: {type(error).__name__}")


def _guarded(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except Exception as error:
            problem = problem_of(error)
            headers = {"busy": {"Retry-After": str(RETRY_AFTER_S)}, "no token": {"WWW-Authenticate": "Bearer"}}
            return _json(wire.write(problem), wire.STATUSES[problem.error], headers.get(problem.error))

    return guarded


def _json(document: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(document, status, headers, media_type="application/json")
