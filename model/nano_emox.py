"""Nano-EmoX: frozen encoders, trained branches, one language model (arXiv 2603.02123; section 2).

    frames -> visual   -> Q-Former   -> 32 tokens  frame
    speech -> acoustic -> Q-Former   -> 32 tokens  audio
    faces  -> facial   -> attention  ->  4 tokens  face
    speech and frames at three depths -> experts -> 1 token  multi
    text ------------------------------> embeddings

`embed` splices the soft tokens into the prompt's embeddings; the loss and generation both use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .adapters import FaceAdapter
from .config import Fuses
from .encoders.features import Encoder, Features
from .fusion import ExpertFusion
from .graphs import side_by_side
from .processor import SLOTS, Inputs
from .qformer import QFormer

IGNORED = -100
"""Label of tokens that are not supervised."""


@dataclass(frozen=True)
class EncoderOutputs:
    """What the frozen encoders give: all that training needs, and what the feature cache keeps."""

    visual: Features | None = None
    acoustic: Features | None = None
    facial: Features | None = None


@dataclass(frozen=True)
class SoftTokens:
    """Soft tokens by slot, each (B, n, D_lm); `gates` (B, 3) are the experts' weights where `multi` is there, `voice`
    (B, n_classes) what an acoustic encoder with classes says of them.
    """

    tokens: dict[str, Tensor]
    gates: Tensor | None = None
    voice: Tensor | None = None

    def counts(self) -> dict[str, int]:
        """Slot -> number of soft tokens."""
        return {slot: tokens.shape[1] for slot, tokens in self.tokens.items()}


class NanoEmoX(nn.Module):
    """The whole model. A branch given as None was not trained or is not needed; its slots then do not exist.

    `lm` is a transformers causal language model, with or without peft's adapters around it; `fuses` says whether voice
    is fused with whole frames, as in the paper, or with faces.
    """

    lm: Any

    def __init__(
        self,
        lm: nn.Module,
        *,
        visual: nn.Module | None = None,
        acoustic: nn.Module | None = None,
        facial: nn.Module | None = None,
        video: QFormer | None = None,
        audio: QFormer | None = None,
        face: FaceAdapter | None = None,
        fusion: ExpertFusion | None = None,
        fuses: Fuses = "frames",
    ) -> None:
        super().__init__()
        self.fuses = fuses
        self.visual, self.acoustic, self.facial = visual, acoustic, facial
        self.video, self.audio, self.face, self.fusion = video, audio, face, fusion
        self.lm = lm

    @property
    def slots(self) -> frozenset[str]:
        """Slots this model can fill."""
        there = {"multi": self.fusion, "audio": self.audio, "face": self.face, "frame": self.video}
        return frozenset(slot for slot, branch in there.items() if branch is not None)

    @torch.no_grad()
    def encode(self, inputs: Inputs) -> EncoderOutputs:
        """Run the frozen encoders on what is there."""

        def run(encoder: nn.Module | None) -> Features | None:
            given = getattr(inputs, str(encoder.reads)) if encoder is not None else None
            return encoder(given) if encoder is not None and given is not None else None

        return EncoderOutputs(*side_by_side(*(partial(run, one) for one in (self.visual, self.acoustic, self.facial))))

    def soft_tokens(self, features: EncoderOutputs) -> SoftTokens:
        """Run the trained branches on encoder outputs, live or from the cache."""
        acoustic, facial, visual = features.acoustic, features.facial, features.visual
        seen = visual if self.fuses == "frames" else facial
        asked: dict[str, Callable[[], Any]] = {}
        if self.fusion is not None and acoustic is not None and seen is not None:
            asked["multi"] = partial(self.fusion, acoustic, seen)
        if self.audio is not None and acoustic is not None:
            asked["audio"] = partial(self.audio, acoustic)
        if self.face is not None and facial is not None:
            asked["face"] = partial(self.face, facial)
        if self.video is not None and visual is not None:
            asked["frame"] = partial(self.video, visual)
        tokens: dict[str, Any] = dict(zip(asked, side_by_side(*asked.values()), strict=True))
        gates = None
        if "multi" in tokens:
            tokens["multi"], gates = tokens["multi"]
        heard = acoustic if isinstance(self.acoustic, Encoder) and self.acoustic.classes else None
        voice = None if heard is None else heard.hidden[:, 0]
        return SoftTokens(tokens, gates, voice)

    def slot_counts(self, features: EncoderOutputs) -> dict[str, int]:
        """Slot -> number of soft tokens that `soft_tokens` will give for these encoder outputs."""
        seen = features.visual if self.fuses == "frames" else features.facial
        there = {
            "multi": 1 if self.fusion is not None and features.acoustic is not None and seen is not None else 0,
            "audio": len(self.audio.queries) if self.audio is not None and features.acoustic is not None else 0,
            "face": len(self.face.queries) if self.face is not None and features.facial is not None else 0,
            "frame": len(self.video.queries) if self.video is not None and features.visual is not None else 0,
        }
        return {slot: there[slot] for slot in SLOTS if there[slot]}

    def embed(self, ids: Tensor, soft: SoftTokens, placeholders: dict[str, int]) -> Tensor:
        """Embeddings of a prompt with its soft tokens in place.

        Args:
            ids: (B, L) token ids, in which `placeholders[slot]` stands once for each soft token of that slot; on the
                CPU they spare a GPU from being waited for.
            soft: the soft tokens, of each slot for those of the B rows that have its placeholders, in their order.

        Returns:
            (B, L, D_lm).

        Raises:
            ValueError: a slot has another number of placeholders than of soft tokens.
        """
        table = self.lm.get_input_embeddings()
        embeddings = table(ids.clamp(max=table.num_embeddings - 1).to(table.weight.device, non_blocking=True))
        for slot, placeholder in placeholders.items():
            at = ids == placeholder
            filled = at.any(1)
            tokens = soft.tokens.get(slot)
            n_rows, n = (0, 0) if tokens is None else tokens.shape[:2]
            if int(filled.sum()) != n_rows or not (at.sum(1)[filled] == n).all():
                raise ValueError(
                    f"slot {slot} has {at.sum(1).tolist()} placeholders for {n} soft tokens in each of {n_rows} rows"
                )
            if tokens is not None:
                there = at[..., None].to(embeddings.device, non_blocking=True)
                embeddings = embeddings.masked_scatter(there, tokens.to(embeddings.dtype).flatten(0, 1))
        return embeddings

    def token_losses(self, embeddings: Tensor, labels: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Next-token cross-entropy of each supervised token.

        Args:
            embeddings: (B, L, D_lm), right-padded.
            labels: (B, L) token ids, `IGNORED` on prompt and padding.
            mask: (B, L) bool from the rows' lengths, True = a real token (a real end token included).

        Returns:
            losses (N,) float32 of the N supervised tokens, and the row (N,) each belongs to.
        """
        causal = self.lm.get_base_model() if hasattr(self.lm, "get_base_model") else self.lm
        hidden = causal.model(inputs_embeds=embeddings, attention_mask=mask.long(), use_cache=False).last_hidden_state
        supervised = labels[:, 1:] != IGNORED
        logits = causal.lm_head(hidden[:, :-1][supervised])  # only where a label is: the head is the widest layer
        losses = F.cross_entropy(logits.float(), labels[:, 1:][supervised], reduction="none")
        return losses, supervised.nonzero()[:, 0]

    def loss(self, embeddings: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        """Mean of `token_losses` (section 2.9)."""
        return self.token_losses(embeddings, labels, mask)[0].mean()
