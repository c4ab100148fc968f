"""What the model says about a turn, and the protocol by which the agent asks it.

Level 1 perceives (`Affect`), level 2 understands (`Understanding`), level 3
thinks (`Thought`) and answers (a stream of text).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from perception.types import Absence, Modality, UserTurn

EMOTIONS = ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise")
"""Basic emotion labels used everywhere; corpora are mapped onto them."""

VOICE_EMOTIONS = (*EMOTIONS, "calm")
"""A voice can also be calm (RAVDESS), which is heard as such and then counted as neutral."""

SENTIMENTS = ("negative", "neutral", "positive")

INTENTS = (
    "Acknowledge", "Advise", "Agree", "Apologise", "Arrange", "Ask for help", "Asking for opinions", "Care",
    "Comfort", "Complain", "Confirm", "Criticize", "Doubt", "Emphasize", "Explain", "Flaunt", "Greet", "Inform",
    "Introduce", "Invite", "Joke", "Leave", "Oppose", "Plan", "Praise", "Prevent", "Refuse", "Taunt", "Thank", "Warn",
)  # fmt: skip
"""The 30 classes of MIntRec2.0, a superset of MIntRec's 20, spelled as annotated."""

CIRCUMPLEX: Mapping[str, tuple[float, float]] = {
    "neutral": (0.0, -0.2),
    "happy": (0.8, 0.5),
    "sad": (-0.7, -0.4),
    "angry": (-0.6, 0.7),
    "fear": (-0.7, 0.6),
    "disgust": (-0.6, 0.3),
    "surprise": (0.1, 0.8),
}
"""Valence and arousal in [-1, 1] of each basic emotion, after Russell (1980), "A circumplex model of affect"."""


STRATEGIES: Mapping[str, str] = {
    "explore": "ask gently and learn more about what happened",
    "reflect": "show that I understand and name the feeling",
    "comfort": "comfort them and assure them that the feeling is all right",
    "celebrate": "share their joy and ask about it",
    "suggest": "offer one small step that may help",
    "inform": "answer what they ask, plainly and kindly",
    "clarify": "say what I may have misread and ask how they really feel",
}
"""What a reply may aim at, and the goal as the thought words it; after ESConv's strategies (Liu et al. 2021)."""


@dataclass(frozen=True)
class Utterance:
    """One line of the dialogue so far."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True)
class Evidence:
    """Emotion distribution read from each modality alone, and from all of them together.

    A modality that was not read is None; `Affect.absent` says why.
    """

    text: dict[str, float] | None = None
    voice: dict[str, float] | None = None
    face: dict[str, float] | None = None
    fusion: dict[str, float] | None = None


@dataclass(frozen=True)
class Affect:
    """What the person seems to feel.

    `sentiment`, `valence` and `arousal` lie in [-1, 1]; `emotions` maps each of `EMOTIONS` to a
    probability and sums to 1; `emotion` is its most likely label and `confidence` that label's
    probability; `open` lists free words for the feelings, most plausible first.
    """

    sentiment: float
    emotion: str
    emotions: dict[str, float]
    valence: float
    arousal: float
    confidence: float
    open: tuple[str, ...] = ()
    evidence: Evidence = field(default_factory=Evidence)
    absent: dict[Modality, Absence] = field(default_factory=dict)


@dataclass(frozen=True)
class Understanding:
    """Why they feel it, and what they want.

    `scenario` says what happened and `cause` what in it brings the feeling, both in the person's own words; `evidence`
    is the whole sentence around the cause; `intents` maps each of `INTENTS` to a probability and sums to 1.
    """

    scenario: str
    cause: str
    evidence: str
    intent: str
    intents: dict[str, float]


@dataclass(frozen=True)
class Thought:
    """The chain of empathy in its order (section 3.5): what happened, what they feel, why, what the reply aims at."""

    scenario: str
    emotion: str
    cause: str
    goal: str


@dataclass(frozen=True)
class ReplyBrief:
    """All the reply is told beyond the dialogue: the thought (None for small talk), and lines about earlier turns."""

    thought: Thought | None
    memories: tuple[str, ...] = ()
    max_tokens: int = 64


class Busy(RuntimeError):
    """The model has as many requests as it can take: nothing was done, the same may be asked again in a moment."""


class Unreachable(RuntimeError):
    """The model behind a server was lost, or took too long, before it had answered: the same may be asked again."""


class CutShort(str):
    """An empty last piece of a reply that may have had more to say than it had tokens for."""

    __slots__ = ()


@dataclass(frozen=True)
class ModelCard:
    """Which model answers: `modalities` are those whose adapters were trained; others are not read."""

    variant: str
    version: str
    modalities: frozenset[Modality]


class AffectModel(Protocol):
    """The model as the agent sees it, in this process or behind a server.

    `attend` encodes and prefills a turn once; the other methods branch from the
    prefix it returns, so a turn is read once however many questions are asked of it.
    """

    @property
    def card(self) -> ModelCard:
        """Which model this is."""

    def overhear(self, turn: UserTurn, history: Sequence[Utterance]) -> Any:
        """Read ahead, from a turn that has no words yet, what comes before them: voice, face and dialogue.

        Returns something opaque for `attend`, to be used once.
        """

    def attend(self, turn: UserTurn, history: Sequence[Utterance] = (), ahead: Any = None) -> Any:
        """Encode the turn after its dialogue and prefill it; returns an opaque prefix."""

    def perceive(self, prefix: Any) -> Affect:
        """Level 1: sentiment and emotion. `open` is still empty; `understand` decodes it."""

    def understand(
        self, prefix: Any, affect: Affect, *, in_haste: bool = False
    ) -> tuple[Understanding, tuple[str, ...]]:
        """Level 2: scenario, cause and intent; and level 1's open-vocabulary words, decoded in the same batch.

        In haste only what a reply is made of is asked: the cause is sought in what is said now, the intent is left out
        ("", no `intents`) unless it is a question, and there are no open words.
        """

    def empathize(self, prefix: Any, brief: ReplyBrief) -> Iterator[str]:
        """Level 3: the reply, streamed as pieces of text; `CutShort` is the last where `brief.max_tokens` ended it."""
