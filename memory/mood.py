"""Mood over time, followed through what was felt on single turns. Pure functions.

Affect has a home base, it varies around it, and it is pulled back (Kuppens, Oravecz & Tuerlinckx 2010, "Feelings
change: accounting for individual differences in the temporal dynamics of affect"). Here the mood is a person's baseline
plus a deviation from it, both Ornstein-Uhlenbeck processes in continuous time. The deviation fades within days. The
baseline itself drifts back to neutral over half a year: it is learned from the turns, slowly, so that twenty of them in
one bad evening move it far less than those of twenty bad days. A Kalman filter per dimension follows the two. A turn
that was read with less confidence counts as a noisier observation, and without turns the uncertainty grows.

An estimate is always a weighted mean of what was observed and of neutral, with no weight below 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import sqrt

import numpy as np

from model.types import CIRCUMPLEX

from .types import Episode

BASELINE_HALF_LIFE_DAYS = 180.0
BASELINE_SD = 0.3
"""How far the baselines of people lie from neutral."""

MOOD_SD = 0.35
"""How far a mood lies from a person's baseline, over many days."""

MIN_CONFIDENCE = 0.05
"""The noise of a turn goes with 1 / confidence, and is no larger than at this."""

WINDOW_DAYS = 28
"""Trend and volatility are those of so many days."""

Z95 = 1.96


@dataclass(frozen=True)
class Dynamics:
    """How one dimension moves: `rest` is neutral, `noise_sd` the error of a turn read with confidence 1."""

    rest: float
    half_life_days: float
    noise_sd: float


VALENCE = Dynamics(CIRCUMPLEX["neutral"][0], half_life_days=1.0, noise_sd=0.25)
"""With half of a mood gone after a day, one day resembles the next with a correlation of about a half."""

AROUSAL = Dynamics(CIRCUMPLEX["neutral"][1], half_life_days=0.5, noise_sd=0.35)
"""Arousal settles sooner, and words alone show less of it."""


@dataclass(frozen=True)
class MoodState:
    """The mood at a time as far as the turns up to then tell: means in [-1, 1] and their standard deviations."""

    at: datetime
    valence: float
    arousal: float
    valence_sd: float
    arousal_sd: float


@dataclass(frozen=True)
class Trend:
    """Change per week, and the 95 % interval of it."""

    per_week: float
    low: float
    high: float


@dataclass(frozen=True)
class Mood:
    """Where a person's mood is, where it usually is, and how it has moved over the last `WINDOW_DAYS`.

    `trend` is of valence, None with fewer than 4 episodes or when all are of one day. `volatility` is the root mean
    square of successive differences of valence, None with fewer than 2 episodes. `n` counts the episodes of the window.
    """

    at: datetime
    valence: float
    arousal: float
    valence_sd: float
    arousal_sd: float
    baseline_valence: float
    baseline_arousal: float
    trend: Trend | None
    volatility: float | None
    n: int


@dataclass(frozen=True)
class _Belief:
    """Means and covariance of baseline and deviation in one dimension; the mood is their sum."""

    dynamics: Dynamics
    base: float
    deviation: float = 0.0
    base_var: float = BASELINE_SD**2
    deviation_var: float = MOOD_SD**2
    covariance: float = 0.0

    @property
    def mean(self) -> float:
        return self.base + self.deviation

    @property
    def variance(self) -> float:
        return max(0.0, self.base_var + self.deviation_var + 2 * self.covariance)

    def after(self, days: float) -> _Belief:
        """Both drift home, and what is known of them fades."""
        kept, kept_base = 0.5 ** (days / self.dynamics.half_life_days), 0.5 ** (days / BASELINE_HALF_LIFE_DAYS)
        return _Belief(
            self.dynamics,
            base=self.dynamics.rest + kept_base * (self.base - self.dynamics.rest),
            deviation=kept * self.deviation,
            base_var=BASELINE_SD**2 + kept_base**2 * (self.base_var - BASELINE_SD**2),
            deviation_var=MOOD_SD**2 + kept**2 * (self.deviation_var - MOOD_SD**2),
            covariance=kept * kept_base * self.covariance,
        )

    def given(self, observed: float, noise_var: float) -> _Belief:
        base, deviation = self.base_var + self.covariance, self.deviation_var + self.covariance
        total = self.variance + noise_var
        surprise = (observed - self.mean) / total
        return _Belief(
            self.dynamics,
            base=self.base + base * surprise,
            deviation=self.deviation + deviation * surprise,
            base_var=self.base_var - base * base / total,
            deviation_var=self.deviation_var - deviation * deviation / total,
            covariance=self.covariance - base * deviation / total,
        )


