"""A Llama in few operations, as a CPU waits for Python between them and a GPU for each to be launched.

transformers computes a layer with some forty small operations around seven products. Here there are four products, a
norm is one operation and what attends is given by the caller. On a CPU weights lie as products read them: in bf16 in
oneDNN's blocks, and once more in few bits for steps of decoding, in which few rows share them. Labels are scored in
passes, by bf16 weights alone. How a GPU takes steps is in kernels.py.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaForCausalLM, Qwen2ForCausalLM

from .few_bits import Shortlist, base, few_bits, folded

FEW_ROWS = 4
"""Up to so many rows a step takes weights of few bits; with more it is bound by arithmetic, where bf16 is faster."""

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Layer, query (N, H, D), key and value (N, H_kv, D) -> what is attended to (N, H, D)."""


class PackedLinear(nn.Module):
    """A bf16 linear layer whose weight lies in the blocks in which oneDNN multiplies.

    Otherwise each product would first rearrange it: of 40 rows a third of the time, of one half of it.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__()
        self.packed, self._bias = torch.ops.mkldnn._reorder_linear_weight(weight), bias

    def forward(self, x: Tensor) -> Tensor:
        """X (..., K) -> (..., N)."""
        return _packed_product(x, self.packed, self._bias)


def _packed_product(x: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # deprecated for torch.compile, which needs a compiler where it runs
    _packed_product = torch.jit.script(_packed_product)  # a record of steps (rows.py) cannot hold it otherwise


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """A linear layer, packed if it is in bf16 on a CPU that multiplies that."""
    if weight.dtype == torch.bfloat16 and weight.device.type == "cpu" and _multiplies_bf16():
        return PackedLinear(weight, bias)
    n, k = weight.shape
    layer = nn.Linear(k, n, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _multiplies_bf16() -> bool:
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Product:
    """Linear layers of a module that read the same, as one product; quickly it is one of few bits, on a CPU.

    Adapters of peft are folded in, or stand beside weights that came in four bits.
    """

    def __init__(self, module: nn.Module, *names: str) -> None:
        layers = [getattr(module, name) for name in names]
        weight, biases = torch.cat([folded(layer) for layer in layers]), [base(layer).bias for layer in layers]
        bias = None if biases[0] is None else torch.cat([one.data for one in biases])
        self.linear: Any = linear(weight, bias)
        quick = few_bits(layers) if weight.device.type == "cpu" and bias is None else None
        self.quick: Callable[[Tensor], Tensor] = quick or self.linear

    def __call__(self, x: Tensor, quick: bool) -> Tensor:
        """X (N, K) -> (N, M)."""
        return self.quick(x) if quick else self.linear(x)


class Norm:
    """Root mean square normalisation as one operation in place of ten.

    On a CPU torch has none: the mean of x beside -x is 0, so that what layer normalisation divides by is their root
    mean square.
    """

    def __init__(self, module: Any) -> None:
        self.weight, self.eps = module.weight.data, module.variance_epsilon
        self._twice = {dtype: self.weight.to(dtype).repeat(2) for dtype in (self.weight.dtype, wide(self.weight))}

    def __call__(self, x: Tensor) -> Tensor:
        """X (N, D), in the type of the weights or in `wide` -> (N, D), in that of the weights."""
        twice, width = self._twice[x.dtype], len(self.weight)
        if x.is_cuda:
            return F.rms_norm(x, (width,), twice[:width], self.eps).to(self.weight.dtype)
        both = F.layer_norm(torch.cat([x, -x], -1), twice.shape, twice, eps=self.eps)
        return both[:, :width].to(self.weight.dtype).contiguous()


def wide(like: Tensor) -> torch.dtype:
    """The type in which a pass adds up: at least float32."""
    return torch.promote_types(like.dtype, torch.float32)


@dataclass(frozen=True)
class Layer:
    """A layer's norms and products."""

    before: Norm
    qkv: Product
    out: Product
    between: Norm
    gate_up: Product
    down: Product


