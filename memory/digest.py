"""What becomes clear only after a turn: how earlier turns turned out, and which facts follow. Off the critical path.

Everything is computed anew from the last few episodes, so a digest that was cut off, or done twice, changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

from .store import MemoryStore
from .types import MAX_AFTER, Episode, Fact, Felt

SOON = timedelta(hours=12)
"""A later turn is the outcome of an earlier one only if it follows within this time."""

N_NEWEST = 12
"""Episodes among which those of the thread are sought. To ask for a thread's alone would read all of a person's."""

N_LATEST = 6
"""Episodes whose words are read for facts each time: more than one, since a stop may have cut off earlier digests."""

EVERY = 10
N_LOOKED_BACK = 200
"""Every `EVERY` episodes the last `N_LOOKED_BACK` are searched for what recurs: triggers, and what helped."""


def digest(store: MemoryStore, user: str, thread_id: str) -> list[Fact]:
    """Note outcomes in the latest episodes of a thread, draw facts from a person's latest; the facts that changed."""
    from .derive import derive  # its patterns take 0.2 s to compile, for which no first turn should wait

    n = N_LOOKED_BACK if store.count(user) % EVERY == 0 else N_LATEST
    newest = store.list(user, limit=max(n, N_NEWEST))
    of_thread = [episode for episode in newest if episode.thread_id == thread_id][: 2 * MAX_AFTER]
    store.change_all(user, {id: partial(_turned_out, after=after) for id, after in outcomes(of_thread).items()})
    latest = [episode for episode in newest[:n] if episode.route != "crisis"]
    changed = derive(store.facts(user, history=True), latest, store.embedder.embed)
    store.put_facts(user, changed)
    return changed


def outcomes(episodes: Sequence[Episode]) -> dict[str, tuple[Felt, ...]]:
    """By id, the outcome of those of a thread's episodes that have another one noted; the last one has none yet."""
    ordered = sorted(episodes, key=lambda episode: (episode.at, episode.id))
    changed = {}
    for i, episode in enumerate(ordered):
        after = tuple(
            Felt(later.id, later.affect.emotion, later.affect.valence, later.affect.arousal)
            for later in ordered[i + 1 : i + 1 + MAX_AFTER]
            if later.at - episode.at <= SOON
        )
        if len(after) >= len(episode.after) and after != episode.after:
            changed[episode.id] = after
    return changed


def _turned_out(episode: Episode, after: tuple[Felt, ...]) -> Episode:
    return replace(episode, after=after)
