"""The mood that single turns add up to."""

import time
from datetime import UTC, datetime, timedelta
from math import sqrt
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.mood import AROUSAL, BASELINE_SD, MOOD_SD, VALENCE, Dynamics, mood, retrace, track, trend, volatility
from memory.types import Episode
from model.types import CIRCUMPLEX, EMOTIONS, Affect

NOW = datetime(2026, 6, 18, 20, tzinfo=UTC)
REST = CIRCUMPLEX["neutral"]


def felt(days_ago: float, valence: float, arousal: float = 0.0, confidence: float = 0.8, id: str = "") -> Episode:
    """What was felt some days ago; its id tells when, so that no two are the same."""
    affect = Affect(valence, "neutral", {label: 1 / len(EMOTIONS) for label in EMOTIONS}, valence, arousal, confidence)
    at = NOW - timedelta(days=days_ago)
    return Episode(id or f"{days_ago}", "ann", "thread", at, "words", "reply", affect)


numbers = st.floats(-1, 1)
episodes_of = st.lists(
    st.builds(felt, st.floats(0, 400), numbers, numbers, st.floats(0, 1)),
    min_size=1,
    max_size=12,
    unique_by=lambda e: e.id,
)


@settings(max_examples=40, deadline=None)
@given(episodes_of, st.floats(0, 400))
def test_an_estimate_lies_among_what_was_observed_and_neutral(episodes: list[Episode], later: float):
    now = mood(episodes, NOW + timedelta(days=later))
    assert now is not None
    for dimension, rest in (("valence", REST[0]), ("arousal", REST[1])):
        seen = [getattr(episode.affect, dimension) for episode in episodes] + [rest]
        states = track(episodes, [NOW + timedelta(days=later)])
        means = [getattr(s, dimension) for s in states] + [
            getattr(now, dimension),
            getattr(now, f"baseline_{dimension}"),
        ]
        assert min(seen) - 1e-9 <= min(means) <= max(means) <= max(seen) + 1e-9


@settings(max_examples=40, deadline=None)
@given(episodes_of, st.floats(0, 100), st.floats(0.001, 100))
def test_uncertainty_rises_with_silence_up_to_that_of_a_stranger(episodes: list[Episode], wait: float, longer: float):
    at = [NOW + timedelta(days=wait), NOW + timedelta(days=wait + longer)]
    sooner, later = track(episodes, at)[-2:]
    assert sooner.valence_sd <= later.valence_sd + 1e-12 <= sqrt(BASELINE_SD**2 + MOOD_SD**2) + 1e-9
    assert sooner.arousal_sd <= later.arousal_sd + 1e-12


@settings(max_examples=40, deadline=None)
@given(episodes_of, numbers, st.floats(0.05, 1))
def test_uncertainty_falls_with_an_observation(episodes: list[Episode], valence: float, confidence: float):
    before, after = track([*episodes, felt(-1, valence, 0, confidence)], [NOW + timedelta(days=1)])[-2:]
    assert before.at == after.at
    assert after.valence_sd < before.valence_sd
    assert after.arousal_sd < before.arousal_sd


@settings(max_examples=40, deadline=None)
@given(episodes_of, st.randoms())
def test_the_order_they_are_given_in_does_not_matter(episodes: list[Episode], chance: Random):
    episodes.append(felt(episodes[0].affect.valence, 0.5, id="another"))
    shuffled = chance.sample(episodes, len(episodes))
    assert track(shuffled) == track(episodes)
    assert mood(iter(shuffled), NOW) == mood(episodes, NOW)


@settings(max_examples=40, deadline=None)
@given(episodes_of, numbers, st.floats(0.05, 1), st.floats(0.05, 1))
def test_low_confidence_moves_the_estimate_less(episodes: list[Episode], valence: float, one: float, other: float):
    low, high = sorted((one, other))
    tomorrow = NOW + timedelta(days=1)
    start, unsure = track([*episodes, felt(-1, valence, 0, low)], [tomorrow])[-2:]
    sure = track([*episodes, felt(-1, valence, 0, high)])[-1]
    assert abs(unsure.valence - start.valence) <= abs(sure.valence - start.valence) + 1e-12
    assert unsure.valence_sd >= sure.valence_sd - 1e-12


def test_without_episodes_there_is_no_mood():
    assert mood([], NOW) is None
    assert mood([felt(-1, 0.5)], NOW) is None  # it was not felt yet
    assert track([]) == []


def test_a_mood_of_the_past_knows_nothing_of_what_came_later():
    episodes = [felt(day, 0.8 if day < 5 else -0.8) for day in range(10)]
    then = NOW - timedelta(days=5)
    assert mood(episodes, then) == mood([e for e in episodes if e.at <= then], then)


def test_a_mood_fades_in_days_and_a_baseline_stays():
    usual = [felt(day, 0.4) for day in range(1, 60)]
    episodes = [*usual, felt(0, -0.9, confidence=1.0)]
    at_once, a_week_later = mood(episodes, NOW), mood(episodes, NOW + timedelta(days=7))
    assert at_once is not None
    assert a_week_later is not None
    assert at_once.valence < -0.2
    assert a_week_later.valence == pytest.approx(a_week_later.baseline_valence, abs=0.02)
    assert 0.1 < a_week_later.baseline_valence < 0.4


def test_one_bad_evening_moves_the_baseline_less_than_as_many_bad_days():
    usual = [felt(day, 0.3) for day in range(20, 80)]
    evening = mood([*usual, *(felt(minute / 1440, -0.9) for minute in range(20))], NOW)
    days = mood([*usual, *(felt(day, -0.9) for day in range(20))], NOW)
    assert evening is not None
    assert days is not None
    assert evening.valence < -0.6
    assert days.baseline_valence < 0 < evening.baseline_valence


