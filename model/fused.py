"""A Llama in few operations, for a CPU, which waits for weights to arrive and for Python between them.

transformers computes a layer with some forty small operations around seven products. Here there are four products, a
norm is one operation, what attends is given by the caller, and weights lie as products read them: in bf16 in oneDNN's
blocks, and once more in few bits for steps of decoding, in which few rows share them. Labels are scored in passes and
are bf16 throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

from .few_bits import Shortlist, few_bits, folded

FEW_ROWS = 4
"""Up to so many rows a step takes weights of few bits; with more it is bound by arithmetic, where bf16 is faster."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Layer, query (N, H, D), key and value (N, H_kv, D) -> what is attended to (N, H, D)."""


class PackedLinear(nn.Module):
    """A bf16 linear layer without bias whose weight lies in the blocks in which oneDNN multiplies.

    Otherwise each product would first rearrange it: of 40 rows a third of the time, of one half of it.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight)

    def forward(self, x: Tensor) -> Tensor:
        """X (..., K) -> (..., N)."""
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, None, "none", [], "")


def linear(weight: Tensor) -> nn.Module:
    """A linear layer without bias, packed if it is in bf16 and the processor multiplies that."""
    multiplies_bf16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if weight.dtype == torch.bfloat16 and multiplies_bf16:
        return PackedLinear(weight)
    n, k = weight.shape
    layer = nn.Linear(k, n, bias=False, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


class Product:
    """Linear layers of a module that read the same, as one product; quickly it is one of few bits.

    Adapters of peft are folded in, or stand beside weights that came in four bits.
    """

    def __init__(self, module: nn.Module, *names: str) -> None:
        layers = [getattr(module, name) for name in names]
        self._linear = linear(torch.cat([folded(layer) for layer in layers]))
        self._quick = few_bits(layers) or self._linear

    def __call__(self, x: Tensor, quick: bool) -> Tensor:
        """X (N, K) -> (N, M)."""
        return self._quick(x) if quick else self._linear(x)


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
    qkv: Product
    out: Product
    between: Norm
    gate_up: Product
    down: Product


class FusedLlama:
    """The layers and the head of a Llama on a CPU; the layers are taken out of it, so that it can be read no more.

    Raises:
        ValueError: the language model is of another kind (see `is_fusible`).
    """

    def __init__(self, lm: Any) -> None:
        if not is_fusible(lm):
            raise ValueError(f"{type(lm).__name__} is no plain Llama on a CPU, so its steps stay with transformers")
        self._rotary = lm.model.rotary_emb
        config = lm.config
        self._width = lm.model.layers[0].self_attn.head_dim
        self._heads = config.num_attention_heads, config.num_key_value_heads
        self._layers = []
        while lm.model.layers:  # one after the other, so that weights are never all there twice
            layer = lm.model.layers.pop(0)
            self._layers.append(
                _Layer(
                    Norm(layer.input_layernorm),
                    Product(layer.self_attn, "q_proj", "k_proj", "v_proj"),
                    Product(layer.self_attn, "o_proj"),
                    Norm(layer.post_attention_layernorm),
                    Product(layer.mlp, "gate_proj", "up_proj"),
                    Product(layer.mlp, "down_proj"),
                )
            )
        lm.model.forward = _taken
        self._norm = Norm(lm.model.norm)
        head = lm.lm_head.weight.data
        self.shortlist = Shortlist(head) if Shortlist.shortens(head) else None
        lm.lm_head = linear(head)

    def __call__(self, embeddings: Tensor, positions: Tensor, attend: Attend, *, quick: bool = False) -> Tensor:
        """Embeddings (N, D) at positions (N,) -> last hidden states (N, D); a quick pass is a step of few rows."""
        x = embeddings.clone()
        cos, sin = (part[0, :, None] for part in self._rotary(x, position_ids=positions[None]))  # (N, 1, D)
        half, n_rotated = self._width // 2, sum(self._heads)
        sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)  # with halves exchanged, (a, b) becomes (-b, a)
        for number, layer in enumerate(self._layers):
            qkv = layer.qkv(layer.before(x), quick).unflatten(-1, (-1, self._width))
            turned = qkv[:, :n_rotated]
            turned = torch.addcmul(turned * cos, turned.roll(half, -1), sin)
            query, key = turned.split(self._heads, 1)
            x += layer.out(attend(number, query, key, qkv[:, n_rotated:]).flatten(1), quick)
            gate, up = layer.gate_up(layer.between(x), quick).chunk(2, -1)
            x += layer.down(F.silu(gate) * up, quick)
        return self._norm(x)


def _taken(*_: Any, **__: Any) -> None:
    raise RuntimeError("the layers of this model were taken by its fused form, which reads in its place")


def is_fusible(lm: Any) -> bool:
    """Whether a causal language model is a Llama without biases on a CPU; its layers may have adapters of peft."""
    return (
        type(lm) is LlamaForCausalLM
        and lm.lm_head.weight.device.type == "cpu"
        and lm.config.hidden_act == "silu"
        and all(type(module) is nn.Linear and module.bias is None for module in _linears(lm))
    )


def _linears(lm: Any) -> list[nn.Module]:
    inner = [module for layer in lm.model.layers for module in (*layer.self_attn.children(), *layer.mlp.children())]
    found = [module for module in (*inner, lm.lm_head) if hasattr(module, "weight")]
    return [module.get_base_layer() if isinstance(module, LoraLayer) else module for module in found]
