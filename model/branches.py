"""A key/value cache shaped as a tree: many continuations of one prefix in a single row.

The prefix is prefilled once. Questions fork from it, candidate answers fork from questions, and
everything that may run at the same time is packed into one forward pass, whose attention mask lets a
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

    `lm` is a transformers base model (no head) that takes `inputs_embeds`, a 4-D boolean attention mask and
    `position_ids`. Positions count from the root along a branch, so a branch computes exactly what a
    sequence of its ancestors' tokens and its own would (rotary embeddings included).
    """

    def __init__(self, lm: nn.Module) -> None:
        self._lm = lm
        self._cache = DynamicCache()
        self._length = [0]  # position of the next token of each branch
        self._limit = [[_WHOLE]]  # _limit[b][a]: branch b sees the slots of a at positions below this; 0 = none
        self._slot_branch = torch.empty(0, dtype=torch.long)
        self._slot_position = torch.empty(0, dtype=torch.long)

    @property
    def n_slots(self) -> int:
        """Tokens held over all branches."""
        return len(self._slot_branch)

    def length(self, branch: int) -> int:
        """Tokens from the root to the end of `branch`."""
        return self._length[branch]

    def fork(self, parent: int = 0, *, after: int = 0) -> int:
        """Open a branch that continues `parent` from where it ends now; returns its number.

        With `after`, it continues from that many tokens further on, which the next `extend` must append to `parent`:
        so a question and its answers go through one forward pass.
        """
        end = self._length[parent] + after
        row = [min(limit, end) for limit in self._limit[parent]] + [_WHOLE]
        for other in self._limit:
            other.append(0)
        self._limit.append(row)
        self._length.append(end)
        return len(self._length) - 1

    def extend(self, pieces: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Append embeddings to several branches in one forward pass.

        Args:
            pieces: branch -> embeddings (L, D); an L of 0 is allowed.

        Returns:
            branch -> last hidden states (L, D) of the new tokens.
        """
        pieces = {branch: piece for branch, piece in pieces.items() if len(piece)}
        if not pieces:
            return {}
        lengths = [len(piece) for piece in pieces.values()]
        branches = torch.tensor(list(pieces)).repeat_interleave(torch.tensor(lengths))
        positions = torch.cat([torch.arange(n) + self._length[b] for b, n in zip(pieces, lengths, strict=True)])
        self._slot_branch = torch.cat([self._slot_branch, branches])
        self._slot_position = torch.cat([self._slot_position, positions])
        seen = self._slot_position < torch.tensor(self._limit)[branches][:, self._slot_branch]
        seen &= self._slot_position <= positions[:, None]  # (Q, K)

        embeddings = torch.cat(list(pieces.values()))[None]
        device = embeddings.device
        hidden = self._lm(
            inputs_embeds=embeddings,
            attention_mask=seen[None, None].to(device),
            position_ids=positions[None].to(device),
            past_key_values=self._cache,
            use_cache=True,
        ).last_hidden_state[0]
        for branch, n in zip(pieces, lengths, strict=True):
            self._length[branch] += n
        return dict(zip(pieces, hidden.split(lengths), strict=True))

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
