"""A branch learns to tell labels apart before it speaks to the language model.

Through a frozen language model a new branch learns slowly: thirty layers lie between it and the label. So its soft
tokens are first read by a linear classifier, which is then thrown away; this costs seconds, and the phase that follows
only has to put what is told apart into the language model's own terms. With mixup (arXiv:1710.09412), because
corpora of acted voices are small.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.features import Features
from model.nano_emox import EncoderOutputs, NanoEmoX

from .batch import Fetch, moved, stacked
from .data.mixture import Mixture

BATCH = 64
LR = 5e-4
MIXUP = 0.3
SMOOTHING = 0.1


def warm_up(
    model: NanoEmoX, reads: Collection[str], mixture: Mixture, fetch: Fetch, steps: int, weight_decay: float
) -> float:
    """Train the branches that now learn on the labels of what a mixture draws; the mean loss of the last tenth.

    Args:
        reads: slots whose soft tokens are classified, all together.
        mixture: of label tasks whose samples all have a clip that fills the slots.
    """
    drawn = mixture.batch(0, 4096)
    labels = sorted({each.sample.label for each in drawn if each.sample.task == "emotion"})
    table = model.lm.get_input_embeddings().weight
    width, device = table.shape[1], table.device
    heads = nn.ModuleDict({slot: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, len(labels))) for slot in reads})
    heads.to(device)
    trained = [p for name, p in model.named_parameters() if p.requires_grad and "lora_" not in name]
    optimiser = torch.optim.AdamW([*trained, *heads.parameters()], lr=LR, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, total_steps=steps)
    if model.audio is not None and "audio" in reads and isinstance(model.audio.narrow, nn.Sequential):
        seen = torch.cat([fetch(each).acoustic.hidden[0] for each in drawn[:1024]])  # type: ignore[union-attr]
        model.audio.narrow[0].start_at(seen)  # type: ignore[operator]
    model.train()
    tail: list[float] = []
    for step in track(range(1, steps + 1), "warming up", console=Console(stderr=True)):
        torch.manual_seed(step)
        chosen = [each for each in mixture.batch(-step, BATCH) if each.sample.task == "emotion"]
        share = float(torch.distributions.Beta(MIXUP, MIXUP).sample())
        order = torch.randperm(len(chosen))
        features = _mixed(stacked([fetch(each) for each in chosen]), share, order)
        soft = model.soft_tokens(moved(features, device))
        logits = torch.stack([heads[slot](soft.tokens[slot].float().mean(1)) for slot in reads if slot in soft.tokens])
        gold = torch.tensor([labels.index(each.sample.label) for each in chosen], device=device)
        loss = _loss(logits, gold) * share + _loss(logits, gold[order.to(device)]) * (1 - share)
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        tail = [*tail, loss.item()][-max(1, steps // 10) :]
    return sum(tail) / len(tail)


def _loss(logits: Tensor, gold: Tensor) -> Tensor:
    """Mean over the slots' classifiers of their cross-entropy; logits (n_slots, B, n_labels)."""
    return F.cross_entropy(logits.flatten(0, 1), gold.repeat(len(logits)), label_smoothing=SMOOTHING)


def _mixed(features: EncoderOutputs, share: float, order: Tensor) -> EncoderOutputs:
    def mixed(one: Features | None) -> Features | None:
        if one is None:
            return None
        scales = tuple(share * scale + (1 - share) * scale[order] for scale in one.scales)
        return Features(share * one.hidden + (1 - share) * one.hidden[order], scales, one.mask & one.mask[order])

    return EncoderOutputs(mixed(features.visual), mixed(features.acoustic), mixed(features.facial))
