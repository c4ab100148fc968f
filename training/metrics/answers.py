"""From an answer in words to labels, without a judge: the templates of the answers are regular.

Published numbers let a language model read the answers (Qwen2.5-7B at temperature 0.7), so they are not repeatable. Say
beside a score which of the two was used. Spec sections 1.3, 5.1 and 5.7.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from model.types import SENTIMENTS

UNKNOWN = "unknown"
"""What `speaker_emotion` says when an answer does not name one. Never right."""

_EDGES = " \t\r\n'\"`“”‘’[](){}<>."
_BRACKETS = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]")  # the first [...], with one more level inside
_ECHO = re.compile(r"^\s*(?:input|output)?\s*:\s*", re.IGNORECASE)
_STATED = re.compile(r"\b(?:state|label|emotion of the speaker) is:?\s*([^.\n]*)", re.IGNORECASE)
_SPEAKER = re.compile(r"\bemotion of the speaker is:?\s*([a-z]+(?:-[a-z]+)*)", re.IGNORECASE)
_VALENCE = re.compile(r"\bvalence score is:?\s*([-+]?\d+(?:\.\d+)?)", re.IGNORECASE)
_NUMBER = re.compile(r"\s*[-+]?\d+(?:\.\d+)?\s*")
_WORD = re.compile(r"[a-z]+(?:-[a-z]+)*")
_CHAIN = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)


def parse_list(value: object) -> list[str]:
    """A list of labels written in any of the ways that occur: `[a, b]`, `a; b`, `['a', "b"]`, `(A)`, a real list.

    Takes the first `[...]`, else all of it; splits at commas, semicolons and line ends; strips quotes, brackets and
    full stops; lower case, order kept, repeats kept. None, NaN and "" are no label at all.
    """
    if value is None or value != value:
        return []
    if isinstance(value, list | tuple | set | frozenset):
        return [label for item in value for label in parse_list(item)]
    text = _ECHO.sub("", str(value))
    bracketed = _BRACKETS.search(text)
    items = re.split(r"[,;\n]", bracketed[1] if bracketed else text)
    return [label for item in items if (label := item.strip(_EDGES).lower())]


def emotions(answer: object) -> list[str]:
    """The labels of an answer: between answer tags, else after "state is" or "label is", else all of it as a list.

    For free text that names feelings in passing use `lexicon`.
    """
    if not isinstance(answer, str):
        return parse_list(answer)
    if tagged := _TAGGED.search(answer):
        return parse_list(tagged[1])
    stated = _STATED.search(answer)
    return [label.removeprefix("and ") for label in parse_list(stated[1] if stated else answer)]


def lexicon(text: str, forms: Collection[str]) -> list[str]:
    """The words of a text that are known forms (`Wheels.forms`), in order, each once.

    It is generous: `person`, `used` and `emotional` are forms too. A number from it compares only with others from it.
    """
    return list(dict.fromkeys(word for word in _WORD.findall(text.lower()) if word in forms))


def sentiment(answer: str) -> str:
    """positive, negative or neutral; a valence score counts by its sign, and anything else is neutral (section 5.2)."""
    number = _VALENCE.search(answer)
    if number or _NUMBER.fullmatch(answer):
        value = float(number[1] if number else answer)
        return "positive" if value > 0 else "negative" if value < 0 else "neutral"
    label = (emotions(answer) or [""])[0]
    return label if label in SENTIMENTS else "neutral"


def speaker_emotion(reply: str) -> str:
    """The word after "the emotion of the speaker is", in lower case; `UNKNOWN` if the reply does not say it."""
    stated = _SPEAKER.search(reply)
    return stated[1].lower() if stated else UNKNOWN


def without_chain(reply: str) -> str:
    """The reply as the person hears it, without `<think>...</think>`; a chain that never ends leaves nothing."""
    return _CHAIN.sub("", reply).strip()


def thought_and_answer(text: str) -> tuple[str, str]:
    """What stands between think tags and between answer tags, stripped; "" where the tags are missing."""
    thought = re.search(r"<think>(.*?)</think>", text, re.DOTALL)
    answer = _TAGGED.search(text)
    return thought[1].strip() if thought else "", answer[1].strip() if answer else ""
