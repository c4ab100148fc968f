"""Rewards for an answer that thinks, then names emotions: `<think>...</think><answer>a, b</answer>`; spec section 3.7.

The published rewarder gives full marks where neither the answer nor the gold lies on a wheel, so junk for junk earns 1.
Here a wheel on which the gold has no group does not count, and without any such wheel the reward is 0.
`corrected=False` gives the published values. All rewards lie in [0, 1].
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Sequence

from .answers import parse_list, thought_and_answer
from .wheels import N_WHEELS, Wheels

_FORM = re.compile(r"<think>.*?</think>.*?<answer>(.*?)</answer>", re.DOTALL)


def reward(
    text: str, gold: Sequence[str], felt_in_thought: Sequence[str], wheels: Wheels, *, corrected: bool = True
) -> float:
    """Mean of four: right form, right answer, answer and thought agree, right thought.

    Args:
        text: what the model wrote.
        gold: right emotions.
        felt_in_thought: emotions that somebody read out of the thought, for instance `judge.emotion_words`.
        wheels: under the reference policy for published values.
        corrected: see above.
    """
    answer = parse_list(thought_and_answer(text)[1])
    agreement = overlap(felt_in_thought, answer, wheels, corrected=corrected)[1]
    parts = (
        format_reward(text),
        accuracy_reward(answer, gold, wheels, corrected=corrected),
        agreement,
        accuracy_reward(felt_in_thought, gold, wheels, corrected=corrected),
    )
    return sum(parts) / len(parts)


def format_reward(text: str) -> float:
    """1 if a thought stands before an answer and no item of the answer, between commas, is empty; else 0."""
    found = _FORM.search(text)
    return float(found is not None and all(item.strip() for item in found[1].split(",")))


def accuracy_reward(predicted: Sequence[str], gold: Sequence[str], wheels: Wheels, *, corrected: bool = True) -> float:
    """F1 of the sets of groups, less if the answer is longer than the gold."""
    return overlap(predicted, gold, wheels, corrected=corrected)[0] * length_penalty(len(predicted), len(gold))


def length_penalty(n_predicted: int, n_gold: int) -> float:
    """1 for an answer no longer than the gold, else ln(gold + 1) / ln(predicted + 1); raw lengths, repeats counted."""
    return 1.0 if n_predicted <= n_gold else math.log(n_gold + 1) / math.log(n_predicted + 1)


def overlap(
    predicted: Collection[str], gold: Collection[str], wheels: Wheels, *, corrected: bool = True
) -> tuple[float, float]:
    """F1 and Jaccard index of the sets of groups at level 1, each the mean over wheels."""
    f1, jaccard = [], []
    for wheel in range(N_WHEELS):
        said, right = wheels.groups(predicted, wheel), wheels.groups(gold, wheel)
        if corrected and not right:
            continue
        if said or right:
            f1.append(2 * len(said & right) / (len(said) + len(right)))
            jaccard.append(len(said & right) / len(said | right))
        else:
            f1.append(1.0)
            jaccard.append(1.0)
    return (sum(f1) / len(f1), sum(jaccard) / len(jaccard)) if f1 else (0.0, 0.0)