_Beliefs = tuple[_Belief, _Belief]
"""Of valence and of arousal."""

_Stop = tuple[datetime, Episode | None]
"""A time to look at, or one at which a turn was felt."""


def track(episodes: Iterable[Episode], grid: Iterable[datetime] = ()) -> list[MoodState]:
    """The mood as it was known right after each episode and at each time of the grid, in order of time.

    A grid time that is also an episode's comes before it. The order of the episodes does not matter.
    """
    stops = _stops(episodes, grid)
    return [_state(at, beliefs) for (at, _), beliefs in zip(stops, _follow(stops), strict=True)]


def retrace(episodes: Iterable[Episode], grid: Iterable[datetime]) -> list[MoodState]:
    """The mood at each time of the grid as all episodes tell it, earlier and later ones; for looking back.

    The process runs alike in both directions of time, so the later episodes are followed backwards, and the two beliefs
    are joined; what either knows without any episode counts once.
    """
    stops = _stops(episodes, grid)
    forth, back = list(_follow(stops)), list(_follow(stops[::-1]))[::-1]
    shown = [i for i, (_, episode) in enumerate(stops) if episode is None]
    columns = []
    for dimension, dynamics in enumerate((VALENCE, AROUSAL)):
        precision, pull = np.diag([-1 / BASELINE_SD**2, -1 / MOOD_SD**2]), np.zeros(2)
        for beliefs in (forth, back):
            known = [beliefs[i][dimension] for i in shown]
            cov = [[[b.base_var, b.covariance], [b.covariance, b.deviation_var]] for b in known]
            inverse = np.linalg.inv(np.reshape(cov, (-1, 2, 2)))
            mean = np.reshape([[b.base - dynamics.rest, b.deviation] for b in known], (-1, 2, 1))
            precision, pull = precision + inverse, pull + (inverse @ mean)[..., 0]
        joined = np.linalg.inv(precision)
        columns += [dynamics.rest + (joined @ pull[..., None]).sum(axis=(1, 2)), np.sqrt(joined.sum(axis=(1, 2)))]
    valence, valence_sd, arousal, arousal_sd = (column.tolist() for column in columns)
    times = [stops[i][0] for i in shown]
    return [MoodState(*row) for row in zip(times, valence, arousal, valence_sd, arousal_sd, strict=True)]


def mood(episodes: Iterable[Episode], now: datetime) -> Mood | None:
    """The mood at a time, from the episodes up to then; None without any. Days are those of the zone of `now`."""
    past = [episode for episode in _in_order(episodes) if episode.at <= now]
    if not past:
        return None
    *_, (valence, arousal) = _follow(_stops(past))
    days = _days(now - past[-1].at)
    valence, arousal = valence.after(days), arousal.after(days)
    recent = [episode for episode in past if now - episode.at <= timedelta(days=WINDOW_DAYS)]
    return Mood(
        at=now,
        valence=valence.mean,
        arousal=arousal.mean,
        valence_sd=sqrt(valence.variance),
        arousal_sd=sqrt(arousal.variance),
        baseline_valence=valence.base,
        baseline_arousal=arousal.base,
        trend=trend(recent, now),
        volatility=volatility(recent),
        n=len(recent),
    )


