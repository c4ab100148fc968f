"""Weights of few bits, for products with few rows on a CPU: what a step of decoding waits for is their arrival."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F

_GROUP = 32
"""Values of a row that share a scale in llama.cpp's Q4_1."""
_LANES = 16
"""Values of a row that a kernel reads at once."""
_BLOCKS = 1024
"""Of tokens: the best of each tell how likely a token is that is on a short list."""


class EightBits:
    """A weight (N, K) in int8, with one scale for each output.

    Raises:
        ValueError: K is no multiple of 16, beyond which the kernel would read.
    """

    def __init__(self, weight: Tensor) -> None:
        if weight.shape[1] % _LANES:
            raise ValueError(f"rows of {weight.shape[1]} values are not made of {_LANES} each")
        weight = weight.float()
        scale = weight.abs().amax(1).clamp(min=1e-8) / 127
        self._codes, self._scale = (weight / scale[:, None]).round_().to(torch.int8), scale.bfloat16()

    def __call__(self, x: Tensor) -> Tensor:
        """X (M, K) bf16 -> (M, N)."""
        return torch._weight_int8pack_mm(x, self._codes, self._scale)


class FourBits:
    """A weight (N, K) in llama.cpp's Q4_1: of each 32 values of a row the least, the greatest, and which of sixteen
    evenly spaced ones each is nearest to. What came so is kept as it came.

    Raises:
        ValueError: N is no multiple of 16, or K none of 32.
    """

    def __init__(self, weight: Tensor) -> None:
        codes, step, least = _codes(weight)
        codes = codes.round_().to(torch.int32).flatten(1)
        self._codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
        self._scales = torch.stack([step, least + 8 * step], -1).transpose(0, 1).bfloat16().contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """X (M, K) bf16 -> (M, N)."""
        return torch.ops.aten._weight_int4pack_mm_for_cpu(x, self._codes, _GROUP, self._scales)


class Adapted:
    """Layers that read the same and came in four bits, and the adapters that peft put around them.

    Adapters are smaller than the steps between sixteen values, so they cannot be folded in. What they read is a small
    product of eight bits, and stands behind the layers' own input; what they add are more columns, in groups of their
    own.
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        downs, ups = zip(*(_adapter(layer) for layer in layers), strict=True)
        down, up = torch.cat(downs), torch.block_diag(*ups)
        self._down = EightBits(down) if len(down) else None
        self._whole = FourBits(torch.cat([torch.cat([base(layer).weight.data for layer in layers]), up], 1))

    def __call__(self, x: Tensor) -> Tensor:
        """X (M, K) bf16 -> (M, N)."""
        return self._whole(x if self._down is None else torch.cat([x, self._down(x)], -1))


class Shortlist:
    """The likeliest tokens by a head (V, D): four bits tell which they may be; logits are computed of these alone."""

    @staticmethod
    def shortens(weight: Tensor) -> bool:
        """Whether a head is shortened: on a CPU, in bf16, with D in groups of 32 and V in 1024 blocks."""
        fits = weight.dtype == torch.bfloat16 and not len(weight) % _BLOCKS and not weight.shape[1] % _GROUP
        return fits and weight.device.type == "cpu" and _four_bits_are_quick()

    def __init__(self, weight: Tensor) -> None:
        self._weight, self._roughly = weight, FourBits(weight)

    def __call__(self, states: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """States (M, D) -> tokens (C,), among them the likeliest `n` of each row as far as four bits tell, and logits
        (M, C) float32, which are -inf where a token is on another row's list alone.
        """
        rough = self._roughly(states)
        best = rough.unflatten(-1, (-1, _BLOCKS)).amax(1)
        listed = rough >= best.topk(n).values[:, -1:]
        tokens = listed.any(0).nonzero()[:, 0]
        logits = states @ self._weight.index_select(0, tokens).T
        return tokens, logits.float().masked_fill_(~listed.index_select(1, tokens), -torch.inf)


def came_in_four_bits(layers: Sequence[nn.Module]) -> bool:
    """Whether the layers' weights, in bf16 and without adapters, are of sixteen values in each group."""
    for layer in layers:
        weight = base(layer).weight.data
        if weight.dtype != torch.bfloat16 or weight.shape[0] % 16 or weight.shape[1] % _GROUP:
            return False
        codes, _, _ = _codes(weight[:64])
        if (codes - codes.round()).abs().mean() > 0.05:  # of any other weight it is 0.25
            return False
    return True


def few_bits(layers: Sequence[nn.Module]) -> Callable[[Tensor], Tensor] | None:
    """Layers in bf16 that read the same, as one product of few bits: the four they came in, or eight, with adapters
    folded in; None if they are of another type or size.
    """
    if _four_bits_are_quick() and came_in_four_bits(layers):
        return Adapted(layers)
    weight = torch.cat([folded(layer) for layer in layers])
    return EightBits(weight) if weight.dtype == torch.bfloat16 and not weight.shape[1] % _LANES else None


def _four_bits_are_quick() -> bool:
    """Whether torch has more than a plain loop for products of four bits: on x86 alone."""
    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


def folded(layer: nn.Module) -> Tensor:
    """A layer's weight, into which its adapter is folded, if it has one."""
    weight = base(layer).weight.data
    if not isinstance(layer, LoraLayer):
        return weight
    (name,) = layer.active_adapters
    return weight.float().add_(cast(Any, layer).get_delta_weight(name)).to(weight.dtype)


def base(layer: nn.Module) -> nn.Linear:
    """The layer itself, which may have an adapter of peft around it."""
    return layer.get_base_layer() if isinstance(layer, LoraLayer) else layer  # type: ignore[return-value]


def _adapter(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """Down (r, K) and up (N, r), scaled; r is 0 without an adapter."""
    if not isinstance(layer, LoraLayer):
        n, k = base(layer).weight.shape
        return torch.zeros(0, k), torch.zeros(n, 0)
    (name,) = layer.active_adapters
    sides: list[Any] = [layer.lora_A[name], layer.lora_B[name]]
    down, up = (side.weight.data.float() for side in sides)
    missing = -len(down) % _GROUP
    return F.pad(down, (0, 0, 0, missing)), F.pad(up * layer.scaling[name], (0, missing))


def _codes(weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each value lies between its group's least (0) and greatest (15), float32 (N, K / 32, 32); the groups' steps
    and least values (N, K / 32).
    """
    n, k = weight.shape
    if k % _GROUP or n % 16:
        raise ValueError(f"a weight of {n} x {k} has no groups of {_GROUP}")
    values = weight.float().view(n, -1, _GROUP)
    least, most = values.aminmax(dim=-1)
    step = (most - least) / 15
    return values.sub_(least[..., None]).mul_(1 / step.clamp(min=1e-12)[..., None]), step, least
