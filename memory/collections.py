"""Chroma's collections, in the files of one folder or on a server: found, made, rebuilt, cleaned, dropped.

What is kept in them is for `chroma` to say. A folder belongs to one process, which holds a bounded number of indexes in
memory and looks after what Chroma leaves in the files (`files`). A server may be shared with other agents.
"""

from __future__ import annotations

import ctypes
import itertools
import sqlite3
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import chromadb
import httpx
import numpy as np
from chromadb.api.client import Client
from chromadb.api.rust import RustBindingsAPI
from chromadb.config import Settings, System
from chromadb.errors import ChromaError, NotFoundError

from .apart import Apart
from .cipher import Cipher
from .errors import MemoryStoreError
from .files import EMPTY_LOG, clean, index_folders, open_beside, texts_of, zero_unused
from .folder import REMEDY, Folder, described, differences

MAX_OPEN_INDEXES = 512
"""Collections whose indexes are held in memory at once, about 3 MB and `FILES_EACH` open files each: those of 256
people who talk at the same time. Where fewer files may be open, fewer are held."""

FILES_EACH = 4
OTHER_FILES = 256

SYNC_EVERY = 100
"""Records after which Chroma writes a collection's index. By default it does so after 1,000, and until then every
add takes longer, as the queue of what is not in the index yet grows: 28 ms instead of 7 (chromadb 1.5.9)."""

PORTION = 256
"""Records that are read or written at once where many are."""

NEW = "new-"
"""Begins the name of a collection while it is written anew."""

Record = tuple[str, np.ndarray, dict[str, Any]]
"""Id, vector and metadata."""
Records = list[Record]
Change = Callable[[Records], Records]


