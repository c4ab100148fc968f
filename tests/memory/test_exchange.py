"""A memory as a file: out and in again without loss, whole or not at all."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory import exchange
from memory.document import SCHEMA
from memory.errors import MemoryStoreError
from memory.exchange import read_export, write_export
from memory.privacy import correct
from memory.store import InMemoryStore
from tests.fakes import FakeEmbedder, episode_of
from tests.memory.strategies import episodes, facts

REPO = Path(__file__).parents[2]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def store_of(*kept) -> InMemoryStore:
    store = InMemoryStore(FakeEmbedder())
    store.add_all(kept)
    return store


def content(store: InMemoryStore) -> dict:
    users = store.users()
    return {u: (sorted(store.walk(u), key=lambda e: e.id), store.facts(u, history=True)) for u in users}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(episodes, max_size=6, unique_by=lambda e: (e.user, e.id)),
    st.lists(facts, max_size=4, unique_by=lambda f: f.id),
)
def test_what_is_exported_is_imported_without_loss(tmp_path_factory, found, known):
    path = tmp_path_factory.mktemp("export") / "memory.jsonl"
    found = [replace(e, user=e.user[:9], id=e.id[:99], affect=episode_of("a").affect) for e in found]
    found = list({(e.user, e.id): e for e in found}.values())
    store = store_of(*found)
    for user in store.users():
        store.put_facts(user, [replace(f, user=user, id=f.id[:99]) for f in known])
    n = write_export(store, store.users(), path)
    other = store_of()
    assert read_export(other, path).n_new == n.n_episodes == len(found)
    assert content(other) == content(store)
    assert read_export(other, path).n_new == 0
    assert content(other) == content(store)


def test_an_export_is_private_and_says_what_it_is(tmp_path: Path):
    path = tmp_path / "memory.jsonl"
    told = write_export(store_of(episode_of("a"), episode_of("b", user="bob")), ("ann", "bob"), path)
    assert (told.n_episodes, told.n_users) == (2, 2)
    assert path.stat().st_mode & 0o077 == 0
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert (lines[0]["format"], lines[0]["version"]) == ("emox-memory", SCHEMA)
    assert [line["type"] for line in lines[1:]] == ["episode", "episode", "end"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_backup_is_taken_and_restored_while_turns_go_on(tmp_path: Path):
    store = store_of(*(episode_of(f"turn-{i}") for i in range(5)))
    walk = store.walk

    def busy(user):
        for episode in walk(user):
            store.add(episode_of(f"meanwhile-{episode.id}"))
            yield episode

    store.walk = busy  # type: ignore[method-assign]
    path = tmp_path / "memory.jsonl"
    write_export(store, ["ann"], path)
    other = store_of(episode_of("own", user="bob"))
    assert read_export(other, path).n_new == 5
    assert other.count("bob") == 1


def test_the_first_release_s_export_is_read(tmp_path: Path):
    path = tmp_path / "old.jsonl"
    write_export(store_of(episode_of("a")), ["ann"], path)
    header, record, end = (json.loads(line) for line in path.read_text().splitlines())
    header["version"] = 1
    record["episode"]["recalled"] = ["x"]
    for later in ("thought", "after", "revisions", "recall_policy", "voice"):
        del record["episode"][later]
    path.write_text("\n".join(map(json.dumps, (header, record, end))))
    store = store_of()
    read_export(store, path)
    assert store.get("ann", "a").recalled[0].id == "x"


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda lines: lines[:-1], "ends too soon"),
        (lambda lines: lines[:-2] + lines[-1:], "ends too soon"),
        (lambda lines: [*lines[:1], lines[1][:40], *lines[2:]], "line 2 of .* is not of a memory"),
        (lambda lines: ["[]", *lines[1:]], "line 1 of"),
        (lambda lines: ['{"format": "other"}', *lines[1:]], "line 1 of"),
        (lambda lines: [*lines, lines[1]], "line 5 of"),
        (lambda lines: [lines[0].replace(f'"version":{SCHEMA}', '"version":99'), *lines[1:]], "upgrade emox"),
        (lambda lines: [], "ends too soon"),
    ],
)
def test_a_damaged_file_is_named_and_changes_nothing(tmp_path: Path, damage, complaint: str):
    path = tmp_path / "memory.jsonl"
    write_export(store_of(episode_of("a"), episode_of("b")), ["ann"], path)
    path.write_text("\n".join(damage(path.read_text().splitlines())))
    store = store_of()
    with pytest.raises(MemoryStoreError, match=complaint):
        read_export(store, path)
    assert store.users() == ()


def test_an_episode_with_other_content_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "memory.jsonl"
    write_export(store_of(episode_of("a", "as exported"), episode_of("b")), ["ann"], path)
    store = store_of(episode_of("a", "as exported"))
    correct(store, "ann", "a", emotion="angry")
    with pytest.raises(MemoryStoreError, match="already kept with other content"):
        read_export(store, path)
    assert store.count("ann") == 1


def test_a_full_disk_leaves_no_half_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exchange.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_export(store_of(episode_of("a")), ["ann"], tmp_path / "memory.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_the_documented_schema_is_that_of_the_code():
    documented = json.loads((REPO / "docs" / "memory-export.schema.json").read_text())
    assert documented == exchange.schema(), "write it anew: python -m memory.exchange > docs/memory-export.schema.json"
