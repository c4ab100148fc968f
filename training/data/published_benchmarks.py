"""The MER-UniBench corpora: labels in an `.npz`, subtitles in a table, clips in folders. Only their test splits score.

Section 5.1: the models are asked for open words and for the sentiment, and scored against these labels; so labels of
emotions stay in the corpus' words, which the emotion wheels know.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import questions
from .pickled_labels import read_labels
from .published_files import Reading, Row, cell, choose, media, number, one_of, read, subtitles
from .sample import CorpusError, Sample

MER = ("happy", "angry", "worried", "sad", "surprise", "neutral")
MELD = ("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise")
IEMOCAP = ("happy", "sad", "neutral", "anger")
"""In the order of the corpus' indices, as MELD's is."""


@dataclass(frozen=True)
class _Layout:
    corpus: str
    labels: str = "label.npz"
    splits: dict[str, str] = field(
        default_factory=lambda: {"train": "train_corpus", "valid": "val_corpus", "test": "test_corpus"}
    )
    subtitles: str = "transcription-engchi-polish.csv"
    language: str = "english"
    pictures: tuple[str, ...] = ("video",)
    sounds: tuple[str, ...] = ("audio",)


_MER_SPLITS = {"train": "train_corpus", "test": "test1_corpus"}
_SUB_AUDIO = ("subaudio", "audio")


def mer2023(root: Path, split: str) -> Reading:
    """MER2023: Chinese television, subtitles in English; 411 for testing (`test1_corpus`)."""
    return _words(root, split, _Layout("mer2023", "label-6way.npz", _MER_SPLITS))


def mer2024(root: Path, split: str) -> Reading:
    """MER2024: Chinese television, subtitles in Chinese (`transcription_merge.csv`); 1,169 for testing."""
    layout = _Layout("mer2024", "label-6way.npz", _MER_SPLITS, "transcription_merge.csv", "chinese")
    return _words(root, split, layout)


def meld(root: Path, split: str) -> Reading:
    """MELD: American television, labels as indices; 2,610 for testing. `subvideo/`, `subaudio/`."""
    layout = _Layout("meld", pictures=("subvideo", "video"), sounds=_SUB_AUDIO)
    return _indices(root, split, layout, MELD)


def iemocap4(root: Path, split: str) -> Reading:
    """IEMOCAP with four emotions, labels as indices; session 5 (1,241) is for testing. `subvideo-tgt/`, `subaudio/`.

    A name begins with `Ses05F` and ends in the speaker and a number, `_M012`.
    """
    splits = dict.fromkeys(("train", "test"), "whole_corpus")
    layout = _Layout("iemocap4", "label_4way.npz", splits, pictures=("subvideo-tgt", "video"), sounds=_SUB_AUDIO)

    def wanted(name: str) -> bool:
        if name[:3] != "Ses" or name[4:5] not in set("12345"):
            raise CorpusError(f"{name!r} is not the name of a clip of IEMOCAP, expected one like Ses05F_impro01_F000")
        return (name[4] == "5") == (split == "test")

    reading = _indices(root, split, layout, IEMOCAP, wanted)
    speakers = [replace(s, speaker=s.name[:5] + s.name.rpartition("_")[2][:1]) for s in reading.samples]
    return Reading(speakers, reading.skipped)


def cmu_mosi(root: Path, split: str) -> Reading:
    """CMU-MOSI: reviews, valence in [-3, 3]; 686 for testing. `subvideo/`, `subaudio/`."""
    return _valence(root, split, _Layout("cmu_mosi", pictures=("subvideo", "video"), sounds=_SUB_AUDIO), 3)


def cmu_mosei(root: Path, split: str) -> Reading:
    """CMU-MOSEI: monologues, valence in [-3, 3]; 4,659 for testing. `subvideo_new/`, `subaudio/`."""
    layout = _Layout("cmu_mosei", pictures=("subvideo_new", "subvideo", "video"), sounds=_SUB_AUDIO)
    return _valence(root, split, layout, 3)


def sims(root: Path, split: str) -> Reading:
    """CH-SIMS: Chinese films, valence in [-1, 1]; 457 for testing."""
    return _valence(root, split, _Layout("sims"), 1)


def simsv2(root: Path, split: str) -> Reading:
    """CH-SIMS v2: Chinese films, valence in [-1, 1]; 1,034 for testing. `video_new/`."""
    return _valence(root, split, _Layout("simsv2", pictures=("video_new", "video")), 1)


def _words(root: Path, split: str, layout: _Layout) -> Reading:
    def ask(name: str, row: Row, text: str) -> list[Sample]:
        return [questions.open_words(text, [one_of(layout.corpus, name, cell(row, "emo").lower(), MER)])]

    return _read(root, split, layout, ask)


def _indices(
    root: Path,
    split: str,
    layout: _Layout,
    labels: tuple[str, ...],
    wanted: Callable[[str], bool] = lambda name: True,
) -> Reading:
    def ask(name: str, row: Row, text: str) -> list[Sample]:
        index = number(row, "emo")
        if index not in range(len(labels)):
            raise CorpusError(
                f"{layout.corpus} has no label {index}, as {name} is annotated; expected 0 to {len(labels) - 1}"
            )
        return [questions.open_words(text, [labels[int(index)]])]

    return _read(root, split, layout, ask, wanted)


def _valence(root: Path, split: str, layout: _Layout, most: float) -> Reading:
    def ask(name: str, row: Row, text: str) -> list[Sample]:
        valence = number(row, "val")
        if abs(valence) > most + 1e-6:  # room for a mean of annotators in single precision
            raise CorpusError(f"{name} of {layout.corpus} has a valence of {valence:g}, expected -{most} to {most}")
        return [questions.sentiment(text, valence)]

    return _read(root, split, layout, ask)


def _read(
    root: Path,
    split: str,
    layout: _Layout,
    ask: Callable[[str, Row, str], list[Sample]],
    wanted: Callable[[str], bool] = lambda name: True,
) -> Reading:
    labels = read_labels(root / layout.labels, choose(layout.corpus, split, layout.splits))
    said_in = subtitles(root / layout.subtitles, layout.language)
    rows = ((name, row) for name, row in labels.items() if wanted(name))
    clip_of = media(root, pictures=layout.pictures, sounds=layout.sounds)
    return read(layout.corpus, rows, lambda name, row: ask(name, row, said_in(name)), clip_of)
