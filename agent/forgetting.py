"""Forgetting everywhere: memory and conversations, and the proof that no file under the home folder knows it still."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from memory import privacy
from memory.files import MIN_NEEDLE_CHARS, Search, find_traces
from memory.store import MemoryStore
from memory.types import Episode

from .conversations import Conversations, forget_dialogues

MAX_LOOKED_FOR = 1000
"""Sentences that are looked for afterwards; of more, these are drawn."""


@dataclass(frozen=True)
class Forgotten:
    """How many episodes went, the conversations whose dialogue went with them, and the search that followed.

    `traces` of the search are files that hold a sentence still; it is empty where nothing remains. `looked_for` counts
    the sentences; those that are too short, or stand in episodes that were kept, or are too many, were not.
    """

    n_episodes: int
    threads: tuple[str, ...]
    search: Search
    looked_for: int
    not_looked_for: int


def forget(
    store: MemoryStore, conversations: Conversations, home: Path, user: str, episodes: Collection[Episode] | None
) -> Forgotten:
    """Forget episodes, or with None everything of a person, and look for them in every byte under the home folder.

    The dialogue of each conversation that one of the episodes belongs to starts afresh.

    Raises:
        MemoryStoreError: the memory could not forget.
    """
    going = list(store.walk(user)) if episodes is None else list(episodes)
    threads = sorted({episode.thread_id for episode in going})
    facts = privacy.forget(store, user, None if episodes is None else [episode.id for episode in going])
    forget_dialogues(conversations, user, None if episodes is None else threads)
    said = {text.strip() for episode in going for text in words_of(episode)} | {fact.text for fact in facts}
    said.discard("")
    wanted = sorted(text for text in said if len(text) >= MIN_NEEDLE_CHARS)
    wanted = random.Random(0).sample(wanted, min(len(wanted), MAX_LOOKED_FOR))
    looked_for = set(wanted) - _still_said(store, set(wanted))
    search = find_traces(home, looked_for)
    return Forgotten(len(going), tuple(threads), search, len(looked_for), len(said) - len(looked_for))


def expire(store: MemoryStore, conversations: Conversations, keep_days: int, now: datetime | None = None) -> int:
    """Forget everybody's episodes that are older than so many days; how many there were."""
    until = (now or datetime.now(UTC)) - timedelta(days=keep_days)
    n = 0
    for user in store.users():
        old: list[Episode] = []
        while portion := store.list(user, until=until, limit=500, offset=len(old)):
            old += portion
        if old:
            n += len(old)
            privacy.forget(store, user, [episode.id for episode in old])
            forget_dialogues(conversations, user, {episode.thread_id for episode in old})
    return n


def words_of(episode: Episode) -> list[str]:
    """Every text of an episode that came from the turn."""
    texts = [episode.text, episode.reply, *(revision.text or "" for revision in episode.revisions)]
    if episode.understanding is not None:
        texts += [episode.understanding.scenario, episode.understanding.cause, episode.understanding.evidence]
    if episode.thought is not None:
        texts += [episode.thought.scenario, episode.thought.cause]
    return texts


def _still_said(store: MemoryStore, texts: set[str]) -> set[str]:
    """Texts that stand in episodes which were kept, too: finding them proves nothing."""
    left, found = set(texts), set()
    for user in store.users():
        for episode in store.walk(user):
            said = "\n".join(words_of(episode))
            found |= {text for text in left if text in said}
        left -= found
    return found
