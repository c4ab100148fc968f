"""Answers that somebody else's model wrote to a file, scored by a metric: `emox evaluate METRIC --data FILE`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .metrics.scores_files import ON_WHEELS, PLAIN, score_file

OTHER_NAMES = {"wheel": "open_vocabulary"}
METRICS = (*PLAIN, *ON_WHEELS, *OTHER_NAMES)
"""What can be scored from a file alone; `wheel` is short for `open_vocabulary`."""


def score_predictions(metric: str, path: Path, wheels: Path | None = None) -> dict[str, Any]:
    """Score a `.csv` or `.jsonl` file with name, prediction and gold in each row.

    Args:
        metric: one of `METRICS`.
        path: the file.
        wheels: folder of the emotion wheels; by default one called `emotion_wheel` beside the file or above it.

    Returns:
        A document shaped as that of `evaluate.evaluate`, with the file's name as its split.

    Raises:
        ValueError, FileNotFoundError: see `scores_files.score_file`.
    """
    name = OTHER_NAMES.get(metric, metric)
    if wheels is None:
        wheels = next((f for p in path.resolve().parents if (f := p / "emotion_wheel").is_dir()), None)
    scores = score_file(path, name, wheels if name in ON_WHEELS else None)
    n = int(scores.pop("n"))
    return {
        "bench": name, "split": path.name, "n": n, "checkpoint": "", "metrics": scores, "intervals": {}, "groups": {},
        "skipped": [], "resampled_by": "", "note": "scored from a file of predictions",
    }  # fmt: skip
