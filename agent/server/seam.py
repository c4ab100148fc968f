"""What routes are given: the host, who asks, and which part of a list; and what can be wrong with a request."""

from __future__ import annotations

from typing import Annotated, Any, cast

from fastapi import Depends, Query
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from agent.host import Host

from .access import Access


def _host(connection: HTTPConnection) -> Host:
    return cast(Host, connection.app.state.host)


async def user_of(connection: HTTPConnection) -> str:
    """Who asks, who is then `connection.state.user`; raises `Refused`."""
    access = cast(Access, connection.app.state.access)
    user = access.user_of(connection)
    connection.state.user = user
    return user


TheHost = Annotated[Host, Depends(_host)]
User = Annotated[str, Depends(user_of)]
"""The person whose token came along. A route that takes it answers nobody else; each that is about a person does."""

Limit = Annotated[int, Query(ge=1, le=1000, description="So many at most.")]
Offset = Annotated[int, Query(ge=0, le=2**31 - 1, description="After leaving out so many.")]


class Problem(BaseModel):
    """What is wrong, and what to do."""

    detail: str


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's document says of these statuses."""
    return {status: {"model": Problem, "description": _WHY[status]} for status in statuses}


_WHY = {
    400: "The request cannot be parsed.",
    401: "No valid token came along.",
    403: "Another web site's page asks, or what is asked for needs consent.",
    404: "That is not remembered of this person.",
    413: "The request is too long.",
    422: "The request cannot be used.",
    429: "Too much is asked at once; Retry-After says when to ask again.",
    501: "This server lacks a part that it needs for this, such as a voice.",
    503: "The agent is stopping, or its memory or model cannot do its work; Retry-After says when to ask again.",
    504: "It took too long.",
}
