"""Whisper's encoder out of CTranslate2's `model.bin`, without CTranslate2.

The recogniser ships only this format. Layout, little-endian (CTranslate2, `specs/model_spec.py`, binary version 6):
version u32, name, revision u32, number of variables u32, then for each variable its name, rank u8, dimensions u32
each, type u8, bytes u32 and data; then the number of aliases u32, each two names. A name is a u16 length, counting
a closing zero byte, and the bytes.
"""

from __future__ import annotations

import math
import re
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
_BINARY_VERSION = 6
_LAYER_NAMES = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_NAMES = {"conv1": "conv1", "conv2": "conv2", "layer_norm": "layer_norm"}
_KINDS = {"weight": "weight", "bias": "bias", "gamma": "weight", "beta": "bias"}


def whisper_encoder_state(model_bin: Path) -> dict[str, Tensor]:
    """Float32 state dict of transformers' `WhisperEncoder`, with all 1500 positions.

    Raises:
        ValueError: the file is not a Whisper model in a known version of the format, or is cut short.
    """
    variables = _encoder_variables(model_bin)
    if "position_encodings/encodings" not in variables:
        raise ValueError(f"{model_bin} holds no Whisper encoder")
    state = {"embed_positions.weight": variables["position_encodings/encodings"]}
    depth = len({name.split("/")[0] for name in variables if re.match(r"layer_\d", name)})
    modules = dict(_NAMES)
    for i in range(depth):
        modules |= {f"layer_{i}/{theirs}": f"layers.{i}.{ours}" for theirs, ours in _LAYER_NAMES.items()}
        for kind in ("weight", "bias"):
            parts = variables[f"layer_{i}/self_attention/linear_0/{kind}"].chunk(3)
            state |= {f"layers.{i}.self_attn.{x}_proj.{kind}": part for x, part in zip("qkv", parts, strict=True)}
        del state[f"layers.{i}.self_attn.k_proj.bias"]  # Whisper's keys have no bias; the format stores zeros
    for theirs, ours in modules.items():
        for kind, name in _KINDS.items():
            if (value := variables.get(f"{theirs}/{kind}")) is not None:
                state[f"{ours}.{name}"] = value
    return {name: value.clone() for name, value in state.items()}


def _encoder_variables(model_bin: Path) -> dict[str, Tensor]:
    """Encoder variables of the file by name, without `encoder/`, as float32; int8 rows are divided by their scale."""
    data = model_bin.read_bytes()
    try:
        arrays = _arrays(data)
    except (struct.error, KeyError, ValueError) as error:
        raise ValueError(f"{model_bin} is not a Whisper model for CTranslate2, or is cut short ({error})") from error
    encoder = {name.removeprefix("encoder/"): array for name, array in arrays.items() if name.startswith("encoder/")}
    floats = {name: torch.from_numpy(array.astype(np.float32)) for name, array in encoder.items()}
    for name in [name for name in floats if name.endswith("_scale")]:
        weight = name.removesuffix("_scale")
        floats[weight] = floats[weight] / floats.pop(name).reshape(-1, *[1] * (floats[weight].dim() - 1))
    return floats


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    """Every variable of the file, as stored; equal ones are stored once and named again as aliases."""
    version, offset = _unpack("I", data, 0)
    if version != _BINARY_VERSION:
        raise ValueError(f"version {version}, expected {_BINARY_VERSION}")
    spec, offset = _name(data, offset)
    if spec != "WhisperSpec":
        raise ValueError(f"holds {spec}, expected WhisperSpec")
    _, offset = _unpack("I", data, offset)
    count, offset = _unpack("I", data, offset)
    arrays = {}
    for _ in range(count):
        name, offset = _name(data, offset)
        rank, offset = _unpack("B", data, offset)
        shape = struct.unpack_from(f"<{rank}I", data, offset)
        kind, offset = _unpack("B", data, offset + 4 * rank)
        size, offset = _unpack("I", data, offset)
        arrays[name] = np.frombuffer(data, _TYPES[kind], math.prod(shape), offset).reshape(shape)
        offset += size
    count, offset = _unpack("I", data, offset)
    for _ in range(count):
        alias, offset = _name(data, offset)
        name, offset = _name(data, offset)
        arrays[alias] = arrays[name]
    return arrays


def _unpack(code: str, data: bytes, offset: int) -> tuple[int, int]:
    (value,) = struct.unpack_from(f"<{code}", data, offset)
    return value, offset + struct.calcsize(code)


def _name(data: bytes, offset: int) -> tuple[str, int]:
    length, offset = _unpack("H", data, offset)
    return data[offset : offset + length - 1].decode(), offset + length
