"""Every size and choice of a Nano-EmoX variant, as data; only `build.py` reads it.

Section numbers refer to the paper's supplement as followed here: widths and counts of `nano_emox_2b`
are those of arXiv 2603.02123.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Fuses = Literal["frames", "faces"]


@dataclass(frozen=True)
class QFormerConfig:
    """One Q-Former branch: queries that cross-attend to T encoder steps."""

    n_queries: int = 32
    width: int = 768
    n_layers: int = 2
    n_heads: int = 12
    ffn_width: int = 3072
    dropout: float = 0.1
    n_positions: int = 32
    """Rows of the learned temporal position table; at least T."""
    narrow: bool = False
    """Project features to `width` once, before the layers; by default each layer reads them at their own width."""


@dataclass(frozen=True)
class FusionConfig:
    """Multi-scale experts: audio queries video at three depths, a gate weighs the three."""

    width: int = 512
    n_heads: int = 8
    dropout: float = 0.1
    share_inputs: bool = True
    """One input projection per modality for all experts, as released; the paper's text has one per expert."""


@dataclass(frozen=True)
class FaceConfig:
    """Temporal attention over face features and the two-layer adapter after it."""

    width: int = 256
    n_queries: int = 4
    n_heads: int = 4
    adapter_width: int = 768
    dropout: float = 0.1
    time_embed: bool = False
    """Learned frame positions. Without them the module cannot tell the order of frames, as in the release."""


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters on every linear layer of the language model."""

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class PromptStyle:
    """Strings around the two sides of a prompt; answers end with `stop`."""

    bos: str
    human: str
    assistant: str
    stop: str


RELEASED = PromptStyle(bos="<|im_start|>", human="###Human: ", assistant=" ###Assistant: ", stop="###")
"""The authors' layout: `[BOS] ###Human: ... ###Assistant: answer ###`."""

CHATML = PromptStyle(
    bos="", human="<|im_start|>user\n", assistant="<|im_end|>\n<|im_start|>assistant\n", stop="<|im_end|>"
)
"""The language model's own chat layout: an instruct model that is frozen or barely tuned answers best in it."""


@dataclass(frozen=True)
class NanoEmoxConfig:
    """One variant."""

    variant: str
    visual: str
    """Key of `build.VISUALS`."""
    acoustic: str
    """Key of `build.ACOUSTICS`."""
    facial: str
    """Key of `build.FACIALS`."""
    lm: str
    """Key of `build.LANGUAGE_MODELS`."""
    prompt: PromptStyle
    video: QFormerConfig = field(default_factory=QFormerConfig)
    audio: QFormerConfig = field(default_factory=lambda: QFormerConfig(n_positions=8))
    fusion: FusionConfig = field(default_factory=FusionConfig)
    face: FaceConfig = field(default_factory=FaceConfig)
    lora: LoraSettings = field(default_factory=LoraSettings)
    fuses: Fuses = "frames"
    """What is fused with the voice: whole frames (the paper), or faces, for which a CPU has trained features."""
    face_px: int = 224
    """Side of the face crops the facial encoder gets."""
    face_margin: float | None = None
    """Room around the face that it learnt from, in sides of the face's box; wider crops are cut. None takes all."""
    max_tokens: int = 1024
    """Longest prompt in tokens; the dialogue is shortened from its oldest line, never the placeholders."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """Part (`lm`, `visual`, `acoustic`, `facial`) -> repository of its weights, where no package ships them."""
