"""Drawn samples become tensors: rows of like length go through the model together, whatever modalities they have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.encoders.features import Features
from model.nano_emox import IGNORED, EncoderOutputs, NanoEmoX, SoftTokens
from model.processor import Processor

from .data.features import stack
from .data.mixture import Drawn

Fetch = Callable[[Drawn], EncoderOutputs]
"""What the frozen encoders gave for a drawn sample (B = 1): from the cache, or encoded now."""


@dataclass(frozen=True)
class Row:
    """One sample as ids and labels, with what its encoders gave and the slots that will be filled."""

    ids: list[int]
    labels: list[int]
    features: EncoderOutputs
    slots: tuple[str, ...]

    @property
    def n_supervised(self) -> int:
        """Tokens that are predicted and scored."""
        return sum(label != IGNORED for label in self.labels[1:])


@dataclass(frozen=True)
class Clips:
    """Rows of a portion (indices) that fill the same slots, and what their encoders gave."""

    rows: tuple[int, ...]
    slots: tuple[str, ...]
    features: EncoderOutputs


@dataclass(frozen=True)
class Portion:
    """Rows that go through the model together; tensors (B, L), right-padded. `weights` (B,) weigh a row's tokens."""

    ids: Tensor
    labels: Tensor
    mask: Tensor
    weights: Tensor
    clips: tuple[Clips, ...]

    def soft_tokens(self, model: NanoEmoX, device: torch.device) -> SoftTokens:
        """Each slot's soft tokens for the rows that fill it, in their order."""
        found: dict[str, dict[int, Tensor]] = {}
        for clips in self.clips:
            soft = model.soft_tokens(moved(clips.features, device))
            for slot in clips.slots:
                found.setdefault(slot, {}).update(zip(clips.rows, soft.tokens[slot], strict=True))
        return SoftTokens({slot: torch.stack([rows[i] for i in sorted(rows)]) for slot, rows in found.items()})


def row(drawn: Drawn, model: NanoEmoX, processor: Processor, fetch: Fetch, reads: Collection[str]) -> Row:
    """Header, slots, dialogue, words, question, answer and stop token; labels only where the answer is supervised.

    `reads` are the slots that the phase fills.
    """
    sample = drawn.sample
    has_clip = sample.clip.sound is not None or sample.clip.pictures is not None
    features = fetch(drawn) if has_clip and model.slots else EncoderOutputs()
    counts = {slot: n for slot, n in model.slot_counts(features).items() if slot in reads}
    ids = [
        *processor.header_ids(),
        *processor.prefix_ids(counts, sample.text, sample.history),
        *processor.question_ids(sample.question),
    ]
    labels = [IGNORED] * len(ids)
    for part, supervised in (*sample.answer, (processor.style.stop, True)):
        part_ids = processor.ids(part)
        ids += part_ids
        labels += part_ids if supervised else [IGNORED] * len(part_ids)
    return Row(ids, labels, features, tuple(counts))


def portions(rows: Sequence[Row], size: int) -> Iterator[Portion]:
    """Split a batch by length, so that little is padded.

    A row's tokens weigh one over the square root of their number: a label of one token would drown beside replies of
    thirty if tokens weighed the same, and replies beside labels if rows did.
    """
    ordered = sorted(rows, key=lambda each: len(each.ids))
    for start in range(0, len(ordered), size):
        yield _collate(ordered[start : start + size])


def weight(row: Row) -> float:
    """What one supervised token of the row weighs."""
    return max(1, row.n_supervised) ** -0.5


def _collate(rows: Sequence[Row]) -> Portion:
    lengths = torch.tensor([len(row.ids) for row in rows])
    ids = pad_sequence([torch.tensor(row.ids) for row in rows], batch_first=True)
    labels = pad_sequence([torch.tensor(row.labels) for row in rows], batch_first=True, padding_value=IGNORED)
    by_slots: dict[tuple[str, ...], list[int]] = {}
    for i, row in enumerate(rows):
        if row.slots:
            by_slots.setdefault(row.slots, []).append(i)
    return Portion(
        ids,
        labels,
        torch.arange(ids.shape[1]) < lengths[:, None],
        torch.tensor([weight(row) for row in rows]),
        tuple(Clips(tuple(at), slots, stacked([rows[i].features for i in at])) for slots, at in by_slots.items()),
    )


def stacked(rows: Sequence[EncoderOutputs]) -> EncoderOutputs:
    """Encoder outputs of several clips as one batch, of the modalities that all of them have."""
    given = {part: [getattr(row, part) for row in rows] for part in ("visual", "acoustic", "facial")}
    return EncoderOutputs(**{part: stack(each) for part, each in given.items() if all(e is not None for e in each)})


def moved(outputs: EncoderOutputs, device: torch.device) -> EncoderOutputs:
    """The same on another device."""

    def on(one: Features | None) -> Features | None:
        if one is None:
            return None
        return Features(one.hidden.to(device), tuple(scale.to(device) for scale in one.scales), one.mask.to(device))

    return EncoderOutputs(on(outputs.visual), on(outputs.acoustic), on(outputs.facial))
