"""Sentiment polarity where valence is scored (CMU-MOSI, MOSEI, SIMS): weighted F1 and accuracy; spec section 5.2."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.metrics import accuracy_score, f1_score


def scores(gold: Sequence[float], predicted: Sequence[str]) -> dict[str, float]:
    """Is it positive? Two classes; `neutral` and anything else that is not `positive` count as negative.

    Args:
        gold: (N,) valence, in any range around 0. Cases of exactly 0 are left out.
        predicted: (N,) positive, negative or neutral; see `answers.sentiment`.

    Returns:
        waf (support-weighted F1) and accuracy in [0, 1], and n, the number of cases that counted.

    Raises:
        ValueError: lengths differ, or no gold valence differs from 0.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold values but {len(predicted)} predictions")
    pairs = [(value > 0, label == "positive") for value, label in zip(gold, predicted, strict=True) if value != 0]
    if not pairs:
        raise ValueError("no gold valence differs from 0: nothing can be scored")
    right, said = zip(*pairs, strict=True)
    return {
        "waf": float(f1_score(right, said, average="weighted", zero_division=0)),
        "accuracy": float(accuracy_score(right, said)),
        "n": float(len(pairs)),
    }
