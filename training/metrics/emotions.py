"""Emotion in free words: hit rate against one right label, precision and recall against a set of them.

Both compare groups on the five emotion wheels (`wheels.py`, where the traps of the look-up are told) and are averaged
over the wheels. All values lie in [0, 1]. AffectGPT (arXiv:2501.16566); spec section 5.2.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from .wheels import N_WHEELS, Wheels

NEUTRAL = "neutral"


def open_vocabulary(
    gold: Mapping[str, Collection[str]], predicted: Mapping[str, Collection[str]], wheels: Wheels, level: int = 1
) -> dict[str, float]:
    """Precision and recall of sets of feelings, the OV-MER score.

    A case whose gold words have no group on a wheel is left out there; a prediction without a group, or none at all,
    scores 0. F is taken from the mean precision and mean recall of a wheel, then averaged over wheels; 0 where both
    are 0 (the reference gives NaN).

    Args:
        gold: name -> words.
        predicted: name -> words; a missing name counts as wrong.
        wheels: under either policy.
        level: 1 (published) or 2.

    Returns:
        f, precision, recall, the means over wheels; and each of them per wheel: f_wheel1 ... recall_wheel5. A wheel on
        which no gold word has a group is left out.

    Raises:
        ValueError: a prediction has no gold, or no gold word has a group on any wheel.
    """
    _check_names(gold, predicted)
    result: dict[str, float] = {}
    for wheel in range(N_WHEELS):
        precision, recall = [], []
        for name, words in gold.items():
            right = wheels.groups(words, wheel, level)
            if not right:
                continue
            said = wheels.groups(predicted.get(name, ()), wheel, level)
            precision.append(len(right & said) / len(said) if said else 0.0)
            recall.append(len(right & said) / len(right))
        if precision:
            p, r = _mean(precision), _mean(recall)
            result |= {
                f"f_wheel{wheel + 1}": 2 * p * r / (p + r) if p + r else 0.0,
                f"precision_wheel{wheel + 1}": p,
                f"recall_wheel{wheel + 1}": r,
            }
    return _mean_over_wheels(result, ("f", "precision", "recall"))


def hit_rate(gold: Mapping[str, str], predicted: Mapping[str, Collection[str]], wheels: Wheels) -> dict[str, float]:
    """How often the one right label is among the predicted words, at level 1.

    A case whose label has no group on a wheel is left out there: `neutral` always, `disgust` on wheels 3 and 5. More
    words hit more often; the m-score tells: the share of the right group among all predicted groups that some gold
    label of the set has.

    Args:
        gold: name -> label.
        predicted: name -> words; a missing name is a miss.

    Returns:
        hit, m_score, the means over wheels; and each of them per wheel: hit_wheel1 ... m_score_wheel5. A wheel on which
        no gold label has a group is left out.

    Raises:
        ValueError: a prediction has no gold, or no gold label has a group on any wheel.
    """
    _check_names(gold, predicted)
    result: dict[str, float] = {}
    for wheel in range(N_WHEELS):
        candidates = wheels.groups(gold.values(), wheel)
        hit, m_score = [], []
        for name, label in gold.items():
            right = wheels.groups((label,), wheel)
            if not right:
                continue
            said = wheels.groups(predicted.get(name, ()), wheel) & candidates
            hit.append(float(right <= said))
            m_score.append(len(right & said) / len(said) if said else 0.0)
        if hit:
            result |= {f"hit_wheel{wheel + 1}": _mean(hit), f"m_score_wheel{wheel + 1}": _mean(m_score)}
    return _mean_over_wheels(result, ("hit", "m_score"))


def shares_group(gold: Collection[str], predicted: Collection[str], wheels: Wheels) -> list[bool]:
    """Per wheel, do two sets of words share a group at level 1? No words at all mean `neutral`, a group of its own."""
    return [
        _with_neutral(gold, wheels, n) & _with_neutral(predicted, wheels, n) != frozenset() for n in range(N_WHEELS)
    ]


def _with_neutral(words: Collection[str], wheels: Wheels, wheel: int) -> frozenset[str]:
    groups = wheels.groups(words, wheel)
    return groups | {NEUTRAL} if not words or NEUTRAL in words else groups


def _check_names(gold: Mapping[str, object], predicted: Mapping[str, object]) -> None:
    if unknown := sorted(set(predicted) - set(gold)):
        raise ValueError(f"{len(unknown)} predictions have no gold, the first is {unknown[0]!r}: check the names")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _mean_over_wheels(per_wheel: dict[str, float], scores: tuple[str, ...]) -> dict[str, float]:
    if not per_wheel:
        raise ValueError("no gold word has a group on any wheel: nothing can be scored; check the gold labels")
    means = {s: _mean([v for key, v in per_wheel.items() if key.startswith(f"{s}_wheel")]) for s in scores}
    return means | per_wheel
