"""A memory is the person's: corrected, chosen from, forgotten without a trace, unreadable without its key."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import chromadb
import numpy as np
import pytest

from memory.chroma import ChromaStore
from memory.cipher import Cipher, new_key
from memory.derive import derive
from memory.errors import MemoryStoreError
from memory.files import find_traces
from memory.privacy import chosen, correct, labels
from memory.store import InMemoryStore
from memory.types import Fact, Query, provenance
from memory.why import explain
from model.types import CIRCUMPLEX
from tests.fakes import FakeEmbedder, affect_of, episode_of

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SECRET = "my violet umbrella drowned in the harbour"


def ids(episodes) -> list[str]:
    return [episode.id for episode in episodes]


@pytest.fixture
def store() -> InMemoryStore:
    store = InMemoryStore(FakeEmbedder())
    days = [("a", "my sister Anna called"), ("b", "work was hard"), ("c", "Anna and I had dinner"), ("d", "it rains")]
    for i, (id, text) in enumerate(days):
        store.add(episode_of(id, text, "sad", at=NOW - timedelta(days=i)))
    return store


# ---- correcting ------------------------------------------------------------------------------------------------------


def test_a_corrected_feeling_counts_from_now_on_and_what_was_read_stays_in_its_history(store: InMemoryStore):
    before = store.get("ann", "a")
    corrected = correct(store, "ann", "a", emotion="angry")
    assert store.get("ann", "a") == corrected
    assert (corrected.affect.emotion, corrected.affect.confidence) == ("angry", 1.0)
    assert (corrected.affect.valence, corrected.affect.arousal) == CIRCUMPLEX["angry"]
    assert corrected.affect.evidence == before.affect.evidence
    assert [revision.affect for revision in corrected.revisions] == [before.affect]
    assert provenance(corrected)["affect"] == "said"
    assert provenance(before)["affect"] == "perceived"
    found = store.recall("ann", Query("", affect_of("angry"), now=NOW, limit=1))
    assert ids(one.episode for one in found) == ["a"]


def test_corrections_add_up_and_lose_nothing(store: InMemoryStore):
    correct(store, "ann", "b", text="work was hardly hard")
    corrected = correct(store, "ann", "b", emotion="happy")
    again = correct(store, "ann", "b", emotion="neutral")
    assert again.text == "work was hardly hard"
    assert [r.text for r in again.revisions] == ["work was hard", None, None]
    assert [r.affect and r.affect.emotion for r in again.revisions] == [None, "sad", "happy"]
    assert again.revisions[:2] == corrected.revisions


def test_facts_follow_corrected_words(store: InMemoryStore):
    store.add(episode_of("e", "My sister is called Hanna.", at=NOW))
    store.put_facts("ann", derive([], [store.get("ann", "e")], store.embedder.embed))
    assert [fact.text for fact in store.facts("ann")] == ["Their sister is called Hanna."]
    correct(store, "ann", "e", text="My sister is called Anna.")
    assert [fact.text for fact in store.facts("ann") if fact.valid_to is None] == ["Their sister is called Anna."]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [({}, "nothing to correct"), ({"emotion": "meh"}, "choose from neutral"), ({"text": " "}, "forget it")],
)
def test_a_correction_that_says_nothing_is_refused(store: InMemoryStore, wrong: dict, complaint: str):
    with pytest.raises(ValueError, match=complaint):
        correct(store, "ann", "a", **wrong)
    with pytest.raises(ValueError, match="no episode z"):
        correct(store, "ann", "z", emotion="sad")
    assert store.get("ann", "a").revisions == ()


def test_corrected_feelings_are_samples_to_learn_from(store: InMemoryStore):
    correct(store, "ann", "a", emotion="angry")
    correct(store, "ann", "a", emotion="fear")
    correct(store, "ann", "b", text="other words")
    (row,) = labels(store, "ann")
    assert (row["text"], row["emotion"], row["was"]) == ("my sister Anna called", "fear", "sad")


# ---- choosing --------------------------------------------------------------------------------------------------------


def test_what_is_to_be_forgotten_is_chosen_by_id_time_topic_or_person(store: InMemoryStore):
    assert ids(chosen(store, "ann", ids=["b"])) == ["b"]
    assert ids(chosen(store, "ann", since=NOW - timedelta(days=1))) == ["b", "a"]
    assert ids(chosen(store, "ann", until=NOW - timedelta(days=1))) == ["d", "c"]
    assert ids(chosen(store, "ann", about="hard work")) == ["b"]
    assert ids(chosen(store, "ann", person="anna")) == ["c", "a"]
    assert ids(chosen(store, "ann", person="Ann")) == []  # a name is not the beginning of another
    assert chosen(store, "bob", about="work") == []
    with pytest.raises(ValueError, match="no episode z"):
        chosen(store, "ann", ids=["z"])
    with pytest.raises(ValueError, match="no words"):
        chosen(store, "ann", about="?!")


def test_a_person_is_also_what_a_fact_says_they_are(store: InMemoryStore):
    store.add(episode_of("e", "My sister's car broke down", at=NOW))
    fact = Fact("1", "ann", "person", "person/sister/name", "Anna", "Their sister is called Anna.", "said", NOW)
    store.put_facts("ann", [fact])
    assert ids(chosen(store, "ann", person="Anna")) == ["c", "a", "e"]


# ---- forgetting ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 1300])  # more than Chroma writes to its index at once
def test_nothing_in_the_files_knows_what_was_forgotten(tmp_path: Path, n: int):
    with closing(ChromaStore(tmp_path, FakeEmbedder())) as store:
        store.add_all(episode_of(f"turn-{i}", f"turn {i}: {SECRET}", at=NOW - timedelta(hours=i)) for i in range(n))
        store.add(episode_of("b", f"bob saw {i}" if (i := 1) else "", user="bob"))
        fact = Fact("1", "ann", "event", "event/umbrella", "drowned", f"They say {SECRET}.", "said", NOW)
        store.put_facts("ann", [replace(fact, episodes=("turn-0",))])
        assert find_traces(tmp_path, [SECRET]).traces
        vector = store.embedder.embed([f"turn 0: {SECRET}"])[0]
        assert store.forget("ann", [f"turn-{i}" for i in range(n)]) == n
        assert find_traces(tmp_path, [SECRET, "turn 0: my violet"]).traces == ()
        assert not any(vector.tobytes() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
        assert store.facts("ann", history=True) == []
        assert ids(store.list("bob")) == ["b"]
        store.add(episode_of("later", "it goes on"))
        assert ids(store.list("ann")) == ["later"]
    assert find_traces(tmp_path, [SECRET]).traces == ()


def test_forgetting_one_of_many_leaves_the_others_found(tmp_path: Path):
    with closing(ChromaStore(tmp_path, FakeEmbedder())) as store:
        others = [episode_of(f"turn-{i}", f"word{i} again", at=NOW - timedelta(hours=i)) for i in range(1100)]
        store.add_all([episode_of("secret", SECRET, at=NOW), *others])
        store.forget("ann", ["secret"])
        assert find_traces(tmp_path, [SECRET]).traces == ()
        assert store.count("ann") == 1100
        assert ids(r.episode for r in store.recall("ann", Query("word77", policy="factual", limit=1))) == ["turn-77"]
    with closing(ChromaStore(tmp_path, FakeEmbedder())) as store:
        assert store.list("ann", limit=2000) == others


def stop_at(n: int, name: str):
    """The n-th call of a method of collections is a Ctrl-C."""
    calls, real = [], getattr(chromadb.Collection, name)

    def method(*arguments, **options):
        calls.append(name)
        if len(calls) == n:
            raise KeyboardInterrupt
        return real(*arguments, **options)

    return method


def test_a_stop_in_the_middle_of_forgetting_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with closing(ChromaStore(tmp_path, FakeEmbedder())) as store:
        store.add_all(episode_of(f"turn-{i}", at=NOW - timedelta(hours=i)) for i in range(600))
        for moment in ("add", "modify"):  # half a new collection; a whole one that has not its name yet
            with monkeypatch.context() as patch:
                patch.setattr(chromadb.Collection, moment, stop_at(2 if moment == "add" else 1, moment))
                with pytest.raises(KeyboardInterrupt):
                    store.forget("ann", ["turn-7"])
            store.close()
            store = ChromaStore(tmp_path, FakeEmbedder())
            assert store.count("ann") == (600 if moment == "add" else 599)
        assert store.get("ann", "turn-7") is None
        store.close()


def test_traces_are_found_in_every_form(tmp_path: Path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_bytes(b"\x00" + SECRET.encode() + b"\x00")
    (tmp_path / "b").write_text('{"said": "caf\\u00e9 in the rain"}')
    (tmp_path / "c").write_bytes("hello \U0001f642 world".encode("utf-16-le"))
    found = find_traces(tmp_path, [SECRET, "café in the rain", "hello \U0001f642 world", "short"])
    assert sorted((trace.path.name, trace.n) for trace in found.traces) == [("a", 1), ("b", 1), ("c", 1)]
    assert found.n_files == 3
    assert find_traces(tmp_path, ["never was said"]).traces == ()


# ---- encrypting ------------------------------------------------------------------------------------------------------


def test_an_encrypted_memory_holds_no_words_and_is_searched_all_the_same(tmp_path: Path):
    key, other = new_key(), new_key()
    with closing(ChromaStore(tmp_path, FakeEmbedder(), cipher=Cipher(key))) as store:
        store.add_all([episode_of("a", SECRET, "sad", at=NOW), episode_of("b", "it rains", at=NOW)])
        store.put_facts("ann", [Fact("1", "ann", "life", "life/home", "Bonn", f"They know {SECRET}.", "said", NOW)])
        found = store.recall("ann", Query("violet umbrella", affect_of("sad"), now=NOW, limit=1))
        assert found[0].episode.text == SECRET
        assert find_traces(tmp_path, [SECRET, "I hear you."]).traces == ()
    for cipher, complaint in ((None, "is encrypted"), (Cipher(other), "another key")):
        with pytest.raises(MemoryStoreError, match=complaint):
            ChromaStore(tmp_path, FakeEmbedder(), cipher=cipher)
    with closing(ChromaStore(tmp_path, FakeEmbedder(), cipher=Cipher(f"{other},{key}"))) as store:  # a key is changed
        assert store.get("ann", "a").text == SECRET
    with pytest.raises(MemoryStoreError, match="is not a key"):
        Cipher("not a key")


def test_a_plain_memory_is_not_half_encrypted(tmp_path: Path):
    with closing(ChromaStore(tmp_path, FakeEmbedder())) as store:
        store.add(episode_of("a"))
    with pytest.raises(MemoryStoreError, match="is not encrypted: export it"):
        ChromaStore(tmp_path, FakeEmbedder(), cipher=Cipher(new_key()))


# ---- earlier versions ------------------------------------------------------------------------------------------------

FIRST = (
    '{{"schema":1,"episode":{{"id":"{id}","user":"ann","thread_id":"main","at":"{at}","text":"{text}","reply":"I see.",'
    '"affect":{{"sentiment":-0.7,"emotion":"sad","emotions":{{"sad":1.0}},"valence":-0.7,"arousal":-0.4,"confidence":1.0,'
    '"open":[],"evidence":{{"text":null,"voice":null,"face":null,"fusion":null}},"absent":{{}}}},"understanding":null,'
    '"route":"empathize","strategy":"comfort","modalities":["text"],"recalled":[],"model_version":"first"}}}}'
)


def first_release(folder: Path, texts: list[str]) -> None:
    """A memory as version 0.1.0 wrote it: times in the ids, words in Chroma's documents, vectors without marks."""
    embedder = FakeEmbedder()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "store.json").write_text('{"schema": 1, "text": 64, "affect": 10}')
    client = chromadb.PersistentClient(str(folder))
    collection = client.create_collection(
        "user-" + __import__("hashlib").blake2b(b"ann", digest_size=24).hexdigest(),
        embedding_function=None,
        configuration={"hnsw": {"space": "ip"}},
        metadata={"user": "ann"},
    )
    for i, text in enumerate(texts):
        at = NOW - timedelta(hours=i)
        feeling = np.full(10, 10**-0.5, np.float32)
        document = FIRST.format(id=f"turn-{i}", at=at.isoformat(), text=text)
        collection.add(
            ids=[f"{int(at.timestamp() * 1e6)}/turn-{i}"],
            embeddings=np.concatenate([embedder.embed([text])[0], feeling])[None],
            documents=[text],
            metadatas=[
                {"id": f"turn-{i}", "at": at.timestamp(), "thread": "main", "intensity": 0.7, "episode": document}
            ],
        )
    client.close()


