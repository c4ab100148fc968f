"""Where memories are kept: the protocol, and the store that forgets when the program ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from .document import fact_from_json, fact_to_json, from_json, to_json
from .embedding import Embedder
from .errors import MemoryStoreError
from .policy import cue_for
from .scoring import compare, episode_vector, rank, within_budget
from .types import Episode, Fact, Query, RecalledFact, Recollection

Episodes = list[Episode]  # in a class that has a method called list, `list` means that method
Recollections = list[Recollection]
Facts = list[Fact]
RecalledFacts = list[RecalledFact]
Edit = Callable[[Episode], Episode]

MAX_NAME_CHARS = 512


class MemoryStore(Protocol):
    """The memories of many people, kept apart: every call is about one of them. Safe to call from several threads.

    Every method raises `MemoryStoreError` when the store cannot do its work, and `ValueError` for a user name or an
    id that is empty, longer than 512 characters or not valid Unicode, and for times without a zone.
    """

    @property
    def embedder(self) -> Embedder:
        """What the words of this store are embedded with."""

    def add(self, episode: Episode) -> None:
        """Keep an episode; when the call returns, it is kept. Adding the same again changes nothing.

        Raises:
            MemoryStoreError: another episode of this person has the id.
            ValueError: the episode cannot be kept as it is (`document.to_json`).
        """

    def add_all(self, episodes: Iterable[Episode]) -> int:
        """Keep many episodes, in portions; how many were new. Raises what `add` raises; what came before is kept."""

    def change(self, user: str, id: str, edit: Edit) -> Episode:
        """Keep another version of an episode: its outcome is known now, or it was corrected. The version that is kept.

        `edit` is given the episode as it is and gives it as it shall be; in one process nothing comes in between.

        Raises:
            MemoryStoreError: there is none of that id.
            ValueError: its person, id or time would be another, or it cannot be kept as it is.
        """

    def change_all(self, user: str, edits: Mapping[str, Edit]) -> Episodes:
        """`change` several, by id: all of them, or none where one cannot be."""

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

    def walk(self, user: str) -> Iterator[Episode]:
        """Every episode of a person, in no certain order, without holding all of them in memory."""

    def count(self, user: str) -> int:
        """How many episodes a person has."""

    def users(self) -> tuple[str, ...]:
        """Everybody who has an episode, by name."""

    def put_facts(self, user: str, facts: Sequence[Fact]) -> None:
        """Keep facts; one whose id is known takes the place of that one."""

    def facts(self, user: str, *, history: bool = False) -> Facts:
        """The facts that hold, oldest first; with `history` also those that held before."""

    def recall_facts(self, user: str, text: str, limit: int = 3) -> RecalledFacts:
        """The facts that hold and are nearest to some words, best first."""

    def forget(self, user: str, ids: Iterable[str] | None = None) -> int:
        """Forget episodes, or a person with all facts; how many episodes there were.

        Every fact that follows from one of them goes too, as it may quote it; `privacy.forget` draws again what follows
        from the others. When the call returns, an embedded store has no trace of them in its files either
        (`chroma.ChromaStore`).
        """

    def close(self) -> None:
        """Let go of files and locks; the store cannot be used afterwards."""


@dataclass(frozen=True, eq=False)
class _Kept:
    document: str
    thread_id: str
    at_s: float
    vector: np.ndarray  # (D + D_a + 4,) float32


@dataclass(eq=False)
class _Person:
    episodes: dict[str, _Kept] = field(default_factory=dict)
    facts: dict[str, tuple[str, np.ndarray]] = field(default_factory=dict)  # document, unit text embedding (D,)


class InMemoryStore:
    """Memories in a dict, searched one by one: for tests, trials and people who want nothing kept."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self._people: dict[str, _Person] = {}
        self._lock = threading.Lock()

    def add(self, episode: Episode) -> None:
        """Keep an episode; see `MemoryStore.add`."""
        self.add_all([episode])

    def add_all(self, episodes: Iterable[Episode]) -> int:
        """Keep many episodes; see `MemoryStore.add_all`."""
        n_new = 0
        for episode in episodes:
            kept = self._kept(episode)
            with self._lock:
                person = self._people.setdefault(episode.user, _Person())
                n_new += episode.id not in person.episodes
                known = person.episodes.setdefault(episode.id, kept)
            check_same(episode.id, known.document, kept.document)
        return n_new

    def change(self, user: str, id: str, edit: Edit) -> Episode:
        """Keep another version of an episode; see `MemoryStore.change`."""
        return self.change_all(user, {id: edit})[0]

    def change_all(self, user: str, edits: Mapping[str, Edit]) -> Episodes:
        """Keep other versions of episodes; see `MemoryStore.change_all`."""
        check_name("user", user)
        with self._lock:
            person = self._people.get(user, _Person())
            changed = []
            for id, edit in edits.items():
                known = person.episodes.get(id)
                changed.append(edited(id, None if known is None else from_json(known.document), edit))
            person.episodes |= {episode.id: self._kept(episode) for episode in changed}
        return changed

    def get(self, user: str, id: str) -> Episode | None:
        """The episode of that id, or None."""
        kept = self._of(user).episodes.get(id)
        return None if kept is None else from_json(kept.document)

    def recall(self, user: str, query: Query) -> Recollections:
        """The best of all episodes; see `MemoryStore.recall`."""
        kept = self._of(user).episodes
        cue = cue_for(query, self.embedder)
        if cue is None:
            return []
        now_s, since_s, until_s = window(query)
        allowed = [id for id, one in kept.items() if id not in query.exclude and since_s <= one.at_s < until_s]
        candidates = compare(allowed, np.array([kept[id].vector for id in allowed]), cue, now_s)
        found = [
            Recollection(from_json(kept[candidate.id].document), sum(parts.values()), parts)
            for candidate, parts in rank(candidates, cue.weights, query.limit)
        ]
        return within_budget(found, query.budget)

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
            for id, kept in self._of(user).episodes.items()
            if thread_id in (None, kept.thread_id) and since_s <= kept.at_s < until_s
        ]
        return [from_json(document) for *_, document in sorted(chosen)[offset : offset + limit]]

    def walk(self, user: str) -> Iterator[Episode]:
        """Every episode of a person; see `MemoryStore.walk`."""
        for kept in self._of(user).episodes.values():
            yield from_json(kept.document)

    def count(self, user: str) -> int:
        """How many episodes a person has."""
        return len(self._of(user).episodes)

    def users(self) -> tuple[str, ...]:
        """Everybody who has an episode, by name."""
        with self._lock:
            return tuple(sorted(user for user, person in self._people.items() if person.episodes))

    def put_facts(self, user: str, facts: Sequence[Fact]) -> None:
        """Keep facts; see `MemoryStore.put_facts`."""
        check_name("user", user)
        check_owner(user, facts)
        documents = [fact_to_json(fact) for fact in facts]
        vectors = self.embedder.embed([fact.text for fact in facts])
        with self._lock:
            person = self._people.setdefault(user, _Person())
            for fact, document, vector in zip(facts, documents, vectors, strict=True):
                person.facts[fact.id] = (document, vector)

    def facts(self, user: str, *, history: bool = False) -> Facts:
        """The facts that hold; see `MemoryStore.facts`."""
        return sorted_facts((fact_from_json(document) for document, _ in self._of(user).facts.values()), history)

    def recall_facts(self, user: str, text: str, limit: int = 3) -> RecalledFacts:
        """The facts nearest to some words; see `MemoryStore.recall_facts`."""
        kept = self._of(user).facts
        if not text.strip() or not kept:
            return []
        words = self.embedder.embed([text])[0]
        found = [RecalledFact(fact_from_json(document), float(vector @ words)) for document, vector in kept.values()]
        return nearest_facts(found, limit)

    def forget(self, user: str, ids: Iterable[str] | None = None) -> int:
        """Forget episodes, or a person; see `MemoryStore.forget`."""
        check_name("user", user)
        with self._lock:
            if ids is None:
                return len(self._people.pop(user, _Person()).episodes)
            person = self._people.get(user, _Person())
            gone = {id for id in ids if person.episodes.pop(id, None) is not None}
            for id, (document, _) in list(person.facts.items()):
                if not gone.isdisjoint(fact_from_json(document).episodes):
                    del person.facts[id]
            return len(gone)

    def close(self) -> None:
        """Nothing to let go of."""

    def _kept(self, episode: Episode) -> _Kept:
        check_name("user", episode.user)
        check_name("id", episode.id)
        document = to_json(episode)
        vector = episode_vector(self.embedder.embed([episode.text])[0], episode)
        return _Kept(document, episode.thread_id, episode.at.timestamp(), vector)

    def _of(self, user: str) -> _Person:
        """A copy of what one person has, which other threads cannot change."""
        check_name("user", user)
        with self._lock:
            person = self._people.get(user, _Person())
            return _Person(dict(person.episodes), dict(person.facts))


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


def edited(id: str, known: Episode | None, edit: Edit) -> Episode:
    """A new version of an episode, unless there is none or it would be another one."""
    if known is None:
        raise MemoryStoreError(f"there is no episode {id!r} of that person: add it first")
    episode = edit(known)
    if (episode.user, episode.id, episode.at) != (known.user, known.id, known.at):
        raise ValueError(f"episode {id!r} would be another person's or of another time: that needs a new episode")
    return episode


def check_owner(user: str, facts: Iterable[Fact]) -> None:
    """Refuse facts about somebody else."""
    for fact in facts:
        check_name("id", fact.id)
        if fact.user != user:
            raise ValueError(f"fact {fact.id!r} is about somebody else")


def sorted_facts(facts: Iterable[Fact], history: bool) -> Facts:
    """Facts oldest first; without history only those that hold."""
    return sorted((fact for fact in facts if history or fact.valid_to is None), key=lambda f: (f.valid_from, f.id))


def nearest_facts(found: Iterable[RecalledFact], limit: int) -> RecalledFacts:
    """The best of those that hold."""
    holding = [one for one in found if one.fact.valid_to is None]
    return sorted(holding, key=lambda one: (-one.score, one.fact.id))[: max(0, limit)]


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
