"""How a language model of transformers attends while it works for us: our functions take the place of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def attending(lm: nn.Module, name: str) -> Iterator[None]:
    """Let `lm` attend by the function registered as `name`, which gets all further arguments of its forward pass."""
    config = lm.config
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before
