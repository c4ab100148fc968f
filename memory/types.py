"""Episodes, the facts drawn from them, what is recalled, and how a recall is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from model.types import Affect, Thought, Understanding

RecallPolicy = Literal["congruent", "counter", "factual", "none"]
"""congruent: felt alike (to validate); counter: brighter times and what helped (to support); factual: words alone."""

Provenance = Literal["said", "perceived", "inferred", "recalled"]
"""said: in words, by the person or to them; perceived: read by the model from words, voice or face; inferred: concluded
from that; recalled: came from the memory itself, and is kept as a reference only."""

FactKind = Literal["person", "event", "preference", "life", "trigger", "helped"]
"""person: who is in their life; event: what happens when; preference: likes and dislikes; life: where they live, what
they do; trigger: what brings the same feeling again and again; helped: after which kind of reply they felt better."""


@dataclass(frozen=True)
class Recalled:
    """Which episode came back for a turn, and the parts its score is a sum of; its text stays where it is."""

    id: str
    score: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Felt:
    """What was felt on a later turn of the same conversation: valence and arousal in [-1, 1]."""

    turn_id: str
    emotion: str
    valence: float
    arousal: float


@dataclass(frozen=True)
class Revision:
    """What stood in an episode before it was corrected; None where that part was left alone."""

    at: datetime
    text: str | None = None
    affect: Affect | None = None


@dataclass(frozen=True)
class Episode:
    """One turn as it is kept: what was said, felt, understood, planned and answered.

    `at` is timezone-aware UTC. `reply` is what the person actually heard; `cut_off` if they broke in before its end.
    `recalled` holds ids and scores, so recalled text is never stored a second time. `modalities` are those that were
    read. `after` is the outcome, up to `MAX_AFTER` turns of the same conversation that followed. `revisions` is what
    corrections replaced, oldest first.
    """

    id: str
    user: str
    thread_id: str
    at: datetime
    text: str
    reply: str
    affect: Affect
    understanding: Understanding | None = None
    thought: Thought | None = None
    route: str = ""
    strategy: str = ""
    recall_policy: RecallPolicy = "none"
    voice: str = ""
    modalities: tuple[str, ...] = ("text",)
    recalled: tuple[Recalled, ...] = ()
    after: tuple[Felt, ...] = ()
    revisions: tuple[Revision, ...] = ()
    model_version: str = ""
    cut_off: bool = False

    @property
    def lift(self) -> float:
        """How much better they felt on the turns that followed: their mean valence less this one's; 0 if unknown."""
        if not self.after:
            return 0.0
        return sum(felt.valence for felt in self.after) / len(self.after) - self.affect.valence


MAX_AFTER = 3
"""Later turns that count as the outcome of one."""


def provenance(episode: Episode) -> dict[str, Provenance]:
    """Where each part of an episode comes from; an affect that the person corrected is what they said."""
    corrected = any(revision.affect is not None for revision in episode.revisions)
    return {
        "text": "said",
        "reply": "said",
        "affect": "said" if corrected else "perceived",
        "after": "perceived",
        "understanding": "inferred",
        "thought": "inferred",
        "strategy": "inferred",
        "recalled": "recalled",
    }


@dataclass(frozen=True)
class Fact:
    """What follows from one or more episodes, in a sentence about the person ("Their sister is called Anna.").

    `key` names what can hold one value at a time ("person/sister/name", "preference/coffee"): a new value supersedes
    the old one, which stays as history with `valid_to` and `superseded_by` set. Times are timezone-aware UTC;
    `valid_to` None means that it still holds. `episodes` are the ids that it follows from, oldest first.
    """

    id: str
    user: str
    kind: FactKind
    key: str
    value: str
    text: str
    provenance: Provenance
    valid_from: datetime
    valid_to: datetime | None = None
    superseded_by: str | None = None
    episodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Query:
    """What to recall for a turn of one person.

    `exclude` are ids that must not come back (turns still in the dialogue window); `since`/`until` bound `Episode.at`;
    `budget` is how many tokens the words that come back may have together (`scoring.n_tokens`), None for no bound.
    """

    text: str
    affect: Affect | None = None
    policy: RecallPolicy = "congruent"
    limit: int = 3
    budget: int | None = None
    now: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    exclude: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Recollection:
    """An episode that came back, with the score that ranked it and the parts the score is a sum of."""

    episode: Episode
    score: float
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RecalledFact:
    """A fact that came back: `score` is the cosine of its sentence with what was asked."""

    fact: Fact
    score: float
