"""Scores of named causes: which line of the dialogue, and which words (RECCON, arXiv:2012.11820, section 5)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence


def line_scores(named: Sequence[Collection[int]], gold: Sequence[Collection[int]]) -> dict[str, float]:
    """Precision, recall and F1 of cause lines, counted over all lines of all cases."""
    hits = sum(len(set(a) & set(b)) for a, b in zip(named, gold, strict=True))
    n_named, n_gold = sum(map(len, named)), sum(map(len, gold))
    return {
        "cause_precision": hits / n_named if n_named else 0.0,
        "cause_recall": hits / n_gold if n_gold else 0.0,
        "cause_f1": 2 * hits / (n_named + n_gold) if n_named + n_gold else 0.0,
    }


def span_f1(named: str, gold: Collection[str]) -> float:
    """F1 of the words two spans share, order aside, with the annotated span that fits best (as in SQuAD)."""
    return max((_overlap(_words(named), _words(span)) for span in gold), default=0.0)


def _overlap(a: Counter[str], b: Counter[str]) -> float:
    return 2 * (a & b).total() / (a.total() + b.total()) if a and b else 0.0


def _words(text: str) -> Counter[str]:
    words = (word.strip(".,!?;:\"'’“”()") for word in text.lower().split())
    return Counter(word for word in words if word)
