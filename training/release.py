"""Make a checkpoint of trained adapters: calibrate its label tasks, measure it, write it: `python -m training.release`.

Calibration is vector scaling (Guo et al. 2017, arXiv:1706.04599), fitted on training splits; the figures of the
manifest are measured on validation splits that neither training nor calibration has seen.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from peft import PeftModel
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from model import processor as p
from model.build import NANO_EMOX_EMBEDDED, Manifest, save
from model.engine import LocalModel, Scaling
from model.heads import Choice
from model.nano_emox import NanoEmoX
from model.processor import Processor
from model.types import EMOTIONS, INTENTS, SENTIMENTS, ModelCard
from perception.types import UserTurn

from .data.text import Sample
from .text_phase import MAX_TOKENS, read_corpora

TASKS: dict[str, tuple[str, str, Sequence[str], Callable[[str], str]]] = {
    "emotion": (p.EMOTION_QUESTION, p.EMOTION_LEAD, EMOTIONS, " {}".format),
    "sentiment": (p.SENTIMENT_QUESTION, p.SENTIMENT_LEAD, SENTIMENTS, " {}".format),
    "intent": (p.INTENT_QUESTION, p.INTENT_LEAD, INTENTS, str),
}
"""Question, how the answer begins, labels, and how a label is written in the answer."""

N_BINS = 10


@dataclass(frozen=True)
class Scored:
    """Scores (N, n_labels) of N samples and their gold labels (N,) as indices."""

    scores: Tensor
    gold: Tensor


def score_samples(model: LocalModel, task: str, samples: Sequence[Sample]) -> Scored:
    """Score every label of a task for every sample."""
    question, lead, labels, written = TASKS[task]
    ids = [model.processor.ids(written(label)) for label in labels]
    rows, gold = [], []
    for sample in track(samples, description=f"{task}, {len(samples)} samples"):
        with torch.inference_mode():
            prefix = model.attend(UserTurn(sample.text))
            choice = Choice(prefix.whole, model.processor.question_ids(question, lead), ids)
            rows.append(model.score(prefix.cache, {task: choice})[task])
        answer = "".join(part for part, _ in sample.answer).removeprefix(lead).strip(" .")
        gold.append(list(labels).index(answer))
    return Scored(torch.stack(rows), torch.tensor(gold))


def fit_scaling(scored: Scored, penalty: float = 0.02) -> Scaling:
    """Weights and biases of least negative log-likelihood; the penalty holds rare labels near a plain softmax."""
    n_labels = scored.scores.shape[1]
    weight = torch.ones(n_labels, requires_grad=True)
    bias = torch.zeros(n_labels, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(weight * scored.scores + bias, scored.gold)
        loss = loss + penalty * ((weight - 1).square().mean() + bias.square().mean() / 10)
        loss.backward()
        return loss

    optimiser.step(closure)
    return Scaling(tuple(weight.tolist()), tuple(bias.tolist()))


def measure(scored: Scored, scaling: Scaling) -> dict[str, float]:
    """Accuracy, macro F1 over the labels that occur, and expected calibration error (10 equal bins)."""
    probabilities = (torch.tensor(scaling.weight) * scored.scores + torch.tensor(scaling.bias)).softmax(-1)
    confidence, chosen = probabilities.max(-1)
    right = (chosen == scored.gold).float()
    scores = []
    for label in scored.gold.unique():
        hits = ((chosen == label) & (scored.gold == label)).sum().item()
        scores.append(2 * hits / max(1, (chosen == label).sum().item() + (scored.gold == label).sum().item()))
    bins = (confidence * N_BINS).long().clamp(max=N_BINS - 1)
    ece = sum(
        float((bins == b).float().mean() * (right[bins == b].mean() - confidence[bins == b].mean()).abs())
        for b in bins.unique()
    )
    return {"accuracy": right.mean().item(), "macro_f1": sum(scores) / len(scores), "ece": ece}


def release(lm_folder: Path, lora: Path, data: Path, out: Path, n_samples: int, seed: int = 7) -> Manifest:
    """Calibrate, measure and write the checkpoint."""
    processor = Processor(AutoTokenizer.from_pretrained(lm_folder), NANO_EMOX_EMBEDDED.prompt, max_tokens=MAX_TOKENS)

    def fresh() -> PeftModel:
        lm: nn.Module = AutoModelForCausalLM.from_pretrained(lm_folder, dtype=torch.bfloat16)
        return PeftModel.from_pretrained(lm, str(lora))  # type: ignore[arg-type]

    merged = NanoEmoX(fresh().merge_and_unload())  # type: ignore[arg-type]
    model = LocalModel(merged, processor, ModelCard("nano_emox_embedded", "", frozenset({"text"})))
    known, unseen = read_corpora(data), read_corpora(data, validation=True)
    scaling: dict[str, Scaling] = {}
    metrics: dict[str, float] = {}
    for task in TASKS:
        draw = random.Random(f"{seed}/{task}")
        seen = [sample for sample in known if sample.task == task]
        draw.shuffle(seen)
        fitting = score_samples(model, task, seen[:n_samples])
        scaling[task] = fit_scaling(fitting)
        held_out = [sample for sample in unseen if sample.task == task]
        draw.shuffle(held_out)
        if held_out:
            found = measure(score_samples(model, task, held_out[:n_samples]), scaling[task])
            metrics |= {f"{task}_{name}": round(value, 4) for name, value in found.items()}
            metrics[f"{task}_n"] = min(n_samples, len(held_out))
    progress = json.loads((lora / "progress.json").read_text())
    today = datetime.now(UTC).date().isoformat()
    manifest = Manifest(
        variant="nano_emox_embedded",
        version=f"text-{today}",
        phase=f"3, text alone, {progress['step']} steps",
        modalities=("text",),
        data=("GoEmotions", "EmpatheticDialogues", "ESConv", "MELD", "ISEAR", "MIntRec", "MIntRec2.0", "RECCON"),
        date=today,
        licence="research and personal use: trained on CC BY-NC and research-only corpora",
        metrics=metrics,
        scaling={task: {"weight": list(s.weight), "bias": list(s.bias)} for task, s in scaling.items()},
    )
    lm = fresh()
    for name, parameter in lm.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(torch.bfloat16)
    return save(NanoEmoX(lm), out, manifest)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lm", type=Path, required=True, help="folder of the language model")
    parser.add_argument("--lora", type=Path, required=True, help="folder that training.text_phase wrote")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds text/ and text_restricted/")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the checkpoint")
    parser.add_argument("--samples", type=int, default=600, help="samples per task to fit and to measure on")
    options = parser.parse_args()
    manifest = release(options.lm, options.lora, options.data, options.out, options.samples)
    print(json.dumps(manifest.metrics, indent=1))


if __name__ == "__main__":
    main()
