"""What every encoder returns, and what every encoder is: frozen, in evaluation mode, batch-independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Features:
    """What an encoder read from the T steps of a clip.

    `hidden` (B, T, D) is the main feature. `scales` are earlier layers, shallow to deep, (B, T, D_i) each; empty for
    faces. `mask` (B, T) bool, True = valid.
    """

    hidden: Tensor
    scales: tuple[Tensor, ...]
    mask: Tensor


class Encoder(nn.Module):
    """A frozen encoder: it stays in evaluation mode whatever mode its parent enters.

    `width` is D of `Features.hidden`, `scale_widths` the D_i of `Features.scales`. Without this, dropout and
    stochastic depth would make features random, in training and, as in the reference, even at inference
    (spec section 2.5). Subclasses run `forward` without gradients and keep no state between calls.
    """

    reads: str
    """The field of `processor.Inputs` that it encodes."""
    classes: tuple[str, ...] = ()
    """If it has any: the first step of `Features.hidden` holds their log-probabilities."""
    width: int
    scale_widths: tuple[int, ...] = ()

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode; `mode` is ignored on purpose."""
        return super().train(False)

    @property
    def dtype(self) -> torch.dtype:
        """Type the parameters are held in, and features come out in."""
        return next(self.parameters()).dtype


def of_steps(hidden: Tensor, scales: Sequence[Tensor], batch: int) -> Features:
    """Fold features of single steps, (B*T, D) each, back into clips; every step is valid."""
    hidden = hidden.unflatten(0, (batch, -1))
    mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
    return Features(hidden, tuple(scale.unflatten(0, (batch, -1)) for scale in scales), mask)


def to_pixels(images: Tensor, mean: Sequence[float], std: Sequence[float], dtype: torch.dtype) -> Tensor:
    """Clips of uint8 images (B, T, 3, H, W) become normalised pixels (B*T, 3, H, W).

    Raises:
        ValueError: not five dimensions, not three channels, or not uint8.
    """
    if images.dim() != 5 or images.shape[2] != 3 or images.dtype != torch.uint8:
        raise ValueError(f"images are {tuple(images.shape)} {images.dtype}, expected (B, T, 3, H, W) torch.uint8")
    pixels = images.flatten(0, 1).to(torch.float32) / 255
    channels = [(pixels[:, channel] - mean[channel]) / std[channel] for channel in range(3)]
    return torch.stack(channels, 1).to(dtype)
