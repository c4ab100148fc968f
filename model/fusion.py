"""Hierarchical experts: speech asks vision at three depths, and a gate weighs the answers (section 2.6)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .encoders.features import Features

N_EXPERTS = 3


class Expert(nn.Module):
    """Cross-attention from audio to video at one depth, then a residual feed-forward."""

    def __init__(self, width: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, n_heads, dropout, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, audio: Tensor, video: Tensor) -> Tensor:
        """Audio and video (B, T, D) -> (B, T, D)."""
        crossed, _ = self.attention(audio, video, video, need_weights=False)
        mixed = crossed + audio
        return mixed + self.outer(self.dropout(F.gelu(self.inner(self.norm(mixed)))))


class ExpertFusion(nn.Module):
    """Three experts and their gate; one fused vector per clip."""

    def __init__(
        self,
        audio_widths: tuple[int, ...],
        video_widths: tuple[int, ...],
        lm_width: int,
        *,
        width: int = 512,
        n_heads: int = 8,
        dropout: float = 0.1,
        share_inputs: bool = True,
    ) -> None:
        super().__init__()
        self.audio_in = _inputs(audio_widths, width, share_inputs)
        self.video_in = _inputs(video_widths, width, share_inputs)
        self.experts = nn.ModuleList(Expert(width, n_heads, dropout) for _ in range(N_EXPERTS))
        self.gate = nn.Sequential(
            nn.Linear(N_EXPERTS * width, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, N_EXPERTS)
        )
        self.projection = nn.Linear(width, lm_width)

    def forward(self, audio: Features, video: Features) -> tuple[Tensor, Tensor]:
        """Fuse the three scales of both modalities.

        Args:
            audio, video: scales of three tensors (B, T, D_i) over the same T steps.

        Returns:
            soft token (B, 1, D_lm) and gate weights (B, 3), which sum to 1.
        """
        dtype = self.projection.weight.dtype
        mixed = []
        for i, expert in enumerate(self.experts):
            a = self.audio_in[i % len(self.audio_in)](audio.scales[i].to(dtype))
            v = self.video_in[i % len(self.video_in)](video.scales[i].to(dtype))
            mixed.append(expert(a, v))
        weights = self.gate(torch.cat(mixed, dim=-1).mean(1)).softmax(-1)  # (B, 3)
        fused = torch.einsum("be,ebtd->btd", weights, torch.stack(mixed)).mean(1)  # (B, D)
        return self.projection(fused)[:, None], weights


def _inputs(widths: tuple[int, ...], width: int, share: bool) -> nn.ModuleList:
    """Input projections: one for all experts, or one each when shared weights are off or the widths differ."""
    if share and len(set(widths)) == 1:
        return nn.ModuleList([nn.Linear(widths[0], width)])
    return nn.ModuleList(nn.Linear(w, width) for w in widths)
