"""What is asked in each task, and how its answer is written: samples that only lack where they are from."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from model import processor as p
from model.types import Thought, Utterance

from .sample import Sample

REASON_QUESTIONS = (
    "[Inference] Say what the person feels overall and which sights, sounds and words show it.",
    "[Inference] Describe the person's feeling, and what in the picture, the voice and the words tells of it.",
    "[Inference] How does the person feel, and from what do you see, hear and read that?",
    "[Inference] Explain the person's emotional state with what is seen, heard and said.",
)
"""Section 7.1b's question and three ways to put it. Tests ask the first one; training asks all."""


SIGN = {"happy": 1.0, "neutral": 0.0, "calm": 0.0, "surprise": 0.0}
"""Valence, by its sign, of an emotion; of all others it is negative."""


def emotion(text: str, label: str) -> Sample:
    """The one basic emotion; `label` is one of `model.types.EMOTIONS`."""
    return Sample("emotion", text, p.EMOTION_QUESTION, _led(p.EMOTION_LEAD, label), label=label)


def open_words(text: str, words: Sequence[str]) -> Sample:
    """Any words for the feelings. The label is these words, joined by `, `."""
    label = ", ".join(words)
    return Sample("open", text, p.OPEN_QUESTION, _led(p.OPEN_LEAD, label), label=label)


def sentiment(text: str, valence: float) -> Sample:
    """Positive, negative, or neutral where the valence is exactly 0 (section 1.4)."""
    label = "positive" if valence > 0 else "negative" if valence < 0 else "neutral"
    return Sample("sentiment", text, p.SENTIMENT_QUESTION, _led(p.SENTIMENT_LEAD, label), label=label)


def sentiment_of(text: str, emotion: str) -> Sample:
    """The sentiment that goes with an emotion: negative, unless the emotion is one of `SIGN`."""
    return sentiment(text, SIGN.get(emotion, -1.0))


def intent(text: str, label: str) -> Sample:
    """The speaker's intent, spelled as annotated."""
    return Sample("intent", text, p.INTENT_QUESTION, ((p.INTENT_LEAD + label, True),), label=label)


def reason(text: str, description: str, *, paraphrase_by: str = "", label: str = "") -> Sample:
    """What the person feels and what shows it, as free text.

    `paraphrase_by` chooses among `REASON_QUESTIONS`, always the same for the same name; without it the first is asked.
    `label` is the corpus' word for the feeling, where it has one.
    """
    question = REASON_QUESTIONS[zlib.crc32(paraphrase_by.encode()) % 4 if paraphrase_by else 0]
    return Sample("reason", text, question, ((description, True),), label=label)


def empathy(text: str, history: Sequence[Utterance], thought: Thought, reply: str) -> Sample:
    """The chain of empathy, wholly annotated, and the reply (section 3.5). The label is the speaker's emotion."""
    chain = p.THOUGHT.format(
        scenario=_inline(thought.scenario),
        emotion=_inline(thought.emotion),
        cause=_inline(thought.cause),
        goal=_inline(thought.goal),
    )
    answer = ((chain, True), (reply, True))
    return Sample("empathy", text, p.EMPATHY_QUESTION, answer, tuple(history), label=thought.emotion)


def _led(lead: str, label: str) -> tuple[tuple[str, bool], ...]:
    return ((lead, False), (f" {label}.", True))


def _inline(text: str) -> str:
    """On one line, without the marks that the template puts around it."""
    return " ".join(text.replace('"', "'").split()).rstrip(" .")
