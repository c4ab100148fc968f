"""Who words the reply: Nano-EmoX itself, or any chat model that is given the same plan, thought and memories."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from model.types import STRATEGIES, Affect, AffectModel, CutShort, ReplyBrief, Thought, Utterance

from .care import guard_reply
from .state import Plan

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

INSTEAD = "I am a program, so I can't know that from a life of my own, but I am here and I am listening."
"""Said when nothing else of a reply may be said."""

LAG_WORDS = 5
"""Words held back until it is clear that they do not begin a claim to be human; the longest claim has so many."""


@dataclass(frozen=True)
class ReplyRequest:
    """All that a reply is made from. `prefix` is the affect model's own and means nothing to others."""

    text: str
    dialogue: Sequence[Utterance]
    affect: Affect
    plan: Plan
    thought: Thought | None
    memories: tuple[str, ...]
    prefix: Any
    max_tokens: int | None = None


class ReplyModel(Protocol):
    """Whoever words the reply."""

    def reply(self, request: ReplyRequest) -> Iterator[str]:
        """Stream the reply as pieces of text; `CutShort` is the last where it had no more tokens."""


class NanoEmoxReply:
    """The affect model answers from the prefix it has already read."""

    def __init__(self, model: AffectModel) -> None:
        self._model = model

    def reply(self, request: ReplyRequest) -> Iterator[str]:
        """See `ReplyModel.reply`."""
        brief = ReplyBrief(request.thought, request.memories)
        if request.max_tokens is not None:
            brief = replace(brief, max_tokens=min(brief.max_tokens, request.max_tokens))
        return self._model.empathize(request.prefix, brief)


class ChatModelReply:
    """Any LangChain chat model, told in its system prompt what was felt, thought and remembered."""

    def __init__(self, chat: BaseChatModel) -> None:
        self._chat = chat

    def reply(self, request: ReplyRequest) -> Iterator[str]:
        """See `ReplyModel.reply`."""
        from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

        messages: list[BaseMessage] = [SystemMessage(instructions(request))]
        for line in request.dialogue:
            messages.append(HumanMessage(line.text) if line.role == "user" else AIMessage(line.text))
        messages.append(HumanMessage(request.text))
        bounds: dict[str, Any] = {} if request.max_tokens is None else {"max_tokens": request.max_tokens}
        for chunk in self._chat.stream(messages, **bounds):
            yield str(chunk.text)
            if chunk.response_metadata.get("finish_reason") == "length":
                yield CutShort()


def instructions(request: ReplyRequest) -> str:
    """The system prompt for a chat model."""
    lines = [
        "You are an empathetic companion program. Answer in two or three short spoken sentences, with warmth and "
        "without clinical language. Never claim to be human, to have lived anything, or to be a therapist.",
        f"The person seems to feel {request.affect.emotion} (confidence {request.affect.confidence:.2f}).",
        f"Aim of your reply: {STRATEGIES[request.plan.strategy]}.",
    ]
    if request.thought is not None:
        lines.append(f"What happened: {request.thought.scenario}. Why they feel so: {request.thought.cause}.")
    lines += [f"You remember: {memory}" for memory in request.memories]
    return "\n".join(lines)


def guarded(pieces: Iterable[str]) -> Iterator[str]:
    """Let a reply through, except sentences that claim to be human, to have lived something or to be a therapist.

    Words are held back by `LAG_WORDS`, so that a claim is stopped before its first word; the rest of its sentence is
    dropped. A sentence comes with the blank after it, which tells a voice that it is complete. A reply of which nothing
    is left becomes `INSTEAD`.
    """
    waiting = ""  # of the current sentence, not yet released
    sentence = ""  # all of it
    dropping = False
    last = ""  # what was released last

    for piece in pieces:
        for part in re.split(r"(?<=[.!?])(?=\s)", piece):
            if (sentence.rstrip().endswith((".", "!", "?"))) and part[:1].isspace():
                if waiting and not guard_reply(sentence):
                    last = waiting + part[: len(part) - len(part.lstrip())]
                    yield last
                waiting, sentence, dropping = "", "", False
            sentence += part
            waiting += part.lstrip() if last[-1:].isspace() and not waiting else part
            cut = _before_last_words(waiting, LAG_WORDS)
            dropping = dropping or bool(cut and guard_reply(sentence))
            if dropping:
                waiting = ""
            elif cut:
                last, waiting = waiting[:cut], waiting[cut:]
                yield last
    if waiting and not guard_reply(sentence):
        last = waiting
        yield last
    if not last:
        yield INSTEAD


def _before_last_words(text: str, n: int) -> int:
    """Position before the last `n` words of `text`, 0 when there are no more than `n`."""
    starts = [match.start() for match in re.finditer(r"(?<!\S)\S", text)]
    return starts[-n] if len(starts) > n else 0
