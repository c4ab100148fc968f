"""A whole turn through the graph, with fakes that answer at once."""

import asyncio
import gc
import threading
import time
import weakref
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from langgraph.checkpoint.memory import InMemorySaver

from agent.care import Consent
from agent.conversations import open_checkpoints, serializer
from agent.events import (
    Finished,
    Heard,
    Perceived,
    Planned,
    Remembered,
    Replied,
    ReplyText,
    Screened,
    Spoken,
    Started,
    Understood,
)
from agent.nodes import N_RECALLED, SCREENED_EPISODES, Ears, NothingPerceived
from agent.session import Agent
from agent.settings import SetupError
from agent.speech import STYLES, Audio, write_wav
from agent.state import DIALOGUE_LINES
from memory.store import InMemoryStore
from memory.types import Episode, Fact
from model.types import STRATEGIES
from perception.errors import PerceptionError, TextError
from perception.types import Absence
from tests.fakes import FakeAsr, FakeEmbedder, FakeFaceFinder, FakeModel, FakeSpeaker, affect_of, episode_of

HINT = "I meant it, you know that."
"""Harmless alone, a crisis after one."""


def agent_of(model=None, *, asr=None, store=None, speaker=None, checkpointer=None, **options):
    asr = asr or FakeAsr("I feel sad today, my cat ran away.")
    return Agent(
        model=model or FakeModel(),
        store=store or InMemoryStore(FakeEmbedder()),
        ears=Ears(lambda: asr, FakeFaceFinder),
        speaker=(lambda: speaker) if speaker else None,
        checkpointer=checkpointer or InMemorySaver(serde=serializer()),
        **options,
    )


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.wav"
    write_wav(path, [Audio(0.1 * np.sin(np.arange(24_000) / 20).astype(np.float32), 16_000)])
    return path


def kinds(events):
    return [type(event) for event in events if not isinstance(event, ReplyText)]


def test_a_typed_turn_goes_through_every_level():
    events = list(agent_of().events("I am sad about my cat, she ran away yesterday."))
    assert kinds(events) == [Started, Heard, Perceived, Screened, Understood, Planned, Remembered, Replied, Finished]
    result = events[-1].result
    assert result.affect.emotion == "sad"
    assert result.affect.open == ("sad",)
    assert result.plan.strategy == "comfort"
    assert result.thought.goal == STRATEGIES["comfort"]
    assert result.reply == "I hear you. Tell me more?"
    assert "".join(e.text for e in events if isinstance(e, ReplyText)).strip() == result.reply


def test_the_turn_is_read_once():
    model = FakeModel()
    agent_of(model).ask("I am sad about my cat, she ran away yesterday.")
    assert model.calls == ["attend", "perceive", "understand", "empathize"]


def test_every_turn_becomes_an_episode_that_holds_all_of_it(clip):
    store = InMemoryStore(FakeEmbedder())
    agent = agent_of(store=store, consent=Consent(voice=True))
    first = agent.ask(clip=clip, user="ann", thread="x")
    result = agent.ask(clip=clip, user="ann", thread="y")
    assert [e.id for e in store.list("ann")] == [result.turn_id, first.turn_id]
    assert store.list("ann")[0] == Episode(
        id=result.turn_id,
        user="ann",
        thread_id="y",
        at=store.list("ann")[0].at,
        text=result.transcript,
        reply=result.reply,
        affect=result.affect,
        understanding=result.understanding,
        thought=result.thought,
        route="empathize",
        strategy="comfort",
        recall_policy="congruent",
        voice="calm",
        modalities=("text", "voice"),
        recalled=result.recalled,
        model_version="fake-1",
    )
    assert result.recalled[0].id == first.turn_id
    assert abs(datetime.now(UTC) - store.list("ann")[0].at) < timedelta(minutes=1)


def test_the_second_turn_recalls_the_first_and_continues_its_dialogue():
    model = FakeModel()
    agent = agent_of(model)
    first = agent.ask("My cat ran away and I am sad.")
    second = agent.ask("I am still sad about my cat.")
    assert [r.id for r in second.recalled] == [first.turn_id]
    assert [line.text for line in model.histories[1]] == ["My cat ran away and I am sad.", first.reply]


def test_what_the_dialogue_holds_is_not_told_to_the_reply_again():
    model = FakeModel()
    agent = agent_of(model)
    agent.ask("My cat ran away and I am sad.", thread="a")
    agent.ask("I am sad about my cat today.", thread="a")
    agent.ask("I am sad about my cat today.", thread="b")
    assert model.briefs[1].memories == ()
    assert any("My cat ran away" in line for line in model.briefs[2].memories)


