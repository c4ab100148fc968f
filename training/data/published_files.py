"""What the published corpora have in common: how their files are read, and where their clips lie (section 4)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from .layouts import csv_rows
from .sample import Clip, CorpusError, Sample

T = TypeVar("T")
Row = dict[str, Any]
Rows = Iterable[tuple[str, Row]]
"""Names of clips, each with its annotation."""


@dataclass(frozen=True)
class Reading:
    """A split of a corpus: its samples, and what of it could not be used, as (name, why)."""

    samples: list[Sample] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


class Unusable(Exception):
    """One clip whose media are missing or whose annotation is empty; it is counted, named and left out."""


def read(corpus: str, rows: Rows, ask: Callable[[str, Row], list[Sample]], clip_of: Callable[[str], Clip]) -> Reading:
    """All samples of the rows.

    Args:
        corpus: its short name.
        rows: clips and their annotations.
        ask: (name, annotation) -> samples that lack only where they are from.
        clip_of: name -> its media; usually `media`.

    Raises:
        CorpusError: there are no rows; or from `rows`, `ask` or `clip_of`. `Unusable` from the latter two goes to
            `skipped`.
    """
    reading = Reading()
    seen = set()
    for name, row in rows:
        try:
            if name in seen:
                raise Unusable("it is annotated more than once; the first annotation counts")
            seen.add(name)
            samples = ask(name, row)
            clip = clip_of(name)
        except Unusable as why:
            reading.skipped.append((name, str(why)))
        else:
            reading.samples.extend(replace(sample, clip=clip, corpus=corpus, name=name) for sample in samples)
    if not seen:
        raise CorpusError(f"{corpus} has no clip in this split: its folder is laid out otherwise than published")
    return reading


def choose(corpus: str, split: str, splits: Mapping[str, T]) -> T:
    """What belongs to a split.

    Raises:
        CorpusError: the corpus has no such split.
    """
    if split not in splits:
        raise CorpusError(f"{corpus} has no split {split!r}; it has: {', '.join(splits)}")
    return splits[split]


def media(
    root: Path, *, pictures: Sequence[str] = ("video",), sounds: Sequence[str] = ("audio",)
) -> Callable[[str], Clip]:
    """A function that finds the media of a name: `<root>/video/<name>.mp4` or `.avi`, `<root>/audio/<name>.wav`.

    Args:
        root: the folder of the corpus.
        pictures, sounds: names that the folders may have; the first one that exists is taken. Empty where a corpus
            is used without them.

    Raises:
        CorpusError: a folder is missing. The function raises `Unusable` where a file is.
    """
    video, audio = _folder(root, pictures), _folder(root, sounds)

    def clip_of(name: str) -> Clip:
        return Clip(audio and _file(root, audio, name, (".wav",)), video and _file(root, video, name, (".mp4", ".avi")))

    return clip_of


def messages(path: Path, kind: str) -> Iterator[tuple[str, Row]]:
    """Rows {text, label} of a list of `{messages: [{user: text}, {assistant: label}], <kind>: [path]}`.

    A row is named by its path's stem. One that is not of this form has no name and nothing in it.
    """
    entries = load_json(path)
    if not isinstance(entries, list):
        raise CorpusError(f"{path} should be a list of annotations")
    for number, entry in enumerate(entries, 1):
        try:
            (said, answer), (clip, *_) = entry["messages"], entry[kind]
            name, row = Path(clip).stem, {"text": said["content"], "label": answer["content"]}
        except (KeyError, TypeError, ValueError):
            name, row = f"entry {number}", {}
        yield name, row


def table(path: Path, name: str, *columns: str) -> Iterator[tuple[str, Row]]:
    """Rows of a comma-separated table, named by the column `name`; a row without a name has nothing in it.

    Raises:
        CorpusError: no such file, or a column is missing.
    """
    require(path)
    for number, row in enumerate(csv_rows(path), 1):
        if missing := [column for column in (name, *columns) if column not in row]:
            raise CorpusError(f"{path} has no column {missing[0]}; it has: {', '.join(map(str, row))}")
        if found := (row[name] or "").strip():
            yield found, row
        else:
            yield f"row {number}", {}


def subtitles(path: Path, column: str) -> Callable[[str], str]:
    """A function that gives what is said in a clip, from a table (name, `column`); empty where nothing is said."""
    said = {name: row[column] or "" for name, row in table(path, "name", column) if row}

    def said_in(name: str) -> str:
        if name not in said:
            raise Unusable(f"it has no line in {path.name}")
        return said[name].strip()

    return said_in


def cell(row: Row, key: str) -> str:
    """A text of an annotation.

    Raises:
        Unusable: it is missing or empty.
    """
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise Unusable(f"its {key} is missing or empty")
    return value.strip()


def number(row: Row, key: str) -> float:
    """A number of an annotation.

    Raises:
        Unusable: it is missing or not a finite number.
    """
    value = row.get(key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
        raise Unusable(f"its {key} is missing or not a number")
    return value


def one_of(corpus: str, name: str, label: str, labels: Sequence[str]) -> str:
    """The label, if it is one of the corpus'.

    Raises:
        CorpusError: it is not, so this is another corpus or another version of it.
    """
    if label not in labels:
        raise CorpusError(f"{corpus} has no label {label!r}, as {name} is annotated; it has: {', '.join(labels)}")
    return label


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        CorpusError: it is missing or not JSON.
    """
    require(path)
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise CorpusError(f"{path} is not JSON: {error}") from None


def require(path: Path) -> None:
    """Raises CorpusError where a file is missing."""
    if not path.is_file():
        raise CorpusError(f"{path} is missing: name the folder that holds the corpus as it was published")


def _folder(root: Path, names: Sequence[str]) -> Path | None:
    if not root.is_dir():
        raise CorpusError(f"{root} is missing: name the folder that holds the corpus as it was published")
    if not names:
        return None
    found = next((root / name for name in names if (root / name).is_dir()), None)
    if found is None:
        raise CorpusError(f"{root} has no folder {' or '.join(names)}: the clips of the corpus should lie there")
    return found


def _file(root: Path, folder: Path, name: str, kinds: Sequence[str]) -> Path:
    for kind in kinds:
        if (path := folder / f"{name}{kind}").is_file():
            return path
    raise Unusable(f"{(folder / name).relative_to(root).as_posix()}{' or '.join(kinds)} is missing")
