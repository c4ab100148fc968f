"""A spoken turn, from its first sound to the memory of it."""

import asyncio

from pipecat.frames.frames import InputImageRawFrame, LLMConfigureOutputFrame, LLMMessagesAppendFrame

from agent.care import Consent
from agent.voice import companion, hearing
from agent.voice.companion import STILL_HERE
from perception.types import Absence
from tests.agent.voice.conversation import REPLY, HeldVoice, agent_of, conversation, live_threads, until

NO_CONSENT = Absence.NO_CONSENT


async def test_a_turn_is_heard_answered_and_remembered_as_heard(agent, model):
    async with conversation(agent) as talk:
        await talk.say("I had a long day.")
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
        assert talk.spoken() == talk.shown() == REPLY
        assert talk.numbers() == list(range(len(REPLY.split())))
        assert set(talk.reported[0][1].marks) >= {"speech_end", "words", "felt", "first_sound", "turn_end", "played"}


async def test_turns_follow_each_other(agent, model):
    async with conversation(agent) as talk:
        for n, text in enumerate(("I had a long day.", "My boss was angry.", "I am so tired.")):
            await talk.say(text)
            await talk.remembered(n + 1)
        assert [text for text, _, _ in talk.episodes()] == ["I had a long day.", "My boss was angry.", "I am so tired."]
        assert [line.text for line in model.histories[-1]][::2] == ["I had a long day.", "My boss was angry."]


async def test_whoever_goes_on_at_a_pause_is_answered_once_and_to_everything(agent, model):
    completes = iter([0.0, 1.0])
    async with conversation(agent, completeness=lambda samples: next(completes)) as talk:
        await talk.say("I had a long day and")
        await until(lambda: "empathize" in model.calls)  # thought ahead at the pause
        await talk.say("nobody said a word.")
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day and nobody said a word.", REPLY, False)]
        assert talk.spoken() == talk.shown() == REPLY
        assert all(history == () for history in model.histories)


async def test_speech_before_the_answer_sounds_belongs_to_the_same_turn(model):
    voice = HeldVoice()
    with agent_of(model, lambda: voice) as agent:
        async with conversation(agent) as talk:
            await talk.say("I had a long day.")
            await until(lambda: talk.told("plan") and talk.shown())  # the turn is over, its answer has no sound yet
            await talk.say("And a worse night.")
            voice.release.set()
            await talk.remembered(1)
            assert talk.episodes() == [("I had a long day. And a worse night.", REPLY, False)]
            assert talk.spoken() == REPLY


async def test_what_was_answered_is_no_part_of_the_next_turn(agent):
    async with conversation(agent) as talk:
        await talk.push(LLMConfigureOutputFrame(skip_tts=True))
        await talk.say("I had a long day.")
        await talk.remembered(1)
        await talk.say("My boss was angry.")
        await talk.remembered(2)
        assert [text for text, _, _ in talk.episodes()] == ["I had a long day.", "My boss was angry."]


async def test_a_long_turn_keeps_its_first_words(agent, monkeypatch):
    monkeypatch.setattr(hearing, "SETTLED_S", 0.2)
    completes = iter([0.0, 0.0, 1.0])
    async with conversation(agent, completeness=lambda samples: next(completes)) as talk:
        for text in ("So first", "there was the train", "and then the rain."):
            await talk.say(text)
            await asyncio.sleep(0.5)
        await talk.remembered(1)
        assert talk.episodes()[0][0] == "So first there was the train and then the rain."
        assert talk.asr.transcribed[-1].duration_s < 2.2  # it did not hear everything again


async def test_typed_text_is_answered(agent):
    async with conversation(agent) as talk:
        await talk.push(LLMMessagesAppendFrame([{"role": "user", "content": "I had a long day."}], run_llm=True))
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
        assert talk.spoken() == REPLY
        await talk.say("My boss was angry.")
        await talk.remembered(2)
        assert talk.episodes()[1][0] == "My boss was angry."


async def test_what_is_not_to_be_answered_is_not(agent, model):
    async with conversation(agent) as talk:
        await talk.push(LLMMessagesAppendFrame([{"role": "system", "content": "Be brief."}], run_llm=True))
        await talk.push(LLMMessagesAppendFrame([{"role": "user", "content": "A note."}], run_llm=False))
        await talk.say("I had a long day.")
        await talk.remembered(1)
        assert [text for text, _, _ in talk.episodes()] == ["I had a long day."]


async def test_text_only_is_shown_and_has_no_sound(agent):
    async with conversation(agent) as talk:
        await talk.push(LLMConfigureOutputFrame(skip_tts=True))
        await talk.say("I had a long day.")
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
        assert talk.shown() == REPLY
        assert talk.spoken() == ""
        assert agent.speaker.said == []


async def test_one_line_may_be_answered_in_text_amid_a_spoken_conversation(agent):
    async with conversation(agent) as talk:
        await talk.push(LLMConfigureOutputFrame(skip_tts=True))
        await talk.push(LLMMessagesAppendFrame([{"role": "user", "content": "I had a long day."}], run_llm=True))
        await talk.push(LLMConfigureOutputFrame(skip_tts=False))
        await talk.remembered(1)
        assert talk.spoken() == ""
        await talk.say("My boss was angry.")
        await talk.remembered(2)
        assert talk.spoken() == REPLY
        assert talk.episodes() == [("I had a long day.", REPLY, False), ("My boss was angry.", REPLY, False)]


