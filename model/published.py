"""Encoders as their authors publish them: from a folder on this disk, or from the Hugging Face hub.

The embedded variant needs none of this; its weights come with packages (weights.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from torch import nn
from transformers import CLIPVisionModel, HubertModel

from .encoders.acoustic import HubertAcoustic
from .encoders.facexformer import from_facexformer
from .encoders.facial import SwinFacial
from .encoders.visual import ClipVisual
from .weights import WeightsError, read_state, resolve

FACEXFORMER = "ckpts/model.pt"
"""FaceXFormer's file in its repository; its tensors are read without unpickling anything else."""


def load_published(encoder: nn.Module, source: str) -> None:
    """Fill an encoder from `source`, strictly.

    Args:
        encoder: a `ClipVisual`, `HubertAcoustic` or `SwinFacial`.
        source: a local folder as published (for FaceXFormer, the file alone will do), or `owner/name` on the hub.

    Raises:
        MissingWeights: there is no such folder, and it cannot be fetched.
        WeightsError: what is there does not fit the encoder.
    """
    loader = LOADERS.get(type(encoder))
    if loader is None:
        raise WeightsError(f"{type(encoder).__name__} has no published weights: take {source} out of the settings")
    path = Path(source).expanduser()
    folder = path if path.is_file() else resolve(source, ("*.safetensors", "*.bin", "*.json", FACEXFORMER))
    try:
        loader(encoder, folder)
    except (RuntimeError, OSError, KeyError) as error:
        told = str(error).splitlines()[0]
        raise WeightsError(f"{folder} does not hold the weights of {type(encoder).__name__}: {told}") from None


def _clip(encoder: ClipVisual, folder: Path) -> None:
    encoder.clip.load_state_dict(CLIPVisionModel.from_pretrained(folder, local_files_only=True).state_dict())


def _hubert(encoder: HubertAcoustic, folder: Path) -> None:
    encoder.hubert.load_state_dict(HubertModel.from_pretrained(folder, local_files_only=True).state_dict())


def _facexformer(encoder: SwinFacial, path: Path) -> None:
    state = read_state(path if path.is_file() else path / FACEXFORMER)
    backbone = state["state_dict_backbone"]
    encoder.load_state_dict(from_facexformer(backbone, encoder.swin.config.depths))  # type: ignore[arg-type]


LOADERS: Mapping[type, Callable[..., None]] = {ClipVisual: _clip, HubertAcoustic: _hubert, SwinFacial: _facexformer}