class Collections:
    """Open for one piece of work at a time. `folder` is None where they are on a server."""

    def __init__(self, where: Path | str, widths: Mapping[str, int], cipher: Cipher | None, apart: bool) -> None:
        """Open the folder, or make it, `apart` in a process of its own; or reach the server at a URL.

        Raises:
            MemoryStoreError: see `chroma.ChromaStore`.
        """
        self._where = where
        self._one_at_a_time = threading.RLock()
        self._in_use: set[str] = set()  # touched since the client was opened
        self._handles: dict[str, chromadb.Collection | None] = {}  # nobody else makes or drops one in a folder
        self._indexes: dict[str, tuple[Path, int]] = {}  # where a collection's index lies, and when it was last written
        self._client: Any = None
        self._database: Any = None  # of a folder, to read beside Chroma
        self._apart: Apart | None = None
        self.folder: Folder | None = None
        if isinstance(where, str):
            with faults(f"the memory at {where} cannot be reached"):
                self._client = _reach(where)
                noted = self._client.get_or_create_collection(
                    "emox-about", embedding_function=None, metadata=described(widths, cipher)
                )
            differences(noted.metadata, widths, cipher, "the memory on the server")
            return
        self.folder = Folder(where, widths, cipher)
        try:
            with faults(f"the memory at {where} cannot be opened"):
                if apart:
                    self._apart = Apart(self.folder.lock_file)
                self._open(where)
                self._finish_rebuilding()
                for index in self._index_folders().values():
                    zero_unused(index)  # a process that was killed may not have come to it
        except BaseException:
            self.close()
            raise

    @contextmanager
    def using(self, name: str, failure: str) -> Iterator[chromadb.Collection | None]:
        """A collection for one piece of work at a time, or None where there is none yet.

        Even a read may make Chroma write an index, so its files are looked at afterwards.
        """
        with self._one_at_a_time, faults(failure):
            yield self.find(name)
            if self._handles.get(name) is not None:
                self._wipe(name)

    @contextmanager
    def all_at_once(self, failure: str) -> Iterator[None]:
        """Several collections for one piece of work at a time."""
        with self._one_at_a_time, faults(failure):
            yield

    def find(self, name: str) -> chromadb.Collection | None:
        """The collection of that name, or None where there is none yet."""
        client = self._opened(name)
        if name in self._handles:
            return self._handles[name]
        try:
            collection = client.get_collection(name, embedding_function=None)
        except NotFoundError:
            if self.folder is not None:
                self._handles[name] = None
            return None
        if self.folder is not None:
            collection.get(ids=["-"], include=[])  # Chroma takes in what a killed process left in its queue
            self._handles[name] = collection
        return collection

    def texts(self, collection: chromadb.Collection, ids: Iterable[str], key: str) -> dict[str, str]:
        """What records have under a key of their metadata, by id, of those ids that are kept.

        In a folder it is read from Chroma's database: Chroma's own `get` reads and converts all metadata of a record,
        and takes as long as half a search. `get` is asked where the database cannot be read that way.
        """
        found: dict[str, str] = {}
        for portion in portions(dict.fromkeys(ids)):
            if self.folder is not None:
                with suppress(sqlite3.Error):
                    found |= texts_of(self._database, str(collection.id), portion, key)
                    continue
            records: Any = collection.get(ids=list(portion), include=["metadatas"])
            found |= {id: flat[key] for id, flat in zip(records["ids"], records["metadatas"], strict=True)}
        return found

    def make(self, name: str, metadata: Mapping[str, Any]) -> chromadb.Collection:
        """The collection of that name, made with these metadata where there is none yet."""
        collection = self._opened(name).get_or_create_collection(
            name,
            embedding_function=None,
            configuration={"hnsw": {"space": "ip", "sync_threshold": SYNC_EVERY, "batch_size": SYNC_EVERY}},
            metadata=dict(metadata),
        )
        if self.folder is not None:
            self._handles[name] = collection
        return collection

    def drop(self, name: str) -> None:
        """Remove a collection, if there is one of that name."""
        self._handles.pop(name, None)
        with suppress(NotFoundError):
            self._opened(name).delete_collection(name)

    def all(self) -> list[chromadb.Collection]:
        """All collections, asked for in portions: Chroma lists a hundred at a time unless told otherwise."""
        found: list[chromadb.Collection] = []
        while portion := self._opened().list_collections(limit=PORTION, offset=len(found)):
            found += portion
        return found

    def leave_out(self, collection: chromadb.Collection, gone: set[str]) -> None:
        """Keep a collection without some records: written anew in a folder; on a server others may be writing to it."""
        if self.folder is None:
            for portion in portions(gone):
                collection.delete(ids=list(portion))
            return

        self.rebuild(collection, lambda records: [record for record in records if record[0] not in gone])

    def rebuild(
        self, collection: chromadb.Collection, change: Change, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Write a collection anew, portion by portion; a stop at any moment leaves the old or the new one, whole."""
        name = collection.name
        new = self.make(NEW + name, metadata or collection.metadata or {})
        for offset in itertools.count(0, PORTION):
            read: Any = collection.get(limit=PORTION, offset=offset, include=["embeddings", "metadatas"])
            if records := change(list(zip(read["ids"], read["embeddings"], read["metadatas"], strict=True))):
                new.add(**columns(records))
                self._wipe(new.name)
            if len(read["ids"]) < PORTION:
                break
        self.drop(name)
        del self._handles[new.name]
        new.modify(name=name)

    def clean(self) -> None:
        """Close the files of a folder, remove what Chroma leaves in them, open them again."""
        if self.folder is None:
            return
        self._shut()
        clean(self.folder.path)
        self._open(self.folder.path)

    def close(self) -> None:
        """Let go of files and locks. Closing twice is harmless."""
        with self._one_at_a_time:
            try:
                if self._client is not None:
                    self._shut()
            finally:
                if self._apart is not None:
                    self._apart.end()
                if self.folder is not None:
                    self.folder.release()

    def _finish_rebuilding(self) -> None:
        """What a stop left in the middle of `rebuild`: half a new collection goes, a whole one takes its place."""
        collections = {collection.name: collection for collection in self.all()}
        for name, collection in collections.items():
            if name.startswith(NEW):
                if name.removeprefix(NEW) in collections:
                    self.drop(name)
                else:
                    collection.modify(name=name.removeprefix(NEW))

    def _wipe(self, name: str) -> None:
        """Zero the unused room of a collection's index whenever Chroma has written it (see `files`)."""
        if self.folder is None:
            return
        index, written = self._indexes.get(name, (None, 0))
        if index is None:
            index = index_folders(self._database, self.folder.path, name).get(name)
        header = index / "header.bin" if index else None
        now = header.stat().st_mtime_ns if header and header.exists() else 0
        if index:
            if now != written:
                zero_unused(index)
            self._indexes[name] = (index, now)

    def _opened(self, name: str = "") -> Client:
        """The client, with room in memory for the collection of that name; no name needs no room.

        At most `_room()` are held; for one more, Chroma is opened anew, which takes some 30 ms. Its own limit
        cannot be relied on: an index it drops before it was ever written to disk can no longer be queried
        ("Nothing found on disk", chromadb 1.5.9).
        """
        if self._client and self._apart and self.folder and self._apart.ended():
            self._apart = Apart(self.folder.lock_file)
            self._shut()
            self._open(self.folder.path)
        full = name and name not in self._in_use and len(self._in_use) >= _room()
        if self._client and full and self.folder is not None:
            self._shut()
            return_freed_memory()
            self._open(self.folder.path)
        if self._client is None:
            raise MemoryStoreError(f"the memory at {self._where} is closed: open it again")
        if name:
            self._in_use.add(name)
        return self._client

    def _open(self, folder: Path) -> None:
        self._client = _connect(folder, self._apart)
        self._database = open_beside(folder)

    def _index_folders(self) -> dict[str, Path]:
        return {} if self.folder is None else index_folders(self._database, self.folder.path)

    def _shut(self) -> None:
        """Close the client, and zero what it has written of its memory into the indexes that were in use."""
        indexes: dict[str, Path] = {}
        try:
            indexes = self._index_folders()
        finally:
            self._client.close()
            self._client = None
            if self._apart is not None:
                self._database.close()  # Chroma empties the log if it is the last to have it open
                self._apart.close_folder()
            if self.folder is not None:
                self._database.close()
                _empty_log(self.folder.path)
            for name in self._in_use & set(indexes):
                zero_unused(indexes[name])
            self._in_use.clear()
            self._indexes.clear()
            self._handles.clear()


def _room() -> int:
    """How many indexes may be held."""
    try:
        from resource import RLIMIT_NOFILE, getrlimit
    except ImportError:  # Windows bounds no files
        return MAX_OPEN_INDEXES
    return max(1, min(MAX_OPEN_INDEXES, (getrlimit(RLIMIT_NOFILE)[0] - OTHER_FILES) // FILES_EACH))


def _connect(folder: Path, apart: Apart | None) -> Client:
    """A Chroma client on the folder that sends nothing anywhere and drops no index.

    Its database has a write-ahead log: a commit is on the disk when it returns, as without one, but for a single add
    that takes 2 calls of fsync in place of 8.
    """
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as database:
        database.execute("pragma journal_mode = wal")
    system, api = system_on(folder)
    if apart is None:
        system.start()
    else:
        apart.open_folder(folder)
        api.bindings = apart
    return Client.from_system(system)


def system_on(folder: Path) -> tuple[System, RustBindingsAPI]:
    """Chroma on the folder, not started yet, and what calls its library."""
    system = System(
        Settings(
            chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
            is_persistent=True,
            persist_directory=str(folder),
            anonymized_telemetry=False,
        )
    )
    api = system.instance(RustBindingsAPI)
    # No setting reaches it: Chroma derives it from the number of files a process may open (see `_opened`).
    api.hnsw_cache_size = 65_536
    return system, api


def _empty_log(folder: Path) -> None:
    """Bring the log of a database into it once the threads of a closed client have let go of it.

    They do so some milliseconds later, and the last of them empties the log, if it sees that it is the last. Python's
    SQLite and theirs are two in one process and do not see each other's locks, so they are waited for.
    """
    until = time.monotonic() + 0.2
    while (folder / "chroma.sqlite3-wal").exists():
        if time.monotonic() > until:
            with suppress(sqlite3.Error), closing(sqlite3.connect(folder / "chroma.sqlite3")) as database:
                database.execute(EMPTY_LOG)
            return
        time.sleep(0.001)


def _reach(url: str) -> Any:
    """A client of the Chroma server at a URL; a user name in it is sent as the bearer token."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise MemoryStoreError(f"{url} is not the address of a Chroma server: give one such as http://localhost:8000")
    return chromadb.HttpClient(
        host=parts.hostname,
        port=parts.port or (443 if parts.scheme == "https" else 8000),
        ssl=parts.scheme == "https",
        headers={"Authorization": f"Bearer {parts.username}"} if parts.username else None,
        settings=Settings(anonymized_telemetry=False),
    )


def return_freed_memory() -> None:
    """Give the memory of closed indexes back: glibc keeps it, and every reopening would add as much again."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
        if trim is not None:
            trim(0)


def columns(records: Sequence[Record]) -> dict[str, Any]:
    """Records as Chroma's arguments."""
    ids, vectors, flats = zip(*records, strict=True)
    return {"ids": list(ids), "embeddings": np.stack(vectors), "metadatas": list(flats)}


def portions(items: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Items by `PORTION`s."""
    items = iter(items)
    while portion := tuple(itertools.islice(items, PORTION)):
        yield portion


@contextmanager
def faults(failure: str) -> Iterator[None]:
    """Turn what Chroma, its server and the disk complain of into one sentence."""
    try:
        yield
    except (ChromaError, OSError, httpx.HTTPError, sqlite3.Error) as error:
        raise MemoryStoreError(f"{failure} ({error}): {REMEDY}") from error
    except ValueError as error:  # what the client of a server raises where there is none
        if "Could not connect" not in str(error):
            raise
        raise MemoryStoreError(f"{failure} ({error}): start it with `chroma run`, or check the address") from error
