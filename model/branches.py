"""A key/value cache shaped as a tree: many continuations of one prefix in a single row.

The prefix is prefilled once. Questions fork from it, candidate answers fork from questions, and
everything that waits when `run` is called is packed into one forward pass, whose attention mask lets a
token see its own branch and its ancestors up to the point of the fork. Nothing is copied or padded, and
one decoding step of several branches reads the weights once, which is what a step costs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

_WHOLE = 2**31 - 1


class BranchCache:
    """Branches over one causal language model; branch 0 is the root.

    `lm` is a transformers base model (no head) that takes `inputs_embeds`, a 4-D additive attention mask and
    `position_ids`. Positions count from the root along a branch, so a branch computes exactly what a
    sequence of its ancestors' tokens and its own would (rotary embeddings included).
    """

    def __init__(self, lm: nn.Module) -> None:
        self._lm = lm
        self._cache = DynamicCache()
        self._length = [0]  # position of the next token of each branch
        self._limit = [[_WHOLE]]  # _limit[b][a]: branch b sees the slots of a at positions below this; 0 = none
        self._waiting: list[tuple[int, Tensor]] = []
        self._slot_branch = torch.empty(0, dtype=torch.long)
        self._slot_position = torch.empty(0, dtype=torch.long)

    @property
    def n_slots(self) -> int:
        """Tokens held over all branches, without those that wait."""
        return len(self._slot_branch)

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
        if not self._waiting:
            return {}
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

        embeddings = torch.cat([piece for _, piece in waiting])[None]
        device = embeddings.device
        # Added to the scores; a boolean mask would be, too, by the eager attention of training, and hide nothing.
        mask = torch.zeros(seen.shape, dtype=embeddings.dtype).masked_fill(~seen, torch.finfo(embeddings.dtype).min)
        hidden = self._lm(
            inputs_embeds=embeddings,
            attention_mask=mask[None, None].to(device),
            position_ids=positions[None].to(device),
            cache=self._cache,
            use_cache=True,
        ).last_hidden_state[0]
        states: dict[int, list[Tensor]] = {}
        for (branch, _), part in zip(waiting, hidden.split(lengths), strict=True):
            states.setdefault(branch, []).append(part)
        return {branch: torch.cat(parts) for branch, parts in states.items()}

    def extend(self, pieces: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """`append` each branch's piece, then `run`."""
        for branch, piece in pieces.items():
            self.append(branch, piece)
        return self.run()

    def prune(self, keep: Collection[int]) -> None:
        """Drop the slots that no branch in `keep` can see; the other branches must not be used again."""
        limits = torch.tensor([self._limit[branch] for branch in keep])  # (keep, branches)
        wanted = (self._slot_position < limits[:, self._slot_branch]).any(0)
        if wanted.all():
            return
        index = wanted.nonzero()[:, 0]
        self._slot_branch, self._slot_position = self._slot_branch[index], self._slot_position[index]
        layers: list[Any] = self._cache.layers
        for layer in layers:
            layer.keys = layer.keys.index_select(-2, index.to(layer.keys.device))
            layer.values = layer.values.index_select(-2, index.to(layer.values.device))
