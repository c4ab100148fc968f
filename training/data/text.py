"""Readers of the text corpora: each gives samples of dialogue, words, question and answer.

Folders are laid out as published or as their README says; a line that cannot be read ends in an error that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from model import processor as p
from model.clauses import clauses
from model.types import EMOTIONS, STRATEGIES, Thought, Utterance

from . import questions as q
from .sample import CorpusError, Sample
from .splits import is_valid
from .tidy import tidy

BASIC = {
    # GoEmotions (28 labels; Ekman groups of Demszky et al. 2020)
    "admiration": "happy", "amusement": "happy", "approval": "happy", "caring": "happy", "desire": "happy",
    "excitement": "happy", "gratitude": "happy", "joy": "happy", "love": "happy", "optimism": "happy",
    "pride": "happy", "relief": "happy", "anger": "angry", "annoyance": "angry", "disapproval": "angry",
    "disgust": "disgust", "fear": "fear", "nervousness": "fear", "disappointment": "sad", "embarrassment": "sad",
    "grief": "sad", "remorse": "sad", "sadness": "sad", "confusion": "surprise", "curiosity": "surprise",
    "realization": "surprise", "surprise": "surprise", "neutral": "neutral",
    # EmpatheticDialogues (32 labels)
    "afraid": "fear", "angry": "angry", "annoyed": "angry", "anticipating": "happy", "anxious": "fear",
    "apprehensive": "fear", "ashamed": "sad", "confident": "happy", "content": "happy",
    "devastated": "sad", "disappointed": "sad", "disgusted": "disgust", "embarrassed": "sad", "excited": "happy",
    "faithful": "happy", "furious": "angry", "grateful": "happy", "guilty": "sad", "hopeful": "happy",
    "impressed": "happy", "jealous": "angry", "joyful": "happy", "lonely": "sad", "nostalgic": "sad",
    "prepared": "happy", "proud": "happy", "sad": "sad", "sentimental": "sad", "surprised": "surprise",
    "terrified": "fear", "trusting": "happy",
    # MELD, ISEAR, DailyDialog
    "happiness": "happy", "happy": "happy", "shame": "sad", "guilt": "sad", "fearful": "fear",
}  # fmt: skip
"""One table from every corpus label to the seven basic ones."""

_STRATEGY = {
    "Questions": "explore",
    "Restatement or Paraphrasing": "reflect",
    "Reflection of feelings": "reflect",
    "Affirmation and Reassurance": "comfort",
    "Providing Suggestions": "suggest",
    "Information": "inform",
}
"""ESConv's strategies to ours. "Self-disclosure" has none: a program has no life to tell of."""

_CLAIMS_A_LIFE = re.compile(
    r"\b(my (wife|husband|kids?|son|daughter|mom|mother|dad|father|boss|dog|cat|friends?|sister|brother|girlfriend|"
    r"boyfriend|family|job|house|car)|me too|same here|i('ve| have) been there|when i was|i (used to|had|went|love|"
    r"hate|live|work)\b|happened to me)",
    re.IGNORECASE,
)


def goemotions(folder: Path, split: str) -> Iterator[Sample]:
    """GoEmotions: the basic emotion where the labels agree on one, the sentiment, and all labels as open words."""
    for row in _rows(folder / f"{'dev' if split == 'valid' else split}.jsonl"):
        basic = {BASIC[label] for label in row["labels"]}
        if len(basic) == 1:
            yield from _felt(row["text"], *basic)
        if "neutral" not in row["labels"]:
            yield q.open_words(row["text"], row["labels"])


def situations(folder: Path, split: str) -> Iterator[Sample]:
    """EmpatheticDialogues situations of the training split: basic emotion, sentiment, the fine label as open word.

    Those of the validation split belong to dialogues that `dialogues` trains on, so there are none.
    """
    for row in _rows(folder / "situations_train.jsonl") if split == "train" else ():
        if row["emotion"] in BASIC:
            yield from _felt(row["text"], BASIC[row["emotion"]])
            yield q.open_words(row["text"], [row["emotion"]])


