"""Every corpus by the name that a mixture uses, and where it lies in the data folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from . import clips, text
from .published import PUBLISHED
from .published_files import Reading
from .sample import CorpusError, Sample

Local = Callable[[Path, str], Iterator[Sample]]

LOCAL: dict[str, tuple[Local, str]] = {
    "ravdess": (clips.ravdess, "speech/ravdess"),
    "ravdess_av": (clips.ravdess_av, "av/ravdess_actor01"),
    "fer2013": (clips.fer2013, "face_restricted/fer2013"),
    "goemotions": (text.goemotions, "text/goemotions"),
    "situations": (text.situations, "text/empathetic_dialogues"),
    "dialogues": (text.dialogues, "text/empathetic_dialogues"),
    "support": (text.support, "text/esconv"),
    "meld_text": (text.meld, "text_restricted/meld"),
    "isear": (text.isear, "text_restricted/isear"),
    "corrections": (text.corrections, "corrections"),
    "mintrec_text": (text.mintrec, "text_restricted/mintrec"),
    "mintrec2_text": (text.mintrec2, "text_restricted/mintrec2"),
    "reccon": (text.reccon, "text_restricted/reccon_dailydialog"),
    "merr_text": (text.merr, "text_restricted/merr"),
}
"""Corpora in the layouts of the data folder; those ending in `_text` are a published corpus' words alone."""


def read_corpus(name: str, data: Path, split: str) -> Reading:
    """All samples of a corpus' split; a published corpus lies in a folder of its own name.

    Raises:
        CorpusError: no such corpus or split, or its folder is missing or laid out otherwise.
    """
    if name in LOCAL:
        reader, folder = LOCAL[name]
        return Reading([replace(sample, corpus=name) for sample in reader(data / folder, split)], [])
    if name in PUBLISHED:
        return PUBLISHED[name](data / name, split)
    raise CorpusError(f"there is no corpus {name!r}: choose from {', '.join(sorted({*LOCAL, *PUBLISHED}))}")
