"""The files of a closed Chroma folder: cleaned of what Chroma leaves behind, and searched for what must not be there.

Deleting from Chroma (1.5.9) is not forgetting. Pages of its SQLite file keep what was in them, directories of dropped
indexes stay, and an index file is written with whatever the process had in memory where no vector is yet: sentences of
other people, too.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import struct
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

MIN_NEEDLE_CHARS = 8

EMPTY_LOG = "pragma wal_checkpoint(truncate)"
"""Brings what is in the write-ahead log of a database into it."""

HNSW_HEADER = struct.Struct("<iQQQQ")
"""Of an index's `header.bin`: version, offset, room for elements, elements there are, bytes of an element."""


def clean(folder: Path) -> None:
    """Leave in a folder that no Chroma has open nothing but what is kept.

    Directories of indexes that no collection owns are removed, unused room in index files is zeroed, the full-text
    table is built anew and the database written anew without free pages.

    Raises:
        OSError, sqlite3.Error: a file cannot be written.
    """
    with closing(sqlite3.connect(folder / "chroma.sqlite3", isolation_level=None)) as database:
        owned = {id for (id,) in database.execute("select id from segments")}
        collections = {id for (id,) in database.execute("select id from collections")}
        for (topic,) in database.execute("select distinct topic from embeddings_queue").fetchall():
            if topic.rsplit("/", 1)[-1] not in collections:
                database.execute("delete from embeddings_queue where topic = ?", (topic,))
        database.execute("insert into embedding_fulltext_search (embedding_fulltext_search) values ('rebuild')")
        database.execute("vacuum")
        (in_use, *_) = database.execute(EMPTY_LOG).fetchone()
        if in_use:
            raise sqlite3.OperationalError("the log of the database is in use")
    for index in folder.iterdir():
        if index.is_dir() and _is_uuid(index.name):
            if index.name in owned:
                zero_unused(index)
            else:
                shutil.rmtree(index)


@dataclass(frozen=True)
class Trace:
    """A place where something was found: the file and how many times."""

    path: Path
    n: int


@dataclass(frozen=True)
class Search:
    """What a search of files came to: how many files and bytes were read, and what was found."""

    n_files: int
    n_bytes: int
    traces: tuple[Trace, ...]


def find_traces(folder: Path, needles: Iterable[str]) -> Search:
    """Look for texts in every byte of every file under a folder, as UTF-8 and as JSON writes it, UTF-16 too.

    Texts shorter than `MIN_NEEDLE_CHARS` are left out: they would be found by chance.
    """
    texts = (needle.strip() for needle in needles)
    wanted = {form for text in texts if len(text) >= MIN_NEEDLE_CHARS for form in _forms(text)}
    n_files = n_bytes = 0
    traces = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            n_files, n_bytes = n_files + 1, n_bytes + len(content)
            if n := sum(content.count(form) for form in wanted):
                traces.append(Trace(path, n))
    return Search(n_files, n_bytes, tuple(traces))


def _forms(text: str) -> Iterator[bytes]:
    for form in {text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}:
        yield form.encode("utf-8", "surrogatepass")
    yield text.encode("utf-16-le", "surrogatepass")


def zero_unused(index: Path) -> None:
    """Zero the room of an index's files behind its last element (hnswlib's layout), if it is not zero."""
    header = index / "header.bin"
    if not header.is_file():
        return
    _, _, _, n_elements, element_bytes = HNSW_HEADER.unpack_from(header.read_bytes())
    for name, used in (("data_level0.bin", n_elements * element_bytes), ("length.bin", n_elements * 4)):
        path = index / name
        if path.is_file():
            with path.open("r+b") as file:
                file.seek(used)
                unused = file.read()
                if unused.strip(b"\0"):
                    file.seek(used)
                    file.write(bytes(len(unused)))


def open_beside(folder: Path) -> sqlite3.Connection:
    """The database of a folder that Chroma has open, to read from any thread, one at a time.

    To be closed after Chroma: a process that closes a file loses every lock that it has on it, those of Chroma's own
    SQLite too, and without them any other program that looks into the database would take the log away.
    """
    return sqlite3.connect(f"file:{folder / 'chroma.sqlite3'}?mode=ro", uri=True, check_same_thread=False)


def index_folders(database: sqlite3.Connection, folder: Path, name: str | None = None) -> dict[str, Path]:
    """Where the index of each collection lies, or of one, by the collection's name."""
    found = database.execute(
        "select c.name, s.id from collections c cross join segments s on c.id = s.collection "
        "where s.scope = 'VECTOR' and (?1 is null or c.name = ?1)",
        (name,),
    )
    return {name: folder / id for name, id in found}


def texts_of(database: sqlite3.Connection, collection_id: str, ids: Sequence[str], key: str) -> dict[str, str]:
    """The text under a key of the metadata of those records of a collection that are kept, by id."""
    found = database.execute(  # cross join: from left to right, whatever SQLite expects of its indexes
        "select e.embedding_id, m.string_value from segments s cross join embeddings e cross join embedding_metadata m "
        "where s.collection = ? and s.scope = 'METADATA' and e.segment_id = s.id and m.id = e.id and m.key = ? "
        f"and e.embedding_id in ({','.join('?' * len(ids))})",
        (collection_id, key, *ids),
    )
    return dict(found.fetchall())


def _is_uuid(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name
    except ValueError:
        return False
