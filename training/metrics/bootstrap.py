"""How sure a score is: percentile bootstrap (Efron and Tibshirani 1993, chapter 13), resampled by person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

N_RESAMPLES = 1000

Measure = Callable[[np.ndarray], Mapping[str, float]]
"""Indices of samples, some of them repeated, -> scores by name."""


def intervals(measure: Measure, units: Sequence[str], *, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % interval of each score: whole units are drawn with replacement and measured again, `N_RESAMPLES` times.

    What one person says is alike, so drawing single samples would promise too much; where all samples are of one unit
    there is nothing else to draw. With fewer than ten units the interval is a rough one, mostly too narrow.

    Args:
        measure: scores of the samples at these indices.
        units: (N,) whom or which dialogue each sample belongs to; all different where nothing is known.
        seed: of the draws.
    """
    if not units:
        return {}
    if len(set(units)) == 1:
        units = [str(i) for i in range(len(units))]
    members: dict[str, list[int]] = {}
    for i, unit in enumerate(units):
        members.setdefault(unit, []).append(i)
    groups = [np.array(group) for group in members.values()]
    draw = np.random.default_rng(seed)
    drawn: dict[str, list[float]] = {}
    for _ in range(N_RESAMPLES):
        chosen = np.concatenate([groups[g] for g in draw.integers(len(groups), size=len(groups))])
        for name, value in measure(chosen).items():
            drawn.setdefault(name, []).append(value)
    return {name: (float(low), float(high)) for name, values in drawn.items()
            for low, high in [np.percentile(values, (2.5, 97.5))]}  # fmt: skip
