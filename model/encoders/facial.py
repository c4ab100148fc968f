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

    reads = "faces"

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
    """A small residual network on grey 48x48 faces, for a CPU.

    Multi-scale features are its three residual stages. `net` is an ordinary module with its own training mode:
    `training.face_network` trains it on labelled faces (`net(grey_faces(images))` and a classifier on top); inside the
    model it is as frozen as any encoder.
    """

    reads = "faces"

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 256), blocks: int = 2) -> None:
        super().__init__()
        self.net = FaceNet(channels, blocks)
        self.width = channels[-1]
        self.scale_widths = channels[-3:]
        self.eval()

    @torch.no_grad()
    def forward(self, faces: Tensor) -> Features:
        """Encode crops uint8 (B, T, 3, S, S) RGB of any size S."""
        grey = grey_faces(to_pixels(faces, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), torch.float32))
        scales = self.net.stages(grey.to(self.dtype))
        return of_steps(scales[-1], scales[-3:], len(faces))


FACE_PX = 48
"""Side of the faces that `FaceNet` reads: that of FER2013, the largest public corpus of small faces."""


def grey_faces(pixels: Tensor, size: int = FACE_PX) -> Tensor:
    """Pixels (N, 1 or 3, S, S) become luma (N, 1, size, size) with zero mean and unit variance in each face.

    Luma weights of ITU-R BT.601. Each face is scaled by itself, so that exposure and skin tone weigh less.
    """
    if pixels.shape[1] == 3:
        pixels = (pixels * pixels.new_tensor((0.299, 0.587, 0.114)).view(3, 1, 1)).sum(dim=1, keepdim=True)
    if pixels.shape[-2:] != (size, size):
        pixels = interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    mean, std = pixels.mean(dim=(1, 2, 3), keepdim=True), pixels.std(dim=(1, 2, 3), keepdim=True)
    return (pixels - mean) / (std + 1e-3)


class FaceNet(nn.Module):
    """Residual stages (arXiv:1512.03385), each but the stem halving the grid: (N, 1, 48, 48) -> (N, channels[-1])."""

    def __init__(self, channels: tuple[int, ...] = (32, 64, 128, 256), blocks: int = 2) -> None:
        super().__init__()
        stem = channels[0]
        self.stem = nn.Sequential(nn.Conv2d(1, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU())
        self.n_blocks = blocks
        self.blocks = nn.Sequential(
            *(
                ResidualBlock(inputs if i == 0 else outputs, outputs, stride=2 if i == 0 else 1)
                for inputs, outputs in pairwise(channels)
                for i in range(blocks)
            )
        )

    def stages(self, grey: Tensor) -> list[Tensor]:
        """Faces from `grey_faces` to one vector a stage, each a mean over space; the last is the main feature."""
        x = self.stem(grey.contiguous(memory_format=torch.channels_last))  # twice as fast on CPUs
        means = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number % self.n_blocks == 0:
                means.append(x.mean(dim=(2, 3)))
        return means

    def forward(self, grey: Tensor) -> Tensor:
        """The main feature alone."""
        return self.stages(grey)[-1]


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if (inputs, stride) != (outputs, 1):
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        return torch.relu(self.conv(x) + self.shortcut(x))
