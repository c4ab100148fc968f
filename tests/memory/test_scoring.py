from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.scoring import (
    AFFECT_DIM,
    Candidate,
    Cue,
    Weights,
    affect_vector,
    compare,
    episode_vector,
    intensity,
    n_tokens,
    rank,
    recency,
    score_parts,
    within_budget,
)
from memory.types import Felt, Recollection
from model.types import CIRCUMPLEX, EMOTIONS, Affect
from tests.fakes import affect_of, episode_of

unit = st.floats(-1, 1)
share = st.floats(0, 1)


@st.composite
def coherent_affects(draw: st.DrawFn, mostly: tuple[str, ...] = (), at_least: float = 0.0) -> Affect:
    """Affects whose valence and arousal are those of their emotions; some emotions together may have a least share."""
    spread = np.array(draw(st.lists(share, min_size=7, max_size=7))) + 1e-3
    shares = spread / spread.sum()
    if mostly:
        core = np.array([draw(st.floats(0.01, 1)) * (label in mostly) for label in EMOTIONS])
        held = draw(st.floats(at_least, 1))
        shares = (1 - held) * shares + held * core / core.sum()
    emotions = dict(zip(EMOTIONS, shares.tolist(), strict=True))
    valence, arousal = (sum(emotions[label] * CIRCUMPLEX[label][axis] for label in EMOTIONS) for axis in (0, 1))
    likeliest = max(emotions, key=emotions.__getitem__)
    return Affect(valence, likeliest, emotions, valence, arousal, emotions[likeliest])


any_affects = st.builds(replace, coherent_affects(), valence=unit, arousal=unit, sentiment=unit)
candidates = st.builds(Candidate, st.uuids().map(str), unit, unit, st.floats(0, 1e4), share)
weights = st.builds(Weights, text=unit, affect=unit, recency=share, importance=share)


