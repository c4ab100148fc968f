"""How well an episode answers a recall: likeness of words, likeness of feeling, recency, importance. Pure functions.

Every kept episode is one vector, its unit text embedding followed by its unit affect vector. A `Cue` is the same pair
scaled by weights, so the inner product of the two is `a·cos(text) + b·cos(affect)` and one search ranks by both.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from model.types import CIRCUMPLEX, EMOTIONS, Affect

AFFECT_DIM = len(EMOTIONS) + 3
"""Width of `affect_vector`: the emotion distribution, valence, arousal, sentiment."""

VALENCE_SCALE = 2.0
"""Valence outweighs labels, so that joy and grief point apart while grief, fear and anger stay akin."""

HALF_LIFE_DAYS = 14.0
INTENSE_HALF_LIFE_DAYS = 84.0
"""Half-lives of an episode of intensity 0 and 1: intense episodes fade six times more slowly."""


@dataclass(frozen=True)
class Weights:
    """What counts in a recall, and how much.

    `text` and `affect` weigh cosines in [-1, 1], `recency` and `importance` values in [0, 1]. An episode whose
    affect cosine is below `min_affect` does not come back at all.
    """

    text: float = 1.0
    affect: float = 0.0
    recency: float = 0.0
    importance: float = 0.0
    min_affect: float = -1.0


@dataclass(frozen=True, eq=False)
class Cue:
    """What a recall looks for: a unit text embedding float32 (D,) and a unit affect vector float32 (D_a,).

    Either is all zeros where there is nothing to go by (no words, no affect).
    """

    text: np.ndarray
    affect: np.ndarray
    weights: Weights

    @property
    def vector(self) -> np.ndarray:
        """(D + D_a,) float32: its inner product with an episode's vector is `a·cos(text) + b·cos(affect)`."""
        return np.concatenate([self.weights.text * self.text, self.weights.affect * self.affect]).astype(np.float32)


@dataclass(frozen=True)
class Candidate:
    """An episode that may come back: cosines with the cue in [-1, 1], age in days, intensity in [0, 1]."""

    id: str
    text: float
    affect: float
    age_days: float
    intensity: float


def affect_vector(affect: Affect) -> np.ndarray:
    """Place an affect among others, so that cosine says how alike two of them feel.

    The coordinates are the probability of each of `EMOTIONS`, twice the valence, the arousal and the sentiment.
    Neutral keeps its own coordinate, so no affect is the zero vector. How strong a feeling is drops out with the
    length; `intensity` carries it.

    Returns:
        (AFFECT_DIM,) float32 of length 1.

    Raises:
        ValueError: a number is not finite, or every emotion has probability 0.
    """
    emotions = [affect.emotions.get(label, 0.0) for label in EMOTIONS]
    vector = np.array([*emotions, VALENCE_SCALE * affect.valence, affect.arousal, affect.sentiment], dtype=np.float64)
    if not np.isfinite(vector).all() or not any(emotions):
        raise ValueError(f"an affect needs finite numbers and some probability among {EMOTIONS}, got {vector.tolist()}")
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def episode_vector(text: np.ndarray, affect: Affect) -> np.ndarray:
    """(D + D_a,) float32: the unit text embedding (D,) followed by the unit affect vector; what an index stores."""
    return np.concatenate([text, affect_vector(affect)]).astype(np.float32)


def compare(id: str, vector: np.ndarray, cue: Cue, age_days: float, intensity: float) -> Candidate:
    """How like the cue an episode's vector (D + D_a,) is, in words and in feeling apart."""
    text, affect = vector[: len(cue.text)], vector[len(cue.text) :]  # np.split takes ten times as long
    return Candidate(id, float(text @ cue.text), float(affect @ cue.affect), age_days, intensity)


def intensity(affect: Affect) -> float:
    """How strongly something is felt, in [0, 1]: the distance from neutral on the circumplex.

    Arousal below the neutral level adds nothing: calm is not intense, grief is by its valence.
    """
    roused = max(0.0, affect.arousal - CIRCUMPLEX["neutral"][1])
    return min(1.0, float(np.hypot(affect.valence, roused)))


def recency(age_days: float, intensity: float) -> float:
    """How present an episode still is, in [0, 1]: it halves every 14 days, every 84 if it was intense.

    Exponential forgetting after Ebbinghaus; the half-life is linear in intensity, since emotional memories last longer
    (McGaugh 2004, "The amygdala modulates the consolidation of memories of emotionally arousing experiences").
    An episode from the future (a clock that was set back) counts as new.
    """
    half_life_days = HALF_LIFE_DAYS + intensity * (INTENSE_HALF_LIFE_DAYS - HALF_LIFE_DAYS)
    return float(0.5 ** (max(0.0, age_days) / half_life_days))


def score_parts(candidate: Candidate, weights: Weights) -> dict[str, float]:
    """What each of text, affect, recency and importance adds to the score; the score is their sum."""
    return {
        "text": weights.text * candidate.text,
        "affect": weights.affect * candidate.affect,
        "recency": weights.recency * recency(candidate.age_days, candidate.intensity),
        "importance": weights.importance * candidate.intensity,
    }


def rank(candidates: Iterable[Candidate], weights: Weights, limit: int) -> list[tuple[Candidate, dict[str, float]]]:
    """The best `limit` candidates and their score parts, highest score first; equal scores newest first, then by id."""
    scored = [(c, score_parts(c, weights)) for c in candidates if c.affect >= weights.min_affect]
    scored.sort(key=lambda pair: (-sum(pair[1].values()), pair[0].age_days, pair[0].id))
    return scored[: max(0, limit)]
