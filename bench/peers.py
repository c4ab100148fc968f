"""One memory system, timed from within: `python -P bench/peers.py SYSTEM INPUTS FOLDER`; `bench.memory` starts these.

Every system has a process and an environment of its own, reads the same sentences and vectors from INPUTS and keeps
what it keeps in FOLDER. Requests and answers are JSON lines: `{"load": n}` keeps the first n sentences in the fastest
way that the system has, `{"turns": [[i, j], ...]}` keeps sentence i, then recalls by cue j. The clock runs around
`System.add` and `System.recall`, where vectors are looked up, not computed, except by "ours+minilm".
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

K, USER, BATCH = 10, "bench", 1000
"""How many memories a recall asks for, whose they are, how many are loaded at a time."""


class Row(NamedTuple):
    """A sentence, what was felt (in [-1, 1]) and when; `target` is the sentence that a cue asks for."""

    text: str
    emotion: str
    valence: float
    arousal: float
    at_s: float
    target: str = ""

    @property
    def flat(self) -> dict[str, Any]:
        """What the systems without an affect of their own keep beside the words."""
        return {"at": self.at_s, "emotion": self.emotion}


class Vectors:
    """The embedder of every system: float32 (N, 384) made before; a text that is not among them gets the first."""

    name = "made before"

    def __init__(self, rows: Sequence[Row], vectors: np.ndarray) -> None:
        self._number = {row.text: number for number, row in enumerate(rows)}
        self._vectors, self.dim = vectors, vectors.shape[1]

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (N, 384), rows of length 1."""
        return np.array(self._vectors[[self._number.get(text, 0) for text in texts]])

    def floats(self, text: str) -> list[float]:
        """One vector as Python numbers, the form in which the other libraries take it."""
        return self.embed([text])[0].tolist()


class System(NamedTuple):
    """A memory in use; `recall` returns the sentences that came back."""

    about: str
    packages: tuple[str, ...]
    load: Callable[[Sequence[Row]], Any]
    add: Callable[[Row], Any]
    recall: Callable[[Row], list[str]]
    close: Callable[[], Any] = lambda: None


def ours(folder: Path, vectors: Vectors, *, minilm: bool = False) -> System:
    from memory.chroma import ChromaStore
    from memory.embedding import MiniLmEmbedder
    from memory.types import Episode, Query
    from model.types import EMOTIONS, Affect
    from model.weights import locate

    def at(row: Row) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=row.at_s)

    def affect(row: Row) -> Affect:
        shares = {label: 0.7 if label == row.emotion else 0.05 for label in EMOTIONS}
        return Affect(row.valence, row.emotion, shares, row.valence, row.arousal, confidence=0.7)

    def episode(row: Row) -> Episode:
        return Episode(uuid.uuid4().hex, USER, USER, at(row), row.text, "What was that like for you?", affect(row))

    def recall(row: Row) -> list[str]:
        found = store.recall(USER, Query(row.text, affect(row), limit=K, now=at(row)))
        return [one.episode.text for one in found]

    embedder = MiniLmEmbedder(locate("minilm")) if minilm else vectors
    embedder.embed(["loads the model"])
    store = ChromaStore(folder, embedder)
    about = "ChromaStore: words, reply and affect, recalled by words and feeling; loaded by add_all"
    load = lambda rows: store.add_all([episode(row) for row in rows])  # noqa: E731
    return System(about, ("chromadb",), load, lambda row: store.add(episode(row)), recall, store.close)


def chroma(folder: Path, vectors: Vectors) -> System:
    import chromadb

    def load(rows: Sequence[Row]) -> None:
        ids, texts = [uuid.uuid4().hex for _ in rows], [row.text for row in rows]
        collection.add(ids, vectors.embed(texts), [row.flat for row in rows], texts)

    def recall(row: Row) -> list[str]:
        found: Any = collection.query(vectors.embed([row.text]), n_results=K, include=["documents", "metadatas"])
        return found["documents"][0]

    client = chromadb.PersistentClient(str(folder), chromadb.Settings(anonymized_telemetry=False))
    collection = client.create_collection(USER, embedding_function=None)
    about = "a plain Chroma collection: words, two metadata, the vector of the words"
    return System(about, ("chromadb",), load, lambda row: load([row]), recall)


def mem0(folder: Path, vectors: Vectors, *, store: str) -> System:
    from mem0 import Memory
    from mem0.embeddings.base import EmbeddingBase

    class Embedder(EmbeddingBase):
        def embed(self, text: str, memory_action: str | None = None) -> list[float]:
            return vectors.floats(text)

    def load(rows: Sequence[Row]) -> None:
        now, ids = datetime.now(UTC).isoformat(), [str(uuid.uuid4()) for _ in rows]
        fixed = {"user_id": USER, "role": "user", "hash": uuid.uuid4().hex, "created_at": now, "updated_at": now}
        payloads = [fixed | row.flat | {"data": row.text, "text_lemmatized": row.text} for row in rows]
        memory.vector_store.insert([vectors.floats(row.text) for row in rows], payloads, ids)
        added = {"event": "ADD", "created_at": now}
        memory.db.batch_add_history(
            [added | {"memory_id": id, "new_memory": row.text} for id, row in zip(ids, rows, strict=True)]
        )

    def recall(row: Row) -> list[str]:
        return [one["memory"] for one in memory.search(row.text, filters={"user_id": USER}, top_k=K)["results"]]

    place = {"collection_name": USER, "path": str(folder / store)}
    dims = {"embedding_model_dims": vectors.dim} if store == "qdrant" else {}
    unused = {"provider": "openai", "config": {"api_key": "unused"}}
    config = {"vector_store": {"provider": store, "config": place | dims}, "llm": unused, "embedder": unused}
    memory = Memory.from_config(config | {"history_db_path": str(folder / "history.db")})
    memory.embedding_model = Embedder()
    about = f"mem0 over a local {store}, without a language model (infer=False); loaded through its store and history"
    add = lambda row: memory.add(row.text, user_id=USER, metadata=row.flat, infer=False)  # noqa: E731
    return System(about, ("mem0ai", {"qdrant": "qdrant-client"}.get(store, "chromadb")), load, add, recall)


