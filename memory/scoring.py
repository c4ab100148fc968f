"""How well an episode answers a recall: likeness of words and of feeling, recency, importance, what helped, variety.

Every kept episode is one vector: its unit text embedding, its affect vector, and four marks (when it was, how
intense, how it turned out). A `Cue` is the same vector scaled by weights, so the inner product of the two is
`a·cos(text) + b·cos(affect) + c·intensity + d·lift`: one search ranks by all of them, and the vectors that it brings
back say all that the ranking wants to know. To read metadata instead takes longer than the search itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from model.types import CIRCUMPLEX, EMOTIONS, Affect

from .types import Episode, Recollection

AFFECT_DIM = len(EMOTIONS) + 3
"""Width of `affect_vector`: the emotion distribution, valence, arousal, sentiment."""

AXIS_SCALES = (0.5, 0.25, 0.25)
"""Of valence, arousal and sentiment beside the shares of the emotions: enough that joy and grief point apart, and
little enough that grief is not taken for anger (chosen on the development people of `bench.recall`)."""

AFFECT_SHARE = 0.3
"""Length of the affect part in a stored vector; a cue's is divided by it. At full length the index is a map of
feelings, in which a search by words loses its way: of 40,000 episodes it found the best one for 0.88 of the questions,
now for all."""

MARK_SCALES = (1e-6, 1e-8, 1e-3, 1e-3)
"""Of the marks: days since 1970, seconds of that day, intensity, lift. So small that they change no neighbourhood of
the index (together below 0.001 of an inner product), and times are still exact to a hundredth of a second."""

N_MARKS = len(MARK_SCALES)
DAY_S = 86_400.0

HALF_LIFE_DAYS = 14.0
INTENSE_HALF_LIFE_DAYS = 84.0
"""Half-lives of an episode of intensity 0 and 1: intense episodes fade six times more slowly."""


@dataclass(frozen=True)
class Weights:
    """What counts in a recall, and how much.

    `text` and `affect` weigh cosines in [-1, 1], `recency` and `importance` values in [0, 1], `helped` a lift in
    [-2, 2] (how much better they felt on the turns that followed). `diversity` is how much is lost by saying again
    what was chosen before (maximal marginal relevance, Carbonell and Goldstein 1998). An episode whose affect cosine
    is below `min_affect` does not come back at all, unless they felt better after it by `min_lift`.
    """

    text: float = 1.0
    affect: float = 0.0
    recency: float = 0.0
    importance: float = 0.0
    helped: float = 0.0
    diversity: float = 0.0
    min_affect: float = -1.0
    min_lift: float = 9.0


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
        """(D + D_a + 4,) float32: its inner product with an episode's vector is the score, but for recency."""
        marks = np.array([0.0, 0.0, self.weights.importance, self.weights.helped]) / MARK_SCALES
        parts = [self.weights.text * self.text, self.weights.affect / AFFECT_SHARE * self.affect, marks]
        return np.concatenate(parts).astype(np.float32)


@dataclass
class Candidate:
    """An episode that may come back.

    `text` and `affect` are cosines with the cue in [-1, 1]; age in days, intensity in [0, 1], lift in [-2, 2]. `at_s`
    is when it was, in seconds since 1970. `words` is its unit text embedding (D,), which tells how much two candidates
    say the same; one without it is like no other. (Not frozen: many are made for a recall, in a seventh of the time.)
    """

    id: str
    text: float
    affect: float
    age_days: float
    intensity: float
    lift: float = 0.0
    at_s: float = 0.0
    words: np.ndarray | None = field(default=None, compare=False, repr=False)


