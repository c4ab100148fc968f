"""Conversations in a PostgreSQL database that runs for these tests, and all that two agents share."""

import asyncio
import os
import signal
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from langgraph.checkpoint.sqlite import SqliteSaver

from agent.conversations import forget_dialogues, open_checkpoints, open_database, take
from agent.host import Host, Message
from agent.people import People
from agent.settings import SetupError
from agent.state import checkpoint_id
from examples.many_processes import House, Starter, postgres, program, running
from memory.cipher import Cipher, new_key
from memory.store import InMemoryStore
from model.weights import MissingWeights, locate
from tests.agent.test_graph import agent_of
from tests.fakes import FakeEmbedder, FakeModel

SECRET = "The stolen necklace lies below the old pear tree."


@pytest.fixture(scope="module")
def folder():
    """One that the database's own user can reach, on machines where we are root."""
    pytest.importorskip("psycopg_pool", reason="psycopg is not installed: pip install 'emox[postgres]'")
    pytest.importorskip("langgraph.checkpoint.postgres", reason="pip install 'emox[postgres]'")
    try:
        program("initdb")
    except SystemExit as missing:
        pytest.skip(str(missing))
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o711)
        yield Path(made)


@pytest.fixture(scope="module")
def url(folder):
    house = House()
    try:
        yield postgres(Starter(folder, house), folder)
    finally:
        for process in house.processes.values():
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request, tmp_path):
    """Opens the conversations of a test, again and again."""
    url = request.getfixturevalue("url") if request.param == "postgres" else None
    savers = []

    def open_(cipher=None):
        saver = open_checkpoints(tmp_path / "threads.sqlite", cipher) if url is None else open_database(url, cipher)
        savers.append(saver)
        return saver

    yield open_
    forget_dialogues(savers[0], "ann", None)
    for saver in savers:
        saver.conn.close()


def dialogue(saver, user, thread):
    found = saver.get({"configurable": {"thread_id": checkpoint_id(user, thread)}})
    return [line.text for line in found["channel_values"]["dialogue"]] if found else []


def test_a_conversation_goes_on_with_another_agent(opened):
    with agent_of(checkpointer=opened()) as agent:
        first = agent.ask("My cat ran away.", user="ann", thread="t")
    other = opened()
    with agent_of(checkpointer=other) as agent:
        second = agent.ask("She is grey.", user="ann", thread="t")
    assert dialogue(other, "ann", "t") == ["My cat ran away.", first.reply, "She is grey.", second.reply]


def test_only_what_is_to_be_forgotten_goes(opened):
    saver = opened()
    with agent_of(checkpointer=saver) as agent:
        for user, thread in (("ann", "t"), ("ann", "u"), ("ann", "v"), ("anna", "t")):
            agent.ask("My cat ran away.", user=user, thread=thread)
    forget_dialogues(saver, "ann", ["t"])
    assert [bool(dialogue(saver, "ann", thread)) for thread in "tuv"] == [False, True, True]
    forget_dialogues(saver, "ann", None)
    assert not any(dialogue(saver, "ann", thread) for thread in "tuv")
    assert dialogue(saver, "anna", "t")
    forget_dialogues(saver, "anna", None)


def kept(saver):
    """All that the tables hold, as bytes."""
    tables = ("checkpoints", "writes" if isinstance(saver, SqliteSaver) else "checkpoint_writes", "checkpoint_blobs")
    if isinstance(saver, SqliteSaver):
        rows = [row for table in tables[:2] for row in saver.conn.execute(f"select * from {table}")]
    else:
        with saver.conn.connection() as connection:
            rows = [row.values() for table in tables for row in connection.execute(f"select * from {table}")]
    return b"".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)


def test_with_a_key_nothing_is_kept_in_clear(opened):
    saver = opened(Cipher(new_key()))
    with agent_of(FakeModel("I keep it to myself."), checkpointer=saver) as agent:
        agent.ask(SECRET, user="ann", thread="t")
    assert dialogue(saver, "ann", "t") == [SECRET, "I keep it to myself."]
    assert b"ann" in kept(saver)
    assert not [word for word in (b"necklace", b"to myself") if word in kept(saver)]


def test_any_character_can_be_said(opened):
    saver = opened()
    with agent_of(FakeModel("\0 yes, \N{CRYING CAT FACE}."), checkpointer=saver) as agent:
        said = agent.ask("It fell \t\x07 off.", user="ann", thread="t")
    assert dialogue(saver, "ann", "t") == [said.transcript, said.reply]


