"""What is kept of a token: its SHA-256. It holds 256 random bits, so that a slow hash would add nothing."""

from __future__ import annotations

import hashlib


def hash_of(token: str) -> str:
    """The hash by which a token is known."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
