"""Dialogues that were read, so that the next turn of a conversation need not read them again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

KEPT_S = 300.0
"""A dialogue that does not go on is let go with the next turn after this time: it is what somebody said."""
_FEWEST = 16
"""Tokens that are worth the search."""


@dataclass
class _Known:
    ids: tuple[int, ...]
    kv: Tensor  # (layers, 2, H_kv, len(ids), D)
    at_s: float


@dataclass
class Prefixes:
    """Keys and values of up to `limit` tokens, those used last, by their ids; before them stands always the same."""

    limit: int
    clock: Callable[[], float] = time.monotonic
    _known: list[_Known] = field(default_factory=list)

    def find(self, ids: Sequence[int]) -> Tensor | None:
        """Keys and values (layers, 2, H_kv, n, D) of the first `n` of these tokens, as many as are known."""
        self._forget()
        n, best = max(((_common(known.ids, ids), number) for number, known in enumerate(self._known)), default=(0, 0))
        if n < _FEWEST:
            return None
        known = self._known.pop(best)
        known.at_s = self.clock()
        self._known.append(known)
        return known.kv[..., :n, :]

    def keep(self, ids: Sequence[int], kv: Tensor) -> None:
        """Remember what was read, in place of what it goes on from."""
        self._forget()
        if not _FEWEST <= len(ids) <= self.limit:
            return
        self._known = [known for known in self._known if _common(known.ids, ids) < len(known.ids)]
        self._known.append(_Known(tuple(ids), kv, self.clock()))
        while sum(len(known.ids) for known in self._known) > self.limit:
            self._known.pop(0)

    def _forget(self) -> None:
        oldest = self.clock() - KEPT_S
        self._known = [known for known in self._known if known.at_s >= oldest]


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with alike."""
    n = min(len(one), len(other))
    return next((at for at in range(n) if one[at] != other[at]), n)
