"""Memories in Chroma: the files of one folder for one process at a time, or a server that several agents share.

Each person has a collection for episodes and one for facts, named by a hash of the user name, so no filter that a
caller could forget keeps people apart. A record's id is the episode's, so that Chroma itself never keeps one twice. A
record holds the vector of `scoring.episode_vector`, flat metadata to filter by, and the whole episode as JSON under
"episode", which alone is read back. Chroma's documents stay empty: it would index their words in plain tables.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import chromadb
import numpy as np

from .cipher import Cipher
from .collections import PORTION, Collections, Record, Records, columns, portions
from .document import SCHEMA, fact_from_json, fact_to_json, from_json, to_json, to_metadata
from .embedding import Embedder
from .errors import MemoryStoreError
from .folder import Folder
from .policy import cue_for
from .scoring import AFFECT_DIM, N_MARKS, Candidate, Cue, compare, episode_vector, rank, within_budget
from .store import (
    Edit,
    Episodes,
    Facts,
    RecalledFacts,
    Recollections,
    check_name,
    check_owner,
    check_same,
    edited,
    epoch_s,
    nearest_facts,
    sorted_facts,
    window,
)
from .types import Episode, Fact, Query, RecalledFact, Recollection

POOL = 20
"""How many of the nearest are weighed again by recency and variety; twice as many as are asked for, if that is more.
Each costs 1 % of a search, since its vector comes back as 398 Python numbers."""

Kind = Literal["user", "facts"]
"""Of a collection: the episodes of a person, or the facts about them; the beginning of its name."""


class ChromaStore:
    """The memories of a folder or a server; see `MemoryStore` for what the methods promise."""

    def __init__(
        self, where: Path | str, embedder: Embedder, *, cipher: Cipher | None = None, apart: bool = False
    ) -> None:
        """Open the folder, or make it; or reach the server at a URL such as `http://localhost:8000`.

        `apart` keeps the folder open in a process of its own (`apart`), for a program that does much else.

        Raises:
            MemoryStoreError: another process has the folder open, it cannot be written, a newer version wrote it, it
                was written with an embedder of another width, or it is encrypted and the key is not the right one;
                or the server cannot be reached.
        """
        self.embedder = embedder
        self._cipher = cipher
        widths = {"text": embedder.dim, "affect": AFFECT_DIM, "marks": N_MARKS}
        self._collections = Collections(where, widths, cipher, apart)
        folder = self._collections.folder
        if folder is not None and folder.schema < SCHEMA:
            try:
                self._upgrade(folder)
            except BaseException:
                self.close()
                raise

    def add(self, episode: Episode) -> None:
        """Keep an episode; see `MemoryStore.add`."""
        self.add_all([episode])

    def add_all(self, episodes: Iterable[Episode]) -> int:
        """Keep many episodes; see `MemoryStore.add_all`."""
        n_new = 0
        for user, of_user in itertools.groupby(episodes, key=lambda episode: episode.user):
            for portion in portions(of_user):
                n_new += self._add_portion(user, portion)
        return n_new

    def change(self, user: str, id: str, edit: Edit) -> Episode:
        """Keep another version of an episode; see `MemoryStore.change`."""
        return self.change_all(user, {id: edit})[0]

    def change_all(self, user: str, edits: Mapping[str, Edit]) -> Episodes:
        """Keep other versions of episodes; see `MemoryStore.change_all`. Words that stay are not embedded again."""
        with self._using(user, "an episode could not be kept") as collection:
            kept: dict[str, tuple[Episode, np.ndarray]] = {}
            if collection is not None and edits:
                found: Any = collection.get(ids=list(edits), include=["metadatas", "embeddings"])
                for id, flat, vector in zip(found["ids"], found["metadatas"], found["embeddings"], strict=True):
                    kept[id] = self._episode(flat["episode"], user), np.asarray(vector)[: self.embedder.dim]
            changed = [edited(id, kept[id][0] if id in kept else None, edit) for id, edit in edits.items()]
            records = []
            for episode in changed:
                known, words = kept[episode.id]
                same = words if episode.text == known.text else None
                records.append(self._record(episode, to_json(episode), same))
            if collection is not None and records:
                collection.upsert(**columns(records))
        return changed

    def get(self, user: str, id: str) -> Episode | None:
        """The episode of that id, or None."""
        check_name("id", id)
        with self._using(user, "an episode could not be read") as collection:
            document = self._documents(collection, [id]).get(id)
        return None if document is None else self._episode(document, user)

    def recall(self, user: str, query: Query) -> Recollections:
        """The best of the `POOL` nearest; see `MemoryStore.recall`."""
        check_name("user", user)
        cue = cue_for(query, self.embedder)
        if cue is None or query.limit < 1:
            return []
        with self._using(user, "episodes could not be recalled") as collection:
            if collection is None:
                return []
            best = rank(_nearest(collection, cue, query), cue.weights, query.limit)
            documents = self._collections.texts(collection, [candidate.id for candidate, _ in best], "episode")
        _, since_s, until_s = window(query)
        found = [
            Recollection(self._episode(documents[candidate.id], user), sum(parts.values()), parts)
            for candidate, parts in best
            if candidate.id in documents  # another agent on the server may have forgotten it meanwhile
        ]
        inside = [one for one in found if since_s <= one.episode.at.timestamp() < until_s]
        return within_budget(inside, query.budget)

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
        conditions = _within(epoch_s(since, -np.inf), epoch_s(until, np.inf))
        if thread_id is not None:
            conditions.append({"thread": thread_id})
        check_name("user", user)
        if limit < 1:
            return []
        with self._using(user, "episodes could not be listed") as collection:
            if collection is None:
                return []
            conditions += _not_older_than_the_last_added(collection, offset + limit, conditions)
            records: Any = collection.get(where=_all_of(conditions), include=["metadatas"])
        flats = zip(records["ids"], records["metadatas"], strict=True)
        newest = sorted((-flat["at"], id, flat["episode"]) for id, flat in flats)
        return [self._episode(document, user) for *_, document in newest[offset : offset + limit]]

    def walk(self, user: str) -> Iterator[Episode]:
        """Every episode of a person; see `MemoryStore.walk`."""
        check_name("user", user)
        for offset in itertools.count(0, PORTION):
            with self._using(user, "episodes could not be read") as collection:
                if collection is None:
                    return
                records: Any = collection.get(limit=PORTION, offset=offset, include=["metadatas"])
            for flat in records["metadatas"]:
                yield self._episode(flat["episode"], user)
            if len(records["ids"]) < PORTION:
                return

    def count(self, user: str) -> int:
        """How many episodes a person has."""
        with self._using(user, "episodes could not be counted") as collection:
            return 0 if collection is None else collection.count()

    def users(self) -> tuple[str, ...]:
        """Everybody who has an episode, by name."""
        with self._collections.all_at_once("people could not be listed"):
            # A crash between making a collection and its first record leaves an empty one.
            kept = [c for c in self._collections.all() if c.name.startswith("user-") and c.count()]
            return tuple(sorted(c.metadata["user"] for c in kept))

    def put_facts(self, user: str, facts: Sequence[Fact]) -> None:
        """Keep facts; see `MemoryStore.put_facts`."""
        check_name("user", user)
        check_owner(user, facts)
        if not facts:
            return
        documents = [self._sealed(fact_to_json(fact)) for fact in facts]
        vectors = self.embedder.embed([fact.text for fact in facts])
        flats: Any = [
            {"kind": f.kind, "provenance": f.provenance, "holds": f.valid_to is None, "fact": document}
            for f, document in zip(facts, documents, strict=True)
        ]
        with self._using(user, "facts could not be kept", "facts") as collection:
            collection = collection or self._make(user, "facts")
            collection.upsert(ids=[fact.id for fact in facts], embeddings=vectors, metadatas=flats)

    def facts(self, user: str, *, history: bool = False) -> Facts:
        """The facts that hold; see `MemoryStore.facts`."""
        with self._using(user, "facts could not be read", "facts") as collection:
            records: Any = {"metadatas": []} if collection is None else collection.get(include=["metadatas"])
        return sorted_facts((self._fact(flat["fact"], user) for flat in records["metadatas"]), history)

    def recall_facts(self, user: str, text: str, limit: int = 3) -> RecalledFacts:
        """The facts nearest to some words; see `MemoryStore.recall_facts`."""
        check_name("user", user)
        if not text.strip() or limit < 1:
            return []
        with self._using(user, "facts could not be recalled", "facts") as collection:
            if collection is None:
                return []
            answer: Any = collection.query(
                query_embeddings=self.embedder.embed([text]),
                n_results=limit,
                where={"holds": True},
                include=["distances", "metadatas"],
            )
        found = zip(answer["distances"][0], answer["metadatas"][0], strict=True)
        return nearest_facts((RecalledFact(self._fact(flat["fact"], user), 1 - away) for away, flat in found), limit)

    def forget(self, user: str, ids: Iterable[str] | None = None) -> int:
        """Forget episodes, or a person; see `MemoryStore.forget`.

        In a folder a person's collections are written anew without what is forgotten, and the files are cleaned of what
        Chroma leaves behind (`files.clean`), which takes minutes for 100,000 episodes. A server deletes the records and
        the indexes in use; what its files still hold of them is for its operator to clean.
        """
        wanted = None if ids is None else set(ids)
        check_name("user", user)
        with self._collections.all_at_once("the memory could not forget"):
            collection = self._collections.find(_name(user, "user"))
            here = set() if collection is None else set(collection.get(include=[])["ids"])
            gone = here if wanted is None else here & wanted
            if wanted is None:
                self._collections.drop(_name(user, "user"))
                self._collections.drop(_name(user, "facts"))
            elif collection is not None and gone:
                self._forget_facts(user, gone)
                self._collections.leave_out(collection, gone)
            self._collections.clean()
            return len(gone)

    def close(self) -> None:
        """Let go of files and locks; the store cannot be used afterwards. Closing twice is harmless."""
        self._collections.close()

    # ---- records -----------------------------------------------------------------------------------------------------

    def _add_portion(self, user: str, portion: Sequence[Episode]) -> int:
        """Keep the episodes of one person that are not kept yet."""
        for episode in portion:
            check_name("user", episode.user)
            check_name("id", episode.id)
        documents = [to_json(episode) for episode in portion]
        what = f"episode {portion[0].id!r}" if len(portion) == 1 else f"{len(portion)} episodes"
        with self._using(user, f"{what} could not be kept") as collection:
            known = self._documents(collection, [episode.id for episode in portion])
            kept = {id: self._opened_text(document) for id, document in known.items()}
            fresh: list[tuple[Episode, str]] = []
            for episode, document in zip(portion, documents, strict=True):
                if episode.id in kept:
                    check_same(episode.id, kept[episode.id], document)
                else:
                    kept[episode.id] = document
                    fresh.append((episode, document))
            if fresh:
                vectors = self.embedder.embed([episode.text for episode, _ in fresh])
                records = [self._record(*each, words) for each, words in zip(fresh, vectors, strict=True)]
                collection = collection or self._make(user, "user")
                collection.add(**columns(records))
            return len(fresh)

    def _documents(self, collection: chromadb.Collection | None, ids: Iterable[str]) -> dict[str, str]:
        """The documents of those ids that are kept, by Chroma's own reading: they are to be written again."""
        if collection is None or not (wanted := list(dict.fromkeys(ids))):  # Chroma takes no ids for all ids
            return {}
        records: Any = collection.get(ids=wanted, include=["metadatas"])
        return {id: flat["episode"] for id, flat in zip(records["ids"], records["metadatas"], strict=True)}

    def _record(self, episode: Episode, document: str, words: np.ndarray | None = None) -> Record:
        """An episode as Chroma keeps it, from its document and, where it is known, the embedding of its text."""
        words = self.embedder.embed([episode.text])[0] if words is None else words
        return episode.id, episode_vector(words, episode), to_metadata(episode) | {"episode": self._sealed(document)}

    def _sealed(self, document: str) -> str:
        return document if self._cipher is None else self._cipher.seal(document)

    def _opened_text(self, document: str) -> str:
        return document if self._cipher is None else self._cipher.open(document)

    def _episode(self, document: str, user: str) -> Episode:
        """The episode of a document, which must be this person's: a store that mixes people up says nothing."""
        episode = from_json(self._opened_text(document))
        if episode.user != user:
            raise MemoryStoreError("an episode lies with somebody else's: restore the memory from a backup")
        return episode

    def _fact(self, document: str, user: str) -> Fact:
        fact = fact_from_json(self._opened_text(document))
        if fact.user != user:
            raise MemoryStoreError("a fact lies with somebody else's: restore the memory from a backup")
        return fact

    # ---- collections -------------------------------------------------------------------------------------------------

    def _using(
        self, user: str, failure: str, kind: Kind = "user"
    ) -> AbstractContextManager[chromadb.Collection | None]:
        """A person's collection for one piece of work at a time, or None where there is none yet."""
        check_name("user", user)
        return self._collections.using(_name(user, kind), failure)

    def _make(self, user: str, kind: Kind) -> chromadb.Collection:
        return self._collections.make(_name(user, kind), {"user": user, "schema": SCHEMA, "kind": kind})

    def _forget_facts(self, user: str, gone: set[str]) -> None:
        drop = {fact.id for fact in self.facts(user, history=True) if not gone.isdisjoint(fact.episodes)}
        collection = self._collections.find(_name(user, "facts"))
        if collection is not None and drop:
            self._collections.leave_out(collection, drop)

    def _upgrade(self, folder: Folder) -> None:
        """Bring what an earlier version wrote to this schema; goes on after a stop."""

        def renewed(records: Records) -> Records:
            new = []
            for _, vector, flat in records:
                episode = from_json(flat["episode"])
                words = np.asarray(vector, np.float32)[: self.embedder.dim]
                new.append(self._record(episode, to_json(episode), words))
            return new

        with self._collections.all_at_once("the memory could not be upgraded"):
            for collection in self._collections.all():
                about = collection.metadata or {}
                if collection.name.startswith("user-") and about.get("schema", 1) < SCHEMA:
                    self._collections.rebuild(collection, renewed, {"kind": "user"} | about | {"schema": SCHEMA})
            self._collections.clean()
        folder.upgraded()


