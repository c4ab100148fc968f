"""Which samples are kept for validation in corpora that ship none: training and evaluation ask the same function."""

from __future__ import annotations

import re

_SEASON = re.compile(r"(S\d+)_E\d+_\d+")
_DIALOGUE = re.compile(r"dia(\d+)_utt\d+")

HELD_OUT_SEASON = "S06"
"""Of MIntRec, which is one show in three seasons; all its 20 intents occur in it."""

SEEN_ACTOR = "01"
"""The one actor of RAVDESS whose pictures are there too. Nothing of his is trained on, so that what voice and face give
together is measured on a person who was never heard or seen."""

CUT = ("mintrec", "mintrec2", "isear", "merr", "empathetic_dialogues", "esconv", "ravdess_av")
"""Corpora that are cut here. EmpatheticDialogues and ESConv are counted in dialogues."""


def is_valid(corpus: str, position: int, name: str = "") -> bool:
    """Whether a sample belongs to the validation split.

    MIntRec is cut by season and MIntRec2.0 by dialogue, so that no scene lies on both sides. RAVDESS' one actor with
    pictures is held out as a whole. The others are cut by position, every tenth.

    Args:
        corpus: one of `CUT`.
        position: where the sample, or its dialogue, stands in the corpus' file, from 0.
        name: the clip, such as `S05_E16_329.mp4` or `dia0_utt3.mp4`; those cut by position do not need it.

    Raises:
        ValueError: another corpus, or a name that is not of this form.
    """
    if corpus not in CUT:
        raise ValueError(f"{corpus} is not cut here; these are: {', '.join(CUT)}")
    if corpus == "mintrec":
        return _matched(_SEASON, corpus, name) == HELD_OUT_SEASON
    if corpus == "mintrec2":
        return int(_matched(_DIALOGUE, corpus, name)) % 10 == 9
    if corpus == "ravdess_av":
        return True
    return position % 10 == 9


def _matched(pattern: re.Pattern[str], corpus: str, name: str) -> str:
    match = pattern.match(name)
    if match is None:
        raise ValueError(f"{name!r} is not the name of a clip of {corpus}, expected one like {pattern.pattern}")
    return match[1]
