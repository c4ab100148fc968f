"""A benchmark is asked of a checkpoint and scored: `emox evaluate`.

Label tasks are scored on calibrated probabilities, never on sampled answers, and a score comes with the interval in
which it would lie for other people of the same kind. A checkpoint is scored once: nothing is chosen on the split.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from model.build import (
    NANO_EMOX_EMBEDDED,
    CheckpointError,
    embedded_checkpoint,
    load,
    read_manifest,
)
from model.engine import LocalModel
from model.weights import locate

from .asking import KINDS, Asked, Asking, EvaluationError
from .benches import BENCHES, Split
from .data.cases import Case, Skip

MAX_NAMES = 20
"""Skipped cases that are named for each reason; all are counted."""

T = TypeVar("T")


def evaluate(
    split: Split,
    model: Asked,
    *,
    limit: int | None = None,
    seed: int = 7,
    untuned: Callable[[], nn.Module] | None = None,
) -> dict[str, Any]:
    """Ask a model all cases of a split and score the answers.

    Args:
        split: from `benches.find`.
        model: the checkpoint.
        limit: ask so many cases at most, drawn by `seed`.
        seed: of the draw and of the bootstrap.
        untuned: gives the language model without the checkpoint, for the perplexity of replies to be compared with.

    Returns:
        What `emox evaluate --json` prints: bench, split, n, checkpoint, metrics, intervals (95 %), groups (scores of
        speakers or of parts of the benchmark), skipped ([{why, n, names}], at most 20 names), resampled_by, note; and
        where there are classes `labels`, `confusion` (rows: gold) and `reliability` ([confidence, accuracy, share]).
        `uar_gain` is what voice and face together add to `compared_with`, the better of the two.

    Raises:
        EvaluationError: the checkpoint was not trained for what the benchmark needs, or nothing could be scored.
    """
    bench = BENCHES[split.bench]
    unread = [modality for modality in bench.needs if modality not in {*model.card.modalities, "text"}]
    if unread:
        raise EvaluationError(
            f"{split.bench} needs {' and '.join(unread)}, which the checkpoint {model.card.version} was not trained "
            "to read: name another with --checkpoint"
        )
    cases = chosen(split.cases, limit, seed)
    found = KINDS[bench.kind](Asking(split.bench, bench, cases, model, seed, split.wheels, untuned))
    return {
        "bench": split.bench,
        "split": split.name,
        "n": found.n,
        "checkpoint": model.card.version,
        "metrics": found.metrics,
        "intervals": found.intervals,
        "groups": found.groups,
        "skipped": _grouped([*split.skipped, *found.skipped]),
        "resampled_by": _resampled_by(cases),
        "note": bench.note,
        **found.figures,
    }


def chosen(cases: Sequence[T], limit: int | None, seed: int) -> list[T]:
    """At most `limit` cases in their order, drawn by a seed."""
    if limit is None or limit >= len(cases):
        return list(cases)
    return [cases[i] for i in sorted(random.Random(seed).sample(range(len(cases)), limit))]


def load_models(checkpoint: Path | None = None) -> tuple[LocalModel, Callable[[], nn.Module]]:
    """A checkpoint of the embedded variant, ready to be asked, and what gives its language model without it.

    Raises:
        CheckpointError: it cannot be loaded, or is of another variant.
        MissingWeights: the language model is not installed.
    """
    manifest = read_manifest(checkpoint or embedded_checkpoint())
    if manifest.variant != NANO_EMOX_EMBEDDED.variant:
        raise CheckpointError(
            f"{checkpoint} is a checkpoint of {manifest.variant}, but {NANO_EMOX_EMBEDDED.variant} is evaluated here: "
            "name another with --checkpoint"
        )
    folder = locate("smollm2")

    def untuned() -> nn.Module:
        return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True)

    return load(folder, checkpoint), untuned


def _resampled_by(cases: Sequence[Case]) -> str:
    """What the intervals draw: people, dialogues, or single cases where nothing else is known."""
    if len({case.unit for case in cases}) == 1:
        return "case"
    return "speaker" if cases[0].speaker else "dialogue"


def _grouped(skipped: Iterable[Skip]) -> list[dict[str, Any]]:
    names: dict[str, list[str]] = {}
    for skip in skipped:
        names.setdefault(skip.why, []).append(skip.name)
    return [{"why": why, "n": len(found), "names": found[:MAX_NAMES]} for why, found in names.items()]
