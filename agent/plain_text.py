"""What someone typed as plain words: one spelling for the many a word can be written in, or hidden behind.

Patterns can then be short. "I’m gonna K1LLLL mysélf!!" becomes "i am going to kill myself ." for them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import groupby

MAX_WORD = 40
"""Longer words say nothing a pattern could find; they are cut."""

KNOWN_WORDS = 4096
"""Words whose plain form is not found anew: a reply's sentence is looked at again with each of its words."""

_TOKEN = re.compile(r"[\w$@*]+(?:['!][\w$@*]+)*|[^\w\s]|\n")
_LETTERS = re.compile(r"[^\W\d_]+")
_SENTENCE_ENDS = frozenset(".!?;\n…")
_CLAUSE_ENDS = frozenset(',:()[]"“”—–/|')

# Latin lookalikes, replaced only in a word that also has Latin letters, so that other scripts stay whole.
_HOMOGLYPHS = str.maketrans("аеорсухіјѕԁһոӏαεοικνρτυωк", "aeopcyxijsdhnlaeoiknptuwk")
_LEET = str.maketrans("013457@$!*", "oieastasi.")

_SUFFIXES = {"n't": " not", "'m": " am", "'re": " are", "'ve": " have", "'ll": " will", "'d": " would"}
_IRREGULAR = {"can't": "can not", "won't": "will not", "ain't": "am not"}
_IS_SUBJECTS = frozenset(("he", "she", "it", "that", "what", "who", "there", "here", "where", "how"))


class Spelling:
    """One language's spellings.

    Args:
        words: a word to the words it stands for.
        phrases: several words to the words they stand for, looked up after `words`.
        emoji: one character to a word.
        vocabulary: the words patterns are made of; stretched ("dieee") and disguised ("k1ll") words are only undone
            when that gives one of them.
        critical: words recognised with starred-out letters and, from six letters on, with one wrong letter.
    """

    def __init__(
        self,
        words: Mapping[str, str],
        phrases: Mapping[str, str],
        emoji: Mapping[str, str],
        vocabulary: Collection[str],
        critical: Collection[str],
    ) -> None:
        self._words, self._emoji, self._critical = words, emoji, critical
        self._known = {*vocabulary, *words}
        self._squeezed = {_squeeze(word): word for word in sorted(self._known)}
        self._near = {near: word for word in critical if len(word) >= 6 for near in (word, *_shortened(word))}
        self._phrases = phrases
        self._plain_word = lru_cache(KNOWN_WORDS)(self._word)
        alternatives = "|".join(re.escape(p) for p in sorted(phrases, key=len, reverse=True)) or "(?!)"
        self._phrase = re.compile(rf"(?<!\S)(?:{alternatives})(?!\S)")

    def plain(self, text: str) -> str:
        """Lower-case words one space apart; " , " ends a clause and " . " a sentence. Takes time linear in `text`."""
        for emoji, word in self._emoji.items():
            text = text.replace(emoji, f" {word} ")
        words: list[str] = []
        for token in _TOKEN.findall(_fold(text)):
            if token[0].isalnum() or len(token) > 1:
                words += self._plain_word(token[:MAX_WORD].strip("'*_"))
            else:
                mark = "." if token in _SENTENCE_ENDS else "," if token in _CLAUSE_ENDS else ""
                if mark and words and words[-1] not in ".,":
                    words.append(mark)
        joined = " ".join(self._join_spelled_out(words))
        return self._phrase.sub(lambda match: self._phrases[match[0]], joined)

    def _word(self, token: str) -> tuple[str, ...]:
        """One typed word as the plain words it stands for."""
        stem, rest = _contraction(token)
        if stem not in self._known:
            stem = self._undisguised(stem)
        return tuple((self._words.get(stem, stem) + rest).split())

    def _undisguised(self, word: str) -> str:
        """The known word behind digits, stars, stretched or wrong letters; else the word without such signs."""
        letters = word.translate(_LEET) if any(c.isalpha() for c in word) else word
        if "." in letters:
            hidden = re.compile(letters.replace(".", r"\w?"))
            letters = next((w for w in self._critical if hidden.fullmatch(w)), letters)
        if letters in self._known:
            return letters
        if letters != word or any(len(list(run)) > 2 for _, run in groupby(word)):
            squeezed = self._squeezed.get(_squeeze(letters))
            if squeezed:
                return squeezed
        if 5 <= len(letters) <= 12:
            near = {self._near[form] for form in (letters, *_shortened(letters)) if form in self._near}
            near = {word for word in near if word[0] == letters[0]}
            if near:
                return min(near, key=lambda word: (abs(len(word) - len(letters)), word))
        return re.sub(r"[$@*!]", " ", word).strip()

    def _join_spelled_out(self, words: list[str]) -> list[str]:
        """Join three or more single letters in a row: "k i l l" is "kill"."""
        joined: list[str] = []
        for single, run in groupby(words, key=lambda word: len(word) == 1 and word.isalpha()):
            letters = list(run)
            if single and len(letters) >= 3:
                letters = list(self._plain_word("".join(letters)[:MAX_WORD]))
            joined += letters
        return joined


def _fold(text: str) -> str:
    """NFKC, lower case, no accents or invisible characters, straight apostrophes, lookalikes undone."""
    if text.isascii():
        return text.lower().replace("`", "'")
    text = unicodedata.normalize("NFKC", text).casefold()
    text = "".join(c for c in unicodedata.normalize("NFD", text) if unicodedata.category(c) not in ("Mn", "Cf"))
    text = re.sub("[’‘`´ʼ]", "'", text)
    if text.isascii():
        return text
    return _LETTERS.sub(lambda word: _unlookalike(word[0]), text)


def _unlookalike(word: str) -> str:
    return word.translate(_HOMOGLYPHS) if any(c.isascii() for c in word) else word


def _contraction(word: str) -> tuple[str, str]:
    """Split "don't" into "do" and " not", "she's" into "she" and " is", "friend's" into "friend" and " s"."""
    if word in _IRREGULAR:
        stem, _, rest = _IRREGULAR[word].partition(" ")
        return stem, f" {rest}"
    for suffix, meaning in _SUFFIXES.items():
        if word.endswith(suffix):
            return word[: -len(suffix)], meaning
    stem, apostrophe, rest = word.partition("'")
    if not apostrophe:
        return word, ""
    return stem, " is" if rest == "s" and stem in _IS_SUBJECTS else f" {rest}"


def _squeeze(word: str) -> str:
    """Every run of one letter as a single letter."""
    return "".join(letter for letter, _ in groupby(word))


def _shortened(word: str) -> set[str]:
    """`word` with any one letter left out."""
    return {word[:i] + word[i + 1 :] for i in range(len(word))}
