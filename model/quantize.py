"""Weight-only int8 for the steps of decoding, which on a CPU only wait for the weights to arrive from memory.

A prefill multiplies many rows and is bound by arithmetic, where bf16 is faster; so both forms are kept, and the number
of rows chooses. Labels are scored in passes of many rows and stay exactly as in bf16.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEW_ROWS = 4
"""Up to so many rows int8 is used: one reply, or the three answers of `understand`, at a time."""


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
        """X (..., K) -> (..., N)."""
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) > FEW_ROWS:
            return F.linear(x, self.weight)
        return torch._weight_int8pack_mm(rows, self.packed, self.scale).unflatten(0, x.shape[:-1])


def speed_up_decoding(lm: nn.Module) -> None:
    """Replace the linear layers of a bf16 causal language model on the CPU, its head included, in place."""
    for module in list(lm.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and child.bias is None and child.weight.dtype == torch.bfloat16:
                setattr(module, name, DecodingLinear(child.weight.data))
