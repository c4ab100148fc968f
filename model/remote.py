"""A model on another machine, or in another process: an `AffectModel` over HTTP, behind which server.py stands.

What is read stays there under a name that is made here. Where it is gone, since its replica died or had to make room,
the turn is sent again along with the question. Reading is repeated where a request got lost; a reply only until its
first piece is here: from then on a lost one raises `Unreachable`, so that nobody is answered twice.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from perception.types import UserTurn

from . import wire
from .types import Affect, Busy, ModelCard, ReplyBrief, Understanding, Unreachable, Utterance

CONNECT_S = 3.0
PAUSES_S = (0.1, 0.4, 1.0, 2.0)
"""Between the tries of a request that got lost: some 4 s, in which another replica has taken over."""
SESSION = "x-session-id"
"""Header by whose value a router may send what belongs together to the same replica."""


class RemoteError(RuntimeError):
    """The model's server refuses us, or has a fault: to ask again would not help."""


class _Gone(Exception):
    """What was read is not there any more."""


@dataclass(frozen=True, eq=False)
class RemoteAhead:
    """What was read ahead of a turn, on the server."""

    id: str


@dataclass(frozen=True, eq=False)
class RemotePrefix:
    """A turn that was read on the server, and what it takes to read it again there."""

    id: str
    session: str
    reading: wire.Reading