def test_a_few_memories_come_back_as_the_feeling_asks():
    agent = agent_of()
    for number in range(5):
        agent.ask(f"I am sad about my cat, day {number}.", thread=str(number))
    felt = agent.ask("I am sad about my cat today.", thread="last")
    assert (felt.plan.recall_policy, len(felt.recalled)) == ("congruent", N_RECALLED)
    assert agent.ask("Where did my cat go yesterday?", thread="asks").plan.recall_policy == "factual"


def test_distress_is_met_before_brighter_times_are_recalled():
    model = FakeModel()
    store = InMemoryStore(FakeEmbedder())
    store.add(episode_of("bright", "My cat purred all day.", "happy", user="me"))
    agent = agent_of(model, store=store)
    policies = [agent.ask("I am sad about my cat, she ran away, and it hurts.").plan.recall_policy for _ in range(4)]
    assert policies == ["congruent", "congruent", "counter", "counter"]
    last = agent.ask("I am sad about my cat, she ran away, and it hurts.")
    assert [one.id for one in last.recalled] == ["bright"]
    assert any("purred" in line for line in model.briefs[-1].memories)


def test_a_fact_about_them_is_told_to_the_reply():
    model = FakeModel()
    store = InMemoryStore(FakeEmbedder())
    fact = Fact(
        "1", "me", "person", "person/sister/name", "Anna", "my sister is called Anna", "said", datetime.now(UTC)
    )
    store.put_facts("me", [fact])
    result = agent_of(model, store=store).ask("My sister is called away.")
    assert model.briefs[0].memories == ("my sister is called Anna",)
    assert [one.id for one in result.recalled] == ["1"]


def test_a_question_about_a_time_recalls_what_was_said_then():
    store = InMemoryStore(FakeEmbedder())
    for days in (40, 1):
        at = datetime.now(UTC) - timedelta(days=days)
        store.add(episode_of(f"{days} days", "my dentist said something", user="me", at=at))
    model = FakeModel()
    model.affect = affect_of("neutral")
    result = agent_of(model, store=store).ask("What did my dentist say yesterday?")
    assert [one.id for one in result.recalled] == ["1 days"]


