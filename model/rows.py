"""Rows of one batch in which answers are decoded together: each step reads the weights once for all of them.

A row begins as the keys and values along a branch of a `BranchCache`. Rows in use stand together at the beginning: when
one is given up, the last takes its place. On a GPU a step is a CUDA graph, captured once for each number of rows and
slots out of a few, as a step is hundreds of small kernels that the host could not launch in time. A Llama's step is
made of few operations (fused.py), on a GPU of few kernels (kernels.py).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

from .attention import attending, room
from .branches import BranchCache
from .fused import FEW_ROWS, FusedLlama
from .graphs import Graphs

N_CANDIDATES = 64
"""Likeliest tokens that a step tells; nothing else can be chosen."""
_LISTED = 4 * N_CANDIDATES
"""Of tokens so many are listed roughly, where they are, before the likeliest are known."""
_SLOTS = 256
"""A graph reads so many slots, or two, four ... times as many."""
_ROOM = 64
"""On a CPU rows grow by so many slots at a time."""
_LONG = 512
"""Slots of rows for which a CPU has no room while nobody uses it."""
_ALIKE = 32
"""A step reads a multiple of so many slots, as a new shape takes a CPU as long as a product to prepare for."""

Slots = list[Tensor]
"""Keys, or values, of each layer, (rows, H_kv, slots, D)."""


@dataclass(eq=False)
class Row:
    """A row in use: `n` tokens are in it, `place` is where it stands now."""

    place: int
    n: int


@dataclass(frozen=True)
class Candidates:
    """The likeliest next tokens, int32 (N,), likeliest first, and their logits, float32 (N,)."""

    tokens: np.ndarray
    logits: np.ndarray


@dataclass
class Rows:
    """Up to `limit` rows over a causal language model of transformers.

    With `llama`, the model's fused form, steps are taken in that.
    """

    lm: Any
    limit: int
    max_slots: int
    llama: FusedLlama | None = None
    _used: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        table = self.lm.get_input_embeddings().weight
        self._on_gpu = table.is_cuda
        self._make_room(*((self.limit, self.max_slots) if self._on_gpu else (1, _ROOM)))
        self._steps = None if self.llama is None else self._kernels(self.llama)
        self._graphs = Graphs(self._copied)
        # Tokens and positions of rows and what is told of them; pinned for a GPU, so that its graphs copy them, too.
        self._fed = torch.zeros(2, self.limit, dtype=torch.long, pin_memory=self._on_gpu)
        n_told = min(N_CANDIDATES, len(table))
        self._told = torch.zeros(self.limit, 2, n_told, dtype=torch.int32, pin_memory=self._on_gpu)
        self._records: dict[int, Callable[..., tuple[Tensor, Tensor]]] = {}

    @property
    def n_free(self) -> int:
        """Rows that can still be taken."""
        return self.limit - len(self._used)

    def take(self, cache: BranchCache, branch: int, n_more: int) -> Row:
        """A row that goes on where the branch ends for up to `n_more` tokens; nothing may wait for the branch.

        Raises:
            ValueError: all rows are in use, or the branch is too long.
        """
        if not self.n_free:
            raise ValueError(f"all {self.limit} rows are in use")
        kv = cache.row(branch)
        n = kv.shape[-2]
        if n + n_more > self.max_slots:
            raise ValueError(f"{n} tokens and {n_more} more are too many for a row of {self.max_slots}")
        self._grow(len(self._used) + 1, n + 1)
        row = Row(len(self._used), n)
        self._kv[:, :, row.place, :, :n] = kv
        self._used.append(row)
        return row

    def give_up(self, row: Row) -> None:
        """Free a row; the last one takes its place. What long rows took on a CPU is given back with the last of all."""
        last = self._used.pop()
        if last is not row:
            self._kv[:, :, row.place, :, : last.n] = self._kv[:, :, last.place, :, : last.n]
            self._used[row.place] = last
            last.place = row.place
        if not self._used and not self._on_gpu and self._kv.shape[-2] > _LONG:
            self._make_room(1, _ROOM)

    def first(self, state: Tensor) -> Candidates:
        """Candidates for a row's first token, from the last hidden state (D,) of what it goes on from."""
        return _candidates(_bits(*_likeliest(*self._logits(state[None])))[0].cpu())

    def step(self, chosen: dict[Row, int]) -> dict[Row, Candidates]:
        """Put a token behind each of some rows; those that are left out stay as they are."""
        n_rows = 1 + max(row.place for row in chosen)
        n_slots = 1 + max(row.n for row in self._used[:n_rows])
        n_slots = -(-n_slots // _ALIKE) * _ALIKE
        if self._on_gpu:
            n_rows = min(self.limit, 1 << (n_rows - 1).bit_length())
            n_slots = min(self.max_slots, _SLOTS << (-(-n_slots // _SLOTS) - 1).bit_length())
        elif n_rows > FEW_ROWS:
            n_rows = min(self.limit, -(-n_rows // FEW_ROWS) * FEW_ROWS)
        self._grow(n_rows, n_slots)
        if not self._on_gpu and n_rows > FEW_ROWS:
            n_slots = self._kv.shape[-2]  # a part of them would be copied by each product
        fed = self._fed.numpy()  # tokens of rows that rest are put behind them and overwritten
        fed[1, :n_rows] = [*(row.n for row in self._used), *[0] * n_rows][:n_rows]
        for row, token in chosen.items():
            fed[0, row.place] = token
        if self._on_gpu:
            self._graphs(n_rows=n_rows, n_slots=n_slots)
            torch.cuda.current_stream().synchronize()
        else:
            self._told[:n_rows] = self._stepped(self._fed[0, :n_rows], self._fed[1, :n_rows], n_slots)
        for row in chosen:
            row.n += 1
        return {row: _candidates(self._told[row.place]) for row in chosen}

    def _copied(self, n_rows: int, n_slots: int) -> None:
        """A step with the copies to a GPU and back."""
        tokens, positions = (part.cuda(non_blocking=True) for part in self._fed[:, :n_rows])
        self._told[:n_rows].copy_(self._stepped(tokens, positions, n_slots), non_blocking=True)

    def _stepped(self, tokens: Tensor, positions: Tensor, n_slots: int) -> Tensor:
        """Token ids (B,) at positions (B,) -> the `_bits` of the likeliest tokens."""
        if self._steps is not None:  # which stops at its positions by itself
            return _bits(*_likeliest(None, self._steps(tokens, positions, self._keys, self._values)))
        step = self._likeliest if self.llama is None or self._on_gpu else self._recorded
        return _bits(*step(tokens, positions, self._unseen(positions, n_slots), self._keys, self._values))

    def _likeliest(
        self, tokens: Tensor, positions: Tensor, unseen: Tensor, keys: Slots, values: Slots
    ) -> tuple[Tensor, Tensor]:
        """The step itself: token ids (B,) at positions (B,) over all that is not `unseen`, an additive mask (B, 1, 1,
        slots) -> likeliest tokens and their logits, (B, N_CANDIDATES).
        """
        read = self._plain if self.llama is None else self._fused
        return _likeliest(*self._logits(read(self.lm.get_input_embeddings()(tokens), positions, unseen, keys, values)))

    def _recorded(
        self, tokens: Tensor, positions: Tensor, unseen: Tensor, keys: Slots, values: Slots
    ) -> tuple[Tensor, Tensor]:
        """`_likeliest` on a CPU without the Python between its operations, a fifth of a step of one row: recorded once
        for each number of rows. A record cannot hold what lies in oneDNN's blocks, so it is given that as well; whoever
        reads what is given, the record knows it.
        """
        assert self.llama is not None
        n = len(keys)

        def candidates(tokens: Tensor, positions: Tensor, unseen: Tensor, given: list[Tensor]) -> tuple[Tensor, Tensor]:
            return self._likeliest(tokens, positions, unseen, given[:n], given[n : 2 * n])

        asked = (tokens, positions, unseen, [*keys, *values, *self.llama.packed])
        if len(tokens) not in self._records:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it holds for this number of rows alone
                self._records[len(tokens)] = torch.jit.trace(candidates, asked, check_trace=False)
        with torch.jit.optimized_execution(False):  # which would look on for two steps, and find nothing
            return self._records[len(tokens)](*asked)

    def _unseen(self, positions: Tensor, n_slots: int) -> Tensor:
        later = torch.arange(n_slots, device=positions.device) > positions[:, None]
        mask = self._keys[0].new_zeros(later.shape)
        return mask.masked_fill(later, torch.finfo(mask.dtype).min)[:, None, None]

    def _kernels(self, llama: FusedLlama) -> Callable[..., Tensor] | None:
        """Steps in kernels of our own, where they suit the model and can be built: on a GPU, with Triton."""
        table = self.lm.get_input_embeddings()
        fits = table.weight.is_cuda and table.weight.dtype == torch.bfloat16 and llama.width in (16, 32, 64, 128, 256)
        if not fits or find_spec("triton") is None:
            return None
        nothing = torch.zeros(1, dtype=torch.long, device=table.weight.device)
        try:
            from .kernels import Steps

            steps = Steps(llama, table, self.max_slots)
            with torch.no_grad():
                steps(nothing, nothing, self._keys, self._values)
        except Exception as error:  # Triton builds with the machine's C compiler, and versions differ
            warnings.warn(f"replies come slower, as kernels of our own cannot be built: {error}", stacklevel=2)
            return None
        return steps

    def _logits(self, hidden: Tensor) -> tuple[Tensor | None, Tensor]:
        """Tokens (C,), or None for all of them, and their logits (B, C) after hidden states (B, D)."""
        if self.llama is not None and self.llama.shortlist is not None and len(hidden) <= FEW_ROWS:
            return self.llama.shortlist(hidden, _LISTED)
        return None, self.lm.lm_head(hidden).float()

    def _plain(self, embeddings: Tensor, positions: Tensor, unseen: Tensor, keys: Slots, values: Slots) -> Tensor:
        with attending(self.lm, _ATTENTION):
            return self.lm.model(
                inputs_embeds=embeddings[:, None],
                position_ids=positions[:, None],
                use_cache=False,
                at=positions,
                keys=keys,
                values=values,
                unseen=unseen,
            ).last_hidden_state[:, 0]

    def _fused(self, embeddings: Tensor, positions: Tensor, unseen: Tensor, keys: Slots, values: Slots) -> Tensor:
        assert self.llama is not None
        n, n_slots = len(embeddings), unseen.shape[-1]
        _, n_heads, slots, width = keys[0].shape
        at = (
            torch.arange(n * n_heads, device=positions.device).view(n, n_heads) * slots + positions[:, None]
        ).flatten()

        def attend(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            mine, read = keys[layer], values[layer]
            mine.view(-1, width).index_copy_(0, at, key.reshape(-1, width))
            read.view(-1, width).index_copy_(0, at, value.reshape(-1, width))
            stacked = query.reshape(n, n_heads, -1, width)
            attended = _attended(stacked, mine[:n, :, :n_slots], read[:n, :, :n_slots], unseen, width**-0.5)
            return attended.reshape(query.shape)

        return self.llama(embeddings, positions, attend, quick=n <= FEW_ROWS)

    def _make_room(self, n_rows: int, n_slots: int) -> None:
        """Room for keys and values, (layers, 2, rows, H_kv, slots, D)."""
        one = room(self.lm, n_slots)[:, :, None]
        self._kv = one.new_zeros(*one.shape[:2], n_rows, *one.shape[3:])
        self._keys, self._values = list(self._kv[:, 0]), list(self._kv[:, 1])

    def _grow(self, n_rows: int, n_slots: int) -> None:
        """Make room on a CPU, where it is not all taken at once."""
        before = self._kv
        rows, slots = before.shape[2], before.shape[4]
        if n_rows <= rows and n_slots <= slots:
            return
        more_rows = max(rows, min(self.limit, 1 << (n_rows - 1).bit_length()))
        self._make_room(more_rows, max(slots, -(-n_slots // _ROOM) * _ROOM))
        self._kv[:, :, :rows, :, :slots] = before


def _bits(tokens: Tensor, logits: Tensor) -> Tensor:
    """Tokens and the bits of their logits, both (B, C), as one tensor to copy to the host, int32 (B, 2, C)."""
    return torch.stack([tokens.int(), logits.view(torch.int32)], 1)


def _candidates(bits: Tensor) -> Candidates:
    """What the `_bits` (2, C) of a row say; they are copied, as the next step overwrites them."""
    tokens, logits = bits.numpy().copy()
    return Candidates(tokens, logits.view(np.float32))


def _likeliest(tokens: Tensor | None, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest of some tokens (C,), or of all, by their logits (B, C): both (B, N_CANDIDATES)."""
    values, at = logits.topk(min(N_CANDIDATES, logits.shape[-1]), dim=-1)
    return at if tokens is None else tokens[at], values


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, *, scaling: float,
    at: Tensor, keys: list[Tensor], values: list[Tensor], unseen: Tensor, **others: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention of one token a row, (B, H, 1, D) each, over its row; queries that share a key head stand together."""
    n, n_heads, _, width = key.shape
    n_slots, rows = unseen.shape[-1], torch.arange(n, device=key.device)
    keys[module.layer_idx][rows, :, at] = key[:, :, 0]
    values[module.layer_idx][rows, :, at] = value[:, :, 0]
    mine, read = keys[module.layer_idx][:n, :, :n_slots], values[module.layer_idx][:n, :, :n_slots]
    attended = _attended(query.view(n, n_heads, -1, width), mine, read, unseen, scaling)
    return attended.reshape(n, 1, -1, width), None


def _attended(stacked: Tensor, keys: Tensor, values: Tensor, unseen: Tensor, scaling: float) -> Tensor:
    """Queries that share a key head, (B, H_kv, group, D), over the slots of their rows."""
    if not stacked.is_cuda and len(stacked) <= FEW_ROWS:
        return F.scaled_dot_product_attention(stacked, keys, values, attn_mask=unseen, scale=scaling)
    # With more rows products are quicker than torch's fused attention; on a GPU that gives a key head's slots to one
    # multiprocessor.
    scores = (stacked @ keys.mT).float() * scaling + unseen
    return scores.softmax(-1).to(values.dtype) @ values


_ATTENTION = "emox-rows"
AttentionInterface.register(_ATTENTION, _attend)
