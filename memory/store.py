"""Where episodes are kept: the protocol, and the store that forgets when the program ends."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from .document import from_json, to_json
from .embedding import Embedder
from .errors import MemoryStoreError
from .policy import cue_for
from .scoring import compare, episode_vector, intensity, rank
from .types import Episode, Query, Recollection

Episodes = list[Episode]  # in a class that has a method called list, `list` means that method
Recollections = list[Recollection]

MAX_NAME_CHARS = 512
DAY_S = 86_400.0


class MemoryStore(Protocol):
    """The memories of many people, kept apart: every call is about one of them. Safe to call from several threads.

    Every method raises `MemoryStoreError` when the store cannot do its work, and `ValueError` for a user name or an
    id that is empty, longer than 512 characters or not valid Unicode, and for times without a zone.
    """

    def add(self, episode: Episode) -> None:
        """Keep an episode; when the call returns, it is kept. Adding the same again changes nothing.

        Raises:
            MemoryStoreError: another episode of this person has the id.
            ValueError: the episode cannot be kept as it is (`document.to_json`).
        """

    def get(self, user: str, id: str) -> Episode | None:
        """The episode of that id, or None."""

    def recall(self, user: str, query: Query) -> Recollections:
        """At most `query.limit` episodes, best first, with the parts their scores are sums of (`scoring.rank`)."""

    def list(
        self,
        user: str,
        *,
        limit: int = 20,
        offset: int = 0,
        thread_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Episodes:
        """One page of the episodes with `since <= at < until`, newest first, ids breaking ties."""

    def count(self, user: str) -> int:
        """How many episodes a person has."""

    def users(self) -> tuple[str, ...]:
        """Everybody who has an episode, by name."""

    def close(self) -> None:
        """Let go of files and locks; the store cannot be used afterwards."""


@dataclass(frozen=True, eq=False)
class _Kept:
    document: str
    thread_id: str
    at_s: float
    intensity: float
    vector: np.ndarray  # (D + D_a,) float32


class InMemoryStore:
    """Episodes in a dict, searched one by one: for tests, trials and people who want nothing kept."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._kept: dict[str, dict[str, _Kept]] = {}
        self._lock = threading.Lock()

    def add(self, episode: Episode) -> None:
        """Keep an episode; see `MemoryStore.add`."""
        check_name("user", episode.user)
        check_name("id", episode.id)
        document = to_json(episode)
        vector = episode_vector(self._embedder.embed([episode.text])[0], episode.affect)
        kept = _Kept(document, episode.thread_id, episode.at.timestamp(), intensity(episode.affect), vector)
        with self._lock:
            known = self._kept.setdefault(episode.user, {}).setdefault(episode.id, kept)
        check_same(episode.id, known.document, document)

    def get(self, user: str, id: str) -> Episode | None:
        """The episode of that id, or None."""
        kept = self._of(user).get(id)
        return None if kept is None else from_json(kept.document)

    def recall(self, user: str, query: Query) -> Recollections:
        """The best of all episodes; see `MemoryStore.recall`."""
        kept = self._of(user)
        cue = cue_for(query, self._embedder)
        if cue is None:
            return []
        now_s, since_s, until_s = window(query)
        candidates = [
            compare(id, one.vector, cue, (now_s - one.at_s) / DAY_S, one.intensity)
            for id, one in kept.items()
            if id not in query.exclude and since_s <= one.at_s < until_s
        ]
        return [
            Recollection(from_json(kept[candidate.id].document), sum(parts.values()), parts)
            for candidate, parts in rank(candidates, cue.weights, query.limit)
        ]

    def list(
        self,
        user: str,
        *,
        limit: int = 20,
        offset: int = 0,
        thread_id: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Episodes:
        """One page, newest first; see `MemoryStore.list`."""
        since_s, until_s = epoch_s(since, -np.inf), epoch_s(until, np.inf)
        chosen = [
            (-kept.at_s, id, kept.document)
            for id, kept in self._of(user).items()
            if thread_id in (None, kept.thread_id) and since_s <= kept.at_s < until_s
        ]
        return [from_json(document) for *_, document in sorted(chosen)[offset : offset + limit]]

    def count(self, user: str) -> int:
        """How many episodes a person has."""
        return len(self._of(user))

    def users(self) -> tuple[str, ...]:
        """Everybody who has an episode, by name."""
        with self._lock:
            return tuple(sorted(self._kept))

    def close(self) -> None:
        """Nothing to let go of."""

    def _of(self, user: str) -> dict[str, _Kept]:
        """A copy of one person's episodes, which other threads cannot change."""
        check_name("user", user)
        with self._lock:
            return dict(self._kept.get(user, {}))


def check_name(what: str, name: str) -> None:
    """Refuse a user name or an id that cannot be one."""
    if not 0 < len(name) <= MAX_NAME_CHARS:
        raise ValueError(f"a memory's {what} has 1 to {MAX_NAME_CHARS} characters, got {len(name)}")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a memory's {what} must be valid Unicode, got {name!a}") from error


def check_same(id: str, known: str, added: str) -> None:
    """Refuse a document whose id belongs to another one."""
    if known != added and from_json(known) != from_json(added):
        raise MemoryStoreError(f"episode {id!r} is already kept with other content: a new episode needs a new id")


def epoch_s(at: datetime | None, default: float) -> float:
    """Seconds since 1970 in UTC, or the default for None."""
    if at is None:
        return default
    if at.tzinfo is None:
        raise ValueError(f"{at.isoformat()} is a time without a zone: give it in UTC")
    return at.timestamp()


def window(query: Query) -> tuple[float, float, float]:
    """Now, since and until of a query in seconds since 1970; an open end is infinite."""
    now_s = epoch_s(query.now or datetime.now(UTC), 0.0)
    return now_s, epoch_s(query.since, -np.inf), epoch_s(query.until, np.inf)
