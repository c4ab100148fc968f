"""What went wrong, as a status of HTTP and one sentence: the edge of the server."""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from agent.host import Busy, Closing
from agent.settings import SetupError
from memory.errors import MemoryStoreError
from model import types as model
from perception.errors import PerceptionError

from .access import Refused

logger = logging.getLogger(__name__)

_TYPES = ("str", "int", "float", "bool")
"""By which pydantic names the ways to read a value; no field is called so."""


@dataclass(frozen=True)
class Problem:
    """`detail` says what is wrong and what to do; `retry_after_s` when it may be asked again."""

    status: int
    detail: str
    retry_after_s: int | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Of the response."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return headers | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


class NotThere(ValueError):
    """What is asked for is not remembered of this person, or never was."""


def problem_of(error: BaseException) -> Problem:
    """The problem behind an error; a fault of ours is logged by its type only, as its text may hold what was said."""
    match error:
        case Refused():
            return Problem(error.status, str(error), error.retry_after_s)
        case Busy():
            return Problem(429, str(error), error.retry_after_s)
        case Closing():
            return Problem(503, str(error), 60)
        case HTTPException():
            return Problem(error.status_code, str(error.detail))
        case RequestValidationError() | ValidationError():
            return Problem(422, sentence_of(error))
        case NotThere():
            return Problem(404, str(error))
        case PerceptionError() | ValueError():
            return Problem(422, str(error))
        case TimeoutError():
            return Problem(504, "this took too long: ask again", 30)
        case SetupError() | ImportError():
            return Problem(501, str(error))
        case model.Busy() | model.Unreachable():
            return Problem(503, str(error), 2)
        case MemoryStoreError():
            return Problem(503, str(error), 30)
    fault = uuid.uuid4().hex[:8]
    logger.error("fault %s: %s", fault, type(error).__name__)
    return Problem(500, f"fault {fault}: something went wrong on this side, its log says more; try again")


def sentence_of(error: ValidationError | RequestValidationError) -> str:
    """What is wrong with a request."""
    where, what = first_of(error)
    return f"{where or 'the request'} is wrong: {what['msg'].removeprefix('Value error, ')}"


def first_of(error: ValidationError | RequestValidationError) -> tuple[str, dict[str, Any]]:
    """Where a request is wrong, and pydantic's words for it: of all that is wrong, what lies deepest.

    Where several types may stand, that is of the one that was meant.
    """
    what: Any = max([*error.errors()], key=lambda one: len(one["loc"]))
    parts = [str(part) for part in what["loc"] if part not in ("body", "query", "path", "header")]
    where = ".".join(part for part in parts if "[" not in part and part not in _TYPES)
    return where.encode("ascii", "backslashreplace").decode(), what  # a name may be no Unicode