def volatility(episodes: Iterable[Episode]) -> float | None:
    """Root mean square of successive differences of valence, in [0, 2].

    Jahng, Wood & Trull (2008), "Analysis of affective instability in ecological momentary assessment": it counts how
    far the next turn is from this one, which a standard deviation does not. Time between turns is not adjusted for.
    """
    valences = [episode.affect.valence for episode in _in_order(episodes)]
    if len(valences) < 2:
        return None
    return float(np.sqrt(np.mean(np.square(np.diff(valences)))))


def trend(episodes: Sequence[Episode], now: datetime) -> Trend | None:
    """The slope of valence over time, by least squares over the days with turns.

    A day is one point: the mean of its turns, weighted by confidence. Days that follow each other resemble each other,
    as the mood model says; weights that ignored this would give an interval that is much too narrow. Where days
    scatter more than the model says, the interval is widened by as much.
    """
    days: dict[int, list[Episode]] = {}
    for episode in episodes:
        days.setdefault(episode.at.astimezone(now.tzinfo).toordinal(), []).append(episode)
    if len(episodes) < 4 or len(days) < 2:
        return None
    rows = [
        np.array([(_days(e.at - now) / 7, e.affect.valence, 1 / _noise_var(VALENCE, e)) for e in day])
        for day in days.values()
    ]
    at, valence = (np.array([np.average(day[:, i], weights=day[:, 2]) for day in rows]) for i in (0, 1))
    noise = np.diag([1 / day[:, 2].sum() for day in rows])
    alike = 0.5 ** (7 * np.abs(at[:, None] - at) / VALENCE.half_life_days)
    root = np.linalg.cholesky(MOOD_SD**2 * alike + noise)  # dividing by it leaves independent days
    line, valence = np.linalg.solve(root, np.stack([np.ones_like(at), at], axis=1)), np.linalg.solve(root, valence)
    spread = np.linalg.inv(line.T @ line)
    found = spread @ line.T @ valence
    excess = float(np.square(valence - line @ found).sum()) / max(1, len(days) - 2)
    margin = Z95 * sqrt(spread[1, 1] * max(1.0, excess))
    return Trend(float(found[1]), float(found[1]) - margin, float(found[1]) + margin)


def _stops(episodes: Iterable[Episode], grid: Iterable[datetime] = ()) -> list[_Stop]:
    """Grid times and episodes in order of time, at one time the grid first."""
    turns: list[_Stop] = [(episode.at, episode) for episode in _in_order(episodes)]
    return sorted([*((at, None) for at in grid), *turns], key=lambda stop: stop[0])


def _follow(stops: Sequence[_Stop]) -> Iterator[_Beliefs]:
    """What is believed at each stop, with what the stop itself tells; time may run in either direction."""
    valence, arousal = _Belief(VALENCE, VALENCE.rest), _Belief(AROUSAL, AROUSAL.rest)
    before: datetime | None = None
    for at, episode in stops:
        days = abs(_days(at - before)) if before else 0.0
        valence, arousal, before = valence.after(days), arousal.after(days), at
        if episode is not None:
            valence = valence.given(episode.affect.valence, _noise_var(VALENCE, episode))
            arousal = arousal.given(episode.affect.arousal, _noise_var(AROUSAL, episode))
        yield valence, arousal


def _state(at: datetime, beliefs: _Beliefs) -> MoodState:
    valence, arousal = beliefs
    return MoodState(at, valence.mean, arousal.mean, sqrt(valence.variance), sqrt(arousal.variance))


def _in_order(episodes: Iterable[Episode]) -> list[Episode]:
    """By time; at one instant by id and feeling, so that no other order can tell."""
    return sorted(episodes, key=lambda e: (e.at, e.id, e.affect.valence, e.affect.arousal, e.affect.confidence))


def _noise_var(dynamics: Dynamics, episode: Episode) -> float:
    return dynamics.noise_sd**2 / max(MIN_CONFIDENCE, episode.affect.confidence)


def _days(time: timedelta) -> float:
    return time / timedelta(days=1)
