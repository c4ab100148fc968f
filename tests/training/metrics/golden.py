"""Values computed with the reference code, and small wheels for tests that do not need them."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.metrics.wheels import Policy, Wheels, Words, compose, load

SHARED = Path(__file__).resolve().parents[4] / "shared"
GOLDEN = SHARED / "spec" / "golden"
LISTS = GOLDEN / "wheel_data"
AS_SHIPPED = SHARED / "data" / "emotion_wheel"
LEVELS = (1, 2)


def golden(name: str) -> Any:
    if not (GOLDEN / name).is_file():
        pytest.skip(f"{GOLDEN / name} is missing: the golden values are not beside the project")
    return json.loads((GOLDEN / name).read_text())


def golden_wheels(policy: Policy = "reference", folder: Path = LISTS) -> Wheels:
    if not folder.is_dir():
        pytest.skip(f"{folder} is missing: the emotion wheels are not beside the project")
    return load(folder, policy)


def exactly(value: Any) -> Any:
    return pytest.approx(value, rel=0, abs=1e-9)


WORDS = Words(
    bases={
        "brave": ("brave",),
        "fear": ("fear", "fearless"),
        "gloom": ("gloomy",),
        "gloomy": ("gloomy",),
        "glad": ("glad",),
        "scared": ("scared",),
    },
    labels={
        "brave": ("brave",),
        "fear": ("scared",),
        "fearless": ("brave",),
        "glad": ("glad",),
        "gloomy": ("sad",),
        "scared": ("scared",),
    },
)
ROWS = [
    ("happy", "proud", "brave"),
    ("happy", "cheerful", "glad"),
    ("afraid", "anxious", "scared"),
    ("sad", "low", "blue"),
]


def small_wheels(policy: Policy = "reference") -> Wheels:
    """Five equal wheels."""
    return compose(WORDS, [ROWS] * 5, policy)
