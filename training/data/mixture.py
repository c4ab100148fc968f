"""What one training step sees: a function of the seed and the step alone, however many workers share it.

A mixture is a table of weights over ingredients:

    goemotions            any task of a corpus, evenly
    goemotions/emotion    one task of it
    voice                 emotions of one modality, from every corpus that has it alone; labels evenly
    voice+face            emotions put together from corpora of one modality each: a voice and a face that show the same
    text+voice            the same with words; some of the words are neutral, so that the voice decides

The reference keeps a fraction of each corpus once and then draws corpora evenly (section 3.6); `even` does that.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from perception.types import Modality

from . import questions as q
from .sample import Clip, Sample

NEUTRAL_WORDS = 0.4
"""Share of pairs with words in which the words are neutral, whatever voice and face show."""

SENTIMENTS = 0.15
"""Share of what is put together that is asked for its sentiment."""

PAIRED: Mapping[str, Modality] = {"text": "text", "voice": "voice", "face": "face"}


@dataclass(frozen=True)
class Drawn:
    """A sample, and which augmented view of its sound to use (0 as it is)."""

    sample: Sample
    view: int = 0


class Mixture:
    """Draws batches.

    Args:
        corpora: samples by corpus name.
        weights: ingredient -> weight; see the top of the file.
        seed: of all draws.
        views: corpus -> number of augmented views of its sounds.
        flatten: labels of label tasks are drawn by their frequency to this power: 1 as they are, 0 evenly.
        keep: corpus -> fraction of its samples that is kept at all, for parity with the reference.
        even: draw ingredients evenly.

    Raises:
        ValueError: an ingredient has no samples.
    """

    def __init__(
        self,
        corpora: Mapping[str, Sequence[Sample]],
        weights: Mapping[str, float],
        seed: int,
        *,
        views: Mapping[str, int] | None = None,
        flatten: float = 0.5,
        keep: Mapping[str, float] | None = None,
        even: bool = False,
    ) -> None:
        self._seed, self._views, self._flatten = seed, views or {}, flatten
        kept = {name: self._kept(name, samples, (keep or {}).get(name, 1.0)) for name, samples in corpora.items()}
        self._names = sorted(weights)
        self._weights = [1.0 if even else weights[name] for name in self._names]
        self._groups: dict[str, dict[str, dict[str, list[Sample]]]] = {}
        self._pools: dict[Modality, dict[str, list[Sample]]] = {}
        for name in self._names:
            if set(name.split("+")) <= set(PAIRED):
                self._pools = self._pools or _pools(kept)
                needs_neutral = "text" in name.split("+") and "neutral" not in self._pools.get("text", {})
                if needs_neutral or not self._common_labels(name):
                    raise ValueError(
                        f"nothing can be put together for {name}: add a corpus of each modality, and neutral words"
                    )
                continue
            corpus, _, task = name.partition("/")
            groups: dict[str, dict[str, list[Sample]]] = {}
            for sample in kept.get(corpus, ()):
                if task in ("", sample.task):
                    labels = groups.setdefault(sample.task, {})
                    labels.setdefault(sample.label if sample.task in LABELLED else "", []).append(sample)
            if not groups:
                raise ValueError(f"the mixture names {name}, of which there is no sample: correct the name or the data")
            self._groups[name] = groups

    def batch(self, step: int, size: int) -> list[Drawn]:
        """The `size` samples of a step, counted from 1."""
        draw = random.Random(f"{self._seed}/{step}")
        return [self._one(name, draw) for name in draw.choices(self._names, self._weights, k=size)]

    def _one(self, name: str, draw: random.Random) -> Drawn:
        if name not in self._groups:
            return self._pair(name, draw)
        tasks = self._groups[name]
        labels = tasks[draw.choice(sorted(tasks))]
        sample = draw.choice(labels[self._label(labels, draw)])
        return Drawn(sample, self._view(sample, draw))

    def _pair(self, name: str, draw: random.Random) -> Drawn:
        modalities = [PAIRED[part] for part in name.split("+")]
        label = draw.choice(self._common_labels(name))
        text, clip, view = "", Clip(), 0
        for modality in modalities:
            if modality == "text":
                spoken = "neutral" if draw.random() < NEUTRAL_WORDS else label
                text = draw.choice(self._pools["text"][spoken]).text
                continue
            sample = draw.choice(self._pools[modality][label])
            if modality == "voice":
                clip, view = replace(clip, sound=sample.clip.sound), self._view(sample, draw)
            else:
                clip = replace(clip, pictures=sample.clip.pictures, cropped=sample.clip.cropped)
        asked = q.emotion(text, label)
        if draw.random() < SENTIMENTS:
            asked = q.sentiment_of(text, label)
        return Drawn(replace(asked, clip=clip, corpus=name), view)

    def _common_labels(self, name: str) -> list[str]:
        found = [set(self._pools.get(PAIRED[part], {})) for part in name.split("+")]
        return sorted(set.intersection(*found))

    def _label(self, labels: Mapping[str, list[Sample]], draw: random.Random) -> str:
        names = sorted(labels)
        return draw.choices(names, [len(labels[name]) ** self._flatten for name in names])[0]

    def _view(self, sample: Sample, draw: random.Random) -> int:
        return draw.randint(0, self._views.get(sample.corpus, 0)) if sample.clip.sound else 0

    def _kept(self, name: str, samples: Sequence[Sample], fraction: float) -> Sequence[Sample]:
        if fraction >= 1:
            return samples
        return random.Random(f"{self._seed}/{name}").sample(list(samples), max(1, round(fraction * len(samples))))


LABELLED = frozenset({"emotion", "sentiment", "intent"})
"""Tasks whose answers are labels of a small set."""


def _pools(corpora: Mapping[str, Sequence[Sample]]) -> dict[Modality, dict[str, list[Sample]]]:
    """Emotion samples of one modality alone, by modality and label."""
    pools: dict[Modality, dict[str, list[Sample]]] = {}
    for samples in corpora.values():
        for sample in samples:
            has: dict[Modality, bool] = {
                "text": bool(sample.text),
                "voice": sample.clip.sound is not None,
                "face": sample.clip.pictures is not None,
            }
            there = [modality for modality, is_there in has.items() if is_there]
            if sample.task == "emotion" and len(there) == 1 and not sample.history:
                pools.setdefault(there[0], {}).setdefault(sample.label, []).append(sample)
    return pools
