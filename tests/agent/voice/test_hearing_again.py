"""What was heard in haste is heard in full while the answer is said, and a crisis that was misheard is answered."""

import pytest

from agent.care import crisis_reply, screen
from tests.agent.voice.conversation import REPLY, Tones, conversation

HASTY, MEANT = "I want to go myself tonight.", "I want to kill myself tonight."
HELP = crisis_reply(screen(MEANT), "en")


@pytest.fixture
def asr():
    tones = Tones()
    tones.in_full[HASTY] = MEANT
    return tones


def routes(talk):
    return [one.route for one in reversed(talk.agent.store.list("ann"))]


async def test_a_crisis_misheard_in_haste_is_answered_and_remembered_as_meant(agent, asr):
    async with conversation(agent, asr=asr) as talk:
        await talk.say(HASTY)
        await talk.remembered(1)
        assert talk.episodes() == [(MEANT, HELP, False)]
        assert routes(talk) == ["crisis"]
        assert talk.reported[0][0].screening.level == "crisis"
        assert talk.shown().endswith(HELP)
        assert talk.spoken().endswith(HELP)
        assert REPLY not in talk.spoken()  # it was broken off
        await talk.say("Thank you.")
        await talk.remembered(2)
        assert talk.episodes()[1] == ("Thank you.", REPLY, False)


async def test_an_ordinary_turn_stays_as_it_was_heard_in_haste(agent, asr, model):
    asr.in_full["I had a long day."] = "I had a long, long day."
    async with conversation(agent, asr=asr) as talk:
        await talk.say("I had a long day.")
        await talk.remembered(1)
        assert asr.heard_in_full == ["I had a long, long day."]
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
        assert talk.spoken() == talk.shown() == REPLY
        assert model.calls.count("attend") == 1


async def test_nothing_is_heard_again_before_the_first_sample(agent, asr):
    n_played = []
    hear = asr.transcribe

    def transcribe(speech, language=None, *, in_haste=False):
        if not in_haste:
            n_played.append(len(talk.transport.heard))
        return hear(speech, language, in_haste=in_haste)

    asr.transcribe = transcribe
    async with conversation(agent, asr=asr) as talk:
        await talk.say("I had a long day.")
        await talk.remembered(1)
    assert n_played[0] > 0


async def test_an_answer_is_heard_whole_however_long_it_takes_to_hear_in_full(agent, asr):
    asr.may_take_its_time.clear()
    async with conversation(agent, asr=asr) as talk:
        await talk.say(HASTY)
        await talk.heard(len(REPLY.split()))
        assert talk.spoken() == REPLY
        assert talk.episodes() == []
        asr.may_take_its_time.set()
        await talk.remembered(1)
        assert talk.episodes() == [(MEANT, HELP, False)]


async def test_who_breaks_in_first_is_answered_with_both_in_mind(agent, asr):
    asr.may_take_its_time.clear()
    async with conversation(agent, asr=asr) as talk:
        await talk.say(HASTY)
        await talk.heard(5)
        await talk.say("Are you listening?")
        await talk.remembered(1)
        asr.may_take_its_time.set()
        await talk.remembered(2)
        assert talk.episodes()[0][0] == HASTY
        assert talk.episodes()[1] == (f"{MEANT} Are you listening?", HELP, False)
        assert routes(talk) == ["empathize", "crisis"]


async def test_a_sign_of_listening_puts_it_off(agent, asr):
    asr.may_take_its_time.clear()
    async with conversation(agent, asr=asr) as talk:
        await talk.say(HASTY)
        await talk.heard(5)
        await talk.say("Mm-hm.")
        asr.may_take_its_time.set()
        await talk.remembered(1)
        assert talk.episodes() == [(MEANT, HELP, False)]


async def test_a_crisis_that_was_heard_is_not_heard_again(agent, asr):
    async with conversation(agent, asr=asr) as talk:
        await talk.say(MEANT)
        await talk.remembered(1)
        assert talk.episodes() == [(MEANT, HELP, False)]
        assert asr.heard_in_full == []


async def test_an_ear_that_fails_in_full_leaves_the_turn_as_it_was(agent, asr):
    hear = asr.transcribe

    def transcribe(speech, language=None, *, in_haste=False):
        if not in_haste:
            raise RuntimeError
        return hear(speech, language, in_haste=in_haste)

    asr.transcribe = transcribe
    async with conversation(agent, asr=asr) as talk:
        await talk.say("I had a long day.")
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]


async def test_who_leaves_before_is_not_waited_for(agent, asr):
    asr.may_take_its_time.clear()
    async with conversation(agent, asr=asr) as talk:
        await talk.say(HASTY)
        await talk.heard(len(REPLY.split()))
    asr.may_take_its_time.set()
    assert talk.episodes() == [(HASTY, REPLY, False)]
