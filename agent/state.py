"""What travels through the graph and survives a restart: words, numbers and ids, never waveforms or frames."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from langgraph.channels import UntrackedValue

from memory.types import Recalled, RecalledFact, RecallPolicy, Recollection
from model.types import Affect, Evidence, Thought, Understanding, Utterance
from perception.types import Absence, Modality, UserTurn

from .care import Consent, Screening

DIALOGUE_LINES, _DROPPED_LINES = 8, 4
"""Utterances of the dialogue, at least, that the model reads and a checkpoint keeps; how many are dropped at once."""

Route = Literal["crisis", "small_talk", "clarify", "empathize"]


@dataclass(frozen=True)
class Plan:
    """How the reply is made: `strategy` is one of `model.types.STRATEGIES`, `voice` one of `agent.speech.STYLES`."""

    route: Route
    strategy: str
    recall_policy: RecallPolicy
    voice: str


def keep_latest(lines: list[Utterance], new: list[Utterance]) -> list[Utterance]:
    """Append utterances and keep the latest."""
    return latest([*lines, *new])


def latest(lines: Sequence[Utterance]) -> list[Utterance]:
    """The latest lines of a dialogue. Often it begins where it began a turn ago: then it need not be read again."""
    beyond = max(0, len(lines) - DIALOGUE_LINES)
    return list(lines[beyond // _DROPPED_LINES * _DROPPED_LINES :])


class TurnState(TypedDict, total=False):
    """One turn as the graph sees it; `dialogue` and `distressed` carry over to the thread's next turn.

    Only `remember` writes those two, so a turn that is given up before leaves nothing behind. `distressed` counts the
    turns in a row, up to the last one remembered, on which the person was in distress. What is said is not kept beside
    the dialogue: a checkpoint in PostgreSQL would hold plain strings in clear, whatever the key.
    """

    user: str
    thread_id: str
    turn_id: str
    dialogue: Annotated[list[Utterance], keep_latest]
    text: Annotated[str, UntrackedValue]
    modalities: tuple[Modality, ...]
    affect: Affect | None
    screening: Screening | None
    recalled: tuple[Recalled, ...]
    understanding: Understanding | None
    distressed: int
    plan: Plan | None
    thought: Thought | None
    reply: Annotated[str, UntrackedValue]
    cut_short: bool


def checkpoint_id(user: str, thread_id: str) -> str:
    """Under which name LangGraph keeps a person's conversation.

    Raises:
        ValueError: the user's name holds the separator, so that it could be taken for another one's conversation.
    """
    if "\x1f" in user:
        raise ValueError("a user's name cannot hold the control character U+001F")
    return f"{user}\x1f{thread_id}"


def new_turn(turn_id: str, user: str, thread_id: str, text: str) -> TurnState:
    """The state a turn begins with: nothing of the thread's last turn shines through but its dialogue."""
    return {
        "user": user,
        "thread_id": thread_id,
        "turn_id": turn_id,
        "text": text,
        "modalities": (),
        "affect": None,
        "screening": None,
        "recalled": (),
        "understanding": None,
        "plan": None,
        "thought": None,
        "reply": "",
        "cut_short": False,
    }


PERSISTED: tuple[Any, ...] = (Affect, Evidence, Understanding, Thought, Utterance, Plan, Recalled, Screening, Absence,
             ("agent.state", "Recalled"))  # fmt: skip
"""Classes that checkpoints may hold. LangGraph stores their import paths, so renaming one is a migration.

`Recalled` lived here once: checkpoints name it by that path."""


class TurnDropped(Exception):
    """The turn was given up before its reply was heard, so it never was."""


@dataclass(frozen=True)
class Delivery:
    """What of a reply reached the person: `text` as they heard it, `cut_off` if they broke in before its end."""

    text: str
    cut_off: bool = False


class Playback:
    """What becomes of a reply that is played while its turn waits to be remembered. Whoever plays it says so, once."""

    def __init__(self) -> None:
        self._delivery: Future[Delivery] = Future()

    def heard(self, text: str, *, cut_off: bool = False) -> None:
        """The person heard this much of it."""
        if not self._delivery.done():
            self._delivery.set_result(Delivery(text, cut_off))

    def drop(self) -> None:
        """The turn is given up; without effect once something was heard."""
        if not self._delivery.done():
            self._delivery.set_exception(TurnDropped())

    @property
    def over(self) -> bool:
        """Whether nobody hears more of it."""
        return self._delivery.done()

    def check(self) -> None:
        """Go on, unless the turn was given up.

        Raises:
            TurnDropped: it was.
        """
        if self._delivery.done():
            self._delivery.result()

    def wait(self) -> Delivery:
        """Wait for what was heard.

        Raises:
            TurnDropped: the turn was given up.
        """
        return self._delivery.result()


@dataclass
class LiveTurn:
    """What a turn needs while it runs and nobody keeps: its input, what was heard and seen, the model's prefix.

    `ahead` is what the model overheard. `tell` takes the pieces of the reply as they come. With a `playback`
    somebody waits for it, and the turn is remembered as it was heard. `max_tokens` bounds the reply further.
    """

    text: str | None
    clip: Path | None
    consent: Consent
    turn: UserTurn | None = None
    ahead: Any = None
    prefix: Any = None
    recollections: list[Recollection] = field(default_factory=list)
    facts: list[RecalledFact] = field(default_factory=list)
    tell: Callable[[str], None] = lambda piece: None
    playback: Playback | None = None
    max_tokens: int | None = None


class TurnBuffer:
    """Live turns by id; safe to use from several threads."""

    def __init__(self) -> None:
        self._turns: dict[str, LiveTurn] = {}
        self._lock = threading.Lock()

    def put(self, turn_id: str, turn: LiveTurn) -> None:
        """Keep a turn until it is dropped."""
        with self._lock:
            self._turns[turn_id] = turn

    def __getitem__(self, turn_id: str) -> LiveTurn:
        """The live turn of that id."""
        with self._lock:
            return self._turns[turn_id]

    def drop(self, turn_id: str) -> None:
        """Forget a turn."""
        with self._lock:
            self._turns.pop(turn_id, None)
