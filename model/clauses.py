"""What was said, in clauses: the pieces that a cause is chosen from."""

from __future__ import annotations

import re

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_JOINT = re.compile(
    r"(?:,|;)?\s+(?=(?:and|but|because|since|so|when|while|after|although|though|until)\s)|[;:,]\s+", re.I
)

LEAST_WORDS = 3
"""A shorter piece stays with its neighbour."""


def sentences(text: str) -> list[str]:
    """The sentences of a text, trimmed."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]


def clauses(text: str) -> list[str]:
    """The clauses of a text in order, each a part of it: cut at sentence ends, commas and conjunctions."""
    found = []
    for sentence in sentences(text):
        start = 0
        for joint in _JOINT.finditer(sentence):
            before, after = sentence[start : joint.start()], sentence[joint.end() :]
            if len(before.split()) >= LEAST_WORDS and len(after.split()) >= LEAST_WORDS:
                found.append(before)
                start = joint.end()
        found.append(sentence[start:])
    return [clause.strip(' ,;:.!?"') for clause in found if clause.strip(' ,;:.!?"')]
