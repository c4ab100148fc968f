"""A row of a corpus becomes cases for evaluation: what to ask, and what is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from model.types import Utterance

from .layouts import Row
from .sample import Clip
from .text import BASIC
from .tidy import tidy

TO_OURS = {**BASIC, "calm": "calm", "surprised": "surprise", "worried": "fear"}
"""A corpus' emotion -> ours. What is not here (bored, contempt, doubt) has no basic emotion, and is skipped."""


@dataclass(frozen=True)
class Case:
    """One thing to ask and what is right.

    `gold` maps a task to its right label, in the project's words; `words` are the corpus' own for the feeling.
    `unit` is whom or which dialogue the case belongs to, for resampling; `speaker` is set where that is a person whose
    cases are also scored apart. `reference` is the reply that a person gave; `cause_lines` are the lines of the
    dialogue (from 0, the words said now last) annotated as the cause, `cause_spans` the words in them.
    """

    name: str
    gold: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    history: tuple[Utterance, ...] = ()
    clip: Clip = field(default_factory=Clip)
    words: tuple[str, ...] = ()
    unit: str = ""
    speaker: str = ""
    reference: str = ""
    cause_lines: frozenset[int] = frozenset()
    cause_spans: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skip:
    """A case that is not scored, and why."""

    name: str
    why: str


Found = Iterator[Case | Skip]


def voice(folder: Path, at: int, row: Row) -> Found:
    """RAVDESS, Emo-DB, Urdu: a clip of a known speaker."""
    sound = Clip(sound=folder / row["file"])
    yield _felt(row["file"], row["emotion"], clip=sound, unit=row["speaker"], speaker=row["speaker"])


def voice_and_face(folder: Path, at: int, row: Row) -> Found:
    """RAVDESS with pictures: crops of the face with the voice."""
    if not row["faces_mp4"]:
        yield Skip(row["clip"], "it has no face crops with its voice")
        return
    video = folder / row["faces_mp4"]
    clip = Clip(sound=video, pictures=video, cropped=True)
    yield _felt(row["clip"], row["emotion"], clip=clip, unit=row["actor"], speaker=row["actor"])


def picture(folder: Path, at: int, row: Row) -> Found:
    """FER2013: a face in an archive."""
    yield _felt(row["file"], row["label"], clip=Clip(pictures=row["zip"] / row["file"], cropped=True))


def comment(folder: Path, at: int, row: Row) -> Found:
    """GoEmotions: a comment whose labels all stand for one basic emotion."""
    ours = {TO_OURS.get(label, label) for label in row["labels"]}
    name = str(row["id"])
    if len(ours) == 1:
        yield _felt(name, ours.pop(), text=row["text"])
    else:
        yield Skip(name, "its labels stand for more than one basic emotion")


def report(folder: Path, at: int, row: Row) -> Found:
    """ISEAR: what happened and what was felt; shame and guilt count as sad."""
    yield _felt(f"line {at + 1}", row["emotion"], text=row["text"])


def television(folder: Path, at: int, row: Row) -> Found:
    """MELD: a line of a dialogue, with emotion and sentiment."""
    name = f"dia{row['dialogue']}_utt{row['utterance']}"
    gold = {"emotion": TO_OURS[row["emotion"]], "sentiment": row["sentiment"]}
    yield Case(name, gold, tidy(row["text"]), unit=row["speaker"], speaker=row["speaker"])


def intent(folder: Path, at: int, row: Row) -> Found:
    """MIntRec and MIntRec2.0: a line with its intent; the unit is the season's episode, or the dialogue."""
    unit = row["clip"].removesuffix(".mp4").rpartition("_")[0]
    yield Case(row["clip"], {"intent": row["intent"]}, row["text"], unit=unit)


def word(folder: Path, at: int, row: Row) -> Found:
    """MERR and EMER: words of a clip, and one word for the feeling; a word without a basic emotion has no `gold`."""
    felt = str(row["emotion"]).lower()
    gold = {"emotion": TO_OURS[felt]} if felt in TO_OURS else {}
    if row["text"].strip():
        yield Case(row["id"], gold, row["text"], words=(felt,))
    else:
        yield Skip(row["id"], "nothing is said in it, and there is no clip")


def causes(folder: Path, at: int, row: Row) -> Found:
    """RECCON: each line with an emotion, after the dialogue before it; only causes so far count."""
    turns = row["turns"]
    lines = [tidy(turn["text"]) for turn in turns]
    for i, turn in enumerate(turns):
        if turn["emotion"] == "neutral":
            continue
        name = f"{row['id']} turn {i + 1}"
        marked = list(zip(turn.get("cause_turns", ()), turn.get("cause_spans", ()), strict=True))
        before = [(int(line) - 1, tidy(span)) for line, span in marked if line != "b" and int(line) <= i + 1]
        if not before:
            yield Skip(name, "no cause is marked in the dialogue so far")
            continue
        history = tuple(
            Utterance("user" if turns[k]["speaker"] == turn["speaker"] else "assistant", lines[k]) for k in range(i)
        )
        yield Case(
            name,
            {"emotion": TO_OURS[turn["emotion"]]},
            lines[i],
            history,
            unit=row["id"],
            cause_lines=frozenset(line for line, _ in before),
            cause_spans=tuple(span for _, span in before),
        )


def emer(folder: Path, at: int, row: Row) -> Found:
    """EMER's `gt-eng.csv`, which names its columns in the plural."""
    yield from word(folder, at, {"id": row["names"], "emotion": row["emotions"], "text": row["subtitles"]})


def empathetic(folder: Path, at: int, row: Row) -> Found:
    """EmpatheticDialogues: each reply of the listener, and what the dialogue is about."""
    for case in _replies(row, "speaker"):
        yield replace(case, gold={"emotion": TO_OURS[row["emotion"]]}, words=(row["emotion"],))


def support(folder: Path, at: int, row: Row) -> Found:
    """ESConv: each reply of the supporter to the seeker."""
    yield from _replies(row, "seeker")


def published(folder: Path, at: int, row: Row) -> Found:
    """A sample of MER-UniBench: open words or a sentiment; what asks for a reason is not scored."""
    if "why" in row:
        yield Skip(row["name"], row["why"])
        return
    sample = row["sample"]
    if sample.task not in {"open", "sentiment"}:
        return
    is_words = sample.task == "open"
    yield Case(
        sample.name,
        {} if is_words else {"sentiment": sample.label},
        sample.text,
        clip=sample.clip,
        words=tuple(sample.label.split(", ")) if is_words else (),
        unit=sample.speaker,
        speaker=sample.speaker,
    )


def _felt(name: str, emotion: str, **fields: Any) -> Case | Skip:
    """A case with the corpus' emotion in our words, or why there is none."""
    ours = TO_OURS.get(emotion.lower())
    return Case(name, {"emotion": ours}, **fields) if ours else Skip(name, f"no basic emotion stands for {emotion}")


def _replies(row: Row, person: str) -> Iterator[Case]:
    """The replies to lines of `person` in a dialogue, each with all that was said before."""
    lines = [
        Utterance("user" if turn["speaker"] == person else "assistant", tidy(turn["text"])) for turn in row["turns"]
    ]
    for i, (said, reply) in enumerate(pairwise(lines)):
        if (said.role, reply.role) == ("user", "assistant"):
            name = f"{row['id']} turn {i + 2}"
            yield Case(name, {}, said.text, tuple(lines[:i]), unit=row["id"], reference=reply.text)
