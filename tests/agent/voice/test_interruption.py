"""Somebody makes a sound while the agent speaks: it stops at once, and goes on or gives up the floor."""

import asyncio
import threading
import time

import pytest
from pipecat.frames.frames import InterruptionFrame, LLMMessagesAppendFrame

from agent.nodes import CUT_OFF
from agent.voice.companion import APOLOGY
from tests.agent.voice.conversation import (
    REPLY,
    HeldVoice,
    SeeingModel,
    SlowSpeaker,
    agent_of,
    conversation,
    heard_seconds,
    until,
)

WORDS = REPLY.split()
N = len(WORDS)


async def breaks_in(talk, text, after, seconds=0.3):
    """Let the agent say some words of its answer, then speak."""
    await talk.say("I had a long day.")
    await talk.heard(after)
    await talk.say(text, seconds)


@pytest.mark.parametrize("text", ["Mm-hm.", "Yeah.", "I see."])
async def test_a_sign_of_listening_neither_cuts_nor_counts(agent, model, text):
    async with conversation(agent) as talk:
        await breaks_in(talk, text, 6)
        await talk.remembered(1)
        await asyncio.sleep(0.5)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
        assert model.calls.count("attend") == 1
        assert goes_on_where_it_stopped(talk.numbers())


@pytest.mark.parametrize("after", [1, 7, 14, N - 2])
async def test_a_false_alarm_resumes_where_it_stopped(agent, model, after):
    async with conversation(agent) as talk:
        await breaks_in(talk, "", after)
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
        assert model.calls.count("attend") == 1
        assert goes_on_where_it_stopped(talk.numbers())
        # All of it sounded, and of the word at which it stopped at most a part twice.
        assert N * 0.05 - 0.02 <= heard_seconds(talk.transport) <= (N + 1) * 0.05 + 0.06


async def test_two_false_alarms_in_one_reply(agent):
    async with conversation(agent) as talk:
        await breaks_in(talk, "", 4)
        await talk.heard(9)
        await talk.say("Mm-hm.")
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
        assert goes_on_where_it_stopped(talk.numbers())


async def test_an_interruption_stores_what_was_heard_and_is_answered(agent, model):
    async with conversation(agent) as talk:
        await breaks_in(talk, "But I got the job.", 7)
        n = len(talk.watcher.words)
        await talk.remembered(2)
        heard = " ".join(WORDS[:n])
        assert n < N
        assert talk.episodes() == [("I had a long day.", heard, True), ("But I got the job.", REPLY, False)]
        assert [line.text for line in model.histories[-1]] == ["I had a long day.", f"{heard} {CUT_OFF}"]
        assert talk.numbers() == [*range(n), *range(N)]


async def test_the_output_is_silent_while_it_is_not_known_what_the_person_wants(agent):
    async with conversation(agent, speed=1.0) as talk:
        await talk.say("I had a long day.")
        await talk.heard(5)
        speaking = asyncio.create_task(talk.say("But I got the job.", 0.6))
        await asyncio.sleep(0.3)
        n = len(talk.transport.heard)
        await asyncio.sleep(0.2)
        assert len(talk.transport.heard) == n
        await speaking


async def test_whoever_speaks_for_long_has_the_floor_before_the_end(agent, monkeypatch):
    from agent.voice import turns

    monkeypatch.setattr(turns, "BACKCHANNEL_S", 0.3)
    async with conversation(agent) as talk:
        await talk.say("I had a long day.")
        await talk.heard(5)
        speaking = asyncio.create_task(talk.say("Mm-hm but wait.", 1.5))
        await talk.remembered(1)
        assert not speaking.done()
        assert talk.episodes()[0][2]
        await speaking
        await talk.remembered(2)
        assert talk.episodes()[1] == ("Mm-hm but wait.", REPLY, False)


async def test_an_interruption_of_an_interruption(agent, model):
    async with conversation(agent) as talk:
        await breaks_in(talk, "But I got the job.", 7)
        first = len(talk.watcher.words)
        await talk.heard(first + 3)
        second = len(talk.watcher.words) - first
        await talk.say("Oh, and a dog.")
        await talk.remembered(3)
        texts, replies, cut = zip(*talk.episodes(), strict=True)
        assert texts == ("I had a long day.", "But I got the job.", "Oh, and a dog.")
        assert cut == (True, True, False)
        assert second <= len(replies[1].split()) < N
        assert REPLY.startswith(replies[1])