def affect_vector(affect: Affect) -> np.ndarray:
    """Place an affect among others, so that cosine says how alike two of them feel.

    The coordinates are the probability of each of `EMOTIONS`, and valence, arousal and sentiment by `AXIS_SCALES`.
    Neutral keeps its own coordinate, so no affect is the zero vector. How strong a feeling is drops out with the
    length; `intensity` carries it.

    Returns:
        (AFFECT_DIM,) float32 of length 1.

    Raises:
        ValueError: a number is not finite, or every emotion has probability 0.
    """
    emotions = [affect.emotions.get(label, 0.0) for label in EMOTIONS]
    axes = np.array([affect.valence, affect.arousal, affect.sentiment]) * AXIS_SCALES
    vector = np.array([*emotions, *axes], dtype=np.float64)
    if not np.isfinite(vector).all() or not any(emotions):
        raise ValueError(f"an affect needs finite numbers and some probability among {EMOTIONS}, got {vector.tolist()}")
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def episode_vector(text: np.ndarray, episode: Episode) -> np.ndarray:
    """(D + D_a + 4,) float32: the unit text embedding (D,), the affect vector, the marks; what an index stores."""
    day, second = divmod(episode.at.timestamp(), DAY_S)
    marks = np.array([day, second, intensity(episode.affect), min(2.0, max(-2.0, episode.lift))]) * MARK_SCALES
    return np.concatenate([text, AFFECT_SHARE * affect_vector(episode.affect), marks]).astype(np.float32)


def compare(ids: Sequence[str], vectors: np.ndarray, cue: Cue, now_s: float) -> list[Candidate]:
    """How like the cue episodes are, in words and in feeling apart, from their ids and vectors (N, D + D_a + 4)."""
    if not len(ids):
        return []
    n_text = len(cue.text)
    vectors = np.asarray(vectors, np.float32)
    words, affects = vectors[:, :n_text], vectors[:, n_text : n_text + AFFECT_DIM]
    marks = vectors[:, n_text + AFFECT_DIM :].astype(np.float64) / MARK_SCALES
    at_s = np.round(marks[:, 0]) * DAY_S + np.round(marks[:, 1], 2)
    texts, feelings = words @ cue.text, affects @ cue.affect / AFFECT_SHARE
    columns = (texts, feelings, (now_s - at_s) / DAY_S, marks[:, 2], marks[:, 3], at_s)
    return [Candidate(*of_one) for of_one in zip(ids, *(column.tolist() for column in columns), words, strict=True)]


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
    """What each of text, affect, recency, importance and outcome adds to the score; the score is their sum."""
    return {
        "text": weights.text * candidate.text,
        "affect": weights.affect * candidate.affect,
        "recency": weights.recency * recency(candidate.age_days, candidate.intensity),
        "importance": weights.importance * candidate.intensity,
        "helped": weights.helped * candidate.lift,
    }


def rank(candidates: Iterable[Candidate], weights: Weights, limit: int) -> list[tuple[Candidate, dict[str, float]]]:
    """The best `limit` candidates and their score parts, in the order of choice; equal scores newest first, then by id.

    Each choice loses `diversity` times the cosine of its words with the most similar of those chosen before.
    """
    left = [
        (candidate, score_parts(candidate, weights))
        for candidate in candidates
        if candidate.affect >= weights.min_affect or candidate.lift >= weights.min_lift
    ]
    left.sort(key=lambda pair: (-sum(pair[1].values()), pair[0].age_days, pair[0].id))
    if not weights.diversity:
        return left[: max(0, limit)]
    chosen: list[tuple[Candidate, dict[str, float]]] = []
    alike = np.zeros(len(left))  # of each candidate with the most similar one chosen
    scores = np.array([sum(parts.values()) for _, parts in left])
    words = np.array([np.zeros(1) if c.words is None else c.words for c, _ in left])
    for _ in range(min(limit, len(left))):
        best = int(np.argmax(scores - weights.diversity * alike))
        candidate, parts = left[best]
        chosen.append((candidate, parts | {"diversity": 0.0 - weights.diversity * float(alike[best])}))
        scores[best] = -np.inf
        alike = np.maximum(alike, words @ words[best])
    return chosen


def n_tokens(text: str) -> int:
    """About how many tokens a text is for a language model: one for every four bytes, at least one."""
    return max(1, len(text.encode("utf-8", "replace")) // 4)


def within_budget(found: Iterable[Recollection], budget: int | None) -> list[Recollection]:
    """The best whose words together are no more than `budget` tokens; one that is too long makes room for the next."""
    if budget is None:
        return list(found)
    kept = []
    for one in found:
        if (cost := n_tokens(one.episode.text)) <= budget:
            budget -= cost
            kept.append(one)
    return kept