def closed_form(dynamics: Dynamics, days: list[float], seen: list[float], at: float) -> tuple[float, float]:
    """The same model as a Gaussian process: the covariance of two times is a sum of two exponentials."""

    def covariance(gap: np.ndarray) -> np.ndarray:
        return MOOD_SD**2 * 0.5 ** (gap / dynamics.half_life_days) + BASELINE_SD**2 * 0.5 ** (gap / 180)

    times = np.array(days)
    kernel = covariance(np.abs(times[:, None] - times)) + np.eye(len(days)) * dynamics.noise_sd**2 / 0.8
    to_at = covariance(np.abs(times - at))
    weights = np.linalg.solve(kernel, to_at)
    variance = MOOD_SD**2 + BASELINE_SD**2 - weights @ to_at
    return float(dynamics.rest + weights @ (np.array(seen) - dynamics.rest)), float(np.sqrt(variance))


def test_the_mood_is_that_of_a_gaussian_process():
    days, seen = [40.0, 12.5, 3.0, 2.9, 0.2], [0.5, -0.2, -0.9, 0.1, 0.7]
    now = mood([felt(day, value, value / 2) for day, value in zip(days, seen, strict=True)], NOW)
    assert now is not None
    assert (now.valence, now.valence_sd) == pytest.approx(closed_form(VALENCE, days, seen, 0.0))
    assert (now.arousal, now.arousal_sd) == pytest.approx(closed_form(AROUSAL, days, [v / 2 for v in seen], 0.0))


def test_looking_back_uses_what_came_later_too():
    days, seen = [40.0, 12.5, 3.0, 2.9, 0.2], [0.5, -0.2, -0.9, 0.1, 0.7]
    episodes = [felt(day, value, value / 2) for day, value in zip(days, seen, strict=True)]
    grid = [50.0, 40.0, 20.0, 2.95, 0.2, -3.0]
    states = retrace(episodes, [NOW - timedelta(days=day) for day in grid])
    for day, state in zip(grid, states, strict=True):
        assert (state.valence, state.valence_sd) == pytest.approx(closed_form(VALENCE, days, seen, day))
        assert (state.arousal, state.arousal_sd) == pytest.approx(
            closed_form(AROUSAL, days, [v / 2 for v in seen], day)
        )
    assert retrace([], [NOW])[0].valence == VALENCE.rest
    assert retrace(episodes, []) == []


def test_a_grid_shows_the_mood_before_and_after_a_turn_and_in_between():
    episodes = [felt(2, -0.8), felt(1, 0.8)]
    grid = [NOW, NOW - timedelta(days=1), NOW - timedelta(days=1.5)]
    states = track(episodes, grid)
    assert [(NOW - state.at) / timedelta(days=1) for state in states] == [2, 1.5, 1, 1, 0]
    assert states[0].valence < states[1].valence < states[2].valence < states[4].valence < states[3].valence


def test_a_steady_change_is_a_trend():
    falling = [felt(day, -0.4 + 0.05 * day) for day in range(21)]
    now = mood(falling, NOW)
    assert now is not None
    assert now.trend is not None
    assert now.trend.low < now.trend.per_week < now.trend.high < 0
    assert now.trend.per_week == pytest.approx(-0.35, abs=0.01)


def test_many_turns_of_one_evening_do_not_narrow_the_trend():
    daily = [felt(day, 0.1 * (day % 3)) for day in range(14)]
    chatty = daily + [felt(minute / 1440, 0.0) for minute in range(1, 200)]
    few, many = trend(daily, NOW), trend(chatty, NOW)
    assert few is not None
    assert many is not None
    assert many.high - many.low > 0.9 * (few.high - few.low)


def test_days_that_scatter_widen_the_interval():
    calm = trend([felt(day, 0.1) for day in range(14)], NOW)
    wild = trend([felt(day, (-1.0) ** day) for day in range(14)], NOW)
    assert calm is not None
    assert wild is not None
    assert wild.high - wild.low > 1.2 * (calm.high - calm.low)


@pytest.mark.parametrize(
    ("days", "there_is_one"),
    [([0, 1, 2], False), ([0, 0.1, 0.2, 0.3], False), ([0, 0.1, 1, 1.1], True), ([0, 1, 40, 41], False)],
)
def test_a_trend_needs_four_episodes_on_two_days_of_the_last_four_weeks(days: list[float], there_is_one: bool):
    now = mood([felt(day, 0.1) for day in days], NOW)
    assert now is not None
    assert (now.trend is not None) == there_is_one


def test_volatility_counts_the_steps_and_not_the_spread():
    assert volatility([felt(3, 0.0), felt(2, 0.3), felt(1, -0.1)]) == pytest.approx(sqrt((0.3**2 + 0.4**2) / 2))
    slow, quick = [-0.5, -0.5, 0.5, 0.5], [-0.5, 0.5, -0.5, 0.5]
    slow_steps, quick_steps = (volatility([felt(-i, v) for i, v in enumerate(values)]) for values in (slow, quick))
    assert slow_steps is not None
    assert quick_steps is not None
    assert slow_steps < quick_steps
    assert volatility([felt(0, 1.0)]) is None


def test_only_the_last_four_weeks_count_as_recent():
    now = mood([felt(60, -1), felt(50, 1), felt(2, 0.1), felt(1, 0.1)], NOW)
    assert now is not None
    assert now.n == 2
    assert now.volatility == pytest.approx(0)


def test_thousands_of_turns_are_followed_quickly():
    episodes = [felt(minute / 144, 0.5) for minute in range(4000)]
    started = time.process_time()
    now = mood(episodes, NOW)
    assert time.process_time() - started < 2.0
    assert now is not None
    assert 0 < now.valence_sd < MOOD_SD
