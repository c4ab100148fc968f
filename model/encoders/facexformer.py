"""FaceXFormer's checkpoint names against those of `SwinFacial`, both ways.

FaceXFormer keeps the children of torchvision's `swin_b` in a Sequential, so its file says `backbone.0.*` where
torchvision says `features.*`, and `backbone.1.*` for `norm.*`. `features` alternates: 0 is the patch embedding,
1 3 5 7 are the stages, 2 4 6 the patch mergings between them; query, key and value share one matrix. Index buffers
follow from the window and the decoder is not used: both are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

SWIN_B_DEPTHS = (2, 2, 18, 2)
_KINDS = ("weight", "bias", "relative_position_bias_table")


def from_facexformer(state: Mapping[str, Tensor], depths: Sequence[int] = SWIN_B_DEPTHS) -> dict[str, Tensor]:
    """State dict for `SwinFacial` from FaceXFormer's `state_dict_backbone`; load it strictly."""
    ours: dict[str, Tensor] = {}
    for theirs, names in _modules(depths):
        for kind in _KINDS:
            if (value := state.get(f"{theirs}.{kind}")) is not None:
                if theirs == "linear_fuse":
                    value = value.flatten(1)  # a 1x1 convolution
                parts = value.chunk(len(names))
                ours |= {f"{name}.{kind}": part for name, part in zip(names, parts, strict=True)}
    return ours


def to_facexformer(state: Mapping[str, Tensor], depths: Sequence[int] = SWIN_B_DEPTHS) -> dict[str, Tensor]:
    """The inverse of `from_facexformer`."""
    result = {}
    for theirs, names in _modules(depths):
        for kind in _KINDS:
            if f"{names[0]}.{kind}" in state:
                value = torch.cat([state[f"{name}.{kind}"] for name in names])
                result[f"{theirs}.{kind}"] = value[:, :, None, None] if theirs == "linear_fuse" else value
    return result


def _modules(depths: Sequence[int]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """FaceXFormer's module names, each with ours: one, or three where theirs is split in three."""
    yield "backbone.0.0.0", ("swin.embeddings.patch_embeddings.projection",)
    yield "backbone.0.0.2", ("swin.embeddings.norm",)
    for stage, depth in enumerate(depths):
        layer = f"swin.encoder.layers.{stage}"
        for block in range(depth):
            theirs, ours = f"backbone.0.{2 * stage + 1}.{block}", f"{layer}.blocks.{block}"
            yield f"{theirs}.norm1", (f"{ours}.layernorm_before",)
            yield f"{theirs}.attn.qkv", tuple(f"{ours}.attention.{part}_proj" for part in "qkv")
            yield f"{theirs}.attn", (f"{ours}.attention.relative_position_bias",)
            yield f"{theirs}.attn.proj", (f"{ours}.attention.o_proj",)
            yield f"{theirs}.norm2", (f"{ours}.layernorm_after",)
            yield f"{theirs}.mlp.0", (f"{ours}.mlp.fc1",)
            yield f"{theirs}.mlp.3", (f"{ours}.mlp.fc2",)
        if stage < len(depths) - 1:
            yield f"backbone.0.{2 * stage + 2}.reduction", (f"{layer}.downsample.reduction",)
            yield f"backbone.0.{2 * stage + 2}.norm", (f"{layer}.downsample.norm",)
        yield f"linear_c.{stage}.proj", (f"project.{stage}",)
    yield "backbone.1", ("swin.layernorm",)
    yield "linear_fuse", ("fuse",)
