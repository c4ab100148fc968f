"""The phases of P2E in order: what each reads, and the schedules of the learning rate (section 3).

1.1 speech          voice, and words where there are some
1.2 vision + face   frames and faces, no words
2   fusion          everything
3   multitask       everything, and the language model's low-rank adapters
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from .config import Phase

READS: Mapping[str, frozenset[str]] = {
    "1.1": frozenset({"audio"}),
    "1.2": frozenset({"face", "frame"}),
    "2": frozenset({"multi", "audio", "face", "frame"}),
    "3": frozenset({"multi", "audio", "face", "frame"}),
}
"""Phase -> slots that are filled; the others stay empty though a clip could fill them."""


def learning_rate(phase: Phase, step: int) -> float:
    """The learning rate of a step, counted from 1.

    `cosine` rises linearly for `warmup` steps and falls to `min_lr`. `reference` is what the release's scheduler did:
    its epoch counter starts at 1, so the warm-up is never entered and the cosine is one epoch ahead, which lets the
    rate rise again in the last epoch (section 3.3).
    """
    if phase.schedule == "reference":
        done = (step - 1 + phase.steps_per_epoch) / phase.steps
    elif step <= phase.warmup:
        return phase.lr * step / phase.warmup
    else:
        done = (step - phase.warmup) / max(1, phase.steps - phase.warmup)
    return phase.min_lr + (phase.lr - phase.min_lr) * 0.5 * (1 + math.cos(math.pi * done))
