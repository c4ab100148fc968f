"""The examples, run with an agent of fakes; and the graph that langgraph.json names."""

import asyncio
import contextlib
import importlib
import json
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver

import agent.studio
from agent.connectors.desk import Desk
from agent.connectors.inbox import Inbox
from agent.conversations import serializer
from agent.state import PERSISTED
from examples.connector import Letters
from examples.embed import talk
from examples.subgraph import help_desk
from perception.errors import TextError
from tests.agent.test_graph import agent_of
from tests.fakes import FakeModel

SAD = "I am sad about my cat, she ran away."
LANGGRAPH_JSON = json.loads((Path(__file__).parents[2] / "langgraph.json").read_text())
REPLY = "I hear you. Tell me more?"


def test_the_embedding_example_prints_the_feeling_and_the_reply(capsys):
    asyncio.run(talk(agent_of(), SAD, user="ann"))
    assert capsys.readouterr().out == f"[sad 90%] {REPLY}\n"


async def test_the_connector_example_answers_letters(tmp_path):
    house = pytest.importorskip("tests.agent.server.house").house
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "ann-1.txt").write_text("/agree")
    with house(tmp_path / "home") as at:
        desk = Desk(at.host, Letters(folder, look_s=0.02), Inbox(at.home / "inbox.sqlite"), settle_s=0.02)
        running = asyncio.create_task(desk.run())
        assert "Thank you" in await _written(folder / "ann-1.answer.txt")
        (folder / "ann-2.txt").write_text(SAD)
        assert await _written(folder / "ann-2.answer.txt") == f"{REPLY}\n"
        await asyncio.sleep(0.1)  # it is looked at again, and again
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        assert [episode.text for episode in at.store.list("letters:ann")] == [SAD]
    assert (folder / "ann-2.answer.txt").read_text() == f"{REPLY}\n"


def test_a_graph_around_the_agent_goes_on_from_what_was_felt():
    desk = help_desk(agent_of())
    assert desk.invoke({"user": "ann", "text": SAD})["next"] == f"a colleague, who hears: sad, {SAD}"
    assert desk.invoke({"user": "ann", "text": "I am happy today, she came back."})["next"] == "nobody"
    assert "colleague" in desk.invoke({"user": "ann", "text": "I want to kill myself tonight."})["next"]


def test_a_graph_around_the_agent_keeps_its_conversation_and_the_agent_its_memory():
    model = FakeModel()
    inner = agent_of(model)
    desk = help_desk(inner, InMemorySaver(serde=serializer()))
    for thread, text in (("a", SAD), ("a", "I still am sad, I miss her."), ("b", "I am somebody else here.")):
        result = desk.invoke({"user": "ann", "text": text}, {"configurable": {"thread_id": thread}})
        assert result["reply"] == REPLY
    assert [len(lines) for lines in model.histories] == [0, 2, 0]
    assert inner.store.count("ann") == 3
    result = desk.invoke({"user": "ann", "text": "I am sad again."}, {"configurable": {"thread_id": "a"}})
    assert [line.text for line in result["dialogue"]][-3:] == [REPLY, "I am sad again.", REPLY]
    assert len(result["dialogue"]) == 6


def test_a_turn_that_fails_in_a_graph_around_the_agent_leaves_nothing_behind():
    inner = agent_of()
    with pytest.raises(TextError):
        inner.as_graph().invoke({"user": "ann", "text": ""})
    assert inner._turns._turns == {}
    inner.as_graph().invoke({"user": "ann", "text": SAD})
    assert inner._turns._turns == {}


def test_every_step_of_a_turn_is_seen_from_outside():
    graph = agent_of().as_graph()
    assert {"emox:perceive", "emox:recall", "emox:remember"} <= graph.get_graph(xray=True).nodes.keys()
    steps = [name for _, step in graph.stream({"text": SAD}, stream_mode="updates", subgraphs=True) for name in step]
    assert steps[:3] == ["listen", "perceive", "screen"]
    assert {"text", "user", "thread_id"} <= graph.get_input_jsonschema()["properties"].keys()


def test_langgraph_json_lets_checkpoints_hold_our_types():
    allowed = LANGGRAPH_JSON["checkpointer"]["serde"]["allowed_msgpack_modules"]
    assert allowed == sorted([one.__module__, one.__name__] for one in PERSISTED if isinstance(one, type))


async def test_langgraph_json_names_a_graph_that_is_opened_once(monkeypatch):
    module, _, name = LANGGRAPH_JSON["graphs"]["emox"].partition(":")
    opened = []

    def open_agent():
        opened.append(agent_of())
        return opened[-1]

    monkeypatch.setattr(agent.studio, "open_agent", open_agent)
    agent.studio._graph.cache_clear()
    make_graph = getattr(importlib.import_module(module), name)
    one, other = await asyncio.gather(make_graph(), make_graph())
    agent.studio._graph.cache_clear()
    assert one is other
    assert len(opened) == 1
    result = await one.ainvoke({"text": SAD, "user": "ann"})
    assert result["reply"] == REPLY
    assert result["affect"].emotion == "sad"


async def _written(path):
    async with asyncio.timeout(5):
        while not path.exists() or not path.read_text().endswith("\n"):
            await asyncio.sleep(0.01)
    return path.read_text()
