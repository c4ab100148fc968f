"""The contract of `MemoryStore`, against every implementation."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory.chroma import ChromaStore
from memory.cipher import Cipher, new_key
from memory.errors import MemoryStoreError
from memory.policy import WEIGHTS, cue_for
from memory.scoring import episode_vector
from memory.store import InMemoryStore, MemoryStore
from memory.types import Episode, Fact, Felt, Query, Recalled
from model.types import EMOTIONS, INTENTS, Evidence, Understanding
from perception.types import Absence
from tests.chroma_server import chroma_server
from tests.fakes import FakeEmbedder, affect_of, episode_of

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WORDS = ["my", "sister", "called", "about", "the", "wedding", "and", "rain", "ruined", "our", "long", "walk", "again"]


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with chroma_server(tmp_path_factory.mktemp("server")) as url:
        yield url


@pytest.fixture(params=["in memory", "folder", "encrypted folder", "folder apart", "server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryStore]:
    embedder = FakeEmbedder()
    store: MemoryStore
    if request.param == "in memory":
        store = InMemoryStore(embedder)
    elif request.param == "server":
        store = ChromaStore(request.getfixturevalue("server"), embedder)
    else:
        cipher = Cipher(new_key()) if request.param.startswith("encrypted") else None
        store = ChromaStore(tmp_path, embedder, cipher=cipher, apart=request.param.endswith("apart"))
    yield store
    if request.param == "server":  # what the next test does not expect there
        for user in (*store.users(), "ann"):
            store.forget(user)
    store.close()


def on_a_server(store: MemoryStore) -> bool:
    return isinstance(store, ChromaStore) and store._collections.folder is None


def many(n: int, user: str = "ann") -> list[Episode]:
    """Varied episodes of one person, an hour apart, the last of them at NOW."""
    random = np.random.default_rng(5)
    return [
        episode_of(
            f"turn-{i}",
            " ".join(random.choice(WORDS, 5)),
            user=user,
            at=NOW - timedelta(hours=n - 1 - i),
            thread_id=f"thread-{i % 3}",
            affect=affect_of(str(random.choice(EMOTIONS)), float(random.uniform(0.3, 1))),
        )
        for i in range(n)
    ]


def fill(store: MemoryStore, episodes: list[Episode]) -> list[Episode]:
    for episode in episodes:
        store.add(episode)
    return episodes


def ids(found: list) -> list[str]:
    return [getattr(one, "episode", one).id for one in found]


def test_an_episode_comes_back_whole(store: MemoryStore):
    felt = replace(
        affect_of("sad", 0.7),
        open=("let down", "tired"),
        evidence=Evidence(text={"sad": 1 / 3}, fusion={"sad": 0.1 + 0.2}),
        absent={"face": Absence.NO_CONSENT},
    )
    understood = Understanding("a call", "she forgot", "she never", "Complain", {i: 1 / 30 for i in INTENTS})
    episode = episode_of("id/with odd\x00 ünï 🙂", "line\nwith \x00 and 🙂", affect=felt, understanding=understood)
    episode = replace(
        episode,
        modalities=("text", "voice"),
        recalled=(Recalled("a", 1.5, {"text": 1.5}), Recalled("b", 0.1)),
        at=NOW.replace(microsecond=123457),
    )
    store.add(episode)
    assert store.get("ann", episode.id) == episode
    assert store.list("ann") == [episode]
    assert store.recall("ann", Query("line", felt))[0].episode == episode


def test_another_version_of_an_episode_takes_its_place(store: MemoryStore):
    fill(store, many(3))
    before = store.get("ann", "turn-1")
    assert before is not None
    known = replace(before, affect=affect_of("angry"), after=(Felt("turn-2", "happy", 0.8, 0.5),))
    assert store.change("ann", "turn-1", lambda episode: known) == known
    assert store.get("ann", "turn-1") == known
    assert store.count("ann") == 3
    found = store.recall("ann", Query(before.text, affect_of("sad"), "counter", now=NOW))
    assert found[0].episode == known
    assert found[0].parts["helped"] > 0
    with pytest.raises(MemoryStoreError, match="no episode 'turn-9'"):
        store.change("ann", "turn-9", lambda episode: known)
    with pytest.raises(MemoryStoreError, match="no episode 'turn-1'"):
        store.change("bob", "turn-1", lambda episode: known)
    for other in (replace(known, at=NOW), replace(known, user="bob"), replace(known, id="turn-9")):
        with pytest.raises(ValueError, match="needs a new episode"):
            store.change("ann", "turn-1", lambda episode, other=other: other)
    assert store.get("ann", "turn-1") == known


def test_several_are_changed_together_or_none_is(store: MemoryStore):
    fill(store, many(3))
    before = {episode.id: episode for episode in store.list("ann")}

    def angry(episode: Episode) -> Episode:
        return replace(episode, affect=affect_of("angry"))

    with pytest.raises(MemoryStoreError, match="no episode 'turn-9'"):
        store.change_all("ann", {"turn-0": angry, "turn-9": angry})
    assert store.get("ann", "turn-0") == before["turn-0"]
    changed = store.change_all("ann", {id: angry for id in ("turn-2", "turn-0")})
    assert [episode.id for episode in changed] == ["turn-2", "turn-0"]
    assert [store.get("ann", episode.id) for episode in changed] == changed
    assert store.get("ann", "turn-1") == before["turn-1"]
    assert store.change_all("ann", {}) == []


def test_words_that_stay_are_not_embedded_again_and_others_are_found(store: MemoryStore):
    fill(store, [episode_of("a", "the garden is green"), episode_of("b", "the street is loud")])
    vectors = {"a": replace(store.get("ann", "a"), affect=affect_of("happy"))}  # type: ignore[type-var]
    store.change("ann", "a", lambda episode: vectors["a"])
    store.change("ann", "b", lambda episode: replace(episode, text="a boat on the lake"))
    for words, id in (("the garden is green", "a"), ("a boat on the lake", "b")):
        best = store.recall("ann", Query(words, policy="factual", now=NOW))[0]
        assert best.episode.id == id
        assert best.parts["text"] == pytest.approx(1, abs=1e-3)


def test_many_are_kept_at_once_and_none_twice(store: MemoryStore):
    episodes = many(300) + many(20, "bob")
    store.add(episodes[7])
    assert store.add_all([*episodes, episodes[0], episodes[3]]) == 319
    assert store.add_all(episodes) == 0
    assert (store.count("ann"), store.count("bob")) == (300, 20)
    assert sorted(store.walk("ann"), key=lambda e: e.at) == episodes[:300]
    assert list(store.walk("nobody")) == []
    other = replace(episodes[1], text="other words")
    with pytest.raises(MemoryStoreError, match="'turn-1' is already kept"):
        store.add_all([other])


def test_what_is_forgotten_is_nowhere_and_the_rest_is_as_it_was(store: MemoryStore):
    episodes = many(30)
    fill(store, [*episodes, episode_of("turn-3", "bob's own", user="bob")])
    gone = [f"turn-{i}" for i in (3, 4, 29)]
    assert store.forget("ann", [*gone, "never was"]) == 3
    kept = [episode for episode in episodes if episode.id not in gone]
    assert store.list("ann", limit=50) == kept[::-1]
    assert store.get("ann", "turn-3") is None
    found = store.recall("ann", Query("my sister", affect_of("sad"), limit=50, now=NOW))
    assert sorted(ids(found)) == sorted(ids(kept))
    assert store.get("bob", "turn-3") is not None
    store.add(episodes[3])
    assert store.count("ann") == 28
    assert store.forget("ann") == 28
    assert store.users() == ("bob",)
    assert (store.list("ann"), store.facts("ann", history=True), store.forget("ann")) == ([], [], 0)


def fact_of(id: str, text: str = "Their sister is called Anna.", **fields: Any) -> Fact:
    fields = {
        "user": "ann",
        "kind": "person",
        "key": "person/sister/name",
        "value": "Anna",
        "provenance": "said",
    } | fields
    return Fact(id=id, text=text, valid_from=fields.pop("valid_from", NOW), **fields)


def test_facts_are_kept_recalled_and_superseded(store: MemoryStore):
    anna, walks = fact_of("1", episodes=("turn-1",)), fact_of("2", "They like long walks.", key="preference/walks")
    store.put_facts("ann", [anna, walks])
    assert store.facts("ann") == [anna, walks]
    (best, other) = store.recall_facts("ann", "long walks")
    assert (best.fact, other.fact) == (walks, anna)
    assert best.score > other.score
    assert store.recall_facts("bob", "long walks") == store.facts("bob") == []
    ended = replace(walks, valid_to=NOW + timedelta(days=1), superseded_by="3")
    store.put_facts("ann", [ended])
    assert store.facts("ann") == [anna]
    assert store.facts("ann", history=True) == [anna, ended]
    assert [one.fact for one in store.recall_facts("ann", "long walks")] == [anna]
    with pytest.raises(ValueError, match="somebody else"):
        store.put_facts("bob", [anna])


def test_facts_go_with_the_episodes_they_follow_from(store: MemoryStore):
    fill(store, many(3))
    facts = [fact_of("1", episodes=("turn-0",)), fact_of("2", "They like walks.", episodes=("turn-0", "turn-1")),
             fact_of("3", "They live in Bonn.", episodes=("turn-2",))]  # fmt: skip
    store.put_facts("ann", facts)
    store.forget("ann", ["turn-0"])
    assert store.facts("ann") == [facts[2]]
    assert {one.fact.id for one in store.recall_facts("ann", "walks in Bonn")} == {"3"}


def test_what_holds_is_found_behind_much_that_held_before(store: MemoryStore):
    past = [fact_of(f"old {i}", f"They live in Bonn {i}.", valid_to=NOW) for i in range(60)]
    store.put_facts("ann", [*past, fact_of("now", "They moved away.")])
    assert [one.fact.id for one in store.recall_facts("ann", "They live in Bonn.")] == ["now"]


def test_changes_made_at_once_are_all_kept(store: MemoryStore):
    if on_a_server(store):
        pytest.skip("several processes may write to a server, and the last one wins")
    store.add(episode_of("a", at=NOW))

    def felt(name: str) -> None:
        for i in range(5):
            add = lambda e, i=i: replace(e, after=(*e.after, Felt(f"{name}{i}", "sad", 0.0, 0.0)))  # noqa: E731
            store.change("ann", "a", add)

    threads = [threading.Thread(target=felt, args=(name,)) for name in "xyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = store.get("ann", "a")
    assert kept is not None
    assert len(kept.after) == 15


def test_what_comes_back_keeps_within_its_budget(store: MemoryStore):
    fill(store, [episode_of("long", "my sister " * 40, at=NOW), episode_of("short", "my sister", at=NOW)])
    query = Query("my sister", affect_of("neutral"), now=NOW)
    assert set(ids(store.recall("ann", query))) == {"long", "short"}
    assert ids(store.recall("ann", replace(query, budget=10))) == ["short"]


def test_a_thousand_random_questions_of_fifty_people_never_reach_another(store: MemoryStore):
    chance = np.random.default_rng(17)
    people = [f"person {n}" for n in range(50)]
    for n, user in enumerate(people):
        store.add_all(replace(e, text=f"{e.text} secret{n}", id=f"{e.id}/{n}") for e in many(3, user))
        store.put_facts(user, [fact_of("1", f"They keep secret{n}.", user=user)])
    for _ in range(250 if on_a_server(store) else 1000):
        n, other = chance.choice(50, 2, replace=False)
        words = " ".join(chance.choice(WORDS, 3)) + f" secret{other} {people[other]}"
        policy = str(chance.choice(["congruent", "counter", "factual"]))
        since = NOW - timedelta(hours=int(chance.integers(0, 5))) if chance.random() < 0.3 else None
        query = Query(words, affect_of(str(chance.choice(EMOTIONS))), policy, limit=20, now=NOW, since=since)
        asked = int(chance.integers(0, 5))
        if asked == 0:
            found = store.recall(people[n], query)
        elif asked == 1:
            found = [one.fact for one in store.recall_facts(people[n], words, 20)]
        elif asked == 2:
            found = store.list(people[n], limit=50, thread_id=str(chance.choice(["thread-1", people[other]])))
        elif asked == 3:
            crafted = [f"turn-1/{other}", people[other], "*", f"user-{other}", f"new-user-{other}", "' or '1'='1"]
            found = [one for one in [store.get(people[n], str(chance.choice(crafted)))] if one is not None]
        else:
            found = [*store.walk(people[n]), *store.facts(people[n], history=True)]
        assert all(getattr(one, "episode", one).user == people[n] for one in found)


def test_an_empty_memory_answers_everything_with_nothing(store: MemoryStore):
    assert store.get("ann", "turn-1") is None
    assert store.recall("ann", Query("hello", affect_of("sad"))) == []
    assert store.list("ann") == []
    assert store.count("ann") == 0
    assert store.users() == ()


def test_adding_the_same_episode_again_changes_nothing(store: MemoryStore):
    episode = episode_of("a", "once")
    store.add(episode)
    store.add(
        replace(episode, affect=replace(episode.affect, emotions=dict(reversed(episode.affect.emotions.items()))))
    )
    assert store.count("ann") == 1
    assert store.list("ann") == [episode]


@pytest.mark.parametrize("change", [{"text": "other"}, {"at": NOW}, {"affect": affect_of("sad")}])
def test_an_id_cannot_be_given_to_other_content(store: MemoryStore, change: dict):
    store.add(episode_of("a", "once"))
    with pytest.raises(MemoryStoreError, match="'a' is already kept"):
        store.add(replace(episode_of("a", "once"), **change))
    assert store.list("ann") == [episode_of("a", "once")]


def test_a_page_is_newest_first_and_pages_do_not_overlap(store: MemoryStore):
    episodes = many(7)
    fill(store, episodes[3:] + episodes[:3])  # the order of adding does not matter
    assert store.list("ann", limit=50) == episodes[::-1]
    pages = [ids(store.list("ann", limit=3, offset=offset)) for offset in (0, 3, 6, 9)]
    assert pages == [["turn-6", "turn-5", "turn-4"], ["turn-3", "turn-2", "turn-1"], ["turn-0"], []]


@pytest.mark.parametrize("order", ["as they happened", "backwards", "shuffled"])
def test_the_newest_few_are_found_whatever_the_order_they_came_in(store: MemoryStore, order: str):
    chance = np.random.default_rng(11)
    start = datetime(1969, 12, 31, 23, 59, 58, tzinfo=UTC)  # several to an instant, seconds cut in two, around 1970
    episodes = [episode_of(f"turn-{i:02}", at=start + timedelta(microseconds=i // 3 * 333_333)) for i in range(40)]
    shuffled = [episodes[i] for i in chance.permutation(len(episodes))]
    fill(store, {"as they happened": episodes, "backwards": episodes[::-1], "shuffled": shuffled}[order])
    expected = sorted(episodes, key=lambda e: (-e.at.timestamp(), e.id))
    for limit in (0, 1, 4, 10, 40):
        for offset in (0, 1, 6, 39):
            assert store.list("ann", limit=limit, offset=offset) == expected[offset : offset + limit]


def test_episodes_of_one_instant_are_listed_by_id(store: MemoryStore):
    fill(store, [episode_of(id, at=NOW) for id in ("b", "c", "a")])
    assert ids(store.list("ann")) == ["a", "b", "c"]


def test_a_list_can_be_narrowed_to_a_thread_and_a_time(store: MemoryStore):
    fill(store, many(9))
    assert ids(store.list("ann", thread_id="thread-1")) == ["turn-7", "turn-4", "turn-1"]
    since, until = NOW - timedelta(hours=6), NOW - timedelta(hours=3)
    assert ids(store.list("ann", since=since, until=until)) == ["turn-4", "turn-3", "turn-2"]
    assert ids(store.list("ann", since=since, until=until, thread_id="thread-1")) == ["turn-4"]
    assert store.list("ann", thread_id="thread-9") == []


def test_times_before_1970_and_between_microseconds_keep_their_order(store: MemoryStore):
    times = [datetime(1955, 3, 1, tzinfo=UTC), NOW, NOW + timedelta(microseconds=1)]
    fill(store, [episode_of(str(i), at=at) for i, at in enumerate(times)])
    assert ids(store.list("ann")) == ["2", "1", "0"]
    assert ids(store.list("ann", until=times[2])) == ["1", "0"]
    assert ids(store.list("ann", since=times[2])) == ["2"]


def test_recall_ranks_by_words_and_feeling_as_brute_force_does(store: MemoryStore):
    episodes = fill(store, many(40))
    embedder = FakeEmbedder()
    query = Query("the wedding of my sister", affect_of("angry", 0.8), limit=40, now=NOW)
    cue = cue_for(query, embedder)
    assert cue is not None
    found = store.recall("ann", query)
    assert sorted(ids(found)) == sorted(ids(episodes))
    for one in found:
        vector = episode_vector(embedder.embed([one.episode.text])[0], one.episode)
        searched = sum(one.parts[name] for name in ("text", "affect", "importance", "helped"))
        assert searched == pytest.approx(float(vector @ cue.vector), abs=1e-5)
        assert one.score == pytest.approx(sum(one.parts.values()))
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_congruent_recall_brings_what_felt_alike_and_counter_what_was_brighter(store: MemoryStore):
    for emotion in ("sad", "happy", "angry", "neutral"):
        store.add(episode_of(emotion, "dinner with my sister", emotion, at=NOW))
    felt = affect_of("sad", 0.8)
    assert ids(store.recall("ann", Query("my sister", felt, "congruent", limit=1, now=NOW))) == ["sad"]
    assert ids(store.recall("ann", Query("my sister", felt, "counter", limit=3, now=NOW))) == ["happy"]


def test_factual_recall_ignores_what_was_felt(store: MemoryStore):
    store.add(episode_of("asked", "my dentist is called Dr Bell", "happy", at=NOW))
    store.add(episode_of("felt", "everything hurts", "fear", at=NOW))
    found = store.recall("ann", Query("who is my dentist", affect_of("fear"), "factual", limit=2, now=NOW))
    assert ids(found) == ["asked", "felt"]
    assert found[0].parts["affect"] == 0


def test_recall_without_a_policy_or_a_cue_brings_nothing(store: MemoryStore):
    fill(store, many(3))
    assert store.recall("ann", Query("my sister", affect_of("sad"), "none")) == []
    assert store.recall("ann", Query(" ", None)) == []
    assert store.recall("ann", Query("my sister", affect_of("sad"), limit=0)) == []


def test_recall_gives_no_more_than_there_is(store: MemoryStore):
    fill(store, many(3))
    assert len(store.recall("ann", Query("my sister", affect_of("sad"), limit=500, now=NOW))) == 3


def test_excluded_episodes_do_not_take_the_place_of_others(store: MemoryStore):
    fill(store, many(60))
    query = Query("my sister", affect_of("sad"), limit=55, now=NOW)
    first = frozenset(ids(store.recall("ann", query)))
    second = frozenset(ids(store.recall("ann", replace(query, limit=5, exclude=first))))
    assert (len(first), len(second), first & second) == (55, 5, frozenset())
    everything = frozenset(f"turn-{i}" for i in range(60))
    assert store.recall("ann", replace(query, exclude=everything)) == []


def test_recall_in_a_narrow_window_finds_what_is_there_among_many(store: MemoryStore):
    fill(store, many(80))  # more than are searched before the window is looked at
    since, until = NOW - timedelta(hours=50), NOW - timedelta(hours=47)
    query = Query("my sister", affect_of("sad"), limit=5, now=NOW, since=since, until=until)
    assert sorted(ids(store.recall("ann", query))) == ["turn-29", "turn-30", "turn-31"]
    assert store.recall("ann", replace(query, since=NOW + timedelta(days=1), until=None)) == []


def test_a_window_is_exact_to_the_microsecond(store: MemoryStore):
    fill(store, [episode_of(str(i), "my sister", at=NOW + timedelta(milliseconds=i)) for i in (-4, 0, 4)])
    query = Query("my sister", affect_of("neutral"), now=NOW, since=NOW, until=NOW + timedelta(milliseconds=4))
    assert ids(store.recall("ann", query)) == ["0"]


def test_a_recent_episode_is_recalled_before_the_same_one_long_ago(store: MemoryStore):
    store.add(episode_of("old", "my sister", "sad", at=NOW - timedelta(days=300)))
    store.add(episode_of("new", "my sister", "sad", at=NOW - timedelta(days=1)))
    found = store.recall("ann", Query("my sister", affect_of("sad"), now=NOW))
    assert ids(found) == ["new", "old"]
    assert 0 < found[1].parts["recency"] < found[0].parts["recency"] < WEIGHTS["congruent"].recency


ODD_NAMES = [
    "ann",
    "Ann",
    "ann ",
    "../ann",
    "a" * 500,
    "a" * 499 + "b",
    "安娜",
    "é",
    "e\u0301",
    "1",
    "x\x00y",
    "%",
    "user-1",
]


def test_people_never_see_each_other_whatever_their_names(store: MemoryStore):
    for name in ODD_NAMES:
        store.add(episode_of("same id", f"secret of {name}", "sad", user=name))
    assert store.users() == tuple(sorted(ODD_NAMES))
    for name in ODD_NAMES:
        own = episode_of("same id", f"secret of {name}", "sad", user=name)
        query = Query(" ".join(f"secret of {other}" for other in ODD_NAMES), affect_of("sad"), limit=50)
        assert [one.episode for one in store.recall(name, query)] == [own]
        assert store.list(name, limit=50) == [own]
        assert store.get(name, "same id") == own
        assert store.count(name) == 1


@pytest.mark.parametrize("crafted", ["bob/1", "1/bob", "bob", "user-bob", "*", "' or 1=1 --", "../bob/1"])
def test_a_crafted_id_reaches_nobody_elses_episode(store: MemoryStore, crafted: str):
    store.add(episode_of("1", "bob's secret", user="bob"))
    store.add(episode_of("2", "ann's own", user="ann"))
    assert store.get("ann", crafted) is None
    store.add(episode_of(crafted, "crafted", user="ann"))
    assert {one.user for one in store.list("ann")} == {"ann"}
    assert store.list("bob") == [episode_of("1", "bob's secret", user="bob")]
    assert store.get("ann", "1") is None


@pytest.mark.parametrize("name", ["", "a" * 513, "half \ud800"])
def test_names_and_ids_that_cannot_be_are_refused(store: MemoryStore, name: str):
    for call in (
        store.count,
        store.list,
        lambda user: store.get(user, "a"),
        lambda user: store.recall(user, Query("a")),
    ):
        with pytest.raises(ValueError, match="memory's user"):
            call(name)
    with pytest.raises(ValueError, match="memory's user"):
        store.add(episode_of("a", user=name))
    with pytest.raises(ValueError, match="memory's id"):
        store.add(episode_of(name))


def test_a_time_without_a_zone_is_refused(store: MemoryStore):
    naive = datetime(2026, 1, 1)
    with pytest.raises(ValueError, match="without a zone"):
        store.add(episode_of("a", at=naive))
    store.add(episode_of("a"))
    with pytest.raises(ValueError, match="without a zone"):
        store.list("ann", since=naive)
    with pytest.raises(ValueError, match="without a zone"):
        store.recall("ann", Query("a", until=naive))


def test_changing_an_episode_after_adding_changes_no_memory(store: MemoryStore):
    episode = episode_of("a")
    store.add(episode)
    episode.affect.emotions["neutral"] = 0.0
    kept = store.get("ann", "a")
    assert kept is not None
    assert kept.affect.emotions["neutral"] == 1.0


def test_threads_can_add_and_recall_at_once(store: MemoryStore):
    failures: list[BaseException] = []

    def work(user: str) -> None:
        try:
            for i in range(8):
                store.add(episode_of(f"turn-{i}", "my sister", "sad", user=user))
                store.add(episode_of(f"turn-{i}", "my sister", "sad", user="shared"))
                assert len(store.recall(user, Query("sister", affect_of("sad"), limit=9))) == i + 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"user-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert {store.count(f"user-{n}") for n in range(4)} | {store.count("shared")} == {8}
