"""The face adapter and LoRA: the light ways into the language model (section 2.7)."""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from .config import LoraSettings
from .encoders.features import Features


class FaceAdapter(nn.Module):
    """Four queries attend over the frames' face vectors; a two-layer perceptron lifts them to the language model."""

    def __init__(
        self,
        feature_width: int,
        lm_width: int,
        *,
        width: int = 256,
        n_queries: int = 4,
        n_heads: int = 4,
        adapter_width: int = 768,
        dropout: float = 0.1,
        time_embed: bool = False,
        n_positions: int = 32,
    ) -> None:
        super().__init__()
        if feature_width != width:
            raise ValueError(f"the face encoder gives width {feature_width}, the face adapter expects {width}")
        self.queries = nn.Parameter(torch.randn(n_queries, width))
        self.positions = nn.Embedding(n_positions, width) if time_embed else None
        self.attention = nn.MultiheadAttention(width, n_heads, batch_first=True)
        self.projection = nn.Sequential(
            nn.Linear(width, adapter_width), nn.GELU(), nn.Dropout(dropout), nn.Linear(adapter_width, lm_width)
        )

    def forward(self, features: Features) -> Tensor:
        """Features hidden (B, T, D) -> soft tokens (B, N, D_lm)."""
        hidden = features.hidden.to(self.queries.dtype)
        if self.positions is not None:
            hidden = hidden + self.positions.weight[: hidden.shape[1]]
        queries = self.queries.expand(len(hidden), -1, -1)
        read, _ = self.attention(queries, hidden, hidden, key_padding_mask=~features.mask, need_weights=False)
        return self.projection(read)


def add_lora(lm: nn.Module, settings: LoraSettings) -> PeftModel:
    """Wrap the language model with trainable low-rank adapters; its own weights are frozen by `training.freeze`."""
    return get_peft_model(
        lm,  # type: ignore[arg-type]  # any transformers causal model
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=list(settings.targets),
            bias="none",
            task_type="CAUSAL_LM",
        ),
    )
