"""A step of decoding in few operations, for a CPU, which waits for weights to arrive and for Python between them.

transformers computes a layer of a Llama with seven products and some forty small operations. Here query, key and value are
one product, gate and up another, and weights are int8 where few rows share them. Passes stay with transformers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM

FEW_ROWS = 8
"""Up to so many rows a product is int8; with more it is bound by arithmetic, where bf16 is faster."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Layer, query (B, H, D), key and value (B, H_kv, D) -> what is attended to (B, H, D)."""


class Product:
    """Linear layers of the same input as one, and an int8 copy of a bf16 weight (one scale per output).

    The layers go on with views of the joint weight, so that it is kept once.
    """

    def __init__(self, *layers: nn.Linear) -> None:
        self.weight = layers[0].weight.data if len(layers) == 1 else torch.cat([layer.weight.data for layer in layers])
        for layer, part in zip(layers, self.weight.split([layer.out_features for layer in layers]), strict=True):
            layer.weight.data = part
        self._packed = self._scale = None
        if self.weight.dtype == torch.bfloat16:
            scale = self.weight.float().abs().amax(1).clamp(min=1e-8) / 127
            self._packed = (self.weight.float() / scale[:, None]).round().to(torch.int8)
            self._scale = scale.bfloat16()

    def __call__(self, x: Tensor) -> Tensor:
        """X (B, K) -> (B, N)."""
        if self._packed is None or len(x) > FEW_ROWS:
            return F.linear(x, self.weight)
        return torch._weight_int8pack_mm(x, self._packed, self._scale)


class Norm:
    """Root mean square normalisation as one operation in place of ten.

    The mean of x beside -x is 0, so that what layer normalisation divides by is their root mean square.
    """

    def __init__(self, module: Any) -> None:
        weight = module.weight.data
        self._width, self._weight, self._eps = len(weight), weight.repeat(2), module.variance_epsilon

    def __call__(self, x: Tensor) -> Tensor:
        """X (B, D) -> (B, D)."""
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
    """The layers and the head of a Llama on a CPU; its weights must not change any more.

    Raises:
        ValueError: the language model is of another kind (see `is_fusible`).
    """

    def __init__(self, lm: Any) -> None:
        if not is_fusible(lm):
            raise ValueError(f"{type(lm).__name__} is no plain Llama on a CPU, so its steps stay with transformers")
        self._table = lm.get_input_embeddings().weight
        self._rotary = lm.model.rotary_emb
        self._n_heads = lm.config.num_attention_heads
        self._n_kv_heads = lm.config.num_key_value_heads
        self._layers = [
            _Layer(
                Norm(layer.input_layernorm),
                Product(layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                Product(layer.self_attn.o_proj),
                Norm(layer.post_attention_layernorm),
                Product(layer.mlp.gate_proj, layer.mlp.up_proj),
                Product(layer.mlp.down_proj),
            )
            for layer in lm.model.layers
        ]
        self._norm = Norm(lm.model.norm)
        self.head = Product(lm.lm_head)

    def __call__(self, tokens: Tensor, positions: Tensor, attend: Attend) -> Tensor:
        """Token ids (B,) at positions (B,), one of each row -> logits of the next (B, V)."""
        x = F.embedding(tokens, self._table)
        cos, sin = (part[0, :, None] for part in self._rotary(x, position_ids=positions[None]))  # (B, 1, D)
        half = sin.shape[-1] // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)  # with halves exchanged, (a, b) becomes (-b, a)
        heads = [self._n_heads, self._n_kv_heads, self._n_kv_heads]
        for number, layer in enumerate(self._layers):
            qkv = layer.qkv(layer.before(x)).unflatten(-1, (sum(heads), -1))
            turned = qkv[:, : -heads[2]]
            turned = torch.addcmul(turned * cos, turned.roll(half, -1), sin)
            query, key = turned.split(heads[:2], 1)
            x += layer.out(attend(number, query, key, qkv[:, -heads[2] :]).flatten(1))
            gate, up = layer.gate_up(layer.between(x)).chunk(2, -1)
            x += layer.down(F.silu(gate) * up)
        return self.head(self._norm(x))


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
