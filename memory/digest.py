"""What becomes clear only after a turn: how earlier turns turned out, and which facts follow. Off the critical path.

Everything is computed anew from the last few episodes, so a digest that was cut off, or done twice, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from .derive import derive
from .store import MemoryStore
from .types import MAX_AFTER, Episode, Fact, Felt

SOON = timedelta(hours=12)
"""A later turn is the outcome of an earlier one only if it follows within this time."""

N_LATEST = 6
"""Episodes whose words are read for facts each time: more than one, since a stop may have cut off earlier digests."""

EVERY = 10
N_LOOKED_BACK = 200
"""Every `EVERY` episodes the last `N_LOOKED_BACK` are searched for what recurs: triggers, and what helped."""


def digest(store: MemoryStore, user: str, thread_id: str) -> list[Fact]:
    """Note outcomes in the latest episodes of a thread, draw facts from a person's latest; the facts that changed."""
    for episode in with_outcomes(store.list(user, thread_id=thread_id, limit=MAX_AFTER + 1)):
        store.replace(episode)
    n = N_LOOKED_BACK if store.count(user) % EVERY == 0 else N_LATEST
    latest = [episode for episode in store.list(user, limit=n) if episode.route != "crisis"]
    changed = derive(store.facts(user, history=True), latest, store.embedder.embed)
    store.put_facts(user, changed)
    return changed


def with_outcomes(episodes: Sequence[Episode]) -> list[Episode]:
    """Those of a thread's episodes whose outcome is another than was noted, with it; the last one has none yet."""
    ordered = sorted(episodes, key=lambda episode: (episode.at, episode.id))
    changed = []
    for i, episode in enumerate(ordered):
        followed = ordered[i + 1 : i + 1 + MAX_AFTER]
        after = tuple(
            Felt(later.id, later.affect.emotion, later.affect.valence, later.affect.arousal)
            for later in followed
            if later.at - episode.at <= SOON
        )
        if len(after) >= len(episode.after) and after != episode.after:
            changed.append(replace(episode, after=after))
    return changed
