"""Faces become one vector a frame: FaceXFormer's Swin-B for the paper's model, a small CNN for a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from transformers import SwinConfig, SwinModel

from .features import IMAGENET_MEAN, IMAGENET_STD, Encoder, Features, of_steps, to_pixels

FaceInput = Literal["imagenet", "raw255"]
FACE_INPUTS: Mapping[FaceInput, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "raw255": ((0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)),
}
"""Mean and std of pixels in [0, 1]. FaceXFormer was trained on "imagenet"; the reference feeds 0..255 as they are."""


def swin_base() -> SwinConfig:
    """Swin-B at 224 pixels: 86,743,224 parameters with its last LayerNorm, without pooler and head."""
    return SwinConfig(
        image_size=224,
        patch_size=4,
        num_channels=3,
        embed_dim=128,
        depths=(2, 2, 18, 2),
        num_heads=(4, 8, 16, 32),
        window_size=7,
        mlp_ratio=4.0,
        qkv_bias=True,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        drop_path_rate=0.0,  # evaluation only
        hidden_act="gelu",
        layer_norm_eps=1e-5,
    )


class SwinFacial(Encoder):
    """FaceXFormer's backbone and multi-scale head, averaged over space (spec section 2.5; arXiv:2403.12960).

    FaceXFormer projects the four stages, upsamples all to the finest grid, concatenates them coarsest first, fuses
    them with a 1x1 convolution, and the reference then averages over space. Bilinear upsampling by 2, 4 and 8 keeps
    the spatial mean and everything else is linear, so averaging each stage first gives the same numbers without
    the 1024x56x56 map.
    """

    def __init__(self, config: SwinConfig, width: int = 256, face_input: FaceInput = "imagenet") -> None:
        super().__init__()
        if face_input not in FACE_INPUTS:
            raise ValueError(f"face_input is {face_input!r}, expected one of {sorted(FACE_INPUTS)}")
        widths = [config.embed_dim * 2**stage for stage in range(len(config.depths))]
        self.swin = SwinModel(config, add_pooling_layer=False)
        self.project = nn.ModuleList(nn.Linear(channels, width) for channels in widths)
        self.fuse = nn.Linear(width * len(widths), width, bias=False)
        self.face_input = face_input
        self.width = width
        self.eval()

    @torch.no_grad()
    def forward(self, faces: Tensor) -> Features:
        """Encode faces (or whole frames) uint8 (B, T, 3, H, W) RGB of the config's image size."""
        mean, std = FACE_INPUTS[self.face_input]
        means = [stage.mean(dim=(2, 3)) for stage in self.stages(to_pixels(faces, mean, std, self.dtype))]
        projected = [linear(stage) for linear, stage in zip(self.project, means, strict=True)]
        return of_steps(self.fuse(torch.cat(projected[::-1], dim=1)), (), len(faces))

    def stages(self, pixels: Tensor) -> list[Tensor]:
        """Outputs of the four stages before patch merging, finest first: (N, 128 * 2^s, H/4/2^s, W/4/2^s)."""
        # SwinBackbone would add a LayerNorm per stage and shift windows in the last stage; torchvision does neither.
        out = self.swin(pixels, output_hidden_states=True, output_hidden_states_before_downsampling=True)
        return list(out.reshaped_hidden_states[1:])


class CnnFacial(Encoder):
    """A small residual network on grey 64x64 faces, for a CPU.

    `net` is an ordinary module with its own training mode: the curriculum trains it on labelled faces
    (`net(grey_faces(images))` and a classifier on top); inside the model it is as frozen as any encoder.
    """

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        self.net = FaceNet(width)
        self.width = width
        self.eval()

    @torch.no_grad()
    def forward(self, faces: Tensor) -> Features:
        """Encode crops uint8 (B, T, 3, S, S) RGB of any size S."""
        grey = grey_faces(to_pixels(faces, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), torch.float32))
        return of_steps(self.net(grey.to(self.dtype)), (), len(faces))


def grey_faces(pixels: Tensor, size: int = 64) -> Tensor:
    """Pixels (N, 1 or 3, S, S) become luma (N, 1, size, size) with zero mean and unit variance in each face.

    Luma weights of ITU-R BT.601. Each face is scaled by itself, so that exposure and skin tone weigh less.
    """
    if pixels.shape[1] == 3:
        pixels = (pixels * pixels.new_tensor((0.299, 0.587, 0.114)).view(3, 1, 1)).sum(dim=1, keepdim=True)
    pixels = interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    mean, std = pixels.mean(dim=(1, 2, 3), keepdim=True), pixels.std(dim=(1, 2, 3), keepdim=True)
    return (pixels - mean) / (std + 1e-3)


class FaceNet(nn.Module):
    """Four residual stages (arXiv:1512.03385), each halving the grid: (N, 1, 64, 64) -> (N, width)."""

    def __init__(self, width: int = 256) -> None:
        super().__init__()
        channels = (32, 32, 64, 128, width)
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.blocks = nn.Sequential(*(ResidualBlock(a, b) for a, b in pairwise(channels)))

    def forward(self, grey: Tensor) -> Tensor:
        """Faces from `grey_faces` to one vector each."""
        return self.blocks(self.stem(grey)).mean(dim=(2, 3))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a 1x1 shortcut, all at stride 2 once."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2)."""
        return torch.relu(self.conv(x) + self.shortcut(x))