async def test_a_sound_at_the_very_end_of_a_reply_loses_nothing(agent, model):
    async with conversation(agent) as talk:
        await breaks_in(talk, "Mm-hm.", N)
        await talk.remembered(1)
        await talk.say("I am tired.")
        await talk.remembered(2)
        texts, replies, cut = zip(*talk.episodes(), strict=True)
        assert (replies, cut) == ((REPLY, REPLY), (False, False))
        assert texts[1].endswith("I am tired.")


async def test_a_button_of_the_client_stops_it_for_good(agent):
    async with conversation(agent) as talk:
        await talk.say("I had a long day.")
        await talk.heard(5)
        await talk.push(InterruptionFrame())
        await talk.remembered(1)
        ((_, heard, cut_off),) = talk.episodes()
        assert cut_off
        assert heard == " ".join(WORDS[: len(talk.watcher.words)])


async def test_a_typed_line_stops_it(agent):
    async with conversation(agent) as talk:
        await talk.say("I had a long day.")
        await talk.heard(5)
        await talk.push(InterruptionFrame())
        await talk.push(LLMMessagesAppendFrame([{"role": "user", "content": "Wait."}], run_llm=True))
        await talk.remembered(2)
        texts, _, cut = zip(*talk.episodes(), strict=True)
        assert texts == ("I had a long day.", "Wait.")
        assert cut == (True, False)


async def test_what_still_sounds_of_something_else_counts_for_no_answer(agent):
    async with conversation(agent) as talk:
        async with talk.session.companion._lock:
            await talk.session.companion._say(APOLOGY)
        await talk.heard(2)
        await talk.push(LLMMessagesAppendFrame([{"role": "user", "content": "I am back."}], run_llm=True))
        await talk.remembered(1)
        assert talk.episodes() == [("I am back.", REPLY, False)]
        assert talk.spoken() == f"{APOLOGY} {REPLY}"


async def test_words_of_a_greeting_may_be_broken_in_upon(agent):
    async with conversation(agent) as talk:
        await talk.session.companion.greet()
        await talk.heard(5)
        await talk.say("I had a long day.")
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
        assert len(talk.watcher.words) < 40 + N


async def test_a_cut_off_reply_is_worded_no_further():
    model, voice = SeeingModel(" ".join(f"Sentence {n} is here." for n in range(60))), SlowSpeaker()
    with agent_of(model, lambda: voice) as agent:
        async with conversation(agent) as talk:
            words = 0

            def slow(prefix, brief, whole=model.empathize):
                nonlocal words
                for piece in whole(prefix, brief):
                    words += 1
                    time.sleep(0.03)
                    yield piece

            model.empathize = slow
            await breaks_in(talk, "Wait, listen.", 5)
            await talk.remembered(1)
            assert words < 150
            assert talk.episodes()[0][2]


def goes_on_where_it_stopped(numbers):
    """Whether every word of one reply was played, in order, and none twice: a word counts where its end is heard."""
    return numbers == list(range(N))


async def test_a_greeting_that_is_interrupted_before_it_sounds_is_not_said(model):
    voice = HeldVoice()
    with agent_of(model, lambda: voice) as agent:
        async with conversation(agent) as talk:
            await talk.session.companion.greet()
            await until(talk.shown)
            await talk.session.worker.rtvi.interrupt_bot()
            await asyncio.sleep(0.1)
            voice.release.set()
            await asyncio.sleep(0.3)
            assert talk.spoken() == ""


async def test_a_greeting_whose_voice_is_slow_is_not_said_after_the_answer_to_a_typed_line(model):
    class SlowToGreet(SlowSpeaker):
        def __init__(self):
            super().__init__()
            self.release = threading.Event()

        def speak(self, sentences, style):
            if isinstance(sentences, str):  # not an answer, which comes in pieces
                self.release.wait(20)
            return super().speak(sentences, style)

    voice = SlowToGreet()
    with agent_of(model, lambda: voice) as agent:
        async with conversation(agent) as talk:
            await talk.session.companion.greet()
            await until(talk.shown)
            await talk.push(LLMMessagesAppendFrame([{"role": "user", "content": "I am sad."}], run_llm=True))
            await talk.remembered(1)
            voice.release.set()
            await asyncio.sleep(0.3)
            assert talk.spoken() == REPLY
