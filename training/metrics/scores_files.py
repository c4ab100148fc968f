"""A file of predictions becomes scores, by the name of a metric.

The file is a table (`.csv`) or one JSON object per line (`.jsonl`) with `name`, `prediction` and `gold` per case. No
prediction (an empty cell, null, or no such key) is wrong; every case needs gold, but for `diversity`, that knows none.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import answers, emotions, empathy, intent, sentiment
from .wheels import Wheels, available_policies, load


@dataclass(frozen=True)
class Case:
    """One line of a file; text, or whatever a JSON value was."""

    prediction: Any
    gold: Any


Cases = Mapping[str, Case]


def score_file(path: Path, metric: str, wheels: Path | None = None) -> dict[str, float]:
    """Score a file of predictions.

    Args:
        path: a .csv or .jsonl file.
        metric: one of `PLAIN` or `ON_WHEELS`.
        wheels: folder of the emotion wheels (`wheels.load`), for the metrics of `ON_WHEELS`. These give each score
            under the reference policy, and as `self_first_...` under the other one where the folder has the lists.

    Returns:
        Scores in [0, 1], as the metric's own function names them, and n, the number of cases in the file (for
        `sentiment`, of those that count).

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: no such metric, no wheels for a metric that needs them, or a file that is not as described.
    """
    if metric not in PLAIN and metric not in ON_WHEELS:
        raise ValueError(f"no metric {metric!r}; there are {', '.join([*PLAIN, *ON_WHEELS])}")
    cases = read_cases(path, needs_gold=metric != "diversity")
    result = {"n": float(len(cases))}
    if metric in PLAIN:
        return result | PLAIN[metric](cases)
    if wheels is None:
        raise ValueError(f"{metric} needs the folder of the emotion wheels: name it")
    for policy in available_policies(wheels):
        prefix = "" if policy == "reference" else f"{policy}_"
        scores = ON_WHEELS[metric](cases, load(wheels, policy))
        result |= {f"{prefix}{name}": value for name, value in scores.items()}
    return result


def read_cases(path: Path, *, needs_gold: bool = True) -> dict[str, Case]:
    """Read a file of predictions: name -> case, in the file's order."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: name a .csv or .jsonl file of predictions")
    if path.suffix not in (".csv", ".jsonl"):
        raise ValueError(f"{path} is neither .csv nor .jsonl: predictions come as one of these")
    cases: dict[str, Case] = {}
    for number, row in _rows(path):
        name = row.get("name")
        if name is None or name == "":
            raise ValueError(f"{path}, line {number} has no name; every case needs one")
        if str(name) in cases:
            raise ValueError(f"{path}, line {number} repeats the name {name!r}; names tell cases apart")
        if needs_gold and row.get("gold") in (None, ""):
            raise ValueError(f"{path}, line {number} ({name!r}) has no gold; every case needs it")
        cases[str(name)] = Case(row.get("prediction"), row.get("gold"))
    if not cases:
        raise ValueError(f"{path} holds no case")
    return cases


def _rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix == ".csv":
        reader = csv.DictReader(text.splitlines(keepends=True))
        if missing := {"name", "prediction"} - set(reader.fieldnames or ()):
            raise ValueError(f"{path} has no column {', '.join(sorted(missing))}; it has {reader.fieldnames}")
        return [(reader.line_num, row) for row in reader]
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{path}, line {number} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{path}, line {number} is no JSON object")
        rows.append((number, row))
    return rows


def _open_vocabulary(cases: Cases, wheels: Wheels) -> dict[str, float]:
    gold = {name: answers.emotions(case.gold) for name, case in cases.items()}
    return emotions.open_vocabulary(gold, {n: answers.emotions(c.prediction) for n, c in cases.items()}, wheels)


def _reasons(cases: Cases, wheels: Wheels) -> dict[str, float]:
    gold = {name: answers.lexicon(_text(case.gold), wheels.forms) for name, case in cases.items()}
    predicted = {name: answers.lexicon(_text(case.prediction), wheels.forms) for name, case in cases.items()}
    return emotions.open_vocabulary(gold, predicted, wheels)


def _hit_rate(cases: Cases, wheels: Wheels) -> dict[str, float]:
    gold = {name: _text(case.gold) for name, case in cases.items()}
    return emotions.hit_rate(gold, {n: answers.emotions(c.prediction) for n, c in cases.items()}, wheels)


def _sentiment(cases: Cases) -> dict[str, float]:
    gold = [_number(name, case.gold) for name, case in cases.items()]
    return sentiment.scores(gold, [answers.sentiment(_text(case.prediction)) for case in cases.values()])


def _intent(cases: Cases) -> dict[str, float]:
    gold = {name: _text(case.gold) for name, case in cases.items()}
    return intent.scores(gold, {name: _text(case.prediction) for name, case in cases.items()})


def _empathy(cases: Cases) -> dict[str, float]:
    gold = {name: _text(case.gold) for name, case in cases.items()}
    return empathy.emotion_scores(gold, {n: _text(c.prediction) for n, c in cases.items()}) | _diversity(cases)


def _diversity(cases: Cases) -> dict[str, float]:
    return empathy.diversity(_text(case.prediction) for case in cases.values())


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _number(name: str, value: Any) -> float:
    try:
        valence = float(value)
    except (TypeError, ValueError):
        valence = math.nan
    if not math.isfinite(valence):
        raise ValueError(f"gold of {name!r} is {value!r}, expected a valence, a number around 0")
    return valence


PLAIN: Mapping[str, Callable[[Cases], dict[str, float]]] = {
    "sentiment": _sentiment,
    "intent": _intent,
    "empathy": _empathy,
    "diversity": _diversity,
}
"""Metrics that need the file alone."""

ON_WHEELS: Mapping[str, Callable[[Cases, Wheels], dict[str, float]]] = {
    "open_vocabulary": _open_vocabulary,
    "hit_rate": _hit_rate,
    "reasons": _reasons,
}
"""Metrics that need the emotion wheels; `reasons` takes the words of free text on both sides that are known forms."""
