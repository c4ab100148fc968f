"""Readers of the text corpora: each gives samples of (dialogue, words, question, answer), the same shape for all tasks.

Folders are laid out as published or as their README says; a line that cannot be read ends in an error that names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model import processor as p
from model.types import STRATEGIES, Utterance

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


@dataclass(frozen=True)
class Sample:
    """One question about one turn. `answer` is a list of (text, supervised?) parts that together are the answer."""

    task: str
    text: str
    question: str
    answer: tuple[tuple[str, bool], ...]
    history: tuple[Utterance, ...] = ()


def goemotions(folder: Path, split: str) -> Iterator[Sample]:
    """GoEmotions: the basic emotion where the labels agree on one, the sentiment, and all labels as open words."""
    for row in _rows(folder / f"{split}.jsonl"):
        basic = {BASIC[label] for label in row["labels"]}
        if len(basic) == 1:
            (emotion,) = basic
            yield _emotion(row["text"], emotion)
            yield _sentiment(row["text"], emotion)
        if "neutral" not in row["labels"]:
            yield _open(row["text"], row["labels"])


def situations(folder: Path, split: str) -> Iterator[Sample]:
    """EmpatheticDialogues situations: basic emotion, sentiment and the fine label as an open word."""
    for row in _rows(folder / f"situations_{split}.jsonl"):
        emotion = BASIC.get(row["emotion"])
        if emotion is not None:
            yield _emotion(row["text"], emotion)
            yield _sentiment(row["text"], emotion)
            yield _open(row["text"], [row["emotion"]])


def labelled(folder: Path, split: str) -> Iterator[Sample]:
    """MELD and ISEAR: lines with a text and an emotion."""
    for row in _rows(folder / f"{split}.jsonl"):
        yield _emotion(row["text"], BASIC[row["emotion"]])
        yield _sentiment(row["text"], BASIC[row["emotion"]])


def intents(folder: Path, split: str) -> Iterator[Sample]:
    """MIntRec and MIntRec2.0: the speaker's intent, spelled as annotated."""
    for row in _rows(folder / f"{split}.jsonl"):
        yield Sample("intent", row["text"], p.INTENT_QUESTION, ((p.INTENT_LEAD + row["intent"], True),))


def causes(folder: Path, split: str) -> Iterator[Sample]:
    """RECCON: the words of the dialogue that cause the emotion of its latest turn."""
    for dialogue in _rows(folder / f"{split}.jsonl"):
        turns = [_tidy(turn["text"]) for turn in dialogue["turns"]]
        speakers = [turn["speaker"] for turn in dialogue["turns"]]
        for i, turn in enumerate(dialogue["turns"]):
            spans = [_tidy(s) for s, at in zip(turn.get("cause_spans", ()), turn.get("cause_turns", ()), strict=True)
                     if at != "b" and int(at) <= i + 1]  # fmt: skip
            if not spans or turn["emotion"] not in BASIC:
                continue
            question = p.CAUSE_QUESTION.format(emotion=BASIC[turn["emotion"]])
            span = max(spans, key=len)
            history = _history(turns[:i], [s == speakers[i] for s in speakers[:i]])
            yield Sample("cause", turns[i], question, ((p.CAUSE_LEAD, False), (f'{span}"', True)), history)


def dialogues(folder: Path, split: str) -> Iterator[Sample]:
    """EmpatheticDialogues' dialogues with their situations, split by id: every tenth is for validation.

    The situation is the scenario and the fine label the emotion; no cause is annotated, so that line stands
    unsupervised with the speaker's own latest words.
    """
    pairs = zip(_rows(folder / "dialogues_valid.jsonl"), _rows(folder / "situations_valid.jsonl"), strict=True)
    for number, (dialogue, situation) in enumerate(pairs):
        if (number % 10 == 9) != (split == "valid"):
            continue
        turns = [_tidy(turn["text"]) for turn in dialogue["turns"]]
        scene = _sentence_case(_shorten(_tidy(situation["text"])))
        yield Sample("scenario", turns[0], p.SCENARIO_QUESTION, ((p.SCENARIO_LEAD, False), (f'{scene}"', True)))
        for i in range(1, len(turns), 2):
            if _CLAIMS_A_LIFE.search(turns[i]):
                continue
            history = _history(turns[: i - 1], [k % 2 == 0 for k in range(i - 1)])
            goal = STRATEGIES[_strategy_of(turns[i], BASIC[dialogue["emotion"]])]
            emotion = dialogue["emotion"] if number % 2 else BASIC[dialogue["emotion"]]
            yield _reply(turns[i - 1], history, scene, emotion, _shorten(turns[i - 1]), goal, turns[i])


def support(folder: Path, split: str) -> Iterator[Sample]:
    """ESConv: supporters' replies with their annotated strategy, split by id; the thought stands unsupervised."""
    for number, dialogue in enumerate(_rows(folder / "dev.jsonl")):
        if (number % 10 == 9) != (split == "valid"):
            continue
        lines: list[Utterance] = []
        for turn in dialogue["turns"]:
            text = _tidy(turn["text"])
            strategy = _STRATEGY.get(turn["strategy"] or "")
            if strategy and lines and lines[-1].role == "user" and not _CLAIMS_A_LIFE.search(text):
                told = max((line.text for line in lines if line.role == "user"), key=len)
                yield _reply(lines[-1].text, tuple(lines[-7:-1]), _shorten(told), "sad", _shorten(lines[-1].text),
                             STRATEGIES[strategy], text, supervise_thought=False)  # fmt: skip
            role = "user" if turn["speaker"] == "seeker" else "assistant"
            lines.append(Utterance(role, text))  # type: ignore[arg-type]


def _emotion(text: str, emotion: str) -> Sample:
    return Sample("emotion", text, p.EMOTION_QUESTION, ((p.EMOTION_LEAD, False), (f" {emotion}.", True)))


def _sentiment(text: str, emotion: str) -> Sample:
    sentiment = {"happy": "positive", "neutral": "neutral", "surprise": "neutral"}.get(emotion, "negative")
    return Sample("sentiment", text, p.SENTIMENT_QUESTION, ((p.SENTIMENT_LEAD, False), (f" {sentiment}.", True)))


def _open(text: str, labels: list[str]) -> Sample:
    return Sample("open", text, p.OPEN_QUESTION, ((p.OPEN_LEAD, False), (f" {', '.join(labels)}.", True)))


def _reply(
    text: str,
    history: tuple[Utterance, ...],
    scenario: str,
    emotion: str,
    cause: str,
    goal: str,
    reply: str,
    *,
    supervise_thought: bool = True,
) -> Sample:
    thought = p.THOUGHT.format(scenario=scenario, emotion=emotion, cause=cause, goal=goal)
    before, clause, after = thought.partition(f"speaker is {emotion}")
    parts = ((before, False), (clause, supervise_thought), (after, False), (_sentence_case(reply), True))
    return Sample("empathy", text, p.EMPATHY_QUESTION, parts, history)


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


def _tidy(text: str) -> str:
    """Undo tokenised spacing: `Ann , it ' s` -> `Ann, it's`."""
    text = re.sub(r"\s+([,.!?;:])", r"\1", text.strip())
    text = re.sub(r"\s*([’'])\s*(s|t|re|ve|ll|d|m)\b", r"'\2", text)
    return re.sub(r"\s+", " ", re.sub(r",(?=[^\s\d])", ", ", text))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: name the folder that holds the corpora with --data")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path} line {number} is not JSON: {error.msg}") from None