def meld(folder: Path, split: str) -> Iterator[Sample]:
    """MELD's lines of television dialogue."""
    for row in _rows(folder / f"{'dev' if split == 'valid' else split}.jsonl"):
        yield from _felt(tidy(row["text"]), BASIC[row["emotion"]])


def isear(folder: Path, split: str) -> Iterator[Sample]:
    """ISEAR's reports of felt emotions."""
    for position, row in enumerate(_rows(folder / "train.jsonl")):
        if is_valid("isear", position) == (split == "valid"):
            yield from _felt(row["text"], BASIC[row["emotion"]])


def corrections(folder: Path, split: str) -> Iterator[Sample]:
    """Feelings that people corrected: every .jsonl in the folder, as `emox memory export --labels` writes them.

    Every tenth of a file validates; no benchmark asks for them, as they are one person's own.
    """
    paths = sorted(folder.glob("*.jsonl"))
    if not paths:
        raise CorpusError(f"{folder} has no .jsonl of corrections: write one with `emox memory export FILE --labels`")
    for path in paths:
        for position, row in enumerate(_rows(path)):
            if (position % 10 == 9) == (split == "valid"):
                if row["emotion"] not in EMOTIONS:
                    raise CorpusError(f"{path}, line {position + 1}: {row['emotion']!r} is no basic emotion")
                yield from _felt(row["text"], row["emotion"])


def mintrec(folder: Path, split: str) -> Iterator[Sample]:
    """MIntRec: the speaker's intent, one of 20."""
    yield from _intents("mintrec", folder, split)


def mintrec2(folder: Path, split: str) -> Iterator[Sample]:
    """MIntRec2.0: the speaker's intent, one of 30."""
    yield from _intents("mintrec2", folder, split)


def merr(folder: Path, split: str) -> Iterator[Sample]:
    """MERR-fine's words and pseudo labels; what is seen and heard in its clips is not here."""
    for position, row in enumerate(_rows(folder / "train.jsonl")):
        if is_valid("merr", position) == (split == "valid") and row["text"]:
            yield q.open_words(row["text"], [row["emotion"]])


def reccon(folder: Path, split: str) -> Iterator[Sample]:
    """RECCON: the clause of the dialogue that holds most of the words annotated as the cause of the latest emotion."""
    for dialogue in _rows(folder / f"{split}.jsonl"):
        turns = [tidy(turn["text"]) for turn in dialogue["turns"]]
        speakers = [turn["speaker"] for turn in dialogue["turns"]]
        for i, turn in enumerate(dialogue["turns"]):
            spans = [(tidy(span), int(at) - 1)
                     for span, at in zip(turn.get("cause_spans", ()), turn.get("cause_turns", ()), strict=True)
                     if at != "b" and int(at) <= i + 1]  # fmt: skip
            if not spans or turn["emotion"] not in BASIC:
                continue
            history = _history(turns[:i], [speaker == speakers[i] for speaker in speakers[:i]])
            for line in dict.fromkeys(line for _, line in spans):
                if line >= i - len(history):
                    span = max((text for text, at in spans if at == line), key=len)
                    yield _cause(turns[i], history, BASIC[turn["emotion"]], _clause_of(span, turns[line]))


def dialogues(folder: Path, split: str) -> Iterator[Sample]:
    """EmpatheticDialogues' dialogues with their situations, cut by dialogue (splits.py).

    The fine label is the emotion, the basic one in every other dialogue. Neither scenario nor cause is annotated: they
    are the speaker's longest line and its longest clause, as the understanding head gives quotations too.
    """
    pairs = zip(_rows(folder / "dialogues_valid.jsonl"), _rows(folder / "situations_valid.jsonl"), strict=True)
    for number, (dialogue, _) in enumerate(pairs):
        if is_valid("empathetic_dialogues", number) != (split == "valid"):
            continue
        turns = [tidy(turn["text"]) for turn in dialogue["turns"]]
        for i in range(1, len(turns), 2):
            if _CLAIMS_A_LIFE.search(turns[i]):
                continue
            history = _history(turns[: i - 1], [k % 2 == 0 for k in range(i - 1)])
            goal = STRATEGIES[_strategy_of(turns[i], BASIC[dialogue["emotion"]])]
            emotion = dialogue["emotion"] if number % 2 else BASIC[dialogue["emotion"]]
            yield _reply(turns[i - 1], history, emotion, goal, turns[i])


