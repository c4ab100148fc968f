"""`emox memory`, by HTTP: the same names, the same documents."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field, StrictBool

from agent import inspection
from agent.host import Host
from agent.inspection import time_of
from memory import privacy
from memory.errors import MemoryStoreError
from memory.exchange import export_lines, read_export

from .errors import NotThere
from .seam import Limit, Offset, TheHost, User, problems

router = APIRouter(prefix="/api/memory", tags=["memory"])

Time = Annotated[str | None, Query(max_length=100, description='A time such as 2026-03-01, or words: "last week".')]
Thread = Annotated[str | None, Query(max_length=200, description="Only this conversation.")]


class Correction(BaseModel):
    """What was really felt (one of the seven basic emotions), really said, or both."""

    emotion: str | None = Field(None, examples=["sad"])
    text: str | None = Field(None, min_length=1, max_length=8_000)


class Forgetting(BaseModel):
    """What to forget: episodes by id, from a time to a time, about something, naming somebody, or `all` alone."""

    ids: list[str] = Field(default_factory=list, max_length=1_000)
    since: str | None = Field(None, max_length=100)
    until: str | None = Field(None, max_length=100)
    about: str | None = Field(None, min_length=1, max_length=1_000)
    person: str | None = Field(None, min_length=1, max_length=200)
    all: StrictBool = False


class Preview(BaseModel):
    """How many episodes would be forgotten."""

    n: int


class Imported(BaseModel):
    """How much came in, and how many episodes were not there before."""

    n_episodes: int
    n_facts: int
    n_new: int


@router.get("/list", response_model=inspection.Episodes, summary="Episodes, newest first")
def list_(
    host: TheHost, user: User, limit: Limit = 20, offset: Offset = 0, thread: Thread = None, since: Time = None,
    until: Time = None,
) -> Any:  # fmt: skip
    """What was said, felt and answered."""
    bounds = {"since": time_of("since", since), "until": time_of("until", until)}
    options = {"limit": limit, "offset": offset, "thread_id": thread}
    return JSONResponse(inspection.list_episodes(host.store, user, **options, **bounds))


@router.get("/show/{id}", response_model=inspection.OneEpisode, summary="One episode, whole", responses=problems(404))
def show(id: str, host: TheHost, user: User) -> Any:
    """And where each part of it comes from."""
    _check_there(host, user, id)
    return JSONResponse(inspection.show(host.store, user, id))


@router.get("/search", response_model=inspection.Found, summary="Episodes and facts about something, best first")
def search(
    query: Annotated[str, Query(min_length=1, max_length=1_000)], host: TheHost, user: User,
    limit: Annotated[int, Query(ge=1, le=100)] = 5,
) -> Any:  # fmt: skip
    """A time in the words ("last week") narrows the search to it."""
    return JSONResponse(inspection.search(host.store, user, query, limit))


@router.get("/facts", response_model=inspection.Facts, summary="What follows from the episodes")
def facts(host: TheHost, user: User, history: bool = False) -> Any:
    """People, events, likes, what brings a feeling and what helped; with history also what held before."""
    return JSONResponse(inspection.facts(host.store, user, history=history))


@router.get("/timeline", response_model=inspection.Timeline, summary="Feelings over time, and the mood they add up to")
def timeline(
    host: TheHost, user: User, limit: Annotated[int, Query(ge=1, le=10_000)] = 500, thread: Thread = None,
    since: Time = None, until: Time = None,
) -> Any:  # fmt: skip
    """Of so many of the newest episodes."""
    bounds = {"since": time_of("since", since), "until": time_of("until", until)}
    return JSONResponse(inspection.timeline(host.store, user, limit=limit, thread_id=thread, **bounds))


@router.get("/why/{turn}", response_model=inspection.Why, summary="Why the agent said that", responses=problems(404))
def why(turn: str, host: TheHost, user: User) -> Any:
    """Reply, plan, what was recalled and why, what was read from what, and the cause."""
    _check_there(host, user, turn)
    return JSONResponse(inspection.why(host.store, user, turn))


@router.post(
    "/correct/{id}",
    response_model=inspection.EpisodeDocument,
    summary="Correct a feeling or words",
    responses=problems(404),
)
def correct(id: str, correction: Correction, host: TheHost, user: User) -> Any:
    """What stood there stays in the episode's history."""
    _check_there(host, user, id)
    return JSONResponse(inspection.correct(host.store, user, id, emotion=correction.emotion, text=correction.text))


@router.post("/forget", response_model=inspection.ForgottenDocument, summary="Forget for good, and prove it")
async def forget(wish: Forgetting, host: TheHost, user: User) -> Any:
    """Every file of the agent is searched for what was said afterwards."""
    return JSONResponse(inspection.forgotten(user, await host.forget(user, **_chosen(wish)), host.elsewhere))


@router.post("/forget/preview", response_model=Preview, summary="How much that would be")
def preview(wish: Forgetting, host: TheHost, user: User) -> Any:
    """Nothing is forgotten yet."""
    what = _chosen(wish)
    return Preview(n=host.store.count(user) if wish.all else len(privacy.chosen(host.store, user, **what)))


def _chosen(wish: Forgetting) -> dict[str, Any]:
    """What `Host.forget` takes.

    Raises:
        ValueError: nothing is chosen, or all and a part.
    """
    bounds = {"since": time_of("since", wish.since), "until": time_of("until", wish.until)}
    chosen = bool(wish.ids) or any(bounds.values()) or wish.about is not None or wish.person is not None
    if chosen == wish.all:
        raise ValueError("say what to forget: ids, since or until, about, person, or all alone")
    if wish.all:
        return {"all": True}
    return {"ids": wish.ids, "about": wish.about, "person": wish.person, **bounds}


@router.get(
    "/export",
    summary="Your memory, as a file of lines of JSON",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/jsonl": {"schema": {"type": "string"}}}}},
)
def export(host: TheHost, user: User) -> Any:
    """`docs/memory-export.schema.json` describes a line; `import` and `emox memory import` read it."""

    def lines() -> Iterator[str]:
        for line in export_lines(host.store, [user]):
            yield json.dumps(line, ensure_ascii=False) + "\n"

    headers = {"Content-Disposition": 'attachment; filename="emox-memory.jsonl"', "Cache-Control": "no-store"}
    return StreamingResponse(lines(), media_type="application/jsonl", headers=headers)


@router.post(
    "/import",
    response_model=Imported,
    summary="Bring what `export` wrote into your memory",
    openapi_extra={"requestBody": {"required": True, "content": {"application/jsonl": {"schema": {"type": "string"}}}}},
)
async def import_(request: Request, host: TheHost, user: User) -> Any:
    """It becomes yours, whoever it was of; what is there already stays as it is."""
    with tempfile.NamedTemporaryFile(prefix="emox-", suffix=".jsonl") as file:
        async for piece in request.stream():
            file.write(piece)
        file.flush()
        try:
            moved = await asyncio.to_thread(read_export, host.store, Path(file.name), as_user=user)
        except UnicodeDecodeError:
            raise ValueError("this is not of a memory: send a file that `export` wrote") from None
        except MemoryStoreError as error:
            raise ValueError(str(error).replace(file.name, "the file")) from None
    return Imported(n_episodes=moved.n_episodes, n_facts=moved.n_facts, n_new=moved.n_new)


def _check_there(host: Host, user: str, id: str) -> None:
    if host.store.get(user, id) is None:
        raise NotThere(f"no turn {id!a} is remembered of you; /api/memory/list shows those that are")
