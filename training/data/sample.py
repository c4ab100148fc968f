"""One question about one turn: the same shape for every corpus and every task."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from model.types import Utterance

Part = tuple[str, bool]
"""A piece of an answer, and whether it is supervised."""


@dataclass(frozen=True)
class Clip:
    """Where a sample's sound and pictures lie; either may be missing.

    A path may lead into a zip archive, as in `faces.zip/happy/1.jpg`. `cropped` says that the pictures are faces
    already, so that none is looked for.
    """

    sound: Path | None = None
    pictures: Path | None = None
    cropped: bool = False


@dataclass(frozen=True)
class Sample:
    """One question and its answer.

    `answer` is a list of parts that together are the answer; `text` is what is said now (it may be empty), `history`
    the dialogue before. `corpus` and `name` say where it is from, `label` is the bare label of a label task, in the
    project's words, and `speaker` the person, by whom splits are made.
    """

    task: str
    text: str
    question: str
    answer: tuple[Part, ...]
    history: tuple[Utterance, ...] = ()
    clip: Clip = field(default_factory=Clip)
    corpus: str = ""
    name: str = ""
    label: str = ""
    speaker: str = ""


class CorpusError(ValueError):
    """A corpus that is missing, laid out otherwise than expected, or holds a label that none of ours stands for."""
