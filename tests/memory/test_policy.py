import numpy as np
import pytest

from memory.policy import BRIGHT, cue_for, policy_for
from memory.scoring import affect_vector
from memory.types import Query
from tests.fakes import FakeEmbedder, affect_of


@pytest.mark.parametrize(
    ("emotion", "text", "policy"),
    [
        ("sad", "why does it always happen to me?", "congruent"),
        ("angry", "", "congruent"),
        ("happy", "we won!", "congruent"),
        ("neutral", "what was the name of my dentist?", "factual"),
        ("neutral", "我的牙医叫什么？", "factual"),
        ("neutral", "I had pasta today.", "congruent"),
        ("neutral", "  ", "none"),
    ],
)
def test_a_feeling_is_met_before_a_question_is_answered(emotion: str, text: str, policy: str):
    assert policy_for(affect_of(emotion), text) == policy


def cue(policy: str, text: str = "my sister", emotion: str | None = "sad"):
    affect = None if emotion is None else affect_of(emotion)
    return cue_for(Query(text, affect, policy), FakeEmbedder())


def test_congruent_recall_looks_for_the_same_feeling():
    assert np.array_equal(cue("congruent").affect, affect_vector(affect_of("sad")))
    assert cue("congruent").weights.affect > 0


def test_counter_recall_looks_for_brighter_times_whatever_is_felt():
    assert np.array_equal(cue("counter").affect, affect_vector(BRIGHT))
    assert np.array_equal(cue("counter", emotion=None).affect, affect_vector(BRIGHT))
    assert cue("counter").weights.min_affect > 0


def test_factual_recall_looks_at_words_alone():
    looking = cue("factual")
    assert not looking.vector[FakeEmbedder.dim :].any()
    assert np.linalg.norm(looking.vector) == pytest.approx(1)


def test_without_words_only_the_feeling_counts():
    looking = cue("congruent", text=" ")
    assert not looking.text.any()
    assert looking.vector.any()


@pytest.mark.parametrize(
    ("policy", "text", "emotion"), [("none", "my sister", "sad"), ("congruent", "", None), ("factual", "", "sad")]
)
def test_with_nothing_to_go_by_nothing_is_embedded_or_looked_for(policy: str, text: str, emotion: str | None):
    assert cue(policy, text, emotion) is None
