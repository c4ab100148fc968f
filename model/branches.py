"""A key/value cache shaped as a tree: many continuations of one prefix in a single row.

The prefix is prefilled once. Questions fork from it, candidate answers fork from questions, and
everything that waits when `run` is called is packed into one forward pass, whose attention mask lets a
token see its own branch and its ancestors up to the point of the fork. Nothing is copied or padded.
`run_together` packs what waits in several caches into one pass: the weights are read once for all of
them, and each attends to itself alone. On a GPU `Passes` does without packing: there a pass waits for its
thousand kernels to be launched, so each cache's is a CUDA graph of a few sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from .attention import attending, room
from .fused import FusedLlama, wide
from .graphs import Graphs

_WHOLE = 2**31 - 1


class BranchCache:
    """Branches over one causal language model; branch 0 is the root.

    `lm` is a transformers base model (no head). Positions count from the root along a branch, so a branch computes
    exactly what a sequence of its ancestors' tokens and its own would (rotary embeddings included).
    """

    def __init__(self, lm: Any) -> None:
        self.lm = lm
        self._room = room(lm, 0)  # for keys and values, (layers, 2, H_kv, at least as many as there are slots, D)
        self._length = [0]  # position of the next token of each branch
        self._limit = np.full((1, 1), _WHOLE)  # [b, a]: branch b sees the slots of a at positions below this; 0 = none
        self._waiting: list[tuple[int, Tensor]] = []
        self._slot_branch = np.empty(0, np.int64)
        self._slot_position = np.empty(0, np.int64)

    @property
    def n_slots(self) -> int:
        """Tokens held over all branches, without those that wait."""
        return len(self._slot_branch)

    @property
    def n_waiting(self) -> int:
        """Tokens that the next pass will take."""
        return sum(len(piece) for _, piece in self._waiting)

    @property
    def kv(self) -> Tensor:
        """Keys and values of all slots, (layers, 2, H_kv, slots, D)."""
        return self._room[..., : self.n_slots, :]

    def length(self, branch: int) -> int:
        """Tokens from the root to the end of `branch`, with those that wait."""
        return self._length[branch]

    def fork(self, parent: int = 0) -> int:
        """Open a branch that continues `parent` from where it ends now, waiting tokens included; returns its number."""
        end, number = self._length[parent], len(self._length)
        if number == len(self._limit):
            self._limit = np.pad(self._limit, (0, number))  # twice as large
        np.minimum(self._limit[parent], end, out=self._limit[number])
        self._limit[number, number] = _WHOLE
        self._length.append(end)
        return number

    def append(self, branch: int, piece: Tensor) -> None:
        """Let embeddings (L, D) wait at the end of `branch` until the next `run`; an L of 0 is allowed."""
        if len(piece):
            self._waiting.append((branch, piece))
            self._length[branch] += len(piece)

    def put(self, branch: int, kv: Tensor) -> None:
        """Put tokens that were read before, at these positions behind the same tokens, at the end of `branch`: their
        keys and values (layers, 2, H_kv, L, D). Nothing may wait for the branch.
        """
        n, start = kv.shape[-2], self._length[branch]
        self._make_room(n)
        self._slot_branch = np.concatenate([self._slot_branch, np.full(n, branch)])
        self._slot_position = np.concatenate([self._slot_position, np.arange(start, start + n)])
        self._length[branch] += n
        self.kv[..., -n:, :] = kv

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

    def row(self, branch: int) -> Tensor:
        """Keys and values (layers, 2, H_kv, L, D) along `branch` alone, in order; nothing may wait for it."""
        seen = np.flatnonzero(self._slot_position < self._limit[branch, self._slot_branch])
        in_order = seen[self._slot_position[seen].argsort()]
        return self.kv.index_select(-2, torch.from_numpy(in_order).to(self._room.device, non_blocking=True))

    def _take(self) -> _Share:
        """What waits becomes slots, whose keys and values the pass will bring."""
        waiting, self._waiting = self._waiting, []
        branches = np.array([branch for branch, _ in waiting])
        lengths = np.array([len(piece) for _, piece in waiting])
        ends = {branch: self._length[branch] for branch, _ in waiting}
        spans = []
        for branch, n in zip(branches[::-1].tolist(), lengths[::-1].tolist(), strict=True):
            spans.append(np.arange(ends[branch] - n, ends[branch]))
            ends[branch] -= n
        positions = np.concatenate(spans[::-1])
        self._make_room(len(positions))
        self._slot_branch = np.concatenate([self._slot_branch, branches.repeat(lengths)])
        self._slot_position = np.concatenate([self._slot_position, positions])
        seen = (self._slot_position < self._limit[branches][:, self._slot_branch]).repeat(lengths, 0)
        seen &= self._slot_position <= positions[:, None]  # (Q, K)
        embeddings = torch.cat([piece for _, piece in waiting])
        return _Share(self, waiting, embeddings, torch.from_numpy(positions), torch.from_numpy(seen))

    def _make_room(self, n: int) -> None:
        """Room for `n` more slots. It comes in a few sizes, so that what one turn freed fits the next."""
        if self.n_slots + n <= self._room.shape[-2]:
            return
        before, self._room = self.kv, room(self.lm, -(-(self.n_slots + n) // _ROOM) * _ROOM)
        self._room[..., : self.n_slots, :] = before


@dataclass(frozen=True)
class _Share:
    """One cache's part in a pass: what waited, its embeddings (Q, D), positions (Q,) and which slots each sees (Q, K);
    the last two on the CPU.
    """

    cache: BranchCache
    waiting: list[tuple[int, Tensor]]
    embeddings: Tensor
    positions: Tensor
    seen: Tensor

    def states(self, hidden: Tensor) -> dict[int, Tensor]:
        """Hidden states (Q, D) by branch."""
        states: dict[int, list[Tensor]] = {}
        lengths = [len(piece) for _, piece in self.waiting]
        for (branch, _), part in zip(self.waiting, hidden.split(lengths), strict=True):
            states.setdefault(branch, []).append(part)
        return {branch: parts[0] if len(parts) == 1 else torch.cat(parts) for branch, parts in states.items()}


@dataclass(frozen=True)
class _Part:
    """What attention needs of one part of a pass: keys and values (layers, 2, H_kv, K, D), into which those of its Q
    tokens go at slots `at`, and an additive mask (group * Q, K), as queries of a key head stand one below the other.
    """

    kv: Tensor
    at: slice | Tensor
    n_tokens: int
    mask: Tensor


def _part(lm: Any, kv: Tensor, at: slice | Tensor, seen: Tensor) -> _Part:
    """A part whose tokens see these slots (Q, K)."""
    group = lm.config.num_attention_heads // lm.config.num_key_value_heads
    mask = kv.new_full(seen.shape, torch.finfo(kv.dtype).min).masked_fill_(seen, 0)
    return _Part(kv, at, len(seen), mask.repeat(group, 1))


def run_together(caches: Sequence[BranchCache], llama: FusedLlama | None = None) -> list[dict[int, Tensor]]:
    """Send all that waits in caches over the same model through one forward pass, of its fused form if there is one.

    Returns:
        for each cache: branch -> last hidden states (L, D) of its new tokens.
    """
    shares = {number: cache._take() for number, cache in enumerate(caches) if cache.n_waiting}
    if not shares:
        return [{} for _ in caches]
    embeddings = torch.cat([share.embeddings for share in shares.values()])
    parts = [
        _part(share.cache.lm, share.cache.kv, slice(-len(share.positions), None), share.seen.to(embeddings.device))
        for share in shares.values()
    ]
    positions = torch.cat([share.positions for share in shares.values()]).to(embeddings.device)
    hidden = _pass(caches[0].lm, llama, embeddings, positions, parts)
    split = hidden.split([len(share.positions) for share in shares.values()])
    states = {number: share.states(part) for (number, share), part in zip(shares.items(), split, strict=True)}
    return [states.get(number, {}) for number in range(len(caches))]


class Passes:
    """Passes over one language model on a GPU, as CUDA graphs of some sizes; a longer one is run as it is."""

    def __init__(self, lm: Any, llama: FusedLlama | None = None) -> None:
        self._lm, self._llama = lm, llama
        self._kv = room(lm, _MOST_SLOTS).zero_()  # where the graphs read and write; what a cache keeps is a copy
        self._graphs = Graphs(self._run)

    def run(self, caches: Sequence[BranchCache]) -> list[dict[int, Tensor]]:
        """As `run_together`, one cache after the other."""
        return [self._run_one(cache) for cache in caches]

    def _run_one(self, cache: BranchCache) -> dict[int, Tensor]:
        n, n_before = cache.n_waiting, cache.n_slots
        n_tokens = _size(n, _FEWEST_TOKENS)
        n_slots = _size(n_before + n_tokens, _FEWEST_SLOTS)
        if n_slots > _MOST_SLOTS or not n:
            return run_together([cache], self._llama)[0]
        share = cache._take()
        self._kv[..., :n_before, :] = cache.kv[..., :n_before, :]
        seen = torch.zeros(n_tokens, n_slots, dtype=torch.bool)
        seen[:n, : n_before + n] = share.seen
        positions = F.pad(share.positions, (0, n_tokens - n))
        at = torch.arange(n_before, n_before + n_tokens)
        embeddings = F.pad(share.embeddings, (0, 0, 0, n_tokens - n))
        hidden = self._graphs(embeddings, torch.stack([positions, at]), seen)[:n].clone()
        cache.kv[..., n_before:, :] = self._kv[..., n_before : n_before + n, :]
        return share.states(hidden)

    def _run(self, embeddings: Tensor, where: Tensor, seen: Tensor) -> Tensor:
        positions, at = where
        part = _part(self._lm, self._kv[..., : seen.shape[1], :], at, seen)
        return _pass(self._lm, self._llama, embeddings, positions, [part])


_ROOM = 256
_FEWEST_TOKENS, _FEWEST_SLOTS, _MOST_SLOTS = 32, 512, 4096


def _size(n: int, fewest: int) -> int:
    """The power of two from `fewest` on that holds `n`."""
    return max(fewest, 1 << (n - 1).bit_length())


def _pass(lm: Any, llama: FusedLlama | None, embeddings: Tensor, positions: Tensor, parts: Sequence[_Part]) -> Tensor:
    """Embeddings (Q, D) of all parts, one behind the other -> last hidden states (Q, D)."""
    if llama is not None:
        # In float32 labels are half as far from what float32 throughout gives as in bf16; it takes 4 % longer.
        return llama(embeddings.to(wide(embeddings)), positions, partial(_attended, parts))
    with attending(lm, _ATTENTION):
        return lm(
            inputs_embeds=embeddings[None], position_ids=positions[None], use_cache=False, parts=parts
        ).last_hidden_state[0]


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, parts: Sequence[_Part], **_: Any
) -> tuple[Tensor, None]:
    """Attention of a pass, (1, H, Q, D) each."""
    given = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return _attended(parts, module.layer_idx, *given)[None], None


def _attended(parts: Sequence[_Part], layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Query (Q, H, D), key and value (Q, H_kv, D): every part's queries over its own slots, (Q, H, D).

    The queries that share a key head stand one below the other, so that keys and values need not be repeated.
    """
    n_heads, width = key.shape[1:]
    lengths = [part.n_tokens for part in parts]
    read = []
    for part, q, k, v in zip(parts, *(tensor.split(lengths) for tensor in (query, key, value)), strict=True):
        keys, values = part.kv[layer]
        keys[:, part.at], values[:, part.at] = k.transpose(0, 1), v.transpose(0, 1)
        stacked = q.transpose(0, 1).reshape(1, n_heads, -1, width)  # (1, H_kv, group * Q, D)
        one = F.scaled_dot_product_attention(stacked, keys[None], values[None], attn_mask=part.mask[None, None])
        read.append(one.view(-1, len(q), width).transpose(0, 1))
    return torch.cat(read)


_ATTENTION = "emox-branches"
AttentionInterface.register(_ATTENTION, _attend)