def support(folder: Path, split: str) -> Iterator[Sample]:
    """ESConv: supporters' replies with their annotated strategy, cut by dialogue; the thought stands unsupervised."""
    for number, dialogue in enumerate(_rows(folder / "dev.jsonl")):
        if is_valid("esconv", number) != (split == "valid"):
            continue
        lines: list[Utterance] = []
        for turn in dialogue["turns"]:
            text = tidy(turn["text"])
            strategy = _STRATEGY.get(turn["strategy"] or "")
            if strategy and lines and lines[-1].role == "user" and not _CLAIMS_A_LIFE.search(text):
                reply = _reply(lines[-1].text, tuple(lines[-7:-1]), "sad", STRATEGIES[strategy], text)
                yield replace(reply, answer=tuple((part, part == reply.answer[-1][0]) for part, _ in reply.answer))
            role = "user" if turn["speaker"] == "seeker" else "assistant"
            lines.append(Utterance(role, text))  # type: ignore[arg-type]


def _felt(text: str, emotion: str) -> Iterator[Sample]:
    yield q.emotion(text, emotion)
    yield q.sentiment_of(text, emotion)


def _intents(corpus: str, folder: Path, split: str) -> Iterator[Sample]:
    for position, row in enumerate(_rows(folder / "train.jsonl")):
        if is_valid(corpus, position, row["clip"]) == (split == "valid"):
            yield q.intent(row["text"], row["intent"])


def _cause(text: str, history: tuple[Utterance, ...], emotion: str, clause: str) -> Sample:
    question = p.CAUSE_QUESTION.format(emotion=emotion)
    return Sample("cause", text, question, ((p.CAUSE_LEAD, False), (clause, True), ('"', True)), history, label=clause)


def _clause_of(span: str, line: str) -> str:
    """The clause of a line that shares most words with a span of it."""
    words = set(re.findall(r"\w+", span.lower()))
    return max(clauses(line) or [line], key=lambda clause: len(words & set(re.findall(r"\w+", clause.lower()))))


def _reply(text: str, history: tuple[Utterance, ...], emotion: str, goal: str, reply: str) -> Sample:
    """A reply after its thought, whose scenario and cause are what the understanding head would give (quotations)."""
    told = max([text, *(line.text for line in history if line.role == "user")], key=lambda line: len(line.split()))
    cause = max(clauses(told) or [told], key=lambda clause: len(clause.split()))
    return q.empathy(text, history, Thought(_shorten(told), emotion, cause, goal), _sentence_case(reply))


def _history(turns: list[str], is_user: list[bool]) -> tuple[Utterance, ...]:
    pairs = list(zip(turns, is_user, strict=True))[-6:]
    return tuple(Utterance("user" if user else "assistant", text) for text, user in pairs)


def _strategy_of(reply: str, emotion: str) -> str:
    """The strategy a reply without annotation follows, by its surface."""
    if emotion == "happy":
        return "celebrate"
    if "?" in reply:
        return "explore"
    return "comfort" if re.search(r"\b(sorry|hope|okay|ok|fine|better|worry)\b", reply, re.IGNORECASE) else "reflect"


def _shorten(text: str, n_words: int = 18) -> str:
    words = text.replace('"', "'").split()
    return " ".join(words[:n_words]).rstrip(" ,;.")


def _sentence_case(text: str) -> str:
    return re.sub(r"\bi\b", "I", text[:1].upper() + text[1:])


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise CorpusError(f"{path} is missing: name the folder that holds the corpora with --data")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise CorpusError(f"{path} line {number} is not JSON: {error.msg}") from None
