"""Clips with one basic emotion each, from which phase 1 learns to hear and to see: CREMA-D, M3ED, CAER, FERV39K."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from . import questions
from .published_files import Reading, Row, Unusable, cell, choose, media, messages, one_of, read, require
from .sample import Clip, CorpusError, Sample
from .text import BASIC

SIX = ("anger", "disgust", "fear", "happy", "neutral", "sad")
SEVEN = (*SIX, "surprise")
"""As published; answers are in the project's words (`model.types.EMOTIONS`)."""


def crema_d(root: Path, split: str) -> Reading:
    """CREMA-D: actors' voices, without subtitle. `crema_d_annotations.json`, `audio/`; all 7,442 are for training.

    The speaker is the actor's number.
    """
    path = root / choose("CREMA-D", split, {"train": "crema_d_annotations.json"})
    ask = _emotion("CREMA-D", SIX, with_text=False)

    def ask_actor(name: str, row: Row) -> list[Sample]:
        actor = re.search(r"(?<!\d)1\d{3}(?=_)", name)
        return [replace(sample, speaker=actor[0] if actor else "") for sample in ask(name, row)]

    return read("crema_d", messages(path, "audios"), ask_actor, media(root, pictures=()))


def m3ed(root: Path, split: str) -> Reading:
    """M3ED: Chinese television, voice and words. `m3ed_annotaton.json` (spelled so), `audio/`."""
    path = root / choose("M3ED", split, {"train": "m3ed_annotaton.json"})
    return read("m3ed", messages(path, "audios"), _emotion("M3ED", SEVEN), media(root, pictures=()))


def caer(root: Path, split: str) -> Reading:
    """CAER: American television, pictures only. `<train|validation|test>/<label>/<number>.avi`, as published."""
    folder = root / choose("CAER", split, {"train": "train", "valid": "validation", "test": "test"})
    if not folder.is_dir():
        raise CorpusError(f"{folder} is missing: name the folder that holds CAER as it was published")
    rows = (
        (path.relative_to(root).with_suffix("").as_posix(), {"label": path.parent.name})
        for path in sorted(folder.glob("*/*.avi"))
    )
    return read("caer", rows, _emotion("CAER", SEVEN), lambda name: Clip(pictures=root / f"{name}.avi"))


def ferv39k(root: Path, split: str) -> Reading:
    """FERV39K: faces in films, pictures only. `4_setups/All_scenes/<train|test>_All.csv`, `video/`.

    A line of the split's file is `Action/Sad/0010 Sad`, its clip `video/Action/Sad/0010.mp4` or `.avi`.
    """
    path = (
        root / "4_setups" / "All_scenes" / choose("FERV39K", split, {"train": "train_All.csv", "test": "test_All.csv"})
    )
    ask = _emotion("FERV39K", ("angry", *SEVEN[1:]))
    return read("ferv39k", _ferv39k_lines(path), ask, media(root, sounds=()))


def caer_ferv39k(root: Path, split: str) -> Reading:
    """CAER and FERV39K as the authors of Nano-EmoX merged them: `caer_ferv39k_ann.json`, `video/`; no subtitle."""
    path = root / choose("CAER and FERV39K", split, {"train": "caer_ferv39k_ann.json"})
    ask = _emotion("CAER and FERV39K", SEVEN, with_text=False)
    return read("caer_ferv39k", messages(path, "videos"), ask, media(root, sounds=()))


def _ferv39k_lines(path: Path) -> Iterator[tuple[str, Row]]:
    require(path)
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        name, _, label = line.strip().rpartition(" ")
        yield name or f"line {number}", {"label": label} if name else {}


def _emotion(corpus: str, labels: Sequence[str], *, with_text: bool = True) -> Callable[[str, Row], list[Sample]]:
    def ask(name: str, row: Row) -> list[Sample]:
        label = one_of(corpus, name, cell(row, "label").lower(), labels)
        text = row.get("text", "") if with_text else ""
        if not isinstance(text, str):
            raise Unusable("its text is not a string")
        return [questions.emotion(text.strip(), BASIC[label])]

    return ask
