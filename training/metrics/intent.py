"""Intent recognition on MIntRec and MIntRec2.0: accuracy, weighted F1, weighted precision; spec section 5.3."""

from __future__ import annotations

import string
from collections.abc import Mapping

from sklearn.metrics import accuracy_score, precision_recall_fscore_support

NO_ANSWER = ""


def scores(gold: Mapping[str, str], predicted: Mapping[str, str]) -> dict[str, float]:
    """Scores of exact string equality, as published, and again without regard to case and punctuation at the ends.

    A missing prediction is wrong (the reference leaves the case out, which rewards silence).

    Args:
        gold: name -> label as spelled in the annotation.
        predicted: name -> answer.

    Returns:
        accuracy, weighted_f1, weighted_precision and the same with `folded_` before; all in [0, 1], the paper has
        percents.

    Raises:
        ValueError: no gold, or a prediction without gold.
    """
    if not gold:
        raise ValueError("no gold label: nothing can be scored")
    if unknown := sorted(set(predicted) - set(gold)):
        raise ValueError(f"{len(unknown)} predictions have no gold, the first is {unknown[0]!r}: check the names")
    right = list(gold.values())
    said = [predicted.get(name, NO_ANSWER) for name in gold]
    folded = _scores([fold(label) for label in right], [fold(answer) for answer in said])
    return _scores(right, said) | {f"folded_{name}": value for name, value in folded.items()}


def fold(label: str) -> str:
    """Lower case, without punctuation and space at the ends."""
    return label.strip(string.punctuation + string.whitespace).casefold()


def _scores(right: list[str], said: list[str]) -> dict[str, float]:
    precision, _, f1, _ = precision_recall_fscore_support(right, said, average="weighted", zero_division=0)
    return {
        "accuracy": float(accuracy_score(right, said)),
        "weighted_f1": float(f1),
        "weighted_precision": float(precision),
    }
