"""How corpora lie in a folder: which splits are there, and the rows of one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from .sample import CorpusError
from .splits import CUT, is_valid

Row = dict[str, Any]


class Layout(Protocol):
    """One way to lay out a corpus."""

    def splits(self, folder: Path) -> Sequence[str]:
        """Names of the splits in a folder; none where the corpus is not there."""

    def rows(self, folder: Path, split: str) -> Iterator[tuple[int, Row]]:
        """The rows of a split, each with its position in the file.

        Raises:
            CorpusError: a file cannot be read; the message names it and the line.
        """


@dataclass(frozen=True)
class Table:
    """A `labels.csv` with a column `split`.

    One without it is a whole split by itself, whatever that is called; if `corpus` is in `splits.CUT`, it is cut into
    training and validation, and whole for a test.
    """

    file: str = "labels.csv"
    corpus: str = ""

    def splits(self, folder: Path) -> Sequence[str]:
        """Values of the column, in the order in which they occur."""
        path = folder / self.file
        if not path.is_file():
            return ()
        rows = list(csv_rows(path))
        if rows and "split" not in rows[0]:
            return ("train", "valid", "test")
        return tuple(dict.fromkeys(row["split"] for row in rows))

    def rows(self, folder: Path, split: str) -> Iterator[tuple[int, Row]]:
        """Rows whose column says so."""
        cut = self.corpus in CUT and split != "test"
        for at, row in enumerate(csv_rows(folder / self.file)):
            if "split" in row:
                wanted = row["split"] == split
            else:
                wanted = not cut or is_valid(self.corpus, at, str(row.get("clip", ""))) == (split == "valid")
            if wanted:
                yield at, row


@dataclass(frozen=True)
class Lines:
    """A `<split>.jsonl` for each split; `files` names those that are called otherwise.

    A corpus in `splits.CUT` has its validation split in the file for training, from which it is cut.
    """

    corpus: str
    files: Mapping[str, str] = field(default_factory=dict)

    def splits(self, folder: Path) -> Sequence[str]:
        """Splits whose file is there."""
        return tuple(split for split in ("train", "valid", "test") if self._path(folder, split).is_file())

    def rows(self, folder: Path, split: str) -> Iterator[tuple[int, Row]]:
        """Lines of the file, or those of them that the cut leaves."""
        cut = self.corpus in CUT and split != "test"
        for at, row in enumerate(json_rows(self._path(folder, split))):
            if not cut or is_valid(self.corpus, at, str(row.get("clip", ""))) == (split == "valid"):
                yield at, row

    def _path(self, folder: Path, split: str) -> Path:
        if self.corpus in CUT and split == "valid":
            split = "train"
        return folder / f"{self.files.get(split, split)}.jsonl"


@dataclass(frozen=True)
class Zipped:
    """A `<name>.csv` with pictures in `<name>.zip` for each split; `files` names them. A row's `zip` is the archive."""

    files: Mapping[str, str]

    def splits(self, folder: Path) -> Sequence[str]:
        """Splits whose table is there."""
        return tuple(split for split, name in self.files.items() if (folder / f"{name}.csv").is_file())

    def rows(self, folder: Path, split: str) -> Iterator[tuple[int, Row]]:
        """Rows of the split's table."""
        archive = folder / f"{self.files[split]}.zip"
        if not archive.is_file():
            raise CorpusError(f"{archive} is missing: it should hold the pictures that {archive.stem}.csv names")
        for at, row in enumerate(csv_rows(folder / f"{self.files[split]}.csv")):
            yield at, {**row, "zip": archive}


@dataclass(frozen=True)
class Published:
    """A corpus as its owners publish it, by its name in `published.PUBLISHED`; `marks` are files of its folder.

    A row holds a `sample`, or the `name` of what could not be used and `why`.
    """

    name: str
    marks: tuple[str, ...]

    def splits(self, folder: Path) -> Sequence[str]:
        """Those that any such corpus has; the reader says if this one does not."""
        return ("train", "valid", "test") if any((folder / mark).is_file() for mark in self.marks) else ()

    def rows(self, folder: Path, split: str) -> Iterator[tuple[int, Row]]:
        """Samples, then what was left out."""
        from .published import PUBLISHED

        reading = PUBLISHED[self.name](folder, split)
        for at, sample in enumerate(reading.samples):
            yield at, {"sample": sample}
        for at, (name, why) in enumerate(reading.skipped, len(reading.samples)):
            yield at, {"name": name, "why": why}


def csv_rows(path: Path) -> Iterator[Row]:
    """Rows of a comma-separated table with a header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            yield from csv.DictReader(lines)
    except (UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{path} is not a table of comma-separated values in UTF-8: {error}") from None


def json_rows(path: Path) -> Iterator[Row]:
    """Objects of a file with one on each line."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise CorpusError(f"{path} line {number} is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise CorpusError(f"{path} line {number} is not a JSON object")
            yield row