def _nearest(collection: chromadb.Collection, cue: Cue, query: Query) -> list[Candidate]:
    """The nearest episodes that the query allows, `POOL` or more if there are as many.

    Excluded ids and times outside the window are dropped after the search, since a filter inside Chroma takes ten
    times as long; only where that leaves too few does Chroma filter by time.
    """
    now_s, since_s, until_s = window(query)
    wanted = max(POOL, 2 * query.limit)
    hits = wanted + len(query.exclude)

    def search(where: dict[str, Any] | None) -> tuple[int, list[Candidate]]:
        answer: Any = collection.query(
            query_embeddings=cue.vector[None], n_results=hits, where=where, include=["embeddings"]
        )
        found = compare(answer["ids"][0], np.asarray(answer["embeddings"][0]), cue, now_s)
        # Marks are exact to a hundredth of a second; `recall` looks at the exact times of what it brings back.
        return len(found), [c for c in found if c.id not in query.exclude and since_s - 0.01 <= c.at_s < until_s + 0.01]

    n_found, candidates = search(None)
    within = _all_of(_within(since_s, until_s))
    if within and len(candidates) < wanted and n_found == hits:
        return search(within)[1]
    return candidates


def _not_older_than_the_last_added(
    collection: chromadb.Collection, n: int, conditions: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A condition that the `n` newest episodes meet, and few others if episodes were added as they happened.

    No n episodes that meet the conditions can all be newer than the n newest of them, so none of these is older than
    the oldest of any n such. Those n are looked for among the last added, which spares reading about all.
    """
    total = collection.count()
    peeked = 2 * n + 16
    if peeked * 4 > total:  # the detour costs more than it saves
        return []
    flats: Any = collection.get(limit=peeked, offset=total - peeked, include=["metadatas"])["metadatas"]
    times = sorted((flat["at"] for flat in flats if all(_meets(flat, c) for c in conditions)), reverse=True)
    return [{"at": {"$gte": times[n - 1]}}] if len(times) >= n else []


def _meets(flat: dict[str, Any], condition: dict[str, Any]) -> bool:
    """Whether metadata meet one of the conditions of `list`."""
    ((key, wanted),) = condition.items()
    if not isinstance(wanted, dict):
        return bool(flat[key] == wanted)
    ((comparison, bound),) = wanted.items()
    return bool(flat[key] >= bound if comparison == "$gte" else flat[key] < bound)


def _name(user: str, kind: Kind) -> str:
    """A name that Chroma accepts (few kinds of characters) and that no two people share."""
    return f"{kind}-" + hashlib.blake2b(user.encode(), digest_size=24).hexdigest()


def _within(since_s: float, until_s: float) -> list[dict[str, Any]]:
    """Chroma conditions for a time window; none for an open end."""
    bounds = (("$gte", since_s), ("$lt", until_s))
    return [{"at": {comparison: bound}} for comparison, bound in bounds if np.isfinite(bound)]


def _all_of(conditions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """All conditions at once, in the form Chroma wants for none, one and many."""
    return {"$and": conditions} if len(conditions) > 1 else next(iter(conditions), None)
