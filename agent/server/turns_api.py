"""Turns, conversations and consent, by HTTP."""

from __future__ import annotations

import base64
import binascii
import io
import json
import re
import wave
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import format_sse_event
from pydantic import BaseModel, Field, StrictBool

from agent import inspection
from agent.care import Consent
from agent.events import Event, Finished, Remembered, Spoken, Unspoken
from agent.host import Host, Message
from agent.speech import Audio
from perception.types import MODALITIES, Modality

from .access import Refused
from .errors import problem_of
from .seam import Limit, Offset, TheHost, User, problems

UNBUFFERED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Headers of a stream, which proxies are to pass on as it comes."""

SSE_EVENT = {"type": "object", "properties": {"event": {"type": "string"}, "data": {"type": "string"}}}
"""Describes an event of a stream, whose data is JSON."""

MAX_CLIP_BYTES = 25 * 2**20

THREADS_OF = 1_000
"""Conversations are found among so many of the newest episodes."""

router = APIRouter(prefix="/api", tags=["turns"])


class TurnRequest(BaseModel):
    """What a person says: words, a clip, or both; words go before those of the clip."""

    text: str | None = Field(None, examples=["My cat ran away yesterday, and I miss her."])
    clip: str | None = Field(None, description="A sound, video or picture file of 25 MiB at most, as base64.")
    thread: str = Field("main", min_length=1, max_length=200, description="Which conversation.")
    id: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Your own name for this message. Sent again under the same one, it is told the same answer and "
        "not answered again.",
    )
    speak: StrictBool = Field(False, description="Say the reply, as `spoken` events with WAV sound.")
    stream: StrictBool = Field(True, description="Server-sent events as things happen; otherwise one JSON document.")


class ConsentDocument(BaseModel):
    """What may be read of a person. `asked` is false before they agreed to anything; then only words would be."""

    asked: bool
    text: bool
    voice: bool
    face: bool
    possible: list[Modality] = Field(description="What this model and this server can read.")
    disclosure: str = Field(description="To be shown before the first turn.")


class ConsentChoice(BaseModel):
    """What a person agrees to."""

    text: StrictBool = True
    voice: StrictBool = False
    face: StrictBool = False


class Thread(BaseModel):
    """A conversation: how many turns of it are remembered, when they were, and how it began."""

    thread: str
    n_turns: int
    first_at: datetime
    last_at: datetime
    begins: str
    emotion: str = Field(description="Felt on its last turn.")


class Threads(BaseModel):
    """Conversations, the latest first."""

    user: str
    threads: list[Thread]


@router.post(
    "/turns",
    summary="Say something, and be answered",
    responses=problems(501, 504)
    | {
        200: {
            "content": {"text/event-stream": {"schema": SSE_EVENT}},
            "description": "Server-sent events `started`, `heard`, `perceived`, `screened`, `understood`, `planned`, "
            "`remembered`, `reply_text`, `replied`, `spoken` and `finished`, each with the fields of that event in "
            "`agent/events.py`; an `error` event with `detail` ends a turn that fails. Without `stream`, the document "
            "that `emox turn --json` prints.",
        },
    },
    response_model=dict[str, Any],
)
async def turn(wish: TurnRequest, host: TheHost, user: User) -> Any:
    """The turn is finished and remembered even if you stop listening. Nothing is read before you agreed to it."""
    if host.people.consent_of(user) is None:
        raise Refused(403, "you have not been asked yet what may be read: GET /api/consent, then PUT your choice")
    if not (wish.text or "").strip() and wish.clip is None:
        raise ValueError("nothing was said: give text, clip or both")
    message = Message(user, wish.thread, text=wish.text, clip=decoded(wish.clip, "clip"), id=wish.id, speak=wish.speak)
    if not wish.stream:
        return JSONResponse((await host.ask(message)).as_json())
    events = host.turn(message)
    first = await anext(events)  # what is refused is refused before the answer begins
    return StreamingResponse(_told(first, events), media_type="text/event-stream", headers=UNBUFFERED)


@router.get("/threads", response_model=Threads, summary="Your conversations")
def threads(host: TheHost, user: User) -> Any:
    """Those of the newest thousand turns."""
    found: dict[str, Thread] = {}
    for episode in host.store.list(user, limit=THREADS_OF):
        seen = found.get(episode.thread_id)
        if seen is None:
            found[episode.thread_id] = Thread(
                thread=episode.thread_id, n_turns=1, first_at=episode.at, last_at=episode.at, begins=episode.text,
                emotion=episode.affect.emotion,
            )  # fmt: skip
        else:
            seen.n_turns, seen.first_at, seen.begins = seen.n_turns + 1, episode.at, episode.text
    return Threads(user=user, threads=list(found.values()))


@router.get("/threads/{thread}", response_model=inspection.Episodes, summary="A conversation, the newest turn first")
def one_thread(thread: str, host: TheHost, user: User, limit: Limit = 50, offset: Offset = 0) -> Any:
    """The same as `/api/memory/list` with `thread`."""
    return JSONResponse(inspection.list_episodes(host.store, user, limit=limit, offset=offset, thread_id=thread))


@router.get("/consent", response_model=ConsentDocument, summary="What may be read of you")
def consent(host: TheHost, user: User) -> Any:
    """And what you are to be told before your first turn."""
    return consent_document(host, user)


@router.put("/consent", response_model=ConsentDocument, summary="Say what may be read of you")
def agree(choice: ConsentChoice, host: TheHost, user: User) -> Any:
    """It holds from the next turn on, in all conversations of yours."""
    host.people.agree(user, Consent(text=choice.text, voice=choice.voice, face=choice.face))
    return consent_document(host, user)


def consent_document(host: Host, user: str) -> ConsentDocument:
    """See `ConsentDocument`."""
    allowed = host.consent_of(user).allowed()
    readable = (host.agent.model.card.modalities | {"text"}) & host.most.allowed()
    return ConsentDocument(
        asked=host.people.consent_of(user) is not None,
        **{modality: modality in allowed for modality in MODALITIES},
        possible=[modality for modality in MODALITIES if modality in readable],
        disclosure=host.disclosure(user, controls="the settings and the memory of this page, or `emox memory`"),
    )


async def _told(first: Event, events: AsyncIterator[Event]) -> AsyncIterator[bytes]:
    yield event_line(first)
    try:
        async for event in events:
            yield event_line(event)
    except Exception as error:  # the answer has begun: its status cannot tell any more
        yield _line("error", {"detail": problem_of(error).detail})


def event_line(event: Event) -> bytes:
    """An event as a server-sent one: its name in snake case, its fields as JSON, sound as a WAV file in base64."""
    name = re.sub(r"(?<!^)(?=[A-Z])", "_", type(event).__name__).lower()
    match event:
        case Finished(result=result):
            return _line(name, result.as_json())
        case Spoken(audio=audio):
            return _line(name, {"wav": base64.b64encode(wav_of(audio)).decode(), "seconds": audio.duration_s})
        case Unspoken():
            return _line(name, {"detail": "the voice failed; the reply is in words only"})
        case Remembered(recollections=found, facts=known):
            episodes = [{"id": r.episode.id, "text": r.episode.text, "score": r.score, "parts": r.parts} for r in found]
            return _line(name, {"episodes": episodes, "facts": [asdict(one.fact) for one in known]})
    return _line(name, asdict(event))


def _line(name: str, document: dict[str, Any]) -> bytes:
    data = json.dumps(document, ensure_ascii=False, default=str)
    return format_sse_event(data_str=data, event=name)


def wav_of(audio: Audio) -> bytes:
    """Sound as a WAV file of 16 bits."""
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(audio.sample_rate_hz)
        file.writeframes((np.clip(audio.samples, -1, 1) * 32767).astype("<i2").tobytes())
    return held.getvalue()


def decoded(given: str | None, name: str) -> bytes | None:
    """What was sent as base64.

    Raises:
        ValueError: it is none, or longer than 25 MiB.
    """
    if given is None:
        return None
    try:
        content = base64.b64decode(given, validate=True)
    except binascii.Error:
        raise ValueError(f"{name} is not base64: encode the file's bytes so") from None
    if len(content) > MAX_CLIP_BYTES:
        raise ValueError(f"{name} has {len(content):,} bytes, the limit is {MAX_CLIP_BYTES:,}: send a shorter one")
    return content
