"""What goes wrong under /v1, in the shape in which OpenAI's clients expect it."""

from __future__ import annotations

from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from perception.errors import TextTooLong

from .errors import Problem, first_of, problem_of

CODES = {
    401: "invalid_api_key",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    413: "request_too_large",
    429: "rate_limit_exceeded",
    503: "unavailable",
}
"""Of a status, where no error has its own."""


class Unusable(ValueError):
    """A request that asks for what is not there: `param` names the part of it, `code` is for programs."""

    def __init__(self, why: str, param: str, code: str = "invalid_value", status: int = 400) -> None:
        super().__init__(why)
        self.param = param
        self.code = code
        self.status = status


def no_model(model: str, *known: str) -> Unusable:
    """The error for a model that is not here."""
    why = f"the model {model!a} does not exist here; for this there is {' or '.join(known)}"
    return Unusable(why, "model", "model_not_found", 404)


class Details(BaseModel):
    """What is wrong, of which part of the request, and a word for programs."""

    message: str = Field(examples=["this needs a token, as in `Authorization: Bearer emox-...`"])
    type: str = Field(description="`invalid_request_error`, `requests` for too many of them, or `server_error`.")
    param: str | None = Field(examples=[None])
    code: str | None = Field(examples=["invalid_api_key"])


class ErrorResponse(BaseModel):
    """An error, as OpenAI's API tells it."""

    error: Details


RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": why}
    for status, why in {
        400: "The request cannot be used, or asks for what this server does not do; `context_length_exceeded` for a "
        "text that is too long.",
        401: "No valid token came along.",
        403: "Another web site's page asks, or what is asked for needs consent.",
        404: "There is no such model.",
        413: "The request is too long.",
        429: "Too much is asked at once; Retry-After says when to ask again.",
        500: "A fault of the server.",
        501: "This server lacks a part that it needs for this, such as a voice.",
        503: "The agent is stopping, or its memory cannot do its work; Retry-After says when to ask again.",
        504: "It took too long.",
    }.items()
}


def without_422(document: dict[str, Any]) -> dict[str, Any]:
    """An OpenAPI document in which nothing under /v1 is said to answer 422, which FastAPI takes for granted."""
    for path, operations in document["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["responses"].pop("422", None)
    return document


def failure_of(error: BaseException) -> tuple[Problem, Details]:
    """The problem behind an error, and how it is told."""
    problem = Problem(error.status, str(error)) if isinstance(error, Unusable) else problem_of(error)
    if problem.status == 422:  # that API calls every unusable request a bad one
        problem = Problem(400, problem.detail)
    kind = "server_error" if problem.status >= 500 else "requests" if problem.status == 429 else "invalid_request_error"
    param, code = None, CODES.get(problem.status)
    match error:
        case Unusable():
            param, code = error.param, error.code
        case TextTooLong():
            code = "context_length_exceeded"
        case RequestValidationError():
            where, what = first_of(error)
            param, code = where or None, "missing_required_parameter" if what["type"] == "missing" else "invalid_value"
    return problem, Details(message=problem.detail, type=kind, param=param, code=code)


def response_of(error: BaseException) -> JSONResponse:
    """The whole response."""
    problem, details = failure_of(error)
    return JSONResponse(ErrorResponse(error=details).model_dump(), problem.status, problem.headers)
