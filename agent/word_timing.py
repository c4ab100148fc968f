"""When each word of a sentence sounds: from what the voice tells of its sounds, else estimated from the samples."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import accumulate, pairwise

import numpy as np

SILENCE = 0.03
"""A hundredth of a second whose level is below this share of the loudest one's (30 dB less) is silent."""

DIGIT = 4
"""Letters that a digit counts for, which is spoken as a word."""


@dataclass(frozen=True)
class SpokenWord:
    """A word as it was given, and when it sounds, in seconds on the clock of its audio.

    It may hold spaces: what nobody says, such as an emoji or a dash, belongs to the word before it.
    """

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True, eq=False)
class Rendering:
    """What a voice made of a text: `samples` float32 (T,), and where the voice tells, its sounds.

    `sounds` are symbols and their lengths in samples, pauses among them, from the first sample on.
    """

    samples: np.ndarray
    sounds: Sequence[tuple[str, int]] = ()


Spell = Callable[[str], Sequence[str]]
"""The sounds of a text, a symbol each, in the voice's own alphabet, without pauses."""


def letters(text: str) -> list[str]:
    """The sounds of a text for a voice that has no alphabet of its own."""
    return [c for c in text if is_sound(c) for _ in range(DIGIT if c.isdigit() else 1)]


def is_sound(symbol: str) -> bool:
    """Whether a symbol is heard: letters, digits and the marks of phonetic alphabets are, punctuation is a pause."""
    return unicodedata.category(symbol[0])[0] in "LMN"


def time_words(
    sentence: str, spoken: str, rendering: Rendering, sample_rate_hz: int, *, spell: Spell = letters, delay: int = 0
) -> tuple[SpokenWord, ...]:
    """When each word of a sentence sounds.

    The sounds that the voice tells are matched with those of each word alone: a voice that speaks fluently runs words
    together ("of the" is one) and makes several of others ("3.5"). Where it tells none, the words share the time in
    which anything is heard, in proportion to how many sounds they have.

    Args:
        sentence: as it was given.
        spoken: what `speakable` made of it, not empty.
        rendering: what the voice made of that, not silent.
        sample_rate_hz: of its samples.
        spell: the sounds of a text, as the voice names them.
        delay: samples that go before the rendering.

    Returns:
        Words in order that do not overlap; their texts, joined by single spaces, are the sentence.
    """
    pairs = pair_words(sentence, spoken)
    sounds, starts, ends = _told(rendering.sounds)
    if not sounds:
        sounds, starts, ends = _estimated(spell(spoken) or letters(spoken), rendering.samples, sample_rate_hz)
    spelled = [spell(part) for _, part in pairs]
    cuts = _carry([s for part in spelled for s in part], sounds, [0, *accumulate(map(len, spelled))])
    edges = [(starts[min(first, len(sounds) - 1)], ends[max(after - 1, 0)]) for first, after in pairwise(cuts)]
    ordered = np.maximum.accumulate(np.ravel(edges)).clip(0, len(rendering.samples))
    times = (ordered + delay) / sample_rate_hz
    return tuple(
        SpokenWord(word, float(start), float(end))
        for (word, _), start, end in zip(pairs, times[::2], times[1::2], strict=True)
    )


def pair_words(sentence: str, spoken: str) -> list[tuple[str, str]]:
    """The words of a sentence, each with the part of the spoken text that says it.

    Args:
        sentence: as it was given.
        spoken: what `speakable` made of it, not empty.

    Returns:
        Words that join, by single spaces, to the sentence, and parts that join to the spoken text. A word that nothing
        says is joined to the one before it; if it is the first, to the one after it.
    """
    words = sentence.split()
    places = [i for i, c in enumerate(spoken) if not c.isspace()] + [len(spoken)]
    cuts = _carry("".join(words), "".join(spoken.split()), [0, *accumulate(map(len, words))])
    pairs: list[tuple[str, str]] = []
    for word, (first, after) in zip(words, pairwise(cuts), strict=True):
        part = spoken[places[first] : places[after]]
        if pairs and not (_says_something(part) and _says_something(pairs[-1][1])):
            pairs[-1] = (f"{pairs[-1][0]} {word}", pairs[-1][1] + part)
        else:
            pairs.append((word, part))
    return pairs


def _says_something(part: str) -> bool:
    return any(c.isalnum() for c in part)


def _carry(a: Sequence[str], b: Sequence[str], places: Sequence[int]) -> list[int]:
    """Where ascending places in `a` lie in `b`, which is much the same; what only `b` has belongs to what is before."""
    anchors: dict[float, float] = {0: 0}
    for start_a, start_b, size in SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks():
        if start_a:
            anchors[start_a] = start_b  # in place of the end of a block that ends here, if `b` has something between
        for inside in (0.25, size - 0.25) if size else ():
            anchors[start_a + inside] = start_b + inside
        anchors[start_a + size] = start_b + size
    return [round(place) for place in np.interp(places, list(anchors), list(anchors.values()))]


def _told(sounds: Sequence[tuple[str, int]]) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """The sounds without the pauses, and where each begins and ends, in samples."""
    ends = np.cumsum([length for _, length in sounds], dtype=int)
    heard = [i for i, (symbol, _) in enumerate(sounds) if is_sound(symbol)]
    return [sounds[i][0] for i in heard], np.array([ends[i] - sounds[i][1] for i in heard]), ends[heard]


def _estimated(
    sounds: Sequence[str], samples: np.ndarray, sample_rate_hz: int
) -> tuple[Sequence[str], np.ndarray, np.ndarray]:
    """The sounds, and where each begins and ends if they share evenly what is not silent."""
    size = max(1, sample_rate_hz // 100)
    squares = np.pad(np.square(samples), (0, -len(samples) % size)).reshape(-1, size).sum(1)
    audible = np.flatnonzero(np.repeat(squares > SILENCE**2 * squares.max(), size)[: len(samples)])
    cuts = np.linspace(0, len(audible), len(sounds) + 1).round().astype(int)
    return sounds, audible[np.minimum(cuts[:-1], len(audible) - 1)], audible[np.maximum(cuts[1:] - 1, 0)] + 1
