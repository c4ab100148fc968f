"""Whatever fails or stalls, the person is told, and the next turn works."""

import asyncio
import threading

import pytest
from pipecat.frames.frames import LLMMessagesAppendFrame

from agent.nodes import BROKEN_OFF
from agent.voice import companion, hearing
from agent.voice.companion import APOLOGY
from tests.agent.voice.conversation import (
    LONGEST_WAIT_S,
    REPLY,
    SeeingModel,
    SlowSpeaker,
    Tones,
    agent_of,
    conversation,
    until,
)


async def failed_turn(talk, text="I had a long day."):
    """Say something that is apologised for, aloud or only in words; fails where it is not."""
    await talk.say(text)
    await until(lambda: talk.shown().endswith(APOLOGY))


async def next_turn_works(talk, text="My boss was angry."):
    """Say something; assert that it is answered, heard and remembered whole."""
    n = len(talk.reported)
    await talk.say(text)
    await talk.remembered(n + 1)
    assert talk.episodes()[-1] == (text, REPLY, False)
    assert talk.shown().endswith(REPLY)
    assert talk.watcher.words[-1].text == REPLY.split()[-1]


def once(error, then):
    """A function that raises at its first call."""
    errors = iter([error])

    def call(*args, **options):
        for one in errors:
            raise one
        return then(*args, **options)

    return call


def stalling(then, release):
    """A function that at its first call waits for `release`."""
    first = iter([True])

    def call(*args, **options):
        if next(first, False):
            release.wait(LONGEST_WAIT_S)
        return then(*args, **options)

    return call


