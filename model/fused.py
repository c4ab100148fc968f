"""A Llama in few operations, for a CPU, which waits for weights to arrive and for Python between them.

transformers computes a layer with some forty small operations around seven products. Here a norm is one operation, what
attends is given by the caller, and weights lie as products read them: in oneDNN's blocks, and once more in int8 for
steps of decoding, in which few rows share them. Labels are scored in passes and are bf16 throughout.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

FEW_ROWS = 4
"""Up to so many rows a step is int8; with more it is bound by arithmetic, where bf16 is faster."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Layer, query (N, H, D), key and value (N, H_kv, D) -> what is attended to (N, H, D)."""


class PackedLinear(nn.Module):
    """A bf16 linear layer without bias whose weight lies in the blocks in which oneDNN multiplies.

    Otherwise each product would first rearrange it: of 40 rows a third of the time, of one half of it.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self._packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.data)

    def forward(self, x: Tensor) -> Tensor:
        """X (..., K) -> (..., N)."""
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")


class Products:
    """Linear layers of one module that read the same, also as one int8 product (one scale per output).

    In bf16 on a processor that multiplies it, the layers are replaced by packed ones; others go on as they are.
    """

    def __init__(self, module: nn.Module, *names: str) -> None:
        layers: list[nn.Linear] = [getattr(module, name) for name in names]
        weight = torch.cat([layer.weight.data for layer in layers])
        self._widths = [layer.out_features for layer in layers]
        self._int8 = None
        if weight.dtype == torch.bfloat16:
            scale = weight.float().abs().amax(1).clamp(min=1e-8) / 127
            self._int8 = (weight.float() / scale[:, None]).round().to(torch.int8), scale.bfloat16()
        self._layers = [packed(module, name) for name in names]

    def __call__(self, x: Tensor, quick: bool) -> Sequence[Tensor]:
        """X (N, K) -> (N, M) of each layer; what is quick may be int8."""
        if self._int8 is not None and quick:
            return torch._weight_int8pack_mm(x, *self._int8).split(self._widths, -1)
        return [layer(x) for layer in self._layers]


def packed(module: nn.Module, name: str) -> nn.Module:
    """Replace a linear layer of a module by a packed one, where it can be; returns what stands there now."""
    layer = getattr(module, name)
    multiplies_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if layer.weight.dtype == torch.bfloat16 and multiplies_bf16:
        setattr(module, name, PackedLinear(layer))
    return getattr(module, name)


class Norm:
    """Root mean square normalisation as one operation in place of ten.

    The mean of x beside -x is 0, so that what layer normalisation divides by is their root mean square.
    """

    def __init__(self, module: Any) -> None:
        weight = module.weight.data
        self._width, self._weight, self._eps = len(weight), weight.repeat(2), module.variance_epsilon

    def __call__(self, x: Tensor) -> Tensor:
        """X (N, D) -> (N, D)."""
        both = F.layer_norm(torch.cat([x, -x], -1), self._weight.shape, self._weight, eps=self._eps)
        return both[:, : self._width].contiguous()


@dataclass(frozen=True)
class _Layer:
    before: Norm
    qkv: Products
    out: Products
    between: Norm
    gate_up: Products
    down: Products


class FusedLlama:
    """The layers and the head of a Llama on a CPU, which is changed: its weights can be read no more, only used.

    Raises:
        ValueError: the language model is of another kind (see `is_fusible`).
    """

    def __init__(self, lm: Any) -> None:
        if not is_fusible(lm):
            raise ValueError(f"{type(lm).__name__} is no plain Llama on a CPU, so its steps stay with transformers")
        self._rotary = lm.model.rotary_emb
        self._width = lm.model.layers[0].self_attn.head_dim
        self._layers = [
            _Layer(
                Norm(layer.input_layernorm),
                Products(layer.self_attn, "q_proj", "k_proj", "v_proj"),
                Products(layer.self_attn, "o_proj"),
                Norm(layer.post_attention_layernorm),
                Products(layer.mlp, "gate_proj", "up_proj"),
                Products(layer.mlp, "down_proj"),
            )
            for layer in lm.model.layers
        ]
        self._norm = Norm(lm.model.norm)
        packed(lm, "lm_head")

    def __call__(self, embeddings: Tensor, positions: Tensor, attend: Attend, *, quick: bool = False) -> Tensor:
        """Embeddings (N, D) at positions (N,) -> last hidden states (N, D); a quick pass is a step of few rows."""
        x = embeddings.clone()
        cos, sin = (part[0, :, None] for part in self._rotary(x, position_ids=positions[None]))  # (N, 1, D)
        half = self._width // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)  # with halves exchanged, (a, b) becomes (-b, a)
        for number, layer in enumerate(self._layers):
            query, key, value = (part.unflatten(-1, (-1, self._width)) for part in layer.qkv(layer.before(x), quick))
            query, key = (torch.addcmul(part * cos, part.roll(half, -1), sin) for part in (query, key))
            x += layer.out(attend(number, query, key, value).flatten(1), quick)[0]
            gate, up = layer.gate_up(layer.between(x), quick)
            x += layer.down(F.silu(gate) * up, quick)[0]
        return self._norm(x)


def is_fusible(lm: Any) -> bool:
    """Whether a causal language model is a Llama without biases on a CPU, and none of its layers is adapted."""
    return (
        type(lm) is LlamaForCausalLM
        and lm.lm_head.weight.device.type == "cpu"
        and lm.config.hidden_act == "silu"
        and all(type(module) is nn.Linear and module.bias is None for module in _linears(lm))
    )


def _linears(lm: Any) -> list[nn.Module]:
    inner = [module for layer in lm.model.layers for module in (*layer.self_attn.children(), *layer.mlp.children())]
    return [module for module in (*inner, lm.lm_head) if hasattr(module, "weight")]
