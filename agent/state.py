"""What travels through the graph and survives a restart: words, numbers and ids, never waveforms or frames."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from memory.types import RecallPolicy, Recollection
from model.types import Affect, Evidence, Thought, Understanding, Utterance
from perception.types import Absence, Modality, UserTurn

from .care import Consent, Screening

DIALOGUE_LINES = 8
"""Utterances of the dialogue that the model reads and that a checkpoint keeps."""

Route = Literal["crisis", "small_talk", "clarify", "empathize"]


@dataclass(frozen=True)
class Plan:
    """How the reply is made: `strategy` is one of `model.types.STRATEGIES`, `voice` one of `agent.speech.STYLES`."""

    route: Route
    strategy: str
    recall_policy: RecallPolicy
    voice: str


@dataclass(frozen=True)
class Recalled:
    """Which episode came back and why; its text stays in the memory."""

    id: str
    score: float
    parts: dict[str, float] = field(default_factory=dict)


def keep_latest(lines: list[Utterance], new: list[Utterance]) -> list[Utterance]:
    """Append utterances and keep the latest `DIALOGUE_LINES`."""
    return [*lines, *new][-DIALOGUE_LINES:]


class TurnState(TypedDict, total=False):
    """One turn as the graph sees it; `dialogue` carries over to the thread's next turn, the rest is set anew."""

    user: str
    thread_id: str
    turn_id: str
    dialogue: Annotated[list[Utterance], keep_latest]
    text: str
    modalities: tuple[Modality, ...]
    affect: Affect | None
    screening: Screening | None
    recalled: tuple[Recalled, ...]
    recall_policy: RecallPolicy
    understanding: Understanding | None
    plan: Plan | None
    thought: Thought | None
    reply: str


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
        "recall_policy": "none",
        "understanding": None,
        "plan": None,
        "thought": None,
        "reply": "",
    }


PERSISTED = (Affect, Evidence, Understanding, Thought, Utterance, Plan, Recalled, Screening, Absence)
"""Classes that checkpoints may hold. LangGraph stores their import paths, so renaming one is a migration."""


@dataclass
class LiveTurn:
    """What a turn needs while it runs and nobody keeps: its input, what was heard and seen, the model's prefix.

    `tell` takes the pieces of the reply as they come.
    """

    text: str | None
    clip: Path | None
    consent: Consent
    turn: UserTurn | None = None
    prefix: Any = None
    recollections: list[Recollection] = field(default_factory=list)
    tell: Callable[[str], None] = lambda piece: None


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
