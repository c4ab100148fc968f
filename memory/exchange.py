"""A memory as a file, to be kept as a backup, looked into, or taken to another machine: lines of JSON.

{"format": "emox-memory", "version": 2, "exported_at": ...}    the first line
{"type": "episode", "episode": {...}}                           `Episode`, field by field
{"type": "fact", "fact": {...}}                                 `Fact`
{"type": "end", "episodes": n, "facts": n}                      the last line: without it the file is not whole

`docs/memory-export.schema.json` describes a line (`schema` here). `version` is `document.SCHEMA`; earlier ones are
read. Texts are in clear even where the memory is encrypted.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from .document import SCHEMA, episode_from_plain, episode_to_plain, fact_from_plain, fact_to_plain
from .errors import MemoryStoreError
from .store import MemoryStore
from .types import Episode, Fact

FORMAT = "emox-memory"


@dataclass(frozen=True)
class Moved:
    """How many episodes and facts went out or came in, and of how many people; `n_new` were not there before."""

    n_episodes: int
    n_facts: int
    n_users: int
    n_new: int = 0


def write_export(store: MemoryStore, users: Iterable[str], path: Path) -> Moved:
    """Write what people's memories hold to a file, which is whole or not there; the store may be in use meanwhile.

    Raises:
        OSError: it cannot be written.
    """
    users = list(users)
    counted: Counter[str] = Counter()

    def lines() -> Iterator[dict[str, Any]]:
        for line in export_lines(store, users):
            counted[line.get("type", "first")] += 1
            yield line

    write_lines(path, lines())
    return Moved(counted["episode"], counted["fact"], len(users))


def export_lines(store: MemoryStore, users: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The lines of an export, as documents."""
    n_episodes = n_facts = 0
    yield {"format": FORMAT, "version": SCHEMA, "exported_at": datetime.now(UTC).isoformat()}
    for user in users:
        for episode in store.walk(user):
            yield {"type": "episode", "episode": episode_to_plain(episode)}
            n_episodes += 1
        for fact in store.facts(user, history=True):
            yield {"type": "fact", "fact": fact_to_plain(fact)}
            n_facts += 1
    yield {"type": "end", "episodes": n_episodes, "facts": n_facts}


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Write records as lines of JSON to a file that only its owner can read, and that is whole or not there; how many.

    Raises:
        OSError: it cannot be written.
    """
    partial = path.with_name(path.name + ".partial")
    n = 0
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            for record in records:
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n")
                n += 1
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return n


def read_export(store: MemoryStore, path: Path, *, as_user: str | None = None) -> Moved:
    """Bring what a file holds into a store; to read the same file twice changes nothing.

    The whole file is read and checked before anything is kept, so a damaged one changes nothing either.

    Args:
        as_user: whose memory it becomes; the file then holds that of one person, called whatever they were.

    Raises:
        MemoryStoreError: the file is not whole, not of this kind, of a newer version, or a line of it is wrong; or an
            episode is already kept with other content; or it holds several people's and is to become one's.
        OSError: it cannot be read.
    """

    def records() -> Iterator[Episode | Fact]:
        owner: str | None = None
        for kept in _records(path):
            owner = owner or kept.user
            if as_user is not None and kept.user != owner:
                raise MemoryStoreError(f"{path.name} holds the memory of several people: export one person's alone")
            yield kept if as_user is None else replace(kept, user=as_user)

    n_episodes = n_facts = 0
    users: set[str] = set()
    for kept in records():
        users.add(kept.user)
        if isinstance(kept, Fact):
            n_facts += 1
        else:
            n_episodes += 1
            known = store.get(kept.user, kept.id)
            if known is not None and known != kept:
                raise MemoryStoreError(
                    f"{path} has an episode {kept.id} of {kept.user} that is already kept with other content: forget "
                    "that one first, or import into another EMOX_HOME"
                )
    n_new = store.add_all(kept for kept in records() if isinstance(kept, Episode))
    facts: dict[str, list[Fact]] = {}
    for kept in records():
        if isinstance(kept, Fact):
            facts.setdefault(kept.user, []).append(kept)
    for user, of_user in facts.items():
        store.put_facts(user, of_user)
    return Moved(n_episodes, n_facts, len(users), n_new)


def schema() -> dict[str, Any]:
    """JSON Schema of a line of the file."""
    kept = TypeAdapter(Episode | Fact).json_schema(ref_template="#/$defs/{model}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"A line of an {FORMAT} file, version {SCHEMA}",
        "oneOf": [
            _object(format={"const": FORMAT}, version={"type": "integer", "maximum": SCHEMA},
                    exported_at={"type": "string", "format": "date-time"}),
            _object(type={"const": "episode"}, episode={"$ref": "#/$defs/Episode"}),
            _object(type={"const": "fact"}, fact={"$ref": "#/$defs/Fact"}),
            _object(type={"const": "end"}, episodes={"type": "integer"}, facts={"type": "integer"}),
        ],
        "$defs": kept["$defs"],
    }  # fmt: skip


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _records(path: Path) -> Iterator[Episode | Fact]:
    """The episodes and facts of a file; raises what `read_export` says."""
    version, counts, ended = 0, {"episodes": 0, "facts": 0}, False
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                record = json.loads(line)
                if number == 1:
                    version = _version(record, path)
                elif ended:
                    raise ValueError("something follows the end")
                elif record["type"] == "end":
                    ended = {key: record[key] for key in counts} == counts
                elif record["type"] == "fact":
                    counts["facts"] += 1
                    yield fact_from_plain(record["fact"])
                else:
                    counts["episodes"] += 1
                    yield episode_from_plain(record["episode"], version)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise MemoryStoreError(
                    f"line {number} of {path} is not of a memory: take a file that `emox memory export` wrote"
                ) from error
    if not ended:
        raise MemoryStoreError(f"{path} ends too soon: it was not written to its end, or cut; export it again")


def _version(record: dict[str, Any], path: Path) -> int:
    if record["format"] != FORMAT:
        raise ValueError(f"the format is {record['format']!r}")
    if record["version"] > SCHEMA:
        raise MemoryStoreError(
            f"{path} has version {record['version']}, this version reads up to {SCHEMA}: upgrade emox"
        )
    return int(record["version"])


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))
