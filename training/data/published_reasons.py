"""Clips whose feelings are told in open words and explained (OV-MER, ERI): MER-Caption+, MERR-fine, EMER, OV-MERD."""

from __future__ import annotations

import re
from pathlib import Path

from . import questions
from .published_files import Reading, Row, cell, choose, load_json, media, one_of, read, subtitles, table
from .sample import CorpusError, Sample

MERR = ("neutral", "sad", "angry", "happy", "worried", "surprise", "fear", "doubt", "contempt")
EMER = ("angry", "happy", "worried", "sad", "surprise")

_MER2025_PICTURES = ("video/video", "video")
"""The archive of MER2025 holds a folder of its own name."""


def mer_caption_plus(root: Path, split: str) -> Reading:
    """MER-Caption+: two samples a clip, open words and reason, from which a mixture draws alike (section 3.4).

    `track2_train_mercaptionplus.csv`, `track3_train_mercaptionplus.csv`, `subtitle_chieng.csv`, `video/`, `audio/`.
    """
    choose("MER-Caption+", split, {"train": ""})
    return _mer2025("mer_caption_plus", root, "mercaptionplus", for_training=True)


def ov_merd(root: Path, split: str) -> Reading:
    """OV-MERD: open words and reasons for testing, although MER2025 calls the files `track2_train_ovmerd.csv`."""
    choose("OV-MERD", split, {"test": ""})
    return _mer2025("ov_merd", root, "ovmerd", for_training=False)


def merr_fine(root: Path, split: str) -> Reading:
    """MERR-fine: reasons, with a pseudo label. `MERR_fine_grained.json`; clips in `test3/` of MER2023, and `audio/`."""
    path = root / choose("MERR-fine", split, {"train": "MERR_fine_grained.json"})
    annotations = load_json(path)
    if not isinstance(annotations, dict):
        raise CorpusError(f"{path} should map clips to their annotations")

    def ask(name: str, row: Row) -> list[Sample]:
        description = cell(row, "smp_reason_caption")
        label = one_of("MERR-fine", name, cell(row, "pseu_emotion"), MERR)
        text = row.get("text")
        said = text.strip() if isinstance(text, str) else ""
        return [questions.reason(said, description, paraphrase_by=name, label=label)]

    rows = ((name, row if isinstance(row, dict) else {}) for name, row in annotations.items())
    return read("merr_fine", rows, ask, media(root, pictures=("test3", "video")))


def emer(root: Path, split: str) -> Reading:
    """EMER: 100 reasons for testing, in English (`gt-eng.csv`), each with one word for the feeling."""
    path = root / choose("EMER", split, {"test": "gt-eng.csv"})

    def ask(name: str, row: Row) -> list[Sample]:
        description = cell(row, "reasons")
        label = one_of("EMER", name, cell(row, "emotions"), EMER)
        return [questions.reason((row["subtitles"] or "").strip(), description, label=label)]

    return read("emer", table(path, "names", "emotions", "subtitles", "reasons"), ask, media(root))


def open_set(cell_text: str) -> list[str]:
    """The words of a cell such as `['Happy', 'sad']`, in lower case, each once; an empty list means neutral."""
    inside = re.search(r"\[(.*?)\]", cell_text, re.DOTALL)
    parts = re.split(r"[,;\n]", inside[1] if inside else cell_text)
    words = [part.strip(" \t\r.'\"[]").lower() for part in parts]
    return list(dict.fromkeys(word for word in words if word)) or ["neutral"]


def _mer2025(corpus: str, root: Path, file: str, *, for_training: bool) -> Reading:
    words = list(table(root / f"track2_train_{file}.csv", "name", "openset"))
    reasons = dict(table(root / f"track3_train_{file}.csv", "name", "reason"))
    said_in = subtitles(root / "subtitle_chieng.csv", "english")

    def ask(name: str, row: Row) -> list[Sample]:
        found, description = open_set(cell(row, "openset")), cell(row, "reason")
        text = said_in(name)
        by = name if for_training else ""
        return [questions.open_words(text, found), questions.reason(text, description, paraphrase_by=by)]

    without_words = reasons.keys() - {name for name, _ in words}
    rows = (
        (name, {**row, **reasons.get(name, {})})
        for name, row in (*words, *((name, {}) for name in reasons if name in without_words))
    )
    return read(corpus, rows, ask, media(root, pictures=_MER2025_PICTURES))
