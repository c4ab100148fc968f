"""What a turn tells while it runs, in order, and what it comes to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from memory.types import Recalled, RecalledFact, Recollection
from model.types import Affect, Thought, Understanding
from perception.types import Absence, Modality

from .care import Screening
from .speech import Audio
from .state import LiveTurn, Plan


@dataclass(frozen=True)
class Started:
    """A turn begins; `disclosure` is set at a person's first contact and must be shown."""

    turn_id: str
    thread_id: str
    disclosure: str | None


@dataclass(frozen=True)
class Heard:
    """The words, typed or transcribed."""

    text: str


@dataclass(frozen=True)
class Perceived:
    """Level 1."""

    affect: Affect
    modalities: tuple[Modality, ...]


@dataclass(frozen=True)
class Screened:
    """The crisis screen's finding."""

    screening: Screening


@dataclass(frozen=True)
class Remembered:
    """What came back from the memory: earlier turns, and facts about the person."""

    recollections: tuple[Recollection, ...]
    facts: tuple[RecalledFact, ...] = ()


@dataclass(frozen=True)
class Understood:
    """Level 2; `affect` now has its open words."""

    understanding: Understanding
    affect: Affect


@dataclass(frozen=True)
class Planned:
    """How the reply will be made, and the chain of thought behind it (None for small talk and crises)."""

    plan: Plan
    thought: Thought | None


@dataclass(frozen=True)
class ReplyText:
    """A piece of the reply."""

    text: str


@dataclass(frozen=True)
class Replied:
    """The whole reply is told."""

    text: str


@dataclass(frozen=True, eq=False)
class Spoken:
    """A sentence of the reply as sound."""

    audio: Audio


@dataclass(frozen=True, eq=False)
class Unspoken:
    """The voice failed; what it had not said yet is told in words only."""

    error: Exception


@dataclass(frozen=True)
class AllSpoken:
    """No more sound of the reply comes."""


@dataclass(frozen=True)
class TurnResult:
    """A whole turn, as `emox turn --json` prints it; times in milliseconds, `first_text` and `total` from its start.

    `cut_short` says that the reply may have had more to say than it had tokens for.
    """

    turn_id: str
    thread_id: str
    transcript: str
    modalities: tuple[Modality, ...]
    affect: Affect
    understanding: Understanding | None
    recalled: tuple[Recalled, ...]
    plan: Plan
    thought: Thought | None
    reply: str
    screening: Screening
    absent: dict[Modality, Absence] = field(default_factory=dict)
    audio: tuple[Path, float] | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    cut_short: bool = False

    def as_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`."""
        document = asdict(self)
        document["affect"].pop("absent")
        document["recalled"] = [asdict(r) for r in self.recalled]
        document["audio"] = {"path": str(self.audio[0]), "seconds": self.audio[1]} if self.audio else None
        document["timings_ms"] = {name: round(ms, 1) for name, ms in self.timings_ms.items()}
        return document


@dataclass(frozen=True)
class Finished:
    """The turn is over and remembered."""

    result: TurnResult


Event = (
    Started
    | Heard
    | Perceived
    | Screened
    | Remembered
    | Understood
    | Planned
    | ReplyText
    | Replied
    | Spoken
    | Unspoken
    | AllSpoken
    | Finished
)


def told(node: str, state: Mapping[str, Any], live: LiveTurn) -> Iterator[Event]:
    """What the end of a node of the graph tells, from the state so far."""
    if node == "listen":
        yield Heard(state["text"])
    elif node == "perceive":
        yield Perceived(state["affect"], state["modalities"])
    elif node == "screen":
        yield Screened(state["screening"])
    elif node == "support":
        yield Planned(state["plan"], None)
        yield ReplyText(state["reply"])
        yield Replied(state["reply"])
    elif node == "empathize":
        yield Replied(state["reply"])
    elif node == "recall":
        yield Remembered(tuple(live.recollections), tuple(live.facts))
    elif node == "understand":
        yield Understood(state["understanding"], state["affect"])
    elif node == "plan":
        yield Planned(state["plan"], state["thought"])


def result_of(state: Mapping[str, Any], audio: tuple[Path, float] | None, timings_ms: dict[str, float]) -> TurnResult:
    """What a turn came to, from its last state."""
    return TurnResult(
        turn_id=state["turn_id"],
        thread_id=state["thread_id"],
        transcript=state["text"],
        modalities=state["modalities"],
        affect=state["affect"],
        understanding=state["understanding"],
        recalled=state["recalled"],
        plan=state["plan"],
        thought=state["thought"],
        reply=state["reply"],
        screening=state["screening"],
        absent=dict(state["affect"].absent),
        audio=audio,
        timings_ms=timings_ms,
        cut_short=state["cut_short"],
    )
