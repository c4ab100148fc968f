"""Episodes, what is recalled of them, and how a recall is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from model.types import Affect, Understanding

RecallPolicy = Literal["congruent", "counter", "factual", "none"]
"""congruent: felt alike (to validate); counter: brighter times and what helped (to support); factual: words alone."""


@dataclass(frozen=True)
class Episode:
    """One turn as it is kept: what was said, felt, understood, planned and answered.

    `at` is timezone-aware UTC. `reply` is what the person actually heard. `recalled` holds only ids, so recalled
    text is never stored a second time. `modalities` are those that were read.
    """

    id: str
    user: str
    thread_id: str
    at: datetime
    text: str
    reply: str
    affect: Affect
    understanding: Understanding | None = None
    route: str = ""
    strategy: str = ""
    modalities: tuple[str, ...] = ("text",)
    recalled: tuple[str, ...] = ()
    model_version: str = ""


@dataclass(frozen=True)
class Query:
    """What to recall for a turn of one person.

    `exclude` are ids that must not come back (turns still in the dialogue window); `since`/`until` bound `Episode.at`.
    """

    text: str
    affect: Affect | None = None
    policy: RecallPolicy = "congruent"
    limit: int = 3
    now: datetime | None = None
    since: datetime | None = None
    until: datetime | None = None
    exclude: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Recollection:
    """An episode that came back, with the score that ranked it and the parts the score is made of."""

    episode: Episode
    score: float
    parts: dict[str, float] = field(default_factory=dict)
