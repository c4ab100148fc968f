"""Episodes in an embedded Chroma: the files of one folder, for one process at a time.

One collection per person, named by a hash of the user name. A record's id is `<microseconds since 1970>/<episode id>`,
so that a page of the newest is found by ids alone: reading the times from the metadata of 10,000 records takes 40 times
as long. A record holds the vector of `scoring.episode_vector`, the words as its document, flat metadata to filter by,
and the whole episode as JSON under "episode", which alone is read back.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import chromadb
import numpy as np
from chromadb.api.client import Client
from chromadb.api.rust import RustBindingsAPI
from chromadb.config import Settings, System
from chromadb.errors import ChromaError, NotFoundError

from .document import from_json, to_json, to_metadata
from .embedding import Embedder
from .errors import MemoryStoreError
from .folder import REMEDY, claim
from .policy import cue_for
from .scoring import AFFECT_DIM, Candidate, Cue, compare, episode_vector, rank
from .store import DAY_S, Episodes, Recollections, check_name, check_same, epoch_s, window
from .types import Episode, Query, Recollection

MAX_OPEN_INDEXES = 32
"""People whose indexes are held in memory at once, about 3 MB and 4 open files each."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

POOL = 48
"""How many of the nearest by words and affect are weighed again by recency and importance."""