def test_the_first_release_s_memory_is_upgraded_and_nothing_is_lost(tmp_path: Path):
    texts = [f"word{i} of old" for i in range(300)]
    first_release(tmp_path, texts)
    for _ in range(2):  # once upgraded, it is opened as it is
        with closing(ChromaStore(tmp_path, FakeEmbedder())) as store:
            assert [episode.text for episode in store.list("ann", limit=500)] == texts
            assert store.get("ann", "turn-7").strategy == "comfort"
            best = store.recall("ann", Query("word77", affect_of("sad"), now=NOW, limit=1))[0]
            assert best.episode.id == "turn-77"
            assert best.parts["recency"] > 0
    with closing(sqlite3.connect(tmp_path / "chroma.sqlite3")) as database:
        assert database.execute("select count(*) from embedding_fulltext_search_content").fetchone() == (0,)


def test_an_upgrade_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first_release(tmp_path, [f"word{i}" for i in range(20)])
    with monkeypatch.context() as patch:
        patch.setattr(chromadb.Collection, "modify", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            ChromaStore(tmp_path, FakeEmbedder())
    with closing(ChromaStore(tmp_path, FakeEmbedder())) as store:
        assert store.count("ann") == 20
        assert store.get("ann", "turn-19").text == "word19"


# ---- explaining ------------------------------------------------------------------------------------------------------


def test_a_reply_is_explained_by_what_it_recalled_also_where_that_is_gone(store: InMemoryStore):
    from memory.types import Recalled

    fact = Fact("f", "ann", "life", "life/home", "Bonn", "They live in Bonn.", "said", NOW)
    store.put_facts("ann", [fact])
    recalled = (Recalled("a", 1.2, {"text": 1.2}), Recalled("f", 0.5), Recalled("gone", 0.1))
    store.add(replace(episode_of("e", "she called again", at=NOW), recalled=recalled))
    found = explain(store, "ann", "e")
    assert [memory and memory.id for _, memory in found.recalled] == ["a", "f", None]
    with pytest.raises(ValueError, match="no episode z"):
        explain(store, "ann", "z")
