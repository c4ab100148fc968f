"""A step of decoding on a GPU: of one row in five kernels a layer, written in Triton.

A single row waits for weights to arrive, 3 GB of the 2 B layout. As transformers computes it a layer is forty kernels,
compiled it is fourteen, and between kernels nothing arrives. Here a product takes the norm before it, its bias and its
activation along, what it gives is added where it is wanted, and its first weights are fetched while the kernel before
it still runs (programmatic dependent launch, from Hopper on). Several rows share cuBLAS' products, and attend by the
same kernel.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn import functional as F
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .fused import FusedLlama, Norm


@dataclass(frozen=True)
class Tiles:
    """How a product is cut: outputs and inputs that a program takes at a time, and its warps."""

    outputs: int
    inputs: int
    warps: int


@triton.jit
def _norm_product(
    x, gain, eps, weight, bias, y, n_outputs, width: tl.constexpr,
    OUT: tl.constexpr, IN: tl.constexpr, BIAS: tl.constexpr, GATED: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """A product of the normalised x: y = W x + bias, or y = silu(G x) (U x), gated, with G above U in `weight`.

    The root mean square divides the product, as it is known only once all of x was read.
    """
    out, k = tl.program_id(0) * OUT + tl.arange(0, OUT), tl.arange(0, IN)
    there = (out < n_outputs)[:, None]
    at = weight + out[:, None] * width
    if EARLY:
        gdc_launch_dependents()
    w = tl.load(at + k, mask=there & (k < width), other=0.0)
    if GATED:
        u = tl.load(at + n_outputs * width + k, mask=there & (k < width), other=0.0)
    if EARLY:
        gdc_wait()
    squares = 0.0
    sums = tl.zeros((OUT, IN), tl.float32)
    gates = tl.zeros((OUT, IN), tl.float32)
    for _ in tl.range(0, width, IN):
        one = tl.load(x + k, mask=k < width, other=0.0)
        scaled = one * tl.load(gain + k, mask=k < width, other=0.0).to(tl.float32)
        squares += tl.sum(one * one, 0)
        k += IN
        w_next = tl.load(at + k, mask=there & (k < width), other=0.0)
        if GATED:
            u_next = tl.load(at + n_outputs * width + k, mask=there & (k < width), other=0.0)
            gates += w.to(tl.float32) * scaled
            sums += u.to(tl.float32) * scaled
            u = u_next
        else:
            sums += w.to(tl.float32) * scaled
        w = w_next
    norm = tl.rsqrt(squares / width + eps)
    found = tl.sum(sums, 1) * norm
    if BIAS:
        found += tl.load(bias + out, mask=out < n_outputs, other=0.0).to(tl.float32)
    if GATED:
        gate = tl.sum(gates, 1) * norm
        found *= gate * tl.sigmoid(gate)
    tl.store(y + out, found, mask=out < n_outputs)


@triton.jit
def _add_product(
    x, shares, weight, y, n_outputs, width: tl.constexpr,
    HEAD: tl.constexpr, SPLITS: tl.constexpr, OUT: tl.constexpr, IN: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """Add a product: y += W x; with SPLITS x is what heads attended to in so many parts of their slots."""
    out, k = tl.program_id(0) * OUT + tl.arange(0, OUT), tl.arange(0, IN)
    there = (out < n_outputs)[:, None]
    at = weight + out[:, None] * width
    if EARLY:
        gdc_launch_dependents()
    w = tl.load(at + k, mask=there & (k < width), other=0.0)
    if EARLY:
        gdc_wait()
    sums = tl.zeros((OUT, IN), tl.float32)
    for _ in tl.range(0, width, IN):
        if SPLITS > 0:
            one = _merged(x, shares, k, k < width, HEAD, SPLITS)
        else:
            one = tl.load(x + k, mask=k < width, other=0.0).to(tl.float32)
        k += IN
        w_next = tl.load(at + k, mask=there & (k < width), other=0.0)
        sums += w.to(tl.float32) * one
        w = w_next
    tl.store(y + out, tl.load(y + out, mask=out < n_outputs) + tl.sum(sums, 1), mask=out < n_outputs)


@triton.jit
def _merged(parts, shares, k, known, HEAD: tl.constexpr, SPLITS: tl.constexpr):
    """Values `k` of what all heads attended to, of the parts in which they did."""
    first = (k // HEAD) * SPLITS
    highest = tl.load(shares + 2 * first, mask=known, other=0.0)
    for part in tl.static_range(1, SPLITS):
        highest = tl.maximum(highest, tl.load(shares + 2 * (first + part), mask=known, other=0.0))
    total = tl.zeros_like(highest)
    value = tl.zeros_like(highest)
    for part in tl.static_range(SPLITS):
        share = tl.exp(tl.load(shares + 2 * (first + part), mask=known, other=0.0) - highest)
        total += share * tl.load(shares + 2 * (first + part) + 1, mask=known, other=1.0)
        value += share * tl.load(parts + (first + part) * HEAD + k % HEAD, mask=known, other=0.0)
    return value / total


@triton.jit
def _attend(
    qkv, positions, cos, sin, keys, values, y, shares, scaling, row_stride, head_stride,
    N_HEADS: tl.constexpr, N_KV: tl.constexpr, GROUP: tl.constexpr, WIDTH: tl.constexpr,
    SLOTS: tl.constexpr, SPLITS: tl.constexpr, EARLY: tl.constexpr,
):  # fmt: skip
    """The queries that share a key head of a row, over each `SPLITS`-th part of its slots: rotated, their key and value
    put in their slot, and what they attend to; of several parts with the highest logit and the sum over it.
    """
    row, kv, part = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    query_head, d = tl.arange(0, GROUP), tl.arange(0, WIDTH)
    other = (d + WIDTH // 2) % WIDTH
    keys += row * row_stride + kv * head_stride
    values += row * row_stride + kv * head_stride
    position = tl.load(positions + row)
    slot = part * SLOTS + tl.arange(0, SLOTS)
    at, seen = slot[:, None] * WIDTH + d, slot < position
    if EARLY:
        gdc_launch_dependents()
    k = tl.load(keys + at, mask=seen[:, None], other=0.0)
    v = tl.load(values + at, mask=seen[:, None], other=0.0)
    if EARLY:
        gdc_wait()
    c = tl.load(cos + position * WIDTH + d)
    s = tl.where(d < WIDTH // 2, -1.0, 1.0) * tl.load(sin + position * WIDTH + d)
    given = qkv + row * (N_HEADS + 2 * N_KV) * WIDTH
    mine = given + (kv * (N_HEADS // N_KV) + query_head[:, None]) * WIDTH
    asks = (query_head < N_HEADS // N_KV)[:, None]
    query = tl.load(mine + d, mask=asks, other=0.0).to(tl.float32) * c
    query += tl.load(mine + other, mask=asks, other=0.0).to(tl.float32) * s
    query *= scaling
    its = given + (N_HEADS + kv) * WIDTH
    key = (tl.load(its + d).to(tl.float32) * c + tl.load(its + other).to(tl.float32) * s).to(k.dtype)
    value = tl.load(its + N_KV * WIDTH + d).to(v.dtype)
    # What stands at its own position is taken from here: the slot is being written.
    highest = tl.full((GROUP,), -1e30, tl.float32)
    total = tl.zeros((GROUP,), tl.float32)
    attended = tl.zeros((GROUP, WIDTH), tl.float32)
    if part == 0:
        tl.store(keys + position * WIDTH + d, key)
        tl.store(values + position * WIDTH + d, value)
        highest = tl.sum(query * key.to(tl.float32), 1)
        total += 1.0
        attended += value.to(tl.float32)[None, :]
    asked = query.to(k.dtype)
    for _ in tl.range(part * SLOTS, position, SPLITS * SLOTS):
        logits = tl.where(seen[None, :], tl.dot(asked, tl.trans(k)), -1e30)
        higher = tl.maximum(highest, tl.max(logits, 1))
        likely = tl.exp(logits - higher[:, None])
        before = tl.exp(highest - higher)
        total = total * before + tl.sum(likely, 1)
        attended = attended * before[:, None] + tl.dot(likely.to(v.dtype), v)
        highest = higher
        slot += SPLITS * SLOTS
        at, seen = slot[:, None] * WIDTH + d, slot < position
        k = tl.load(keys + at, mask=seen[:, None], other=0.0)
        v = tl.load(values + at, mask=seen[:, None], other=0.0)
    head = row * N_HEADS + kv * (N_HEADS // N_KV) + query_head
    if SPLITS == 1:
        tl.store(y + head[:, None] * WIDTH + d, attended / total[:, None], mask=asks)
    else:
        place = head * SPLITS + part
        tl.store(y + place[:, None] * WIDTH + d, attended, mask=asks)
        tl.store(shares + 2 * place, highest, mask=query_head < N_HEADS // N_KV)
        tl.store(shares + 2 * place + 1, total, mask=query_head < N_HEADS // N_KV)


class Steps:
    """Steps of rows over a fused language model in bf16 on a GPU, over at most so many slots."""

    def __init__(self, llama: FusedLlama, table: nn.Module, max_slots: int) -> None:
        self._llama, self._table = llama, table
        device = llama.norm.weight.device
        on_nvidia = device.type == "cuda" and torch.version.hip is None
        self._early = on_nvidia and torch.cuda.get_device_capability(device) >= (9, 0)
        at = torch.arange(max_slots, device=device)[None]
        cos, sin = llama.rotary(torch.zeros(1, device=device), position_ids=at)
        self._cos, self._sin = cos[0].contiguous(), sin[0].contiguous()  # float32 (slots, D)

    def __call__(self, tokens: Tensor, positions: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        """Token ids (B,) at positions (B,) -> logits (B, V) float32; keys and values of each layer, (rows, H_kv, slots,
        D), get those of the tokens.
        """
        step = self._one if len(tokens) == 1 else self._several
        return step(self._table(tokens), positions, keys, values)

    def _one(self, x: Tensor, positions: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        x = x[0].float()
        for layer, k, v in zip(self._llama.layers, keys, values, strict=True):
            qkv = self._product("qkv", x, layer.before, layer.qkv.linear)
            attended, shares = self._attended(qkv[None], positions, k, v, _SPLITS)
            self._add("out", attended, layer.out.linear.weight, x, shares)
            between = self._product("gate_up", x, layer.between, layer.gate_up.linear, gated=True)
            self._add("down", between, layer.down.linear.weight, x)
        return self._product("head", x, self._llama.norm, self._llama.head)[None]

    def _several(self, x: Tensor, positions: Tensor, keys: Sequence[Tensor], values: Sequence[Tensor]) -> Tensor:
        for layer, k, v in zip(self._llama.layers, keys, values, strict=True):
            attended, _ = self._attended(layer.qkv.linear(layer.before(x)), positions, k, v, 1)
            x = torch.addmm(x, attended, layer.out.linear.weight.T)
            gate, up = layer.gate_up.linear(layer.between(x)).chunk(2, -1)
            x = torch.addmm(x, F.silu(gate) * up, layer.down.linear.weight.T)
        return self._llama.head(self._llama.norm(x)).float()

    def _product(self, kind: str, x: Tensor, norm: Norm, linear: Any, *, gated: bool = False) -> Tensor:
        weight, bias = linear.weight, linear.bias
        n, tiles = len(weight) // (2 if gated else 1), _TILES[kind]
        y = x.new_empty(n, dtype=weight.dtype if gated else torch.float32)
        _norm_product[(triton.cdiv(n, tiles.outputs),)](
            x, norm.weight, norm.eps, weight, bias, y, n, len(x), OUT=tiles.outputs, IN=tiles.inputs,
            BIAS=bias is not None, GATED=gated, **self._launch(tiles),
        )  # fmt: skip
        return y

    def _add(self, kind: str, x: Tensor, weight: Tensor, y: Tensor, shares: Tensor | None = None) -> None:
        """With shares `x` is (1, H, splits, D), else (width,)."""
        tiles, merged = _TILES[kind], shares is not None
        _add_product[(triton.cdiv(len(y), tiles.outputs),)](
            x, shares, weight, y, len(y), weight.shape[1], HEAD=x.shape[-1], SPLITS=x.shape[-2] if merged else 0,
            OUT=tiles.outputs, IN=tiles.inputs, **self._launch(tiles),
        )  # fmt: skip

    def _attended(
        self, qkv: Tensor, positions: Tensor, keys: Tensor, values: Tensor, splits: int
    ) -> tuple[Tensor, Tensor]:
        """What rows attend to, (B, H * D), or in so many parts (B, H, splits, D) and the parts' shares, (..., 2)."""
        n, (n_heads, n_kv), width, tiles = len(qkv), self._llama.heads, self._llama.width, _TILES["attend"]
        shares = qkv.new_empty(n, n_heads, splits, 2, dtype=torch.float32)
        if splits == 1:
            attended = qkv.new_empty(n, n_heads * width)
        else:
            attended = qkv.new_empty(n, n_heads, splits, width, dtype=torch.float32)
        _attend[(n, n_kv, splits)](
            qkv, positions, self._cos, self._sin, keys, values, attended, shares, width**-0.5,
            keys.stride(0), keys.stride(1), N_HEADS=n_heads, N_KV=n_kv,
            GROUP=max(16, triton.next_power_of_2(n_heads // n_kv)), WIDTH=width, SLOTS=tiles.inputs, SPLITS=splits,
            **self._launch(tiles),
        )  # fmt: skip
        return attended, shares

    def _launch(self, tiles: Tiles) -> dict[str, Any]:
        early = {"launch_pdl": True} if self._early else {}
        return {"num_warps": tiles.warps, "num_stages": 1, "EARLY": self._early, **early}


_SPLITS = 4
"""Parts of a single row's slots, each with a program of its own."""
_TILES = {
    "qkv": Tiles(8, 1024, 4),
    "attend": Tiles(0, 64, 4),
    "out": Tiles(16, 2048, 8),
    "gate_up": Tiles(4, 2048, 2),
    "down": Tiles(4, 2048, 4),
    "head": Tiles(32, 128, 4),
}
"""The fastest of some thirty on an H200, for the 2 B layout (docs/LOG.md)."""
