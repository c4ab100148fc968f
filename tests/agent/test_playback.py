"""A turn whose reply is played is remembered as it was heard."""

import pytest

from agent.events import Finished, ReplyText, Spoken, Unspoken
from agent.nodes import CUT_OFF, Ears
from agent.session import Agent
from agent.state import Playback, TurnDropped
from memory.store import InMemoryStore
from tests.fakes import FakeAsr, FakeEmbedder, FakeFaceFinder, FakeModel, FakeSpeaker


@pytest.fixture
def model():
    return FakeModel(reply="I hear you. Tell me more?")


@pytest.fixture
def agent(model):
    from langgraph.checkpoint.memory import InMemorySaver

    with Agent(
        model=model,
        store=InMemoryStore(FakeEmbedder()),
        ears=Ears(FakeAsr, FakeFaceFinder),
        speaker=FakeSpeaker,
        checkpointer=InMemorySaver(),
    ) as agent:
        yield agent


def drop(agent, text):
    playback = Playback()
    for event in agent.events(text, playback=playback):
        if isinstance(event, ReplyText):
            playback.drop()


def test_a_turn_waits_for_its_reply_to_be_heard(agent):
    playback = Playback()
    for event in agent.events("I am sad.", speak=True, playback=playback):
        if isinstance(event, Spoken) and not playback.over:
            assert agent.store.count("me") == 0
            playback.heard("I hear you. Tell me more?")
    assert isinstance(event, Finished)
    assert agent.store.list("me")[0].reply == "I hear you. Tell me more?"


def test_what_was_cut_off_is_kept_as_far_as_it_was_heard(agent, model):
    playback = Playback()
    for event in agent.events("I am sad.", speak=True, playback=playback):
        if isinstance(event, Spoken):
            playback.heard("I hear", cut_off=True)
    assert event.result.reply == "I hear"
    (episode,) = agent.store.list("me")
    assert (episode.reply, episode.cut_off) == ("I hear", True)
    agent.ask("Wait.")
    assert model.histories[-1][-1].text == f"I hear {CUT_OFF}"


def test_a_dropped_turn_never_was(agent, model):
    with pytest.raises(TurnDropped):
        drop(agent, "I am sad.")
    assert agent.store.count("me") == 0
    agent.ask("I am happy.")
    assert model.histories[-1] == ()


def test_a_turn_given_up_in_the_middle_never_was(agent, model):
    events = agent.events("I am sad.", speak=True, playback=Playback())
    next(event for event in events if isinstance(event, ReplyText))
    events.close()
    assert agent.store.count("me") == 0
    agent.ask("I am happy.")
    assert model.histories[-1] == ()


def test_distress_of_a_dropped_turn_does_not_count(agent):
    sad = "I am so sad about everything that happened this year."
    for _ in range(3):
        with pytest.raises(TurnDropped):
            drop(agent, sad)
    assert [agent.ask(sad).plan.recall_policy for _ in range(3)] == ["congruent", "congruent", "counter"]


def test_a_voice_that_fails_leaves_the_words(agent, monkeypatch):
    def speak(sentences, style):
        raise RuntimeError("no sound card")
        yield

    monkeypatch.setattr(agent.speaker, "speak", speak)
    playback = Playback()
    seen = []
    for event in agent.events("I am sad.", speak=True, playback=playback):
        seen.append(type(event))
        if isinstance(event, Unspoken):
            playback.heard("")
    assert Unspoken in seen
    assert agent.store.count("me") == 1
    with pytest.raises(RuntimeError, match="no sound card"):
        agent.ask("I am sad.", speak=True)
