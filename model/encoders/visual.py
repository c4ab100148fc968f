"""Whole frames become features: CLIP for the paper's model, MobileNetV2 for a CPU."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel

from ..weights import read_state
from .features import IMAGENET_MEAN, IMAGENET_STD, Encoder, Features, of_steps, to_pixels

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def clip_vit_large_patch14() -> CLIPVisionConfig:
    """Vision tower of openai/clip-vit-large-patch14: 303,179,776 parameters."""
    return CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        num_channels=3,
        image_size=224,
        patch_size=14,
        hidden_act="quick_gelu",
        layer_norm_eps=1e-5,
        attention_dropout=0.0,
    )


class ClipVisual(Encoder):
    """CLS token of a CLIP vision tower (spec section 2.2).

    Args:
        config: shape of the tower.
        layer: hidden state of the main feature; 0 is the embedding, k the output of block k, negative from the end.
        scales: hidden states of the multi-scale features.
    """

    reads = "frames"

    def __init__(self, config: CLIPVisionConfig, layer: int = -2, scales: tuple[int, int, int] = (12, 16, 22)) -> None:
        super().__init__()
        self.clip = CLIPVisionModel(config)
        self.layer, self.scales = layer, scales
        self.width = config.hidden_size
        self.scale_widths = (config.hidden_size,) * 3
        self.eval()

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Features:
        """Encode frames uint8 (B, T, 3, H, W) RGB of the tower's image size.

        No post-LayerNorm and no projection, as in the reference.
        """
        pixels = to_pixels(frames, CLIP_MEAN, CLIP_STD, self.dtype)
        states = self.clip(pixels, output_hidden_states=True).hidden_states
        return of_steps(states[self.layer][:, 0], [states[k][:, 0] for k in self.scales], len(frames))


class MobileNetVisual(Encoder):
    """MobileNetV2's last feature map, averaged over space; scales are earlier maps, averaged alike.

    `scales` are indices of `MobileNetV2.features`: the ends of the stages at stride 8, 16 and 32.
    """

    reads = "frames"

    def __init__(self, scales: tuple[int, int, int] = (6, 13, 17)) -> None:
        super().__init__()
        self.net = MobileNetV2()
        self.scales = scales
        self.width = MobileNetV2.WIDTHS[-1]
        self.scale_widths = tuple(MobileNetV2.WIDTHS[k] for k in scales)
        self.eval()

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Features:
        """Encode frames uint8 (B, T, 3, H, W) RGB; H and W of 224 is what the weights were trained at."""
        x = to_pixels(frames, IMAGENET_MEAN, IMAGENET_STD, self.dtype)
        x = x.contiguous(memory_format=torch.channels_last)  # twice as fast on CPUs
        pooled = []
        for layer in self.net.features:
            x = layer(x)
            pooled.append(x.mean(dim=(2, 3)))
        return of_steps(pooled[-1], [pooled[k] for k in self.scales], len(frames))


class MobileNetV2(nn.Module):
    """MobileNetV2 without its classifier (arXiv:1801.04381, table 2), under torchvision's parameter names."""

    # expansion, channels, blocks, stride of the first block
    STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    WIDTHS = (32, *(channels for _, channels, blocks, _ in STAGES for _ in range(blocks)), 1280)
    """Channels after each of the 19 entries of `features`."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn_relu(3, 32, kernel=3, stride=2)]
        channels = 32
        for expansion, out, blocks, stride in self.STAGES:
            for i in range(blocks):
                layers.append(InvertedResidual(channels, out, expansion, stride if i == 0 else 1))
                channels = out
        layers.append(_conv_bn_relu(channels, self.WIDTHS[-1], kernel=1))
        self.features = nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; added to the input where shapes agree."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        widen = [_conv_bn_relu(inputs, hidden, kernel=1)] if expansion != 1 else []
        self.conv = nn.Sequential(
            *widen,
            _conv_bn_relu(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H/stride, W/stride)."""
        return x + self.conv(x) if self.residual else self.conv(x)


def mobilenet_state(path: Path) -> dict[str, Tensor]:
    """State dict for `MobileNetVisual.net` from a torchvision mobilenet_v2 .pth; the classifier is left out."""
    return {name: value for name, value in read_state(path).items() if not name.startswith("classifier.")}


def _conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )
