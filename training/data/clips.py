"""Readers of corpora of clips: each gives samples that ask which emotion a voice or a face shows.

Folders are laid out as their README says: a table of the clips beside them. A voice sample has no text: the acted
corpora say the same few sentences in every emotion, so words tell nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from model import processor as p

from .cases import TO_OURS
from .layouts import Layout, Row, Table, Zipped
from .sample import Clip, CorpusError, Sample
from .splits import SEEN_ACTOR

WITHOUT_OURS = frozenset({"bored", "boredom"})
"""Labels of these corpora for which there is no basic emotion; their clips are left out."""

_FER2013 = Zipped({"train": "train", "valid": "publictest", "test": "privatetest"})


def ravdess(root: Path, split: str) -> Iterator[Sample]:
    """RAVDESS speech: eight acted emotions; "calm" stays "calm", which a voice can be without a face.

    The actor of `ravdess_av` is left out of training.
    """
    for sample in _voices("ravdess", root, split):
        if split != "train" or sample.speaker != SEEN_ACTOR:
            yield sample


def emodb(root: Path, split: str, left_out: Counter[str] | None = None) -> Iterator[Sample]:
    """Emo-DB: acted German speech.

    Args:
        root: its folder.
        split: "train" or "valid".
        left_out: is told how many clips were left out, by their label: there is no emotion of ours for boredom.
    """
    yield from _voices("emodb", root, split, left_out)


def urdu(root: Path, split: str) -> Iterator[Sample]:
    """Urdu talk shows: four emotions; many speakers have one emotion only."""
    yield from _voices("urdu", root, split)


def ravdess_av(root: Path, split: str) -> Iterator[Sample]:
    """One actor of RAVDESS with face crops and voice: all trials validate, none trains.

    A trial without face crops is passed over.
    """
    for row in _rows(Table(corpus="ravdess_av"), root, split):
        if video := _cell(row, "faces_mp4", root):
            clip = Clip(sound=root / video, pictures=root / video, cropped=True)
            name, word = _cell(row, "clip", root), _cell(row, "emotion", root)
            label = _label(word, name, root)
            yield _sample("ravdess_av", name, label, clip, _cell(row, "actor", root))


def fer2013(root: Path, split: str) -> Iterator[Sample]:
    """FER2013: grey faces of 48 by 48 pixels in an archive, seven emotions; nobody knows who they are."""
    for row in _rows(_FER2013, root, split):
        name, word = _cell(row, "file", root), _cell(row, "label", root)
        yield _sample("fer2013", name, _label(word, name, root), Clip(pictures=row["zip"] / name, cropped=True))


def _voices(corpus: str, root: Path, split: str, left_out: Counter[str] | None = None) -> Iterator[Sample]:
    for row in _rows(Table(), root, split):
        name, word = _cell(row, "file", root), _cell(row, "emotion", root)
        if word not in WITHOUT_OURS:
            yield _sample(corpus, name, _label(word, name, root), Clip(sound=root / name), _cell(row, "speaker", root))
        elif left_out is not None:
            left_out[word] += 1


def _rows(layout: Layout, root: Path, split: str) -> Iterator[Row]:
    there = layout.splits(root)
    if not there:
        raise CorpusError(f"{root} holds no table of clips: name the corpus' own folder")
    if split not in there:
        raise CorpusError(f"{root} has no split {split}: choose from {', '.join(there)}")
    for _, row in layout.rows(root, split):
        yield row


def _cell(row: Row, column: str, root: Path) -> str:
    value = row.get(column)
    if value is None:
        raise CorpusError(f"the table of clips in {root} has a row without {column}: fetch the corpus again")
    return str(value)


def _label(word: str, name: str, root: Path) -> str:
    """The corpus' own word for a feeling, in ours."""
    if word not in TO_OURS:
        raise CorpusError(f"{name} in {root} has the label {word!r}, which is none that we know: correct its table")
    return TO_OURS[word]


def _sample(corpus: str, name: str, label: str, clip: Clip, speaker: str = "") -> Sample:
    answer = ((p.EMOTION_LEAD, False), (f" {label}.", True))
    return Sample(
        "emotion", "", p.EMOTION_QUESTION, answer, clip=clip, corpus=corpus, name=name, label=label, speaker=speaker
    )
