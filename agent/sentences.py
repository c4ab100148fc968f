"""Text on its way to a voice: whole sentences out of a stream, and only what can be read aloud."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

LONGEST_SENTENCE = 240
"""Characters after which a run-on is cut at its last clause, so that speech does not wait for its end."""

# A mark ends a sentence when space follows; ideographic marks need none, and a line break always ends one.
_END = re.compile(r"[.!?…]+[\"'”’»)\]*_]*(?=\s)|[。！？]+[」』”’]*|\n")
_CLAUSE = re.compile(r"[,;:—–][\"'”’)]*\s")
_NEXT = re.compile(r"[\s\"'“‘«(\[*_]*([^\s\"'“‘«(\[*_])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'“])(?:dr|mr|mrs|ms|prof|rev|st|jr|sr|vs|etc|approx|dept|fig|no|vol|e\.g|i\.e|cf|a\.m|p\.m|u\.s|u\.k|ph\.d"
    r"|[a-hj-z]|[a-z](?:\.[a-z])+)$",
    re.IGNORECASE,
)
_MAY_END = re.compile(r"(?:etc|a\.m|p\.m|u\.s|u\.k|ph\.d)$", re.IGNORECASE)  # these may also close a sentence
_LIST_NUMBER = re.compile(r"\s*\d{1,2}$")

_CODE_BLOCK = re.compile(r"```.*?(?:```|$)", re.DOTALL)
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_URL = re.compile(r"(?:https?://|www\.)([^\s/<>\"')\]]+)[^\s<>\"')\]]*")
_LINE_MARK = re.compile(r"^\s*(?:#{1,6}\s+|[-*+•]\s+|>\s*)+", re.MULTILINE)
_EMPHASIS = re.compile(r"(?<!\w)[*_~]{1,3}(?=\S)|(?<=\S)[*_~]{1,3}(?!\w)|[`*]+")
_SMILEY = re.compile(r"(?<!\S)[:;8=]['-]?[)(DPpO/|3*\]\[]+(?!\S)")
_CALLED = re.compile(r"\b((?:call|text|dial|number)\W{1,2})(\d{3,})((?: or \d{3,})*)\b", re.IGNORECASE)
_PHONE = re.compile(r"(?<![\d.,])\d{1,4}(?:[ -]\d{1,4}){1,5}(?![\d.,]*\d)")
_SPOKEN_SYMBOLS = frozenset("°©®№")


def split_sentences(pieces: Iterable[str]) -> Iterator[str]:
    """Yield each sentence of a stream of text as soon as it is complete, stripped, never empty.

    No word is lost or changed. A run-on longer than `LONGEST_SENTENCE` characters is cut at a clause, else at a space.
    """
    held = ""
    for piece in pieces:
        sentences, held = complete_sentences(held + piece)
        yield from sentences
    if held.strip():
        yield held.strip()


def complete_sentences(held: str) -> tuple[list[str], str]:
    """The sentences that are complete in what is held of a stream, and what is held after them."""
    sentences = []
    while cut := _cut(held):
        sentence, held = held[:cut].strip(), held[cut:].lstrip()
        if sentence:
            sentences.append(sentence)
    return sentences, held


def _cut(held: str) -> int:
    """Where the first sentence of `held` ends, or 0 while that is not known yet."""
    for end in _END.finditer(held, endpos=LONGEST_SENTENCE + 1):
        verdict = _ends_sentence(held, end)
        if verdict is None:
            return 0
        if verdict:
            return end.end()
    if len(held) <= LONGEST_SENTENCE:
        return 0
    clauses = [clause.end() for clause in _CLAUSE.finditer(held, LONGEST_SENTENCE // 3, LONGEST_SENTENCE)]
    return clauses[-1] if clauses else held.rfind(" ", 0, LONGEST_SENTENCE) + 1


def _ends_sentence(held: str, end: re.Match[str]) -> bool | None:
    """Whether the mark `end` closes a sentence; None when only the next word can tell."""
    mark = end[0]
    if mark[0] in "\n。！？" or (mark[-1] in "!?" and "." not in mark):
        return True
    before = held[: end.start()]
    if _LIST_NUMBER.fullmatch(before):
        return False
    abbreviated = mark == "." and _ABBREVIATION.search(before)
    if abbreviated and not _MAY_END.search(before):
        return False
    following = _NEXT.match(held, end.end())
    return None if following is None else not following[1].islower()


def speakable(text: str) -> str:
    """`text` without what a voice reads badly: markdown, emoji, smileys and addresses; phone numbers digit by digit."""
    text = _CODE_BLOCK.sub(" ", text)
    text = _LINK.sub(r"\1", text)
    text = _URL.sub(lambda url: url[1].removeprefix("www.").rstrip(".,;:!?"), text)
    text = _SMILEY.sub(" ", _LINE_MARK.sub("", text))
    text = _EMPHASIS.sub("", text)
    text = _PHONE.sub(_phone, text)
    text = _CALLED.sub(lambda call: call[1] + _digits(call[2]) + re.sub(r"\d+", lambda n: _digits(n[0]), call[3]), text)
    text = "".join(
        c if unicodedata.category(c) not in ("So", "Sk", "Cf", "Cs", "Co") or c in _SPOKEN_SYMBOLS else " "
        for c in text
    )
    text = re.sub(r"[\ufe0e\ufe0f]", "", text)
    text = " ".join(text.split())
    return text if any(c.isalnum() for c in text) else ""


def _phone(match: re.Match[str]) -> str:
    number = match[0]
    if sum(c.isdigit() for c in number) < 6 or re.fullmatch(r"\d{4}-\d{4}", number):  # a small sum, a span of years
        return number
    return ", ".join(_digits(group) for group in re.split("[ -]", number))


def _digits(number: str) -> str:
    return " ".join(number)
