"""`emox memory`: what a person sees of their memory, and does with it, through the command line."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent import cli, conversations, opening
from agent.conversations import forget_dialogues
from agent.settings import load_settings
from agent.state import checkpoint_id
from memory.chroma import ChromaStore
from memory.cipher import keep_in_keyring, new_key
from memory.derive import derive
from memory.digest import outcomes
from memory.errors import MemoryStoreError
from memory.files import find_traces
from memory.types import Fact, Felt
from tests.agent.test_graph import agent_of
from tests.fakes import FakeEmbedder, affect_of, episode_of

NOW = datetime.now(UTC)
SECRET = "my violet umbrella drowned in the harbour"


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "140")
    return tmp_path / "home"


def open_store(settings):
    return ChromaStore(settings.home / "memory", FakeEmbedder(), cipher=opening.open_cipher(settings))


@pytest.fixture
def emox(home, monkeypatch, capsys):
    """The command line on a home with real files, the embedder alone a fake."""
    monkeypatch.setattr(opening, "open_store", open_store)

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["memory", *arguments])
        told = capsys.readouterr()
        return exit_.value.code or 0, told.out, told.err

    return call


def remember(*episodes, facts=()):
    store = open_store(load_settings())
    store.add_all(episodes)
    store.put_facts("me", list(facts))
    store.close()


def days_ago(n, id, text, emotion="sad", **fields):
    return episode_of(id, text, emotion, user="me", at=NOW - timedelta(days=n), **fields)


def test_facts_are_listed_with_what_they_follow_from(emox):
    anna = Fact("1", "me", "person", "person/sister/name", "Anna", "Their sister is called Anna.", "said", NOW,
                episodes=("a",))  # fmt: skip
    remember(facts=[anna, replace(anna, id="0", value="Ann", valid_to=NOW, superseded_by="1")])
    assert [fact["id"] for fact in json.loads(emox("facts", "--json")[1])["facts"]] == ["1"]
    assert len(json.loads(emox("facts", "--history", "--json")[1])["facts"]) == 2
    assert "Their sister is called Anna." in emox("facts")[1]


def test_a_search_for_a_time_stays_in_it(emox):
    remember(days_ago(40, "old", "my sister called"), days_ago(1, "new", "my sister called again"))
    found = json.loads(emox("search", "my sister called yesterday", "--json")[1])["found"]
    assert [row["episode"]["id"] for row in found] == ["new"]
    assert set(found[0]["parts"]) >= {"text", "affect", "recency", "importance"}
    assert len(json.loads(emox("search", "my sister called", "--json")[1])["found"]) == 2


def test_the_timeline_is_drawn_and_told(emox, tmp_path):
    remember(*(days_ago(n, f"t{n}", f"day {n}", "sad" if n > 4 else "happy") for n in range(9)))
    told = json.loads(emox("timeline", "--json")[1])
    assert [point["id"] for point in told["points"]] == [f"t{n}" for n in range(8, -1, -1)]
    assert told["mood"]["n"] == 9
    assert told["mood"]["trend"]["per_week"] > 0
    assert [point["emotion"] for point in told["points"]][::8] == ["sad", "happy"]
    status, out, _ = emox("timeline", "--out", str(tmp_path / "line.svg"))
    assert status == 0
    assert "happy" in out
    assert "day 3" in out
    assert "mood now: valence" in out
    assert b"<svg" in (tmp_path / "line.svg").read_bytes()
    assert len(json.loads(emox("timeline", "--since", "3 days ago", "--json")[1])["points"]) <= 4
    assert "nothing is remembered" in emox("timeline", "--user", "bob")[1]
    status, _, err = emox("timeline", "--out", str(tmp_path / "line.bmp"))
    assert (status, "line.bmp" in err or "bmp" in err) == (2, True)


def test_why_leads_from_the_reply_to_the_cause(emox, home):
    with agent_of(store=open_store(load_settings())) as agent:
        first = agent.ask("I am sad about my cat, she ran away yesterday.")
        second = agent.ask("I am sad about my cat, she is still away.", thread="other")
        agent.settle()
        agent.store.close()
    told = json.loads(emox("why", second.turn_id, "--json")[1])
    assert told["reply"] == second.reply
    assert told["plan"]["strategy"] == "comfort"
    assert (told["recalled"][0]["id"], told["recalled"][0]["kind"]) == (first.turn_id, "episode")
    assert told["recalled"][0]["parts"]["text"] > 0
    assert told["cause"] == second.understanding.cause
    status, out, _ = emox("why", second.turn_id)
    assert status == 0
    for part in (second.reply, "comfort", "ran away", "sad", "cause"):
        assert part in out
    assert emox("why", "unknown")[0] == 2
    assert emox("show", "unknown")[0] == 2


def test_a_correction_is_shown_and_exported_as_a_label(emox, tmp_path):
    remember(days_ago(1, "a", "I am fine"))
    assert json.loads(emox("correct", "a", "--emotion", "angry", "--json")[1])["affect"]["emotion"] == "angry"
    shown = json.loads(emox("show", "a", "--json")[1])
    assert shown["provenance"]["affect"] == "said"
    assert shown["revisions"][0]["affect"]["emotion"] == "sad"
    path = tmp_path / "labels.jsonl"
    assert json.loads(emox("export", str(path), "--labels", "--json")[1])["labels"] == 1
    (row,) = map(json.loads, path.read_text().splitlines())
    assert (row["text"], row["emotion"], row["was"]) == ("I am fine", "angry", "sad")
    assert emox("correct", "a", "--emotion", "meh")[0] == 2
    assert emox("correct", "a")[0] == 2


def test_a_memory_moves_to_another_machine(emox, tmp_path, monkeypatch):
    after = (Felt("b", "happy", 0.8, 0.5),)
    remember(days_ago(1, "a", "I am fine", after=after), days_ago(0, "b", "I am well", "happy"))
    before = emox("list", "--json")[1]
    told = json.loads(emox("export", str(tmp_path / "memory.jsonl"), "--json")[1])
    assert (told["n_episodes"], told["n_users"]) == (2, 1)
    monkeypatch.setenv("EMOX_HOME", str(tmp_path / "elsewhere"))
    assert json.loads(emox("import", str(tmp_path / "memory.jsonl"), "--json")[1])["n_new"] == 2
    assert emox("list", "--json")[1] == before
    assert emox("import", str(tmp_path / "nowhere.jsonl"))[0] == 2


def test_forgetting_asks_chooses_and_proves(emox, home):
    with agent_of(
        store=open_store(load_settings()), checkpointer=conversations.open_checkpoints(home / "threads.sqlite")
    ) as a:
        said = a.ask(SECRET, user="me")
        a.ask("I am sad about my cat.", user="me", thread="cat")
        a.settle()
        a.store.close()
    assert find_traces(home, [SECRET]).traces
    status, _, err = emox("forget", "--about", "violet umbrella")
    assert (status, "--yes" in err) == (2, True)
    assert find_traces(home, [SECRET]).traces
    told = json.loads(emox("forget", "--about", "violet umbrella", "--yes", "--json")[1])
    assert (told["forgotten"], told["threads"], told["proof"]["traces"]) == (1, ["main"], [])
    assert (told["proof"]["looked_for"] > 0, told["proof"]["not_searched"]) == (True, None)
    assert told["proof"]["files"] > 3
    assert find_traces(home, [SECRET]).traces == ()
    assert emox("show", said.turn_id)[0] == 2
    assert json.loads(emox("list", "--json")[1])["total"] == 1
    status, out, _ = emox("forget", "--all", "--yes")
    assert status == 0
    assert "none hold a trace" in out
    assert json.loads(emox("list", "--json")[1])["total"] == 0


def test_a_fact_that_quotes_what_was_forgotten_is_worded_anew(emox, home):
    said = ["my boss shouts at me again", "my boss shouts at me always", "my boss shouts at me again today",
            "my boss shouts at me every day"]  # fmt: skip
    episodes = [days_ago(9 - n, f"t{n}", text, "angry") for n, text in enumerate(said)]
    remember(*episodes, facts=derive([], episodes, FakeEmbedder().embed))
    (trigger,) = json.loads(emox("facts", "--json")[1])["facts"]
    (quoted,) = (episode for episode in episodes if f'"{episode.text}"' in trigger["text"])
    told = json.loads(emox("forget", "--id", quoted.id, "--yes", "--json")[1])
    assert told["proof"]["traces"] == []
    (anew,) = json.loads(emox("facts", "--json")[1])["facts"]
    assert quoted.id not in anew["episodes"]
    assert quoted.text not in anew["text"].split('"')


def test_a_server_s_files_are_said_not_to_have_been_searched(emox, monkeypatch):
    remember(days_ago(1, "a", SECRET))
    monkeypatch.setenv("EMOX_MEMORY_URL", "http://somewhere:8000")  # the store of these tests is a folder all the same
    assert json.loads(emox("forget", "--id", "a", "--yes", "--json")[1])["proof"]["not_searched"].endswith(":8000")
    assert "were not searched" in emox("forget", "--all", "--yes")[1]
    monkeypatch.setenv("EMOX_THREADS_URL", "postgresql://emox:geheim@somewhere/emox")
    assert load_settings().elsewhere == "http://somewhere:8000 and the database of conversations"


def test_a_key_is_taken_from_the_keyring_only_when_asked(home, monkeypatch):
    keyring = pytest.importorskip("keyring")
    held = {}
    monkeypatch.setattr(keyring, "get_password", lambda *name: held.get(name))
    monkeypatch.setattr(keyring, "set_password", lambda service, name, key: held.update({(service, name): key}))
    monkeypatch.setenv("EMOX_MEMORY_KEY", "keyring")
    with pytest.raises(MemoryStoreError, match="emox memory key --keyring"):
        opening.open_cipher(load_settings())
    keep_in_keyring(new_key())
    assert opening.open_cipher(load_settings()) is not None
    with pytest.raises(MemoryStoreError, match="holds a key already"):
        keep_in_keyring(new_key())
    monkeypatch.delenv("EMOX_MEMORY_KEY")
    assert opening.open_cipher(load_settings()) is None


def test_what_a_forgotten_fact_superseded_holds_again(emox):
    old = Fact("1", "me", "life", "life/home", "Bonn", "They live in Bonn.", "said", NOW, episodes=("a",))
    new = replace(old, id="2", value="Rome", text="They live in Rome.", episodes=("b",))
    remember(days_ago(2, "a", "I live in Bonn."), days_ago(1, "b", "I live in Rome."),
             facts=[replace(old, valid_to=NOW, superseded_by="2"), new])  # fmt: skip
    assert emox("forget", "--id", "b", "--yes")[0] == 0
    assert [fact["text"] for fact in json.loads(emox("facts", "--json")[1])["facts"]] == ["They live in Bonn."]


@pytest.mark.parametrize("arguments", [["forget"], ["forget", "--all", "--about", "it"], ["forget", "--since", "soon"]])
def test_forgetting_without_saying_what_is_refused(emox, arguments):
    remember(days_ago(1, "a", "I am fine"))
    assert emox(*arguments, "--yes")[0] == 2
    assert json.loads(emox("list", "--json")[1])["total"] == 1


def test_what_is_older_than_it_may_be_kept_is_forgotten(home):
    from agent.forgetting import expire

    remember(days_ago(100, "old", SECRET), days_ago(2, "new", "I am fine"))
    saver = conversations.open_checkpoints(home / "threads.sqlite")
    store = open_store(load_settings())
    assert expire(store, saver, 30) == 1
    assert [episode.id for episode in store.list("me")] == ["new"]
    assert expire(store, saver, 30) == 0
    store.close()
    saver.conn.close()
    assert find_traces(home, [SECRET]).traces == ()


def test_an_encrypted_home_holds_no_words_at_all(emox, home, monkeypatch):
    key = json.loads(emox("key", "--json")[1])["key"]
    monkeypatch.setenv("EMOX_MEMORY_KEY", key)
    settings = load_settings()
    checkpoints = conversations.open_checkpoints(home / "threads.sqlite", opening.open_cipher(settings))
    with agent_of(store=open_store(settings), checkpointer=checkpoints) as agent:
        agent.ask(SECRET)
        agent.ask("I am still sad.")
        agent.settle()
        agent.store.close()
    checkpoints.conn.close()
    assert find_traces(home, [SECRET, "I hear you. Tell me more"]).traces == ()
    assert SECRET in emox("list", "--json")[1]
    monkeypatch.delenv("EMOX_MEMORY_KEY")
    status, _, err = emox("list")
    assert (status, "EMOX_MEMORY_KEY" in err) == (1, True)


def test_a_forgotten_dialogue_leaves_no_free_page_behind(home):
    saver = conversations.open_checkpoints(home / "threads.sqlite")
    saver.conn.execute("pragma secure_delete = off")  # as SQLite is built in most places
    with agent_of(checkpointer=saver) as agent:
        for user in ("me", "bob"):
            agent.ask(f"{SECRET}, said {user}.", user=user)
    forget_dialogues(saver, "me", None)
    assert find_traces(home, [f"{SECRET}, said me"]).traces == ()
    assert find_traces(home, [f"{SECRET}, said bob"]).traces
    saver.conn.close()


def test_a_name_cannot_reach_into_anothers_conversation():
    assert checkpoint_id("a", "b") != checkpoint_id("a b", "")
    with pytest.raises(ValueError, match=r"U\+001F"):
        checkpoint_id("a\x1fb", "c")


def test_what_comes_much_later_is_no_outcome():
    first = episode_of("a", at=NOW)
    soon, late = (episode_of(id, "well", "happy", at=NOW + timedelta(hours=h)) for id, h in (("b", 1), ("c", 30)))
    assert [felt.turn_id for felt in outcomes([late, soon, first])["a"]] == ["b"]
    assert outcomes([first, late]) == {}


def test_how_they_felt_afterwards_is_noted(home):
    store = open_store(load_settings())
    with agent_of(store=store) as agent:
        agent.model.affect = affect_of("sad")
        first = agent.ask("I lost my keys and the day is ruined.")
        agent.model.affect = affect_of("happy")
        second = agent.ask("I found my keys again, what a day!")
        agent.settle()
        (felt,) = store.get("me", first.turn_id).after
        assert (felt.turn_id, felt.emotion) == (second.turn_id, "happy")
        assert store.get("me", first.turn_id).lift == pytest.approx(1.5)
        assert store.get("me", second.turn_id).after == ()
    store.close()