def langmem(folder: Path, vectors: Vectors) -> System:
    from langgraph.store.base import PutOp
    from langgraph.store.memory import InMemoryStore
    from langmem import create_manage_memory_tool, create_search_memory_tool

    def load(rows: Sequence[Row]) -> None:
        store.batch([PutOp(space, uuid.uuid4().hex, {"content": row.text}) for row in rows])

    def recall(row: Row) -> list[str]:
        return [one["value"]["content"] for one in json.loads(search.invoke({"query": row.text, "limit": K}))]

    space = ("memories", USER)
    embed = lambda texts: [vectors.floats(text) for text in texts]  # noqa: E731
    store = InMemoryStore(index={"dims": vectors.dim, "embed": embed, "fields": ["content"]})
    manage, search = create_manage_memory_tool(space, store=store), create_search_memory_tool(space, store=store)
    about = "langmem's tools over langgraph's InMemoryStore: words alone, gone with the process; loaded by store.batch"
    return System(about, ("langmem", "langgraph"), load, lambda row: manage.invoke({"content": row.text}), recall)


def emotional_memory(folder: Path, vectors: Vectors) -> System:
    if not hasattr(sqlite3.Connection, "enable_load_extension"):  # a Python built without; sqlite-vec is an extension
        sys.modules["sqlite3"] = __import__("pysqlite3")
    import emotional_memory as library

    class Embedder(library.SequentialEmbedder):
        def embed(self, text: str) -> list[float]:
            return vectors.floats(text)

    def affect(row: Row) -> Any:
        return library.CoreAffect(valence=row.valence, arousal=(row.arousal + 1) / 2)

    def load(rows: Sequence[Row]) -> None:
        momentum, mood = library.AffectiveMomentum.zero(), library.MoodField.neutral()
        for row in rows:
            tag = library.make_emotional_tag(affect(row), momentum, mood, 0.5)
            store.save(library.Memory.create(row.text, tag, vectors.floats(row.text), row.flat))

    def add(row: Row) -> None:
        engine.set_affect(affect(row))
        engine.encode(row.text, metadata=row.flat)

    def recall(row: Row) -> list[str]:
        return [one.content for one in engine.retrieve(row.text, K, query_affect=affect(row))]

    store = library.SQLiteStore(folder / "memory.db")
    engine = library.EmotionalMemory(store, Embedder())
    about = "emotional-memory over its SQLiteStore; a recall rewrites what comes back; loaded by store.save, unlinked"
    return System(about, ("emotional-memory", "sqlite-vec"), load, add, recall, store.close)


SYSTEMS: dict[str, Callable[[Path, Vectors], System]] = {
    "ours": ours,
    "ours+minilm": partial(ours, minilm=True),
    "chroma": chroma,
    "mem0": partial(mem0, store="chroma"),
    "mem0+qdrant": partial(mem0, store="qdrant"),
    "langmem": langmem,
    "emotional-memory": emotional_memory,
}


def timed_ms(call: Callable[[Row], Any], row: Row) -> tuple[float, Any]:
    """Milliseconds that a call takes, and what it returns."""
    started = time.perf_counter()
    answer = call(row)
    return 1000 * (time.perf_counter() - started), answer


def resident_mb() -> float | None:
    """Memory of this process without mapped files (libraries, the vectors of the bench); None where it isn't Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((round(int(line.split()[1]) / 1024) for line in lines if line.startswith("RssAnon")), None)


def serve(system: str, inputs: Path, folder: Path, say: Callable[[dict[str, Any]], None]) -> None:
    """Answer the requests of standard input until it ends."""
    rows = [Row(*row) for row in json.loads((inputs / "rows.json").read_text())]
    memory = SYSTEMS[system](folder, Vectors(rows, np.load(inputs / "vectors.npy", mmap_mode="r")))
    say({"about": memory.about, "versions": {name: version(name) for name in memory.packages}})
    for line in sys.stdin:
        request, turns = json.loads(line), []
        for start in range(0, request.get("load", 0), BATCH):
            memory.load(rows[start : min(start + BATCH, request["load"])])
            say({"loaded": min(start + BATCH, request["load"])})
        for added, asked in request.get("turns", ()):
            add_ms, _ = timed_ms(memory.add, rows[added])
            recall_ms, found = timed_ms(memory.recall, rows[asked])
            turns.append((add_ms, recall_ms, rows[asked].target in found))
        say({"turns": turns, "memory_mb": resident_mb()})
    memory.close()


if __name__ == "__main__":
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # libraries print where they like
    try:
        serve(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), lambda answer: print(json.dumps(answer), file=answers))
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}".splitlines()[0]}), file=answers)
        raise
