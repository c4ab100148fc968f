"""`/v1/chat/completions`: a turn of the agent, asked for and told as OpenAI's API does."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.sse import format_sse_event

from agent import care
from agent.events import Finished, ReplyText, TurnResult
from agent.host import TEXT_ONLY, Host, Message, turn_id_of
from agent.state import latest
from memory.scoring import n_tokens
from model.types import Utterance
from perception.listen import MAX_CHARACTERS, clean_text

from .openai_errors import ErrorResponse, Unusable, failure_of, no_model
from .openai_types import (
    CHAT_MODEL,
    Answer,
    AudioPart,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    Choice,
    ImagePart,
    Part,
    TextPart,
    Usage,
)
from .seam import TheHost, User
from .turns_api import SSE_EVENT, UNBUFFERED, decoded

CONTROLS = "/api/consent and /api/memory of this server, or `emox memory`"

router = APIRouter()


@router.post(
    "/chat/completions",
    response_model=ChatCompletion,
    summary="Say something, and be answered",
    responses={
        200: {
            "description": "The answer; with `stream`, server-sent events that hold a `chat.completion.chunk` each, "
            "and `[DONE]` at the end.",
            "content": {"text/event-stream": {"schema": SSE_EVENT}},
        }
    },
)
async def chat(
    wish: ChatRequest, request: Request, host: TheHost, user: User,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=200, description="Your name for this message; `emox.id` goes before."),
    ] = None,
) -> Any:  # fmt: skip
    """The last message is a turn of the agent, which is finished and remembered even if you stop listening.

    The messages before it are the conversation so far, of which the last 8 and 8,000 characters are read; without
    `emox.thread` the server does not look up what else was said in it. Sound and pictures are read in the last one
    only. Before anybody agreed to anything, the answer begins with what they are to be told at first contact.
    """
    _check(wish)
    disclosure = care.disclosure(TEXT_ONLY, host.agent.model.card.modalities | {"text"}, controls=CONTROLS)
    message = message_of(wish, user, idempotency_key, disclosure)
    contact = _Contact(request.app.state.greeted, host, message)
    greeting = disclosure if contact.is_first else None
    shown = f"{greeting}\n\n" if greeting and not wish.emox.disclosed else ""
    telling = _Telling(wish, message, shown, greeting, host.agent.model.card.version)
    if not wish.stream:
        result = await host.ask(message)
        contact.made()
        return JSONResponse(telling.whole(result))
    events = host.turn(message)
    first = ""
    async for event in events:  # what cannot be used is refused before the answer begins, while its status can tell
        if isinstance(event, ReplyText):
            first = event.text
            break

    async def told() -> AsyncIterator[bytes]:
        try:
            yield telling.chunk({"role": "assistant", "content": shown})
            contact.made()
            yield telling.chunk({"content": first})
            async for event in events:
                if isinstance(event, ReplyText):
                    yield telling.chunk({"content": event.text})
                elif isinstance(event, Finished):
                    for chunk in telling.end(event.result):
                        yield chunk
        except Exception as error:
            yield _line(ErrorResponse(error=failure_of(error)[1]).model_dump())

    return StreamingResponse(told(), media_type="text/event-stream", headers=UNBUFFERED)


class _Contact:
    """The first answer to a person begins with the disclosure; sent again, it does so again."""

    def __init__(self, greeted: dict[str, str | None], host: Host, message: Message) -> None:
        self._greeted, self._host, self._user = greeted, host, message.user
        self._turn_id = turn_id_of(message)
        sent_again = self._turn_id is not None and greeted.get(message.user) == self._turn_id
        self.is_first = host.people.consent_of(message.user) is None or sent_again

    def made(self) -> None:
        """They have been told, and who goes on agrees that words are read."""
        if self._host.people.consent_of(self._user) is None:
            self._host.people.agree(self._user, TEXT_ONLY)
            self._greeted[self._user] = self._turn_id


def _check(wish: ChatRequest) -> None:
    """Refuse what would change the answer and is not done here."""
    if wish.model != CHAT_MODEL:
        raise no_model(wish.model, CHAT_MODEL)
    refused = {
        "n": wish.n not in (None, 1) and "one answer is given: ask again for another",
        "stop": wish.stop and "a reply is not stopped at a text",
        "logprobs": (wish.logprobs or wish.top_logprobs) and "probabilities of tokens are not told",
        "tools": wish.tools and "the agent calls no tools",
        "functions": wish.functions and "the agent calls no functions",
        "modalities": (wish.audio or set(wish.modalities or ["text"]) != {"text"})
        and "the answer is text: /v1/audio/speech says it aloud",
        "response_format": (wish.response_format or {}).get("type", "text") != "text" and "the answer is plain text",
    }
    for param, why in refused.items():
        if why:
            raise Unusable(f"{param}: {why}", param, "unsupported_value")


def message_of(wish: ChatRequest, user: str, key: str | None, disclosure: str) -> Message:
    """The turn that is asked for; the disclosure is taken out of what was answered before.

    Raises:
        Unusable: the last message is not the user's, or holds what cannot be joined to one turn.
        TextError: a text is too long or no Unicode.
        ValueError: a sound or picture is no base64, or too long.
    """
    lines = [line for line in wish.messages if line.role in ("user", "assistant")]  # the others are not followed
    if not lines or lines[-1].role != "user":
        raise Unusable("messages: the last one is to be the user's", "messages")
    text, clip = _content(lines[-1])
    thread, dialogue = wish.emox.thread, None
    if thread is None:
        thread, dialogue = _thread_of(lines), _dialogue(lines[:-1], disclosure)
    most = wish.max_completion_tokens or wish.max_tokens
    return Message(user, thread, text, clip, wish.emox.id or key, dialogue, most)


def _thread_of(lines: Sequence[ChatMessage]) -> str:
    """A conversation is known by what the user said first in it, so that the memory keeps its turns together."""
    first = next(line for line in lines if line.role == "user")
    said = first.model_dump_json().encode()
    return f"chat-{hashlib.sha256(said).hexdigest()[:16]}"


def _dialogue(lines: Sequence[ChatMessage], disclosure: str) -> list[Utterance]:
    """The latest lines, oldest first, as far as they have words and are short enough together."""
    kept: list[Utterance] = []
    left = MAX_CHARACTERS
    for line in reversed(lines):
        words = clean_text(_words(line)).removeprefix(disclosure).lstrip()
        left -= len(words)
        if left < 0:
            break
        if words:
            kept.append(Utterance("user" if line.role == "user" else "assistant", words))
    return latest(kept[::-1])


def _parts(line: ChatMessage) -> list[Part]:
    return [TextPart(type="text", text=line.content)] if isinstance(line.content, str) else line.content or []


def _words(line: ChatMessage) -> str:
    return "\n".join(part.text for part in _parts(line) if isinstance(part, TextPart))


def _content(line: ChatMessage) -> tuple[str, bytes | None]:
    clips = [part for part in _parts(line) if not isinstance(part, TextPart)]
    if len(clips) > 1:
        raise Unusable("messages: one sound or one picture can be read at a time: send one of them", "messages")
    words = _words(line)
    if not clips and not words.strip():
        raise Unusable("messages: the last one is empty: say something", "messages")
    return words, _clip(clips[0]) if clips else None


def _clip(part: AudioPart | ImagePart) -> bytes | None:
    if isinstance(part, AudioPart):
        return decoded(part.input_audio.data, "input_audio.data")
    kind, comma, data = part.image_url.url.partition(",")
    if not (kind.startswith("data:image/") and kind.endswith(";base64") and comma):
        raise Unusable("messages: no address is fetched: send the picture itself, as data:image/...;base64,...",
                       "messages")  # fmt: skip
    return decoded(data, "image_url.url")


class _Telling:
    """An answer in the API's words. `shown` goes before the reply; `greeting` is told in `emox` if it is asked for."""

    def __init__(self, wish: ChatRequest, message: Message, shown: str, greeting: str | None, version: str) -> None:
        self._wish, self._message, self._shown, self._greeting, self._version = wish, message, shown, greeting, version
        self._created = int(time.time())
        self._id = f"chatcmpl-{turn_id_of(message) or uuid.uuid4().hex[:16]}"

    def whole(self, result: TurnResult) -> dict[str, Any]:
        """The answer at once."""
        choice = Choice(message=Answer(content=self._shown + result.reply), finish_reason=_reason(result))
        completion = ChatCompletion(
            id=self._id, created=self._created, model=CHAT_MODEL, choices=[choice], usage=self._usage(result),
            system_fingerprint=self._version, emox=self._more(result),
        )  # fmt: skip
        return completion.model_dump(exclude=set() if self._wish.emox.include else {"emox"})

    def chunk(self, delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
        """A part of the answer."""
        return self._line([{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}], **more)

    def end(self, result: TurnResult) -> Iterator[bytes]:
        """The last parts."""
        more = {"emox": self._more(result)} if self._wish.emox.include else {}
        yield self.chunk({}, _reason(result), **more)
        if self._wants_usage:
            yield self._line([], usage=self._usage(result).model_dump())
        yield format_sse_event(data_str="[DONE]")

    @property
    def _wants_usage(self) -> bool:
        return bool(self._wish.stream_options and self._wish.stream_options.include_usage)

    def _line(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        usage = {"usage": None} if self._wants_usage else {}
        document = {
            "id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": CHAT_MODEL,
            "system_fingerprint": self._version, "choices": choices,
        }  # fmt: skip
        return _line(document | usage | more)

    def _usage(self, result: TurnResult) -> Usage:
        before = [line.text for line in self._message.dialogue or ()]
        read = sum(n_tokens(text) for text in (*before, result.transcript))
        said = n_tokens(self._shown + result.reply)
        return Usage(prompt_tokens=read, completion_tokens=said, total_tokens=read + said)

    def _more(self, result: TurnResult) -> dict[str, Any]:
        known = result.as_json() | {"disclosure": self._greeting}
        return {name: known[name] for name in ("turn_id", "thread_id", *self._wish.emox.include)}


def _reason(result: TurnResult) -> Literal["length", "stop"]:
    return "length" if result.cut_short else "stop"


def _line(document: dict[str, Any]) -> bytes:
    return format_sse_event(data_str=json.dumps(document, ensure_ascii=False))
