"""Query tokens cross-attend to the steps of an encoder (BLIP-2, arXiv:2301.12597, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .encoders.features import Features


class QFormerLayer(nn.Module):
    """Self-attention over the queries, cross-attention to the features, feed-forward; post-norm as in BERT."""

    def __init__(self, width: int, n_heads: int, ffn_width: int, feature_width: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = nn.MultiheadAttention(width, n_heads, dropout, batch_first=True)
        self.self_norm = nn.LayerNorm(width, eps=1e-12)
        self.cross_attention = nn.MultiheadAttention(
            width, n_heads, dropout, kdim=feature_width, vdim=feature_width, batch_first=True
        )
        self.cross_norm = nn.LayerNorm(width, eps=1e-12)
        self.ffn = nn.Sequential(nn.Linear(width, ffn_width), nn.GELU(), nn.Linear(ffn_width, width))
        self.ffn_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, features: Tensor, mask: Tensor) -> Tensor:
        """Queries (B, N, D), features (B, T, D_enc), mask (B, T) True = valid -> (B, N, D)."""
        mixed, _ = self.self_attention(queries, queries, queries, need_weights=False)
        queries = self.self_norm(queries + self.dropout(mixed))
        read, _ = self.cross_attention(queries, features, features, key_padding_mask=~mask, need_weights=False)
        queries = self.cross_norm(queries + self.dropout(read))
        return self.ffn_norm(queries + self.dropout(self.ffn(queries)))


class Standardise(nn.Module):
    """Each feature minus its mean over its deviation, both learned; `start_at` sets them from data.

    A few features of Whisper are a hundred times larger than the others and would rule a LayerNorm.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.ones(width))

    @torch.no_grad()
    def start_at(self, features: Tensor) -> None:
        """Zero mean and unit variance over features (N, D)."""
        self.shift.copy_(features.mean(0))
        self.scale.copy_(1 / (features.std(0) + 1e-3))

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return (x - self.shift) * self.scale


class QFormer(nn.Module):
    """Learned queries, temporal positions, the layers and the projection into the language model."""

    def __init__(
        self,
        feature_width: int,
        lm_width: int,
        *,
        n_queries: int = 32,
        width: int = 768,
        n_layers: int = 2,
        n_heads: int = 12,
        ffn_width: int = 3072,
        dropout: float = 0.1,
        n_positions: int = 32,
        narrow: bool = False,
    ) -> None:
        super().__init__()
        self.feature_width = feature_width
        self.narrow = (
            nn.Sequential(Standardise(feature_width), nn.Dropout(dropout), nn.Linear(feature_width, width))
            if narrow
            else nn.Identity()
        )
        feature_width = width if narrow else feature_width
        self.queries = nn.Parameter(torch.empty(n_queries, width))
        self.positions = nn.Embedding(n_positions, feature_width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            QFormerLayer(width, n_heads, ffn_width, feature_width, dropout) for _ in range(n_layers)
        )
        self.projection = nn.Linear(width, lm_width)
        self._initialise()

    def _initialise(self) -> None:
        """N(0, 0.02) for every matrix, zero for every bias: BERT's initialisation, no pretrained weights."""
        for name, parameter in self.named_parameters():
            if "norm" in name or name.startswith("narrow.0."):
                continue
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)
            else:
                nn.init.zeros_(parameter)

    def forward(self, features: Features) -> Tensor:
        """Compress T feature steps into N soft tokens.

        Args:
            features: hidden (B, T, D_enc), mask (B, T) bool, True = valid; every row needs one valid step.

        Returns:
            (B, N, D_lm).

        Raises:
            ValueError: D_enc or T does not fit the branch.
        """
        hidden = features.hidden.to(self.queries.dtype)
        n_steps, width = hidden.shape[1:]
        if width != self.feature_width or n_steps > self.positions.num_embeddings:
            raise ValueError(
                f"hidden is {tuple(hidden.shape)}, expected width {self.feature_width} and at most "
                f"{self.positions.num_embeddings} steps; the encoder and Q-Former configs disagree"
            )
        hidden = self.narrow(hidden)
        hidden = hidden + self.positions.weight[:n_steps]
        queries = self.dropout(self.norm(self.queries)).expand(len(hidden), -1, -1)
        for layer in self.layers:
            queries = layer(queries, hidden, features.mask)
        return self.projection(queries)
