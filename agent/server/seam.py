"""What routes are given: the host, who asks, and which part of a list."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Query
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