class ChromaStore:
    """The memories of a folder; see `MemoryStore` for what the methods promise."""

    def __init__(self, folder: Path, embedder: Embedder) -> None:
        """Open the folder, or make it.

        Raises:
            MemoryStoreError: another process has it open, it cannot be written, a newer version wrote it, or it was
                written with an embedder of another width.
        """
        self._folder = folder
        self._embedder = embedder
        self._one_at_a_time = threading.RLock()
        self._claim = claim(folder, {"text": embedder.dim, "affect": AFFECT_DIM})
        self._in_use: set[str] = set()  # collections touched since the client was opened
        self._client: Client | None = None
        try:
            with _faults(f"the memory at {folder} cannot be opened"):
                self._client = _connect(folder)
        finally:
            if self._client is None:
                self._claim.release()

    def add(self, episode: Episode) -> None:
        """Keep an episode; see `MemoryStore.add`."""
        check_name("user", episode.user)
        check_name("id", episode.id)
        document = to_json(episode)
        vector = episode_vector(self._embedder.embed([episode.text])[0], episode.affect)
        with self._one_at_a_time, _faults(f"episode {episode.id!r} could not be kept"):
            collection = self._collection(episode.user) or self._new_collection(episode.user)
            known = _document_of(collection, episode.id)
            if known is not None:
                check_same(episode.id, known, document)
                return
            collection.add(
                ids=[f"{(episode.at - EPOCH) // timedelta(microseconds=1)}/{episode.id}"],
                embeddings=vector[None],
                documents=[episode.text],
                metadatas=[to_metadata(episode) | {"episode": document}],
            )

    def get(self, user: str, id: str) -> Episode | None:
        """The episode of that id, or None."""
        with self._one_at_a_time, _faults("an episode could not be read"):
            collection = self._collection(user)
            document = None if collection is None else _document_of(collection, id)
        return None if document is None else from_json(document)

    def recall(self, user: str, query: Query) -> Recollections:
        """The best of the `POOL` nearest; see `MemoryStore.recall`."""
        check_name("user", user)
        cue = cue_for(query, self._embedder)
        if cue is None or query.limit < 1:
            return []
        with self._one_at_a_time, _faults("episodes could not be recalled"):
            collection = self._collection(user)
            if collection is None:
                return []
            found, documents = _nearest(collection, cue, query)
        return [
            Recollection(from_json(documents[candidate.id]), sum(parts.values()), parts)
            for candidate, parts in rank(found, cue.weights, query.limit)
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
        conditions = _within(epoch_s(since, -np.inf), epoch_s(until, np.inf))
        if thread_id is not None:
            conditions.append({"thread": thread_id})
        with self._one_at_a_time, _faults("episodes could not be listed"):
            collection = self._collection(user)
            if collection is None:
                return []
            if not conditions:
                conditions = _not_older_than_the_last_added(collection, offset + limit)
            ids = collection.get(where=_all_of(conditions), include=[])["ids"]
            page = sorted(ids, key=_newest_first)[offset : offset + limit]
            if not page:  # Chroma takes no ids for all ids
                return []
            records: Any = collection.get(ids=page, include=["metadatas"])
        documents = {id: flat["episode"] for id, flat in zip(records["ids"], records["metadatas"], strict=True)}
        return [from_json(documents[record]) for record in page]

    def count(self, user: str) -> int:
        """How many episodes a person has."""
        with self._one_at_a_time, _faults("episodes could not be counted"):
            collection = self._collection(user)
            return 0 if collection is None else collection.count()

    def users(self) -> tuple[str, ...]:
        """Everybody who has an episode, by name."""
        with self._one_at_a_time, _faults("people could not be listed"):
            # A crash between making a collection and its first record leaves an empty one.
            return tuple(sorted(c.metadata["user"] for c in self._opened().list_collections() if c.count()))

    def close(self) -> None:
        """Let go of files and locks; the store cannot be used afterwards. Closing twice is harmless."""
        with self._one_at_a_time:
            if self._client is not None:
                self._client.close()
                self._client = None
            self._claim.release()

    def _collection(self, user: str) -> chromadb.Collection | None:
        """A person's collection, or None where there is none yet."""
        check_name("user", user)
        name = _collection_name(user)
        try:
            return self._opened(name).get_collection(name, embedding_function=None)
        except NotFoundError:
            return None

    def _new_collection(self, user: str) -> chromadb.Collection:
        name = _collection_name(user)
        return self._opened(name).create_collection(
            name, embedding_function=None, configuration={"hnsw": {"space": "ip"}}, metadata={"user": user}
        )

    def _opened(self, name: str = "") -> Client:
        """The client, with room in memory for the collection of that name; no name needs no room.

        At most `MAX_OPEN_INDEXES` are held; for one more, Chroma is opened anew, which takes some 30 ms. Its own limit
        cannot be relied on: an index it drops before it was ever written to disk can no longer be queried
        ("Nothing found on disk", chromadb 1.5.9).
        """
        if self._client and name and name not in self._in_use and len(self._in_use) >= MAX_OPEN_INDEXES:
            self._client.close()
            self._client = None
            self._in_use.clear()
            _return_freed_memory()
            self._client = _connect(self._folder)
        if self._client is None:
            raise MemoryStoreError(f"the memory at {self._folder} is closed: open it again")
        if name:
            self._in_use.add(name)
        return self._client


def _connect(folder: Path) -> Client:
    """A Chroma client on the folder that sends nothing anywhere and drops no index."""
    system = System(
        Settings(
            chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
            is_persistent=True,
            persist_directory=str(folder),
            anonymized_telemetry=False,
        )
    )
    # No setting reaches it: Chroma derives it from the number of files a process may open (see `_opened`).
    system.instance(RustBindingsAPI).hnsw_cache_size = 65_536
    system.start()
    return Client.from_system(system)


def _return_freed_memory() -> None:
    """Give the memory of closed indexes back: glibc keeps it, and every reopening would add as much again."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def _nearest(collection: chromadb.Collection, cue: Cue, query: Query) -> tuple[list[Candidate], dict[str, str]]:
    """The nearest episodes that the query allows, at least `POOL` if there are as many, and their documents by id.

    Excluded ids and times outside the window are dropped after the search, since a filter inside Chroma takes ten
    times as long; only where that leaves too few does Chroma filter by time.
    """
    now_s, since_s, until_s = window(query)
    total = collection.count()
    wanted = max(POOL, query.limit)
    hits = min(wanted + len(query.exclude), total)

    def search(where: dict[str, Any] | None) -> tuple[list[Candidate], dict[str, str]]:
        answer: Any = collection.query(
            query_embeddings=cue.vector[None], n_results=hits, where=where, include=["embeddings", "metadatas"]
        )
        candidates, documents = [], {}
        for vector, flat in zip(answer["embeddings"][0], answer["metadatas"][0], strict=True):
            id, at_s = flat["id"], flat["at"]
            if id not in query.exclude and since_s <= at_s < until_s:
                vector = np.asarray(vector, np.float32)
                candidates.append(compare(id, vector, cue, (now_s - at_s) / DAY_S, flat["intensity"]))
                documents[id] = flat["episode"]
        return candidates, documents

    if hits == 0:
        return [], {}
    candidates, documents = search(None)
    within = _all_of(_within(since_s, until_s))
    if within and len(candidates) < wanted and hits < total:
        return search(within)
    return candidates, documents


def _not_older_than_the_last_added(collection: chromadb.Collection, n: int) -> list[dict[str, Any]]:
    """A condition that the `n` newest episodes meet, and few others if episodes were added as they happened.

    No n episodes can all be newer than the n newest ones, so none of these is older than the oldest of the last n
    added. Asking for those first spares reading and sorting the ids of all: 40 ms instead of 200 for 6 of 100,000.
    """
    total = collection.count()
    if not 0 < n * 4 <= total:  # the detour costs more than it saves
        return []
    ids = collection.get(limit=n, offset=total - n, include=[])["ids"]
    oldest = min(int(record.split("/", 1)[0]) for record in ids)
    return [{"at": {"$gte": float(oldest // 1_000_000)}}]


def _document_of(collection: chromadb.Collection, id: str) -> str | None:
    records: Any = collection.get(where={"id": id}, include=["metadatas"])
    return records["metadatas"][0]["episode"] if records["ids"] else None


def _collection_name(user: str) -> str:
    """A name that Chroma accepts (at most 63 characters of few kinds) and that no two people share."""
    return "user-" + hashlib.blake2b(user.encode(), digest_size=24).hexdigest()


def _newest_first(record: str) -> tuple[int, str]:
    microseconds, id = record.split("/", 1)
    return -int(microseconds), id


def _within(since_s: float, until_s: float) -> list[dict[str, Any]]:
    """Chroma conditions for a time window; none for an open end."""
    bounds = (("$gte", since_s), ("$lt", until_s))
    return [{"at": {comparison: bound}} for comparison, bound in bounds if np.isfinite(bound)]


def _all_of(conditions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """All conditions at once, in the form Chroma wants for none, one and many."""
    return {"$and": conditions} if len(conditions) > 1 else next(iter(conditions), None)


@contextmanager
def _faults(failure: str) -> Iterator[None]:
    """Turn what Chroma and the disk complain of into one sentence."""
    try:
        yield
    except (ChromaError, OSError) as error:
        raise MemoryStoreError(f"{failure} ({error}): {REMEDY}") from error
