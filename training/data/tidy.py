"""Text of corpora that were published in tokens becomes text as people write it."""

from __future__ import annotations

import re


def tidy(text: str) -> str:
    """Undo tokenised spacing: `Ann , it ' s` -> `Ann, it's`."""
    text = re.sub(r"\s+([,.!?;:])", r"\1", text.strip())
    text = re.sub(r"\s*([’'])\s*(s|t|re|ve|ll|d|m)\b", r"'\2", text)
    return re.sub(r"\s+", " ", re.sub(r",(?=[^\s\d])", ", ", text))
