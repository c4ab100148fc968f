"""Why the agent said what it said: the reply, the plan behind it, what was recalled, what was read, and the cause."""

from __future__ import annotations

from dataclasses import dataclass

from .privacy import found
from .store import MemoryStore
from .types import Episode, Fact, Recalled


@dataclass(frozen=True)
class Explanation:
    """An episode, and each memory that came back for it: None where it was forgotten since."""

    episode: Episode
    recalled: tuple[tuple[Recalled, Episode | Fact | None], ...]


def explain(store: MemoryStore, user: str, id: str) -> Explanation:
    """All that is known of how a turn was answered.

    Raises:
        ValueError: there is no such episode.
    """
    episode = found(store, user, id)
    facts = {fact.id: fact for fact in store.facts(user, history=True)} if episode.recalled else {}
    memories = ((one, store.get(user, one.id) or facts.get(one.id)) for one in episode.recalled)
    return Explanation(episode, tuple(memories))
