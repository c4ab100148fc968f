"""Turns that have been read, and the dialogues of which the next turn need not read again what it begins with."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from perception.types import Absence, Modality, UserTurn

from .branches import BranchCache
from .clauses import clauses
from .types import Utterance

KEPT_S = 300.0
"""A dialogue that does not go on is let go with the next turn after this time: it is what somebody said."""
_FEWEST = 16
"""Tokens that are worth the search."""


_CLAUSES = 16
"""Clauses, counted from the latest, among which the cause is sought."""


@dataclass(frozen=True)
class Untold:
    """What waits to be read into the branch with everything: what it begins with, as far as that was read in an earlier
    turn (keys and values), then embeddings; `dialogue` are the ids of all that the next turn may begin with.
    """

    embeddings: Tensor
    known: Tensor | None = None
    dialogue: tuple[int, ...] = ()


@dataclass(frozen=True)
class Prefix:
    """A turn that has been read.

    `whole` is the branch with everything; `now` the one without the dialogue before, so that an earlier sadness is not
    read into a happy line; `single` one branch for each modality alone. What `whole` holds waits in `untold` until it
    is asked for: in one pass with it, which has another shape, a clip would be felt a thousandth otherwise after a
    dialogue. `unkept` is the dialogue that it read then, until it is kept for the next turn. `voice` is what the
    acoustic encoder itself says of its classes, if it has any (log-probabilities).
    """

    cache: BranchCache
    turn: UserTurn
    history: tuple[Utterance, ...]
    whole: int
    now: int
    single: dict[Modality, int]
    absent: dict[Modality, Absence]
    voice: dict[str, float]
    untold: list[Untold] = field(default_factory=list)
    unkept: list[tuple[int, ...]] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The dialogue's lines, what is said now last."""
        return [*(line.text for line in self.history), self.turn.text]


@dataclass(frozen=True)
class Ahead:
    """What was read before the words were known; `attend` goes on with its cache."""

    cache: BranchCache
    whole: int
    history: tuple[Utterance, ...]
    slots: frozenset[str]


def tell(prefix: Prefix) -> int:
    """The branch with everything, which is read with the next pass if it has not been."""
    if prefix.untold:
        untold = prefix.untold.pop()
        if untold.known is not None:
            prefix.cache.put(prefix.whole, untold.known)
        prefix.cache.append(prefix.whole, untold.embeddings)
        prefix.unkept.extend([untold.dialogue] if untold.dialogue else [])
    return prefix.whole


def quotations(prefix: Prefix) -> list[tuple[int, str]]:
    """The latest clauses of the dialogue with the number of their line, without repeats, in order."""
    found = {clause: number for number, line in enumerate(prefix.lines) for clause in clauses(line)}
    return [(number, clause) for clause, number in found.items()][-_CLAUSES:]


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
