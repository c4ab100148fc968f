"""Teach the language model's LoRA the six tasks on text alone: `python -m training.text_phase --help`.

The part of phase 3 (section 3.1) that needs no clip. It mixes tasks inside every batch by fixed weights, supervises
answers only, and saves the adapters as safetensors with a manifest that says what they were trained on.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.adapters import add_lora
from model.build import NANO_EMOX_EMBEDDED
from model.config import CHATML
from model.nano_emox import IGNORED, NanoEmoX
from model.processor import Processor

from .data import text
from .data.text import Sample
from .freeze import freeze

PORTION = 4
"""Samples that go through the model together; a batch mixes answers of one word with whole replies."""

MAX_TOKENS = 160
"""Of dialogue and words; older lines are dropped."""

Reader = Callable[[Path, str], Iterator[Sample]]

CORPORA: tuple[tuple[Reader, str, str], ...] = (
    (text.goemotions, "text/goemotions", "dev"),
    (text.situations, "text/empathetic_dialogues", ""),  # `dialogues` trains on the situations of this split
    (text.labelled, "text_restricted/meld", "dev"),
    (text.labelled, "text_restricted/isear", ""),
    (text.intents, "text_restricted/mintrec", ""),
    (text.intents, "text_restricted/mintrec2", ""),
    (text.causes, "text_restricted/reccon_dailydialog", "valid"),
    (text.dialogues, "text/empathetic_dialogues", "valid"),
    (text.support, "text/esconv", "valid"),
)
"""Reader, folder under the data folder, and the name of its validation split where it has one."""

TASK_WEIGHTS = {
    "emotion": 0.28, "sentiment": 0.08, "open": 0.10, "intent": 0.10, "cause": 0.08, "scenario": 0.06, "empathy": 0.30,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """One run; `steps` batches of `batch` samples, learning rate warmed up, then a cosine to a tenth."""

    data: Path
    lm: Path
    out: Path
    start: Path | None = None
    """Adapters to go on from, with a fresh optimiser; by default new ones."""
    steps: int = 1000
    batch: int = 8
    lr: float = 5e-4
    warmup: int = 50
    seed: int = 42
    save_every: int = 100


class Mixture:
    """Samples by task; labels of a label task are drawn evenly to the power `flatten` of their frequency."""

    def __init__(self, samples: list[Sample], seed: int, flatten: float = 0.5) -> None:
        self._seed = seed
        self._by_task: dict[str, dict[str, list[Sample]]] = {}
        for sample in samples:
            label = "".join(part for part, _ in sample.answer) if sample.task in {"emotion", "sentiment"} else ""
            self._by_task.setdefault(sample.task, {}).setdefault(label, []).append(sample)
        self._tasks = sorted(set(self._by_task) & set(TASK_WEIGHTS))
        self._weights = [TASK_WEIGHTS[task] for task in self._tasks]
        self._labels = {task: sorted(groups) for task, groups in self._by_task.items()}
        self._label_weights = {
            task: [len(self._by_task[task][label]) ** flatten for label in labels]
            for task, labels in self._labels.items()
        }

    def batch(self, step: int, size: int) -> list[Sample]:
        """The samples of one step: a function of the seed and the step alone."""
        draw = random.Random(f"{self._seed}/{step}")
        chosen = []
        for task in draw.choices(self._tasks, self._weights, k=size):
            (label,) = draw.choices(self._labels[task], self._label_weights[task])
            chosen.append(draw.choice(self._by_task[task][label]))
        return chosen


def read_corpora(data: Path, *, validation: bool = False) -> list[Sample]:
    """All samples of the training splits, or of the validation splits.

    Raises:
        FileNotFoundError: a corpus folder is missing.
    """
    samples: list[Sample] = []
    for reader, folder, valid in CORPORA:
        if not validation:
            samples += reader(data / folder, "train")
        elif valid:
            samples += reader(data / folder, valid)
    return samples


def tokens(sample: Sample, processor: Processor) -> tuple[list[int], list[int]]:
    """Ids and labels of one sample: header, dialogue, question, answer, stop; labels only on supervised parts."""
    ids = [
        *processor.header_ids(),
        *processor.prefix_ids({}, sample.text, sample.history),
        *processor.question_ids(sample.question),
    ]
    labels = [IGNORED] * len(ids)
    for part, supervised in (*sample.answer, (processor.style.stop, True)):
        part_ids = processor.ids(part)
        ids += part_ids
        labels += part_ids if supervised else [IGNORED] * len(part_ids)
    return ids, labels


def collate(samples: list[Sample], processor: Processor) -> tuple[Tensor, Tensor, Tensor]:
    """Right-padded ids, labels and mask, each (B, L)."""
    rows = [tokens(sample, processor) for sample in samples]
    ids = pad_sequence([torch.tensor(row[0]) for row in rows], batch_first=True)
    labels = pad_sequence([torch.tensor(row[1]) for row in rows], batch_first=True, padding_value=IGNORED)
    mask = torch.arange(ids.shape[1]) < torch.tensor([len(row[0]) for row in rows])[:, None]
    return ids, labels, mask


def train(settings: Settings) -> None:
    """Run the phase from the language model's own weights and write the adapters to `settings.out`."""
    torch.manual_seed(settings.seed)
    processor = Processor(AutoTokenizer.from_pretrained(settings.lm), CHATML, max_tokens=MAX_TOKENS)
    base: nn.Module = AutoModelForCausalLM.from_pretrained(settings.lm, dtype=torch.bfloat16)
    if settings.start is None:
        lm = add_lora(base, NANO_EMOX_EMBEDDED.lora)
    else:
        lm = PeftModel.from_pretrained(base, str(settings.start), is_trainable=True)  # type: ignore[arg-type]
    model = NanoEmoX(lm).train()
    freeze(model, "3")
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=settings.lr, betas=(0.9, 0.98), weight_decay=0.01)
    mixture = Mixture(read_corpora(settings.data), settings.seed)
    print(f"{sum(p.numel() for p in trained):,} trained parameters", flush=True)

    mean_loss, started, seen = 0.0, time.monotonic(), 0
    for step in range(1, settings.steps + 1):
        for group in optimiser.param_groups:
            group["lr"] = settings.lr * schedule(step, settings.steps, settings.warmup)
        loss = 0.0
        for ids, labels, mask, share in portions(mixture.batch(step, settings.batch), processor):
            part = share * model.loss(lm.get_input_embeddings()(ids), labels, mask)
            part.backward()
            loss += part.item()
            seen += int(mask.sum())
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss became {loss} at step {step}: lower --lr")
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        mean_loss += (loss - mean_loss) * max(0.02, 1 / step)
        if step % 10 == 0:
            rate = seen / (time.monotonic() - started)
            print(f"step {step}/{settings.steps} loss {mean_loss:.3f} {rate:.0f} tokens/s", flush=True)
        if step % settings.save_every == 0 or step == settings.steps:
            settings.out.mkdir(parents=True, exist_ok=True)
            lm.save_pretrained(settings.out)
            facts = {"step": step, "loss": mean_loss, "seconds": time.monotonic() - started, "tokens": seen}
            (settings.out / "progress.json").write_text(json.dumps(facts))


def portions(
    samples: list[Sample], processor: Processor, size: int = PORTION
) -> Iterator[tuple[Tensor, Tensor, Tensor, float]]:
    """A batch in portions of like length, each with its share of the supervised tokens: little padding, same loss."""
    ordered = sorted(samples, key=lambda sample: len(tokens(sample, processor)[0]))
    parts = [collate(ordered[i : i + size], processor) for i in range(0, len(ordered), size)]
    n_supervised = [int((labels[:, 1:] != IGNORED).sum()) for _, labels, _ in parts]
    for (ids, labels, mask), n in zip(parts, n_supervised, strict=True):
        yield ids, labels, mask, n / sum(n_supervised)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then a cosine down to a tenth."""
    if step < warmup:
        return step / warmup
    return 0.55 + 0.45 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))


def main() -> None:
    """Command line: one flag per setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds text/ and text_restricted/")
    parser.add_argument("--lm", type=Path, required=True, help="folder of the language model")
    parser.add_argument("--out", type=Path, required=True, help="folder for the adapters")
    parser.add_argument("--start", type=Path, help="adapters to go on from, such as an earlier --out")
    parser.add_argument("--seed", type=int, default=Settings.seed)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--lr", type=float, default=Settings.lr)
    train(Settings(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
