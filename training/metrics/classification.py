"""Scores of a classifier from its probabilities: recall, F1, calibration, for all samples and for groups of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from . import bootstrap

N_BINS = 10


def scores(probabilities: np.ndarray, gold: np.ndarray) -> dict[str, float]:
    """Accuracy, unweighted average recall, macro and weighted F1 over the classes that occur in `gold`, and ECE.

    Args:
        probabilities: (N, C), rows sum to 1.
        gold: int (N,), indices of the right classes.

    Returns:
        accuracy, uar, macro_f1, weighted_f1, ece, all in [0, 1]. A class that nobody had is left out of the averages,
        as its recall is undefined; predicting it still costs the others.

    Raises:
        ValueError: no sample, or shapes that do not fit.
    """
    if probabilities.ndim != 2 or len(probabilities) != len(gold) or not len(gold):
        raise ValueError(f"probabilities are {probabilities.shape}, gold is {gold.shape}: expected (N, C) and (N,)")
    counts = confusion(probabilities, gold)
    right, support, named = counts.diagonal(), counts.sum(1), counts.sum(0)
    occurs = support > 0
    f1 = 2 * right[occurs] / (support + named)[occurs]
    return {
        "accuracy": float(right.sum() / len(gold)),
        "uar": float((right[occurs] / support[occurs]).mean()),
        "macro_f1": float(f1.mean()),
        "weighted_f1": float(np.average(f1, weights=support[occurs])),
        "ece": ece(probabilities, gold),
    }


def ece(probabilities: np.ndarray, gold: np.ndarray) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over ten equal bins (Guo et al. 2017)."""
    return sum(share * abs(right - confidence) for confidence, right, share in reliability(probabilities, gold))


def ece_if_calibrated(probabilities: np.ndarray, *, n_draws: int = 200, seed: int = 0) -> float:
    """Calibration error that would be measured if every probability were right: the mean over labels drawn by them.

    With few samples a bin's accuracy differs from its confidence by chance, so that no error below this can be seen.
    """
    draw, upto = np.random.default_rng(seed), probabilities.cumsum(1)[:, :-1]
    drawn = ((draw.random((len(upto), 1)) > upto).sum(1) for _ in range(n_draws))
    return float(np.mean([ece(probabilities, gold) for gold in drawn]))


def reliability(probabilities: np.ndarray, gold: np.ndarray) -> list[tuple[float, float, float]]:
    """Mean confidence, accuracy and share of the samples of each of ten equal bins of confidence that is not empty."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == gold
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    return [
        (float(confidence[bins == b].mean()), float(right[bins == b].mean()), float((bins == b).mean()))
        for b in np.unique(bins)
    ]


def confusion(probabilities: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """How often each class (row) was taken for each (column): int (C, C)."""
    n_classes = probabilities.shape[1]  # scikit-learn checks its input for a millisecond, and a bootstrap asks often
    pairs = gold * n_classes + probabilities.argmax(1)
    return np.bincount(pairs, minlength=n_classes**2).reshape(n_classes, n_classes)


def intervals(
    probabilities: np.ndarray, gold: np.ndarray, units: Sequence[str], *, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of `scores`; `units` (N,) say whom each sample belongs to, see `bootstrap.intervals`."""
    return bootstrap.intervals(lambda at: scores(probabilities[at], gold[at]), units, seed=seed)


def by_group(
    probabilities: np.ndarray, gold: np.ndarray, groups: Sequence[str], *, at_least: int = 1
) -> dict[str, dict[str, float]]:
    """`scores` and `n` of each group of samples that has `at_least` so many, such as each speaker."""
    found = {}
    for group in sorted(set(groups)):
        at = np.array([i for i, member in enumerate(groups) if member == group])
        if len(at) >= at_least:
            found[group] = {"n": len(at), **scores(probabilities[at], gold[at])}
    return found
