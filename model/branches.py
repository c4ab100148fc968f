"""A key/value cache shaped as a tree: many continuations of one prefix in a single row.

The prefix is prefilled once. Questions fork from it, candidate answers fork from questions, and
everything that waits when `run` is called is packed into one forward pass, whose attention mask lets a
token see its own branch and its ancestors up to the point of the fork. Nothing is copied or padded.
`run_together` packs what waits in several caches into one pass: the weights are read once for all of
them, and each attends to itself alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from .attention import attending

_WHOLE = 2**31 - 1


class BranchCache:
    """Branches over one causal language model; branch 0 is the root.

    `lm` is a transformers base model (no head). Positions count from the root along a branch, so a branch computes
    exactly what a sequence of its ancestors' tokens and its own would (rotary embeddings included).
    """

    def __init__(self, lm: nn.Module) -> None:
        self.lm = lm
        self._keys: list[Tensor] = []  # of each layer (1, H_kv, slots, D)
        self._values: list[Tensor] = []
        self._length = [0]  # position of the next token of each branch
        self._limit = [[_WHOLE]]  # _limit[b][a]: branch b sees the slots of a at positions below this; 0 = none
        self._waiting: list[tuple[int, Tensor]] = []
        self._slot_branch = torch.empty(0, dtype=torch.long)
        self._slot_position = torch.empty(0, dtype=torch.long)

    @property
    def n_slots(self) -> int:
        """Tokens held over all branches, without those that wait."""
        return len(self._slot_branch)

    @property
    def n_waiting(self) -> int:
        """Tokens that the next pass will take."""
        return sum(len(piece) for _, piece in self._waiting)

    def length(self, branch: int) -> int:
        """Tokens from the root to the end of `branch`, with those that wait."""
        return self._length[branch]

    def fork(self, parent: int = 0) -> int:
        """Open a branch that continues `parent` from where it ends now, waiting tokens included; returns its number."""
        end = self._length[parent]
        row = [min(limit, end) for limit in self._limit[parent]] + [_WHOLE]
        for other in self._limit:
            other.append(0)
        self._limit.append(row)
        self._length.append(end)
        return len(self._length) - 1

    def append(self, branch: int, piece: Tensor) -> None:
        """Let embeddings (L, D) wait at the end of `branch` until the next `run`; an L of 0 is allowed."""
        if len(piece):
            self._waiting.append((branch, piece))
            self._length[branch] += len(piece)

    def run(self) -> dict[int, Tensor]:
        """Send all that waits through one forward pass.

        Returns:
            branch -> last hidden states (L, D) of its new tokens.
        """
        return run_together([self])[0]

    def extend(self, pieces: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """`append` each branch's piece, then `run`."""
        for branch, piece in pieces.items():
            self.append(branch, piece)
        return self.run()

    def row(self, branch: int) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of each layer (H_kv, L, D) along `branch` alone, in order; nothing may wait for it."""
        limits = torch.tensor(self._limit[branch])
        seen = (self._slot_position < limits[self._slot_branch]).nonzero()[:, 0]
        index = seen[self._slot_position[seen].argsort()].to(self._keys[0].device)
        return [keys[0].index_select(-2, index) for keys in self._keys], [
            values[0].index_select(-2, index) for values in self._values
        ]

    def _take(self) -> _Share:
        """What waits becomes slots, whose keys and values the pass will bring."""
        waiting, self._waiting = self._waiting, []
        lengths = [len(piece) for _, piece in waiting]
        branches = torch.tensor([branch for branch, _ in waiting]).repeat_interleave(torch.tensor(lengths))
        starts = dict.fromkeys((branch for branch, _ in waiting), 0)
        for branch in starts:
            starts[branch] = self._length[branch] - int((branches == branch).sum())
        spans = []
        for (branch, _), n in zip(waiting, lengths, strict=True):
            spans.append(torch.arange(starts[branch], starts[branch] + n))
            starts[branch] += n
        positions = torch.cat(spans)
        self._slot_branch = torch.cat([self._slot_branch, branches])
        self._slot_position = torch.cat([self._slot_position, positions])
        seen = self._slot_position < torch.tensor(self._limit)[branches][:, self._slot_branch]
        seen &= self._slot_position <= positions[:, None]  # (Q, K)
        embeddings = torch.cat([piece for _, piece in waiting])
        mask = torch.zeros(seen.shape, dtype=embeddings.dtype).masked_fill(~seen, torch.finfo(embeddings.dtype).min)
        return _Share(self, waiting, embeddings, positions, mask.to(embeddings.device))

    def _keep(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Put a layer's new keys and values behind those that are there; returns all of them."""
        if layer == len(self._keys):
            self._keys.append(keys)
            self._values.append(values)
        else:
            self._keys[layer] = torch.cat([self._keys[layer], keys], -2)
            self._values[layer] = torch.cat([self._values[layer], values], -2)
        return self._keys[layer], self._values[layer]


@dataclass(frozen=True)
class _Share:
    """One cache's part in a pass: what waited, its embeddings (Q, D), positions (Q,) and additive mask (Q, K)."""

    cache: BranchCache
    waiting: list[tuple[int, Tensor]]
    embeddings: Tensor
    positions: Tensor
    mask: Tensor

    def states(self, hidden: Tensor) -> dict[int, Tensor]:
        """Hidden states (Q, D) by branch."""
        states: dict[int, list[Tensor]] = {}
        lengths = [len(piece) for _, piece in self.waiting]
        for (branch, _), part in zip(self.waiting, hidden.split(lengths), strict=True):
            states.setdefault(branch, []).append(part)
        return {branch: torch.cat(parts) for branch, parts in states.items()}


def run_together(caches: Sequence[BranchCache]) -> list[dict[int, Tensor]]:
    """Send all that waits in caches over the same model through one forward pass.

    Returns:
        for each cache: branch -> last hidden states (L, D) of its new tokens.
    """
    shares = {number: cache._take() for number, cache in enumerate(caches) if cache.n_waiting}
    if not shares:
        return [{} for _ in caches]
    lm = caches[0].lm
    embeddings = torch.cat([share.embeddings for share in shares.values()])[None]
    positions = torch.cat([share.positions for share in shares.values()])[None].to(embeddings.device)
    with attending(lm, _ATTENTION):
        hidden = lm(
            inputs_embeds=embeddings, position_ids=positions, use_cache=False, shares=tuple(shares.values())
        ).last_hidden_state[0]
    parts = hidden.split([len(share.positions) for share in shares.values()])
    states = {number: share.states(part) for (number, share), part in zip(shares.items(), parts, strict=True)}
    return [states.get(number, {}) for number in range(len(caches))]


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scaling: float,
    shares: Sequence[_Share], **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of a packed pass, (1, H, Q, D) each: every cache's queries over its own slots.

    The queries that share a key head stand one below the other, so that keys and values need not be repeated.
    """
    n_heads, group = key.shape[1], query.shape[1] // key.shape[1]
    lengths = [len(share.positions) for share in shares]
    read = []
    for share, q, k, v in zip(shares, *(part.split(lengths, 2) for part in (query, key, value)), strict=True):
        keys, values = share.cache._keep(module.layer_idx, k, v)
        stacked = q.reshape(1, n_heads, -1, q.shape[-1])  # (1, H_kv, group * Q, D)
        one = F.scaled_dot_product_attention(
            stacked, keys, values, attn_mask=share.mask.repeat(group, 1)[None, None], scale=scaling
        )
        read.append(one.view(q.shape))
    return torch.cat(read, 2).transpose(1, 2), None


_ATTENTION = "emox-branches"
AttentionInterface.register(_ATTENTION, _attend)