@given(any_affects)
def test_an_affect_vector_has_length_one(affect: Affect):
    vector = affect_vector(affect)
    assert vector.dtype == np.float32
    assert vector.shape == (AFFECT_DIM,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_neutral_has_a_direction_of_its_own():
    neutral = affect_vector(affect_of("neutral"))
    for emotion in EMOTIONS[1:]:
        assert abs(neutral @ affect_vector(affect_of(emotion))) < 0.3


@given(coherent_affects(("happy",), 0.8), coherent_affects(("sad", "angry", "fear", "disgust"), 0.8))
def test_opposite_valence_points_apart(bright: Affect, dark: Affect):
    joy = affect_vector(affect_of("happy"))
    # By random search over such mixtures: joy is 0.96 or more like the one, and the two are at most 0.39 alike.
    assert affect_vector(bright) @ joy > 0.8
    assert affect_vector(bright) @ affect_vector(dark) < 0.5


@pytest.mark.parametrize("emotion", ["sad", "angry", "fear", "disgust"])
def test_joy_is_opposed_to_what_is_purely_unpleasant(emotion: str):
    assert affect_vector(affect_of("happy")) @ affect_vector(affect_of(emotion)) < 0


@given(st.sampled_from(EMOTIONS[1:]), st.floats(0.55, 1), st.floats(0.55, 1))
def test_the_same_feeling_is_alike_whatever_its_strength(emotion: str, strength: float, other: float):
    # The least is a feeling beside itself half neutral.
    assert affect_vector(affect_of(emotion, strength)) @ affect_vector(affect_of(emotion, other)) > 0.7


def test_unpleasant_feelings_are_akin_but_not_the_same():
    for one, other in (("sad", "angry"), ("sad", "fear"), ("fear", "disgust")):
        assert 0.05 < affect_vector(affect_of(one)) @ affect_vector(affect_of(other)) < 0.5


@pytest.mark.parametrize("broken", [{"valence": float("nan")}, {"emotions": {}}])
def test_an_affect_that_says_nothing_is_refused(broken: dict):
    with pytest.raises(ValueError, match="affect needs"):
        affect_vector(replace(affect_of("sad"), **broken))


@given(any_affects)
def test_intensity_stays_in_range(affect: Affect):
    assert 0 <= intensity(affect) <= 1


def test_intensity_orders_feelings_as_people_do():
    assert intensity(affect_of("neutral")) == 0
    assert intensity(affect_of("sad", 0.3)) < intensity(affect_of("sad")) < intensity(affect_of("fear"))


@given(st.floats(0, 1000), st.floats(0.1, 1000), share)
def test_recency_only_falls_with_age(age: float, more: float, strength: float):
    assert 0 <= recency(age + more, strength) < recency(age, strength) <= 1


@given(st.floats(0.1, 1000), st.floats(0, 0.9))
def test_intense_episodes_fade_more_slowly(age: float, strength: float):
    assert recency(age, strength + 0.1) > recency(age, strength)


def test_recency_halves_after_its_half_life_and_never_exceeds_one():
    assert recency(14, 0) == pytest.approx(0.5)
    assert recency(84, 1) == pytest.approx(0.5)
    assert recency(-3, 0.5) == 1


@given(st.lists(candidates, unique_by=lambda c: c.id), weights, st.integers(0, 5))
def test_rank_gives_the_highest_sums_of_parts(found: list[Candidate], weights: Weights, limit: int):
    ranked = rank(found, weights, limit)
    scores = [sum(parts.values()) for _, parts in ranked]
    assert scores == sorted((sum(score_parts(c, weights).values()) for c in found), reverse=True)[:limit]


@given(st.lists(candidates, unique_by=lambda c: c.id), weights, st.randoms())
def test_rank_does_not_depend_on_the_order_of_candidates(found: list[Candidate], weights: Weights, random):
    shuffled = random.sample(found, len(found))
    assert rank(found, weights, 9) == rank(shuffled, weights, 9)


def test_rank_leaves_out_what_feels_too_different():
    near, far = Candidate("near", 0, 0.5, 0, 0), Candidate("far", 1, 0.1, 0, 0)
    assert [c.id for c, _ in rank([far, near], Weights(min_affect=0.3), 2)] == ["near"]


@given(any_affects, any_affects, unit, unit, unit, unit, st.datetimes(datetime(1930, 1, 1), datetime(2100, 1, 1)))
def test_one_inner_product_is_the_score_but_for_recency(
    kept: Affect, felt: Affect, a: float, b: float, c: float, d: float, at: datetime
):
    text = np.full(16, 0.25, np.float32)
    cue = Cue(text, affect_vector(felt), Weights(text=a, affect=b, importance=c, helped=d))
    episode = episode_of("id", affect=kept, at=at.replace(tzinfo=UTC), after=(Felt("t", "happy", 0.8, 0.5),))
    vector = episode_vector(text, episode)
    (alike,) = compare(["id"], vector[None], cue, episode.at.timestamp() + 86_400)
    assert alike.text == pytest.approx(1, abs=1e-5)
    assert alike.at_s == pytest.approx(episode.at.timestamp(), abs=0.01)
    assert alike.age_days == pytest.approx(1, abs=1e-5)
    assert alike.intensity == pytest.approx(intensity(kept), abs=1e-5)
    assert alike.lift == pytest.approx(episode.lift, abs=1e-5)
    parts = score_parts(alike, cue.weights)
    assert vector @ cue.vector == pytest.approx(sum(parts.values()) - parts["recency"], abs=1e-4)


def test_what_says_the_same_as_a_better_one_makes_room_for_another():
    words = {"rain": np.array([1.0, 0.0]), "rain again": np.array([0.99, 0.141]), "sun": np.array([0.0, 1.0])}
    scores = {"rain": 1.0, "rain again": 0.95, "sun": 0.9}
    found = [Candidate(id, scores[id], 0, 0, 0, words=words[id]) for id in words]
    assert [c.id for c, _ in rank(found, Weights(diversity=0.0), 2)] == ["rain", "rain again"]
    varied = rank(found, Weights(diversity=0.2), 2)
    assert [c.id for c, _ in varied] == ["rain", "sun"]
    assert rank(found, Weights(diversity=0.2), 3)[2][1]["diversity"] == pytest.approx(-0.2 * 0.99)


def test_what_helped_comes_back_though_it_was_felt_otherwise():
    helped, sad = Candidate("helped", 0.5, -0.4, 0, 0, lift=0.9), Candidate("sad", 0.6, -0.4, 0, 0)
    assert [c.id for c, _ in rank([sad, helped], Weights(min_affect=0.3, min_lift=0.3), 2)] == ["helped"]


@given(st.lists(st.text(max_size=40), max_size=8), st.integers(0, 30))
def test_what_comes_back_fits_the_budget(words: list[str], budget: int):
    found = [Recollection(episode_of(str(i), text), 1.0) for i, text in enumerate(words)]
    kept = within_budget(found, budget)
    assert sum(n_tokens(one.episode.text) for one in kept) <= budget
    assert [one for one in found if one in kept] == kept
    assert within_budget(found, None) == found