def test_a_long_dialogue_keeps_its_latest_lines():
    model = FakeModel()
    agent = agent_of(model)
    for number in range(12):
        agent.ask(f"I am sad about my cat, day {number}.")
    for number, history in enumerate(model.histories):
        assert min(2 * number, DIALOGUE_LINES) <= len(history) <= DIALOGUE_LINES + 3
        days = range(number - len(history) // 2, number)
        assert [line.text for line in history[::2]] == [f"I am sad about my cat, day {n}." for n in days]
    firsts = [history[0].text for history in model.histories[1:]]
    assert len(set(firsts)) <= 1 + len(firsts) // 2  # mostly it begins where it began a turn ago


def test_people_and_threads_do_not_mix():
    model = FakeModel()
    agent = agent_of(model)
    agent.ask("I am sad, my cat ran away.", user="ann", thread="x")
    other = agent.ask("I am sad, my cat ran away.", user="bob", thread="x")
    assert other.recalled == ()
    assert model.histories[1] == ()


def test_a_crisis_is_answered_without_the_language_model():
    model = FakeModel()
    agent = agent_of(model, locale="en-US")
    result = agent.ask("I want to kill myself tonight.")
    assert result.plan.route == "crisis"
    assert "988" in result.reply
    assert "empathize" not in model.calls
    assert agent.store.count("me") == 1


def test_concern_for_somebody_else_is_answered_without_the_language_model_too():
    model = FakeModel()
    result = agent_of(model).ask("My friend wants to kill herself.")
    assert (result.screening.level, result.plan.route) == ("concern", "crisis")
    assert "empathize" not in model.calls


def test_a_crisis_is_remembered_in_other_threads():
    agent = agent_of()
    agent.ask("I want to kill myself tonight.", thread="discord")
    assert agent.ask(HINT, thread="telegram").plan.route == "crisis"
    assert agent.ask(HINT, thread="telegram", user="somebody else").plan.route != "crisis"


@pytest.mark.parametrize(("lines_between", "route"), [(5, "crisis"), (6, "clarify")])
def test_a_crisis_is_remembered_for_some_turns(lines_between, route):
    model = FakeModel()
    model.affect = replace(affect_of("sad"), confidence=0.2)
    agent = agent_of(model)
    agent.ask("I want to kill myself tonight.")
    for number in range(lines_between):
        agent.ask(f"I had tea number {number} with my sister.")
    assert agent.ask(HINT).plan.route == route


def test_earlier_words_are_looked_up_only_when_a_hint_makes_them_matter():
    store = InMemoryStore(FakeEmbedder())
    agent = agent_of(store=store)
    agent._afterthoughts.add = lambda about, work, turn_id: None
    asked = []
    listed = store.list
    store.list = lambda user, **options: asked.append((user, options)) or listed(user, **options)
    agent.ask("I am sad about my cat, she ran away.")
    assert asked == []
    agent.ask(HINT, user="ann")
    assert asked == [("ann", {"limit": SCREENED_EPISODES})]


def test_a_crisis_is_logged_without_words(caplog):
    agent_of().ask("I want to kill myself tonight.")
    assert "kill" not in caplog.text
    assert "crisis" in caplog.text


def test_a_reply_never_claims_to_be_a_person():
    agent = agent_of(FakeModel("I hear you. As a human I know this well. Tell me more?"))
    events = list(agent.events("I am sad about my cat, she ran away."))
    assert events[-1].result.reply == "I hear you. Tell me more?"
    assert "human" not in "".join(event.text for event in events if isinstance(event, ReplyText))


@pytest.mark.parametrize(("most", "cut"), [(2, True), (None, False)])
def test_a_result_tells_whether_its_reply_was_cut_short(most, cut):
    with agent_of(FakeModel("One two three four.")) as agent:
        result = agent.ask("I am sad about my cat.", max_tokens=most)
    assert (result.reply, result.cut_short) == ("One two" if cut else "One two three four.", cut)


def test_small_talk_needs_no_thought():
    model = FakeModel()
    result = agent_of(model).ask("Hello there!")
    assert result.plan.route == "small_talk"
    assert result.thought is None
    assert "understand" not in model.calls


def test_unsure_affect_is_asked_about():
    model = FakeModel()
    model.affect = replace(affect_of("sad"), confidence=0.2)
    assert agent_of(model).ask("It is what it is, I suppose, as always.").plan.route == "clarify"


def test_modalities_that_disagree_are_asked_about():
    model = FakeModel()
    sad, happy = affect_of("sad"), affect_of("happy")
    model.affect = replace(sad, evidence=replace(sad.evidence, text=happy.emotions, voice=sad.emotions))
    result = agent_of(model).ask("I am fine, really, everything is great.")
    assert result.plan.route == "clarify"
    assert result.thought.goal == STRATEGIES["clarify"]


def test_a_clip_is_heard(clip):
    result = agent_of(consent=Consent(voice=True)).ask(clip=clip)
    assert result.transcript == "I feel sad today, my cat ran away."
    assert result.modalities == ("text", "voice")
    assert "listen" in result.timings_ms


def test_without_consent_a_voice_is_not_read(clip):
    result = agent_of().ask(clip=clip)
    assert result.modalities == ("text",)
    assert result.absent["voice"] == Absence.NO_CONSENT


def test_without_consent_words_are_not_read():
    model = FakeModel()
    with pytest.raises(PerceptionError):
        agent_of(model, consent=Consent(text=False)).ask("I am sad about my cat.")
    assert model.calls == []


def test_a_voice_the_model_was_not_trained_for_is_not_read(clip):
    agent = agent_of(FakeModel(modalities=("text",)), consent=Consent(voice=True))
    assert agent.ask(clip=clip).modalities == ("text",)


def test_silence_is_said_in_one_sentence(clip):
    with pytest.raises(NothingPerceived, match="no speech was found"):
        agent_of(asr=FakeAsr("")).ask(clip=clip)


def test_a_turn_that_fails_leaves_nothing(clip):
    agent = agent_of(asr=FakeAsr(""))
    with pytest.raises(NothingPerceived):
        agent.ask(clip=clip)
    assert agent.store.count("me") == 0
    assert agent._turns._turns == {}
    assert agent.ask("Now I am sad and I say so.").reply


class Wording:
    """A reply model whose second half waits until the first was heard."""

    def __init__(self):
        self.heard = threading.Event()

    def reply(self, request):
        yield "I can hear how much this means to you. "
        yield "It is kept " if self.heard.wait(10) else "It came too late "
        yield "in mind."


def test_a_reply_is_heard_while_it_is_still_worded():
    wording = Wording()
    for event in agent_of(reply_model=wording).events("I am sad about my cat, she ran away."):
        if isinstance(event, ReplyText):
            wording.heard.set()
    assert event.result.reply.endswith("It is kept in mind.")


class Endless:
    """A reply model that does not come to an end for ten seconds."""

    def reply(self, request):
        for _ in range(1_000):
            time.sleep(0.01)
            yield "and so on "


def test_a_turn_given_up_halfway_stops_and_leaves_nothing():
    model, store, saver = FakeModel(), InMemoryStore(FakeEmbedder()), InMemorySaver(serde=serializer())
    events = agent_of(model, store=store, checkpointer=saver, reply_model=Endless()).events("I am sad, very sad.")
    running = set(threading.enumerate())
    assert next(event for event in events if isinstance(event, ReplyText))
    assert set(threading.enumerate()) - running
    events.close()
    assert not set(threading.enumerate()) - running
    assert store.count("me") == 0
    agent_of(model, store=store, checkpointer=saver).ask("I am still sad.")
    assert model.histories == [(), ()]


def test_a_turn_given_up_halfway_says_no_more():
    running = set(threading.enumerate())
    events = agent_of(reply_model=Endless(), speaker=FakeSpeaker()).events("I am sad, very sad.", speak=True)
    assert next(event for event in events if isinstance(event, ReplyText))
    events.close()
    deadline = time.monotonic() + 10
    while set(threading.enumerate()) - running and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - running


def test_a_turn_that_nobody_can_speak_leaves_nothing():
    agent = agent_of()
    with pytest.raises(SetupError, match="no voice"):
        list(agent.events("I am sad about my cat.", speak=True))
    assert agent._turns._turns == {}
    assert agent.store.count("me") == 0


def test_nothing_at_all_is_bad_input():
    with pytest.raises(TextError, match="give --text or --clip"):
        agent_of().ask("   ")


def test_the_disclosure_comes_at_first_contact_only():
    agent = agent_of()
    first = next(e for e in agent.events("I am sad today, very.") if isinstance(e, Started))
    assert first.disclosure is None or "program" in first.disclosure
    list(agent.events("I am sad today, very."))
    again = next(e for e in agent.events("I am sad today, very.") if isinstance(e, Started))
    assert first.disclosure
    assert again.disclosure is None


@pytest.mark.parametrize(("feeling", "style"), [("sad", "calm"), ("happy", "bright"), ("fear", "calm")])
def test_the_voice_takes_the_style_of_the_plan(feeling, style):
    speaker = FakeSpeaker()
    list(agent_of(speaker=speaker).events(f"I am {feeling} about my cat, she ran away.", speak=True))
    assert {said for _, said in speaker.said} == {STYLES[style]}


def test_the_reply_is_spoken_sentence_by_sentence_in_the_plans_voice(tmp_path):
    speaker = FakeSpeaker()
    out = tmp_path / "reply.wav"
    events = list(agent_of(speaker=speaker).events("I am sad about my cat, she ran away.", speak_to=out))
    assert [text for text, _ in speaker.said] == ["I hear you.", "Tell me more?"]
    assert {style for _, style in speaker.said} == {STYLES["calm"]}
    assert sum(isinstance(e, Spoken) for e in events) == 2
    path, seconds = events[-1].result.audio
    assert path == out
    assert out.stat().st_size > 1000
    assert seconds > 0


class Rambling(Wording):
    """A reply model that goes on until its first sentence was heard."""

    def reply(self, request):
        yield "I can hear how much this means to you. "
        for _ in range(1_000):
            if self.heard.wait(0.01):
                yield "That is said."
                return
            yield "And so on. "


def test_a_sentence_is_spoken_while_the_reply_is_still_worded():
    wording = Rambling()
    agent = agent_of(reply_model=wording, speaker=FakeSpeaker())
    for event in agent.events("I am sad about my cat, she ran away.", speak=True):
        if isinstance(event, Spoken):
            wording.heard.set()
    assert event.result.reply.endswith("That is said.")
    assert 0 < event.result.timings_ms["first_text"] < event.result.timings_ms["first_audio"]


def test_a_crisis_is_spoken_too():
    speaker = FakeSpeaker()
    list(agent_of(speaker=speaker).events("I want to kill myself tonight.", speak=True))
    assert speaker.said


class BrokenSpeaker:
    def speak(self, sentences, style):
        raise OSError("no sound card")
        yield


def test_a_broken_voice_is_reported_and_the_turn_is_remembered():
    agent = agent_of(speaker=BrokenSpeaker())
    with pytest.raises(OSError, match="no sound card"):
        list(agent.events("I am sad about my cat.", speak=True))
    assert agent.store.count("me") == 1
    assert agent.ask("I am sad about my cat.").reply


def test_waveforms_never_enter_a_checkpoint(clip):
    saver = InMemorySaver()
    agent = agent_of(checkpointer=saver, consent=Consent(voice=True))
    agent.ask(clip=clip, thread="t")
    values = agent._graph.get_state({"configurable": {"thread_id": "me\x1ft"}}).values
    assert "dialogue" in values
    assert not any(isinstance(v, (np.ndarray, bytes)) for v in values.values())
    assert "live" not in repr(values).lower()


def test_a_dialogue_outlives_the_process(tmp_path, caplog):
    for n, text in enumerate(["I am sad, my cat ran away.", "I am still sad about her."]):
        saver = open_checkpoints(tmp_path / "threads.sqlite")
        model = FakeModel()
        agent_of(model, checkpointer=saver, close=saver.conn.close).ask(text)
        assert len(model.histories[0]) == 2 * n
        saver.conn.close()
    assert "unregistered" not in caplog.text.lower()


def test_the_async_turn_gives_the_same_events():
    async def run():
        return [event async for event in agent_of().turn("I am sad about my cat, she ran away.")]

    assert kinds(asyncio.run(run()))[-1] is Finished


def test_a_result_is_the_contract():
    document = agent_of().ask("I am sad about my cat, she ran away.").as_json()
    keys = "turn_id thread_id transcript modalities affect understanding recalled plan thought reply audio timings_ms"
    assert set(keys.split()) <= set(document)
    assert {"sentiment", "emotion", "emotions", "open", "valence", "arousal", "confidence", "evidence"} <= set(
        document["affect"]
    )
    assert set(document["affect"]["evidence"]) == {"text", "voice", "face", "fusion"}
    assert set(document["thought"]) == {"scenario", "emotion", "cause", "goal"}
    assert set(document["plan"]) == {"route", "strategy", "recall_policy", "voice"}
    assert abs(sum(document["affect"]["emotions"].values()) - 1) < 1e-9


@pytest.mark.parametrize("text", ["I am sad about my cat, she ran away.", "I want to kill myself tonight."])
def test_a_result_tells_when_its_first_words_came(text):
    timings = agent_of().ask(text).timings_ms
    assert 0 < timings["first_text"] <= timings["total"]
    assert timings["perceive"] + timings["screen"] <= timings["first_text"]


def test_files_of_a_clip_turn_stay_where_they_are(clip: Path):
    before = clip.read_bytes()
    agent_of(consent=Consent(voice=True)).ask(clip=clip)
    assert clip.read_bytes() == before


def test_a_dialogue_that_was_left_behind_its_memory_is_caught_up_with():
    """A process may be killed after a turn was remembered and before its dialogue was kept."""
    store, saver = InMemoryStore(FakeEmbedder()), InMemorySaver(serde=serializer())
    agent_of(store=store, checkpointer=saver).ask("The first.", user="ann", thread="x")
    store.add(
        episode_of("lost", "The second.", user="ann", thread_id="x", at=datetime.now(UTC), reply="Oh.", cut_off=True)
    )
    store.add(episode_of("other", "Elsewhere.", user="ann", thread_id="y", at=datetime.now(UTC)))
    model = FakeModel()
    again = agent_of(model, store=store, checkpointer=saver)
    again.ask("The third.", user="ann", thread="x")
    again.ask("The fourth.", user="ann", thread="x")
    lines = ["The first.", "I hear you. Tell me more?", "The second.", "Oh. —"]
    assert [line.text for line in model.histories[0]] == lines
    assert [line.text for line in model.histories[1]] == [*lines, "The third.", "I hear you. Tell me more?"]


def test_a_dialogue_that_was_begun_afresh_stays_so():
    store = InMemoryStore(FakeEmbedder())
    agent_of(store=store).ask("The first.", user="ann", thread="x")
    model = FakeModel()
    agent_of(model, store=store).ask("The second.", user="ann", thread="x")
    assert model.histories == [()]


@pytest.mark.parametrize("aloud", [True, False])
def test_what_the_model_read_is_let_go_when_the_turn_ends(aloud):
    """Not when garbage is next collected: the keys and values of a long dialogue take some 40 MB."""
    read = []

    class Reader(FakeModel):
        def attend(self, turn, history=(), ahead=None):
            prefix = replace(super().attend(turn, history, ahead))
            read.append(weakref.ref(prefix))
            return prefix

    gc.disable()
    try:
        with agent_of(Reader(), speaker=FakeSpeaker()) as agent:
            for _ in agent.events("My cat ran away.", speak=aloud):
                pass
            assert [prefix() for prefix in read] == [None]
    finally:
        gc.enable()
