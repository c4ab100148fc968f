"""`emox memory` by HTTP: the same names, the same documents."""

import json

import pytest

from agent import inspection
from tests.agent.server.house import EVERYTHING, SAID, client_of, house


@pytest.fixture
def at(tmp_path):
    with house(tmp_path) as at:
        at.people.agree("me", EVERYTHING)
        at.host.agent.ask(SAID, thread="home")
        at.host.agent.ask("I am happy, she came back!", thread="home")
        at.host.agent.ask("It rains today.", thread="weather")
        at.host.agent.settle()
        yield at


def ids(at):
    return [episode.id for episode in at.store.list("me")]


async def test_lists_are_those_of_the_command_line(at):
    async with client_of(at) as client:
        listed = (await client.get("/api/memory/list", params={"limit": 2})).json()
        of_thread = (await client.get("/api/threads/home")).json()
    assert listed == json.loads(json.dumps(inspection.list_episodes(at.store, "me", limit=2)))
    assert listed["total"] == 3
    assert [episode["text"] for episode in of_thread["episodes"]] == ["I am happy, she came back!", SAID]


async def test_conversations_are_listed_the_latest_first(at):
    async with client_of(at) as client:
        threads = (await client.get("/api/threads")).json()["threads"]
    assert [(t["thread"], t["n_turns"], t["begins"]) for t in threads] == [
        ("weather", 1, "It rains today."),
        ("home", 2, SAID),
    ]


async def test_a_turn_can_be_seen_whole_and_why_it_was_answered_so(at):
    id = ids(at)[-1]
    async with client_of(at) as client:
        shown = (await client.get(f"/api/memory/show/{id}")).json()
        why = (await client.get(f"/api/memory/why/{id}")).json()
    assert shown["text"] == SAID
    assert shown["provenance"]["affect"] == "perceived"
    assert why["reply"] == shown["reply"]
    assert why["affect"]["emotion"] == "sad"


async def test_search_timeline_and_facts(at):
    async with client_of(at) as client:
        found = (await client.get("/api/memory/search", params={"query": "cat ran away"})).json()
        line = (await client.get("/api/memory/timeline")).json()
        facts = (await client.get("/api/memory/facts")).json()
    assert found["found"][0]["episode"]["text"] == SAID
    assert [point["emotion"] for point in line["points"]] == ["sad", "happy", "neutral"]
    assert line["mood"]["valence"] != 0
    assert facts["user"] == "me"


async def test_a_feeling_is_corrected_and_what_stood_there_is_kept(at):
    id = ids(at)[-1]
    async with client_of(at) as client:
        corrected = (await client.post(f"/api/memory/correct/{id}", json={"emotion": "angry"})).json()
        unknown = await client.post(f"/api/memory/correct/{id}", json={"emotion": "grumpy"})
    assert corrected["affect"]["emotion"] == "angry"
    assert corrected["revisions"][0]["affect"]["emotion"] == "sad"
    assert unknown.status_code == 422
    assert "grumpy" in unknown.json()["detail"]


async def test_what_is_not_there_is_said_to_be_missing(at):
    async with client_of(at) as client:
        for path in ("show/nothing", "why/nothing"):
            assert (await client.get(f"/api/memory/{path}")).status_code == 404
        assert (await client.post("/api/memory/correct/nothing", json={"emotion": "sad"})).status_code == 404


async def test_forgetting_is_proved_and_the_dialogue_starts_afresh(at):
    async with client_of(at) as client:
        forgotten = (await client.post("/api/memory/forget", json={"ids": [ids(at)[-1]]})).json()
        await client.post("/api/turns", json={"text": "Hello again, my friend.", "thread": "home", "stream": False})
    assert forgotten["forgotten"] == 1
    assert forgotten["threads"] == ["home"]
    assert forgotten["proof"]["traces"] == []
    assert forgotten["proof"]["looked_for"] > 0
    assert at.model.histories[-1] == ()
    assert SAID not in [episode.text for episode in at.store.list("me")]


@pytest.mark.parametrize("wish", [{}, {"all": True, "ids": ["x"]}, {"since": "no time"}])
async def test_a_forgetting_that_is_not_clear_takes_nothing_away(at, wish):
    async with client_of(at) as client:
        response = await client.post("/api/memory/forget", json=wish)
    assert response.status_code == 422
    assert len(ids(at)) == 3


async def test_a_memory_can_be_taken_along_by_another_person(at):
    at.people.agree("ben", EVERYTHING)
    async with client_of(at) as client:
        exported = (await client.get("/api/memory/export")).content
    token = at.people.new_token("ben")
    async with client_of(at, token) as client:
        moved = (await client.post("/api/memory/import", content=exported)).json()
        again = (await client.post("/api/memory/import", content=exported)).json()
        damaged = await client.post("/api/memory/import", content=exported[:-20])
    assert (moved["n_episodes"], moved["n_new"], again["n_new"]) == (3, 3, 0)
    assert [e.text for e in at.store.list("ben")] == [e.text for e in at.store.list("me")]
    assert damaged.status_code == 422