class FusedLlama:
    """The layers and the head of a Llama; the layers are taken out of it, so that it can be read no more.

    Raises:
        ValueError: the language model is of another kind (see `is_fusible`).
    """

    def __init__(self, lm: Any) -> None:
        if not is_fusible(lm):
            raise ValueError(f"{type(lm).__name__} is no plain Llama, so its steps stay with transformers")
        lm.requires_grad_(False)
        self.rotary = lm.model.rotary_emb
        config = lm.config
        self.width = lm.model.layers[0].self_attn.head_dim
        self.heads = config.num_attention_heads, config.num_key_value_heads
        self.layers = []
        while lm.model.layers:  # one after the other, so that weights are never all there twice
            layer = lm.model.layers.pop(0)
            self.layers.append(
                Layer(
                    Norm(layer.input_layernorm),
                    Product(layer.self_attn, "q_proj", "k_proj", "v_proj"),
                    Product(layer.self_attn, "o_proj"),
                    Norm(layer.post_attention_layernorm),
                    Product(layer.mlp, "gate_proj", "up_proj"),
                    Product(layer.mlp, "down_proj"),
                )
            )
        lm.model.forward = _taken
        self.norm = Norm(lm.model.norm)
        head = lm.lm_head.weight.data
        self.shortlist = Shortlist(head) if Shortlist.shortens(head) else None
        self.head: Any = linear(head)
        if isinstance(self.head, PackedLinear):
            self.head.weight = head  # as it came, for logits of few tokens (heads.py)
        lm.lm_head = self.head
        products = (one for layer in self.layers for one in (layer.qkv, layer.out, layer.gate_up, layer.down))
        linears = [*(product.linear for product in products), self.head]
        self.packed = [one.packed for one in linears if isinstance(one, PackedLinear)]

    def __call__(self, embeddings: Tensor, positions: Tensor, attend: Attend, *, quick: bool = False) -> Tensor:
        """Embeddings (N, D) at positions (N,) -> last hidden states (N, D); a quick pass is a step of few rows.

        What layers add up, and rotations, are in the type of the embeddings, products in that of the weights.
        """
        x = embeddings.clone()
        cos, sin = (part[0, :, None] for part in self.rotary(x, position_ids=positions[None]))  # (N, 1, D)
        half, n_rotated = self.width // 2, sum(self.heads)
        sin = torch.cat([-sin[..., :half], sin[..., half:]], -1)  # with halves exchanged, (a, b) becomes (-b, a)
        for number, layer in enumerate(self.layers):
            qkv = layer.qkv(layer.before(x), quick).unflatten(-1, (-1, self.width))
            turned = qkv[:, :n_rotated]
            turned = torch.addcmul(turned * cos, turned.roll(half, -1), sin).to(qkv.dtype)
            query, key = turned.split(self.heads, 1)
            x += layer.out(attend(number, query, key, qkv[:, n_rotated:]).flatten(1), quick)
            gate, up = layer.gate_up(layer.between(x), quick).chunk(2, -1)
            x += layer.down(F.silu(gate) * up, quick)
        return self.norm(x)


def _taken(*_: Any, **__: Any) -> None:
    raise RuntimeError("the layers of this model were taken by its fused form, which reads in its place")


def is_fusible(lm: Any) -> bool:
    """Whether a causal language model is a plain Llama, or Qwen2, which has biases; its layers may have adapters."""
    return (
        type(lm) in (LlamaForCausalLM, Qwen2ForCausalLM)
        and lm.config.hidden_act == "silu"
        and all(_is_plain(layer) for layer in lm.model.layers)
    )


def _is_plain(layer: Any) -> bool:
    attention = [base(getattr(layer.self_attn, name)) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
    rest = [base(getattr(layer.mlp, name)) for name in ("gate_proj", "up_proj", "down_proj")]
    with_bias = {linear.bias is not None for linear in attention[:3]}
    without = [attention[3].bias, *(linear.bias for linear in rest)]
    plain = all(type(linear) is nn.Linear for linear in (*attention, *rest))
    return plain and len(with_bias) == 1 and all(bias is None for bias in without)
