from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.plan import disagreement, is_small_talk, memory_line, plan_reply, think
from agent.speech import STYLES
from model.types import EMOTIONS, INTENTS, STRATEGIES, Evidence, Understanding
from tests.fakes import affect_of, episode_of

LONG = "My cat ran away yesterday and I looked for her all night."


def understood(intent="Inform"):
    return Understanding("scene", "cause", "words", intent, {i: float(i == intent) for i in INTENTS})


@pytest.mark.parametrize("text", ["Hi", "hello there!", "Thanks", "Good morning :)", "ok", "Bye, see you!"])
def test_greetings_are_small_talk(text):
    assert is_small_talk(text)


@pytest.mark.parametrize("text", ["Hi, my dog died last night and I am lost.", "No one loves me", "Thankful? Me?"])
def test_what_has_something_to_say_is_not(text):
    assert not is_small_talk(text)


@pytest.mark.parametrize(
    ("emotion", "text", "intent", "strategy"),
    [
        ("happy", LONG, "Inform", "celebrate"),
        ("sad", LONG, "Inform", "comfort"),
        ("sad", "I feel low.", "Inform", "explore"),
        ("fear", LONG, "Inform", "comfort"),
        ("angry", LONG, "Complain", "reflect"),
        ("neutral", LONG, "Inform", "explore"),
        ("neutral", "What is a good tea?", "Ask for help", "inform"),
        ("sad", "What should I do?", "Ask for help", "suggest"),
        ("sad", LONG, "Ask for help", "comfort"),
    ],
)
def test_strategy_follows_feeling_and_intent(emotion, text, intent, strategy):
    plan = plan_reply(text, affect_of(emotion, 0.9), understood(intent))
    assert (plan.route, plan.strategy) == ("empathize", strategy)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_every_plan_names_a_known_strategy_and_voice(emotion):
    plan = plan_reply(LONG, affect_of(emotion), understood())
    assert plan.strategy in STRATEGIES
    assert plan.voice in STYLES


def test_disagreement_is_total_variation():
    happy, sad = affect_of("happy").emotions, affect_of("sad").emotions
    affect = affect_of("sad")
    assert disagreement(affect) == 0
    assert disagreement(replace(affect, evidence=Evidence(text=happy, voice=sad))) == pytest.approx(1.0)
    assert disagreement(replace(affect, evidence=Evidence(text=sad, voice=sad, face=sad))) == 0


def test_the_finest_word_names_the_feeling():
    assert think(affect_of("sad"), understood(), ("lonely", "sad"), "goal").emotion == "lonely"
    assert think(affect_of("sad"), understood(), (), "goal").emotion == "sad"
    heard = replace(affect_of("sad"), evidence=Evidence(voice={"disgust": 1.0}))
    assert think(heard, understood(), ("disgusted",), "goal").emotion == "sad"


def test_a_memory_line_is_short_and_dated():
    line = memory_line(episode_of("a", "word " * 100, "sad", at=datetime(2026, 3, 5, tzinfo=UTC)))
    assert line.startswith("On March 5 they said")
    assert line.endswith("felt sad.")
    assert len(line.split()) < 40