def test_a_conversation_is_one_agents_at_a_time(url):
    first, second = open_database(url), open_database(url)
    let_go = take(first, "ann", "t")
    assert let_go is not None
    assert take(second, "ann", "t") is None
    other = take(second, "ann", "u")
    assert other is not None
    let_go()
    let_go = take(second, "ann", "t")
    assert let_go is not None
    assert take(first, "ann", "t") is None
    for done in (other, let_go):
        done()
    for saver in (first, second):
        saver.conn.close()


def test_a_broken_connection_has_let_go_and_spoils_no_turn(url):
    first, second = open_database(url), open_database(url)
    let_go = take(first, "ann", "t")
    assert let_go is not None
    with second.conn.connection() as connection:
        held = "select pid from pg_locks where locktype = 'advisory' and granted and pid <> pg_backend_pid()"
        for row in connection.execute(held).fetchall():
            connection.execute("select pg_terminate_backend(%s)", [row["pid"]])
    again = wait_for(lambda: take(second, "ann", "t"))
    let_go()
    again()
    assert first.get({"configurable": {"thread_id": "any"}}) is None  # its pool has other connections
    for saver in (first, second):
        saver.conn.close()


def wait_for(found, patience_s=10.0):
    until = time.monotonic() + patience_s
    while (one := found()) is None:
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)
    return one


async def test_of_agents_that_get_a_message_at_once_one_answers_and_both_tell(url, tmp_path):
    """As when a proxy asks the next server, since the first took long."""
    savers, model, store = [open_database(url), open_database(url)], FakeModel(), InMemoryStore(FakeEmbedder())
    agents = [agent_of(model, store=store, checkpointer=saver) for saver in savers]
    with agents[0], agents[1], closing(People(tmp_path / "people.sqlite")) as people:
        message = Message("ann", "at once", "My cat ran away.", id="m1")
        results = await asyncio.gather(*(Host(agent, people, tmp_path).ask(message) for agent in agents))
    assert results[0].reply == results[1].reply
    assert model.calls.count("empathize") == 1
    assert dialogue(savers[0], "ann", "at once") == ["My cat ran away.", results[0].reply]
    forget_dialogues(savers[0], "ann", None)
    for saver in savers:
        saver.conn.close()


def test_a_database_that_cannot_be_used_is_named_without_its_password(url):
    with pytest.raises(SetupError, match="the database of conversations cannot be used") as refused:
        open_database("postgresql://emox:geheim@127.0.0.1:1/postgres")
    assert "geheim" not in str(refused.value)
    with pytest.raises(SetupError, match="EMOX_THREADS_URL is no address such as") as refused:
        open_database("emox:geheim@somewhere")
    assert "geheim" not in str(refused.value)


@pytest.mark.weights
def test_whoever_talked_with_one_agent_goes_on_with_the_other_when_it_is_killed(folder, tmp_path):
    from tests.model.test_replicas import checkpoint

    try:
        locate("minilm")
    except MissingWeights as missing:
        pytest.skip(str(missing))
    (folder / "many").mkdir()
    with running(folder / "many", checkpoint(tmp_path, "1")) as house, httpx.Client(timeout=120) as http:

        def logs():
            return [path.read_text()[-3000:] for path in sorted((folder / "many").glob("agent-*.log"))]

        def say(agent, thread, text):
            answer = http.post(f"{agent}/api/turns", json={"text": text, "thread": thread, "stream": False})
            assert answer.status_code == 200, (answer.text, logs())
            return answer.json()["reply"]

        one, two = house.agents
        http.put(f"{one}/api/consent", json={"text": True}).raise_for_status()
        with ThreadPoolExecutor(4) as several:  # both at once, over one memory
            list(several.map(lambda n: say((one, two)[n % 2], f"other {n}", f"This is thing {n}."), range(4)))
        replies = [say(one, "t", "My cat ran away.")]
        os.killpg(house.processes["agent-1"].pid, signal.SIGKILL)
        house.processes["agent-1"].wait(10)
        replies.append(say(two, "t", "She is grey."))
        saver = open_database(house.environment["EMOX_THREADS_URL"])
        said = dialogue(saver, "me", "t")
        saver.conn.close()
        assert said == ["My cat ran away.", replies[0], "She is grey.", replies[1]]
        episodes = http.get(f"{two}/api/memory/list").json()["episodes"]
    assert sorted(one["text"] for one in episodes) == sorted(
        ["My cat ran away.", "She is grey.", *(f"This is thing {n}." for n in range(4))]
    )
