"""Files that appear whole or not at all: written beside, synced, renamed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save as tensor_bytes
from torch import Tensor


def write_bytes(data: bytes, path: Path) -> None:
    """Write a file so that a stop or a full disk leaves the old one or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors as safetensors, whole or not at all."""
    write_bytes(tensor_bytes({name: tensor.contiguous() for name, tensor in tensors.items()}), path)
