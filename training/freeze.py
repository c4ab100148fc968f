"""What each phase of the curriculum trains (section 3.1); the only place that sets `requires_grad`."""

from __future__ import annotations

import hashlib

import torch

from model.nano_emox import NanoEmoX

TRAINED: dict[str, tuple[str, ...]] = {
    "1.1": ("audio",),
    "1.2": ("video", "face"),
    "2": ("audio", "video", "face", "fusion"),
    "3": ("audio", "video", "face", "fusion", "lora"),
}
"""Phase -> modules of `NanoEmoX` it trains; `lora` are the language model's low-rank adapters."""


def freeze(model: NanoEmoX, phase: str) -> int:
    """Let exactly the phase's parameters learn; returns how many there are.

    Raises:
        KeyError: no such phase.
    """
    parts = TRAINED[phase]
    n_trained = 0
    for name, parameter in model.named_parameters():
        learns = name.split(".")[0] in parts or ("lora" in parts and "lora_" in name)
        parameter.requires_grad_(learns)
        n_trained += parameter.numel() if learns else 0
    return n_trained


def frozen_hash(model: NanoEmoX) -> str:
    """Hash of every tensor that is not trained now, buffers included: the same before and after a phase."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name not in trained and tensor.device.type != "meta":
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
