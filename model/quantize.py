"""Weight-only int8 for the steps of decoding, which on a CPU only wait for the weights to arrive from memory.

A pass multiplies many rows and is bound by arithmetic, where bf16 is faster; so both forms are kept. Labels are scored
in passes and stay exactly as in bf16, however few tokens a pass may have.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_ROWS = 4
"""Up to so many answers that take a step together int8 is used."""


class DecodingLinear(nn.Module):
    """A bf16 linear layer without bias, with an int8 copy of its weight for few rows (one scale per output)."""

    scale: Tensor
    packed: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        scale = weight.float().abs().amax(1).clamp(min=1e-8) / 127
        self.weight = nn.Parameter(weight, requires_grad=False)  # bf16 (N, K), shared with its source
        self.register_buffer("scale", scale.to(weight.dtype), persistent=False)  # (N,)
        packed = (weight.float() / scale[:, None]).round().to(torch.int8)
        self.register_buffer("packed", packed, persistent=False)  # (N, K)

    def forward(self, x: Tensor) -> Tensor:
        """X (..., K) -> (..., N). A step of decoding is (B, 1, K)."""
        if x.ndim != 3 or x.shape[1] != 1 or len(x) > FEW_ROWS:
            return F.linear(x, self.weight)
        return torch._weight_int8pack_mm(x[:, 0], self.packed, self.scale)[:, None]


def speed_up_decoding(lm: nn.Module) -> None:
    """Replace the linear layers of a bf16 causal language model on the CPU, its head included, in place."""
    for module in list(lm.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child.bias is None and child.weight.dtype == torch.bfloat16:
                setattr(module, name, DecodingLinear(child.weight.data))
