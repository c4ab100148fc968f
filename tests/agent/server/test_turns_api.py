"""Turns and consent by HTTP."""

import json

import pytest

from tests.agent.server.house import EVERYTHING, SAID, client_of, house


@pytest.fixture
def at(tmp_path):
    with house(tmp_path) as at:
        at.people.agree("me", EVERYTHING)
        yield at


def events_of(text):
    """Server-sent events as (name, document)."""
    blocks = [block.splitlines() for block in text.strip().split("\n\n")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def test_a_turn_is_told_as_it_happens(at):
    async with client_of(at) as client:
        response = await client.post("/api/turns", json={"text": SAID, "speak": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    events = events_of(response.text)
    names = list(dict.fromkeys(name for name, _ in events))
    assert names == [
        "started", "heard", "perceived", "screened", "understood", "planned", "remembered", "reply_text", "spoken",
        "replied", "all_spoken", "finished",
    ]  # fmt: skip
    result = dict(events)["finished"]
    assert result["affect"]["emotion"] == "sad"
    assert result["reply"] == "I hear you. Tell me more?"
    assert [episode.id for episode in at.store.list("me")] == [result["turn_id"]]


async def test_a_turn_can_be_one_document(at):
    async with client_of(at) as client:
        document = (await client.post("/api/turns", json={"text": SAID, "stream": False})).json()
    assert document["transcript"] == SAID
    assert document["plan"]["strategy"] == "comfort"


async def test_nothing_is_read_before_the_person_was_asked(tmp_path):
    with house(tmp_path) as at:
        async with client_of(at) as client:
            asked = (await client.get("/api/consent")).json()
            refused = await client.post("/api/turns", json={"text": SAID})
            assert refused.status_code == 403
            assert "PUT your choice" in refused.json()["detail"]
            for modality in ("text", "voice", "face"):
                unclear = await client.put("/api/consent", json={modality: 1})
                assert unclear.status_code == 422
            await client.put("/api/consent", json={"text": True, "voice": True})
            agreed = (await client.get("/api/consent")).json()
            assert (await client.post("/api/turns", json={"text": SAID})).status_code == 200
    assert (asked["asked"], asked["voice"]) == (False, False)
    assert "I am a program" in asked["disclosure"]
    assert (agreed["asked"], agreed["voice"], agreed["face"]) == (True, True, False)
    assert at.model.calls.count("attend") == 1


async def test_the_same_message_is_answered_once(at):
    async with client_of(at) as client:
        answers = [
            (await client.post("/api/turns", json={"text": SAID, "id": "m1", "stream": False})).json() for _ in range(2)
        ]
    assert answers[0]["turn_id"] == answers[1]["turn_id"]
    assert answers[0]["reply"] == answers[1]["reply"]
    assert at.store.count("me") == 1
