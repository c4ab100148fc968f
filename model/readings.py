"""What scores of labels say of a person: calibrated probabilities, and what several readings are together."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perception.types import Modality

CAUSE_LINES = ("0", "1", "2", "3+")
"""How many lines ago a line was said: labels of the scaling of `cause/line`."""


@dataclass(frozen=True)
class Scaling:
    """Vector scaling of a label task: softmax(weight · score + bias) (Guo et al. 2017, arXiv:1706.04599)."""

    labels: tuple[str, ...]
    weight: tuple[float, ...]
    bias: tuple[float, ...]


def fitting(scalings: Mapping[str, Scaling], key: str, labels: Sequence[str]) -> Scaling | None:
    """The scaling of a key, such as `intent/text`, that has all labels; of several (`intent/text of MIntRec`) the one
    with the fewest others.

    Labels that a corpus does not know take no share of its sentences, so each set of labels has a scaling of its own.
    """
    mine = (scaling for name, scaling in scalings.items() if name.partition(" of ")[0] == key)
    return min((one for one in mine if set(labels) <= set(one.labels)), key=lambda one: len(one.labels), default=None)


def calibrated(scores: Tensor, labels: Sequence[str], scaling: Scaling | None) -> dict[str, float]:
    """Probabilities of labels from their scores (C,); without a scaling a softmax."""
    if scaling is not None:
        at = [scaling.labels.index(label) for label in labels]
        scores = torch.tensor(scaling.weight)[at] * scores + torch.tensor(scaling.bias)[at]
    return dict(zip(labels, scores.double().softmax(-1).tolist(), strict=True))


def heard(labels: Sequence[str], read: Collection[Modality]) -> Sequence[str]:
    """Emotion labels, with the calm that a voice can have beside neutral."""
    also_calm = "voice" in read and "neutral" in labels and "calm" not in labels
    return (*labels, "calm") if also_calm else labels


def counted(probabilities: dict[str, float], labels: Sequence[str]) -> dict[str, float]:
    """Probabilities of `labels` alone: calm, where it is none of them, counts as neutral."""
    if "calm" in probabilities and "calm" not in labels:
        probabilities["neutral"] += probabilities.pop("calm")
    return probabilities


@dataclass(frozen=True)
class Cause:
    """A clause that may be why: `line` counts the dialogue's lines from 0, the words said now come last."""

    text: str
    line: int
    probability: float


def line_logits(causes: Sequence[Cause], now: int) -> list[tuple[int, float, str]]:
    """Each line with the log-odds of its clauses' share, and how long ago it was said (one of `CAUSE_LINES`).

    Args:
        causes: clauses whose probabilities sum to 1.
        now: number of the line said now.
    """
    shares: dict[int, float] = {}
    for cause in causes:
        shares[cause.line] = shares.get(cause.line, 0.0) + cause.probability
    found = []
    for line, share in shares.items():
        share = min(max(share, 1e-4), 1 - 1e-4)
        found.append((line, math.log(share / (1 - share)), CAUSE_LINES[min(now - line, len(CAUSE_LINES) - 1)]))
    return found


def half_by_words(words: Mapping[str, float], together: Mapping[str, float]) -> dict[str, float]:
    """What is felt: the mean of what the words alone show and of what everything together shows.

    Voices were learnt from a few actors and say little of very different ones: a synthetic voice that tells of a death
    sounds angry. A voice may colour plain words, but not overrule clear ones. On voices like those it was learnt from
    the whole reads as well and is surer of what it should be sure of (docs/LOG.md).
    """
    return {label: (p + together[label]) / 2 for label, p in words.items()}


def with_the_ear(scores: Tensor, heard: Tensor) -> Tensor:
    """What is felt without words: the geometric mean of two readings, from scores and log-probabilities of labels (C,).

    Of what the acoustic encoder hears, a part is lost on the way through Q-Former and language model, which learnt to
    read from a few actors; people unlike them it reads better by itself (docs/LOG.md).
    """
    return (scores.cpu().log_softmax(-1) + heard.log_softmax(-1)) / 2


def open_words(answer: str) -> tuple[str, ...]:
    """The emotion words of an open-vocabulary answer: lower case, no repeats, in order."""
    words = (re.sub(r"[^a-z' -]", "", word.lower()).strip() for word in re.split(r"[,;]| and ", answer))
    return tuple(dict.fromkeys(word for word in words if 1 < len(word) < 25))