async def test_a_text_only_answer_thought_ahead_is_dropped_if_the_person_goes_on(agent, model):
    completes = iter([0.0, 1.0])
    async with conversation(agent, completeness=lambda samples: next(completes)) as talk:
        await talk.push(LLMConfigureOutputFrame(skip_tts=True))
        await talk.say("I had a long day and")
        await until(lambda: "empathize" in model.calls)
        await asyncio.sleep(0.2)
        await talk.say("nobody said a word.")
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day and nobody said a word.", REPLY, False)]
        assert talk.shown() == REPLY


async def test_without_consent_to_words_nothing_is_written_down(agent, model):
    async with conversation(agent, consent=Consent(text=False, voice=True)) as talk:
        await talk.say("I had a long day.")
        await talk.remembered(1)
        assert talk.asr.transcribed == talk.asr.heard == []
        (turn,) = model.turns
        assert turn.text == ""
        assert turn.speech is not None
        assert turn.absent == {"text": NO_CONSENT, "face": NO_CONSENT}


async def test_without_consent_to_the_voice_the_model_sees_words_only(agent, model):
    async with conversation(agent, consent=Consent(text=True)) as talk:
        await talk.say("I had a long day.")
        await talk.remembered(1)
        (turn,) = model.turns
        assert turn.text == "I had a long day."
        assert turn.speech is turn.frames is turn.faces is None
        assert turn.absent == {"voice": NO_CONSENT, "face": NO_CONSENT}


async def test_pictures_are_looked_at_by_consent_only(agent, model):
    picture = InputImageRawFrame(bytes(3 * 8 * 8), (8, 8), "RGB")
    for allowed in (True, False):
        async with conversation(agent, consent=Consent(True, True, face=allowed)) as talk:
            saying = asyncio.create_task(talk.say("I had a long day."))
            await asyncio.sleep(0.15)
            await talk.push(picture)
            await saying
            await talk.remembered(1)
            assert (model.turns[-1].faces is not None) == allowed


async def test_who_consents_to_nothing_is_not_answered(agent, model):
    async with conversation(agent, consent=Consent(text=False)) as talk:
        await talk.say("I had a long day.")
        await asyncio.sleep(0.8)
        assert model.calls == talk.asr.transcribed == []
        assert talk.shown() == ""


async def test_a_long_silence_is_given_time_once(agent):
    async with conversation(agent, silence_s=0.4) as talk:
        await talk.session.companion.greet()
        await until(lambda: STILL_HERE in talk.shown())
        await asyncio.sleep(2.5)  # it takes 0.35 s to say and would come again
        assert talk.shown().count(STILL_HERE) == 1
        await talk.say("I had a long day.")
        await talk.remembered(1)
        await until(lambda: talk.shown().count(STILL_HERE) == 2)
        assert [text for text, _, _ in talk.episodes()] == ["I had a long day."]


async def test_whoever_comes_first_is_told_what_is_read(agent):
    async with conversation(agent) as talk:
        await talk.session.companion.greet()
        await talk.heard(20)
        assert "I am a program" in talk.shown()
        assert agent.store.count("ann") == 0


async def test_a_client_that_vanishes_leaves_the_turn_as_it_was_heard(agent):
    before = live_threads()
    async with conversation(agent) as talk:
        await talk.say("I had a long day.")
        await talk.heard(4)
    n = len(talk.watcher.words)
    assert talk.episodes() == [("I had a long day.", " ".join(REPLY.split()[:n]), True)]
    assert len(talk.reported) == 1
    agent.settle()
    assert live_threads() <= before
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_client_that_vanishes_while_the_agent_thinks_leaves_nothing(agent, model):
    before = live_threads()
    async with conversation(agent, completeness=lambda samples: 0.0) as talk:
        await talk.say("I had a long day.")
        await until(lambda: "empathize" in model.calls)
    assert talk.episodes() == []
    assert live_threads() <= before
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_two_conversations_share_an_agent(agent):
    async with conversation(agent) as ann, conversation(agent, user="bob") as bob:
        await asyncio.gather(ann.say("I had a long day."), bob.say("My boss was angry."))
        await asyncio.gather(ann.remembered(1), bob.remembered(1))
    assert [one.text for one in agent.store.list("ann")] == ["I had a long day."]
    assert [one.text for one in agent.store.list("bob")] == ["My boss was angry."]


async def test_while_others_wait_for_answers_none_is_thought_ahead(agent, model, monkeypatch):
    monkeypatch.setattr(companion, "n_thinking", lambda: 5)
    async with conversation(agent, completeness=lambda samples: 0.0) as talk:  # the turn ends after more than a second
        await talk.say("I had a long day.")
        await until(lambda: talk.asr.transcribed)
        await asyncio.sleep(0.3)
        assert model.calls == []
        await talk.remembered(1)
        assert talk.episodes() == [("I had a long day.", REPLY, False)]