class RemoteModel:
    """An `AffectModel` behind a server.

    Args:
        url: of the model, such as http://127.0.0.1:7861/models/default.
        token: by which the server lets us in, if it wants one.
        timeout_s: for so long a request is waited for, tries included; in a reply, for each piece.
        transport: in place of the network.

    Raises:
        Unreachable, RemoteError: there is no such server, or it does not let us in.
    """

    def __init__(
        self, url: str, token: str | None = None, *, timeout_s: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        self._timeout_s = timeout_s
        self._url = url
        self._http = httpx.Client(
            base_url=url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {token}"} if token else {},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=4),
            transport=transport,
        )
        try:
            self._card = _read(ModelCard, self._send("GET", "card"))
        except BaseException:
            self._http.close()
            raise

    @property
    def card(self) -> ModelCard:
        """Which model answers there now."""
        return self._card

    def overhear(self, turn: UserTurn, history: Sequence[Utterance]) -> RemoteAhead:
        """Read ahead on the server."""
        ahead = RemoteAhead(uuid.uuid4().hex)
        reading = wire.reading_of(turn, history, self._card.modalities)
        self._send("POST", "overhear", wire.Read(id=ahead.id, reading=reading), ahead.id)
        return ahead

    def attend(
        self, turn: UserTurn, history: Sequence[Utterance] = (), ahead: RemoteAhead | None = None
    ) -> RemotePrefix:
        """Send a turn to be read."""
        reading = wire.reading_of(turn, history, self._card.modalities)
        name = uuid.uuid4().hex
        prefix = RemotePrefix(name, ahead.id if ahead else name, reading)
        document = wire.Read(id=name, reading=reading, ahead=ahead.id if ahead else None)
        self._card = _read(ModelCard, self._send("POST", "attend", document, prefix.session))
        return prefix

    def perceive(self, prefix: RemotePrefix) -> Affect:
        """Level 1."""
        return _read(Affect, self._ask("perceive", prefix, wire.Ask))

    def understand(
        self, prefix: RemotePrefix, affect: Affect, *, in_haste: bool = False
    ) -> tuple[Understanding, tuple[str, ...]]:
        """Level 2, and level 1's open words."""
        response = self._ask("understand", prefix, wire.Understand, affect=affect, in_haste=in_haste)
        understood = _read(wire.Understood, response)
        return understood.understanding, understood.open

    def classify(self, prefix: RemotePrefix, task: str, labels: Sequence[str]) -> dict[str, float]:
        """See `LocalModel.classify`."""
        response = self._ask("classify", prefix, wire.Classify, task=task, labels=tuple(labels))
        return _read(dict[str, float], response)

    def empathize(self, prefix: RemotePrefix, brief: ReplyBrief) -> Iterator[str]:
        """Level 3, streamed; closed, the server closes it too.

        Raises:
            Unreachable: the server was lost, after some pieces or before any.
        """
        response = self._ask("empathize", prefix, wire.Empathize, streamed=True, brief=brief)
        lost = Unreachable(f"the reply of {self._url} broke off: ask again")
        try:
            lines = response.iter_lines()
            while True:
                try:
                    line = wire.read(wire.Line, next(lines))
                except (StopIteration, httpx.TransportError, ValueError):
                    raise lost from None
                if line.end:
                    return
                if line.error is not None:
                    raise _error_of(wire.Problem(error=line.error, detail=line.detail))
                yield wire.piece_of(line)
        finally:
            response.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def _ask(
        self, what: str, prefix: RemotePrefix, kind: type[wire.Ask], *, streamed: bool = False, **question: Any
    ) -> httpx.Response:
        try:
            return self._send("POST", what, kind(id=prefix.id, **question), prefix.session, streamed)
        except _Gone:
            document = kind(id=prefix.id, reading=prefix.reading, **question)
            return self._send("POST", what, document, prefix.session, streamed)

    def _send(
        self, method: str, what: str, document: wire.Ask | None = None, session: str = "", streamed: bool = False
    ) -> httpx.Response:
        """A response that says it went well, whole unless it is streamed; a request that got lost is sent again."""
        until = time.monotonic() + self._timeout_s
        content = None if document is None else wire.write(document)
        for pause_s in (*PAUSES_S, None):
            left_s = max(until - time.monotonic(), 0.1)
            request = self._http.build_request(
                method, what, content=content, timeout=httpx.Timeout(left_s, connect=min(left_s, CONNECT_S)),
                headers={"Content-Type": "application/json", wire.SECONDS: f"{left_s:.3f}", SESSION: session},
            )  # fmt: skip
            failure: Exception
            try:
                response = self._http.send(request, stream=True)
                if response.status_code == 200:
                    if not streamed:
                        response.read()
                    return response
                failure = self._failure(response)
            except httpx.TransportError as error:
                failure = Unreachable(f"{self._url} cannot be reached ({type(error).__name__}): {_HINT}")
                if isinstance(error, httpx.ReadTimeout):
                    raise failure from None
            if pause_s is None or time.monotonic() + pause_s >= until:
                raise failure
            time.sleep(pause_s)
        raise AssertionError("the last try has no pause")

    def _failure(self, response: httpx.Response) -> Exception:
        """What a refusal tells; raises it where it does not help to send the request again."""
        try:
            problem = wire.read(wire.Problem, response.read())
        except ValueError:  # not the model's own words but those of what stands before it
            status = response.status_code
            if status == 503:
                return Busy(f"{self._url} takes no more requests: ask again in a moment")
            if status >= 500:
                return Unreachable(f"{self._url} cannot be reached (HTTP {status}): ask again")
            raise RemoteError(f"{self._url} is not the address of a model (HTTP {status}): {_HINT}") from None
        finally:
            response.close()
        raise _error_of(problem)


_HINT = "is `emox serve-model` running there, and is EMOX_MODEL_URL its address with /models/NAME?"


def _error_of(problem: wire.Problem) -> Exception:
    match problem.error:
        case "gone":
            return _Gone()
        case "busy":
            return Busy(problem.detail)
        case "late":
            return Unreachable(f"the model did not answer in time: {problem.detail}")
        case "unusable" | "too long":
            return ValueError(problem.detail)
    return RemoteError(problem.detail)


def _read(kind: Any, response: httpx.Response) -> Any:
    try:
        return wire.read(kind, response.content)
    except ValueError as error:
        raise RemoteError(f"{response.url.host} answers what is no answer of a model ({error}): {_HINT}") from None