@pytest.fixture
def release():
    """What stalls, until the test is over."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_failing_recogniser(agent, monkeypatch):
    asr = Tones()
    monkeypatch.setattr(asr, "transcribe", once(RuntimeError("no"), asr.transcribe))
    async with conversation(agent, asr=asr) as talk:
        await failed_turn(talk)
        await talk.heard(len(APOLOGY.split()))
        await next_turn_works(talk)
        assert len(talk.episodes()) == 1


async def test_a_stalling_recogniser(agent, monkeypatch, release):
    monkeypatch.setattr(hearing, "PATIENCE_S", 0.3)
    asr = Tones()
    monkeypatch.setattr(asr, "transcribe", stalling(asr.transcribe, release))
    async with conversation(agent, asr=asr) as talk:
        await failed_turn(talk)
        await talk.heard(len(APOLOGY.split()))
        await next_turn_works(talk)
        release.set()


async def test_a_recogniser_that_fails_during_an_interruption(agent, monkeypatch):
    asr = Tones()
    async with conversation(agent, asr=asr) as talk:
        await talk.say("I had a long day.")
        await talk.heard(5)
        monkeypatch.setattr(asr, "transcribe", once(RuntimeError("no"), asr.transcribe))
        await talk.say("Wait, listen.")
        await until(lambda: talk.shown().endswith(APOLOGY))
        await talk.remembered(1)
        (episode,) = talk.episodes()
        assert episode[2]
        await until(lambda: talk.spoken().endswith(APOLOGY))
        await next_turn_works(talk)


@pytest.mark.parametrize("step", ["attend", "perceive", "understand", "empathize"])
async def test_a_failing_model(agent, model, monkeypatch, step):
    monkeypatch.setattr(model, step, once(RuntimeError("no"), getattr(model, step)))
    async with conversation(agent) as talk:
        await failed_turn(talk)
        await talk.heard(len(APOLOGY.split()))
        await next_turn_works(talk)
        assert len(talk.episodes()) == 1


async def test_a_reply_that_breaks_off_is_excused_and_remembered(agent, model, monkeypatch):
    whole = model.empathize
    fails = iter([True])

    def empathize(prefix, brief):
        yield from list(whole(prefix, brief))[:12]
        if next(fails, False):
            raise RuntimeError("no")
        yield from list(whole(prefix, brief))[12:]

    monkeypatch.setattr(model, "empathize", empathize)
    async with conversation(agent) as talk:
        await talk.say("I had a long day.")
        await talk.remembered(1)
        ((text, reply, cut_off),) = talk.episodes()
        assert (text, cut_off) == ("I had a long day.", False)
        assert reply.startswith("That sounds like a very long day.")
        assert reply.endswith(BROKEN_OFF.strip())
        assert talk.spoken().endswith("I have lost my words.")
        await next_turn_works(talk)


async def test_a_turn_that_is_not_understood_in_full_is_remembered_as_understood_in_haste(agent, model, monkeypatch):
    whole = model.understand

    def understand(prefix, affect, *, in_haste=False):
        if not in_haste:
            raise RuntimeError("no")
        return whole(prefix, affect, in_haste=True)

    monkeypatch.setattr(model, "understand", understand)
    async with conversation(agent) as talk:
        await next_turn_works(talk, "I had a long day.")


async def test_a_memory_that_fails(agent, monkeypatch):
    monkeypatch.setattr(agent.store, "recall", once(RuntimeError("no"), agent.store.recall))
    async with conversation(agent) as talk:
        await failed_turn(talk)
        await next_turn_works(talk)


async def test_a_memory_that_cannot_keep_a_turn(agent, monkeypatch):
    monkeypatch.setattr(agent.store, "add", once(RuntimeError("no"), agent.store.add))
    async with conversation(agent) as talk:
        await talk.say("I had a long day.")
        await talk.heard(len(REPLY.split()))
        await next_turn_works(talk)


@pytest.mark.parametrize("step", ["perceive", "empathize"])
async def test_a_stalling_model(agent, model, monkeypatch, release, step):
    monkeypatch.setattr(companion, "PATIENCE_S", 0.5)
    monkeypatch.setattr(model, step, stalling(getattr(model, step), release))
    async with conversation(agent) as talk:
        await failed_turn(talk)
        await talk.heard(len(APOLOGY.split()))
        await next_turn_works(talk, "My boss was angry.")
        release.set()  # what it comes to now was given up
        await asyncio.sleep(0.5)
        await next_turn_works(talk, "I am so tired.")
        assert [text for text, _, _ in talk.episodes()] == ["My boss was angry.", "I am so tired."]
        assert [line.text for line in model.histories[-1]] == ["My boss was angry.", REPLY]


async def test_a_failing_voice_leaves_the_words(agent, monkeypatch):
    monkeypatch.setattr(agent.speaker, "speak", once(RuntimeError("no"), agent.speaker.speak))
    async with conversation(agent) as talk:
        await talk.say("I had a long day.")
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
        assert talk.shown() == REPLY
        assert talk.told("error")
        await next_turn_works(talk)


async def test_a_stalling_voice(monkeypatch, release):
    monkeypatch.setattr(companion, "PATIENCE_S", 0.5)
    voice = SlowSpeaker()
    with agent_of(SeeingModel(), lambda: voice) as agent:
        async with conversation(agent) as talk:
            whole = voice.speak
            monkeypatch.setattr(voice, "speak", lambda *given: (release.wait(LONGEST_WAIT_S), whole(*given))[1])
            await failed_turn(talk)
            release.set()
            monkeypatch.setattr(voice, "speak", whole)
            await next_turn_works(talk)


async def test_a_voice_that_stalls_over_a_greeting_does_not_stop_the_conversation(monkeypatch, release):
    voice = SlowSpeaker()
    with agent_of(SeeingModel(), lambda: voice) as agent:
        async with conversation(agent) as talk:
            monkeypatch.setattr(voice, "speak", stalling(voice.speak, release))
            await talk.session.companion.greet()
            await next_turn_works(talk)
            release.set()


async def test_a_report_that_fails(agent):
    async with conversation(agent) as talk:
        monkeypatch_report = once(RuntimeError("no"), lambda result, timing: talk.reported.append((result, timing)))
        talk.session.companion._report = monkeypatch_report
        await talk.say("I had a long day.")
        await until(talk.episodes)
        await next_turn_works(talk)


async def test_a_typed_turn_that_fails(agent, model, monkeypatch):
    monkeypatch.setattr(model, "perceive", once(RuntimeError("no"), model.perceive))
    async with conversation(agent) as talk:
        await talk.push(LLMMessagesAppendFrame([{"role": "user", "content": "I had a long day."}], run_llm=True))
        await until(lambda: talk.shown() == APOLOGY)
        await next_turn_works(talk)
