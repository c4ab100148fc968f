"""How a language model of transformers attends while it works for us: our functions take the place of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor


@contextmanager
def attending(lm: Any, name: str) -> Iterator[None]:
    """Let `lm` attend by the function registered as `name`, which gets all further arguments of its forward pass."""
    config = lm.config
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before


def room(lm: Any, n_slots: int) -> Tensor:
    """Room for the keys and values of so many tokens, (layers, 2, H_kv, n_slots, D), where the model is."""
    config = lm.config
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    shape = (config.num_hidden_layers, 2, config.num_key_value_heads, n_slots, width)
    return lm.get_input_embeddings().weight.new_empty(shape)
