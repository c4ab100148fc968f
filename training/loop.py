"""One phase, top to bottom: draw, encode or fetch, lose, reduce, clip, step; evaluate, save, and go on after a stop.

Every step is a function of the configuration, the seed and its number: what is drawn, and the random numbers of
dropout. So a run that was killed goes on from its last save as if nothing had happened, and two processes that share
a batch compute what one with the whole batch does.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file
from torch import Tensor, nn

from model.nano_emox import NanoEmoX
from model.processor import Processor

from .batch import Fetch, Portion, Row, portions, row, weight
from .config import RunConfig
from .curriculum import READS, learning_rate
from .data.mixture import LABELLED, Drawn, Mixture
from .data.sample import Sample
from .files import save_tensors, write_bytes
from .freeze import freeze, frozen_hash
from .warm_up import warm_up

Log = Callable[[dict[str, Any]], None]


class TrainingError(RuntimeError):
    """Training that cannot go on, said in one sentence."""


@dataclass(frozen=True)
class Progressed:
    """What a phase came to: its folder, the last step, and the validation figures after it."""

    folder: Path
    step: int
    figures: dict[str, float]


def train_phase(
    name: str,
    config: RunConfig,
    model: NanoEmoX,
    processor: Processor,
    mixture: Mixture,
    validation: Sequence[Sample],
    fetch: Fetch,
    folder: Path,
    *,
    accelerator: Accelerator | None = None,
    log: Log = lambda figures: None,
) -> Progressed:
    """Train what the phase trains; `folder` gets `last.safetensors`, `best.safetensors`, `progress.json`, `log.jsonl`.

    Raises:
        FloatingPointError: the loss or the gradient is not finite; it is never hidden.
        TrainingError: the folder holds another run, or a frozen tensor has changed.
    """
    phase = config.phases[name]
    accelerator = accelerator or Accelerator()
    n_trained = freeze(model, name)
    before = frozen_hash(model)
    trained = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    groups = [
        {"params": [p for p in trained.values() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in trained.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW([g for g in groups if g["params"]], lr=phase.lr, betas=(0.9, 0.999))
    done, best = resume(folder, trained, optimiser)
    if accelerator.is_main_process:
        _trim(folder / "log.jsonl", done)
    reads = READS[name]
    if phase.warm_up and not done:
        warm_up(model, sorted(reads & model.slots), mixture, fetch, phase.warm_up, config.weight_decay)
    started, n_tokens = time.monotonic(), 0
    figures: dict[str, float] = {}
    model.train()
    with _Bar(accelerator, f"phase {name}, {n_trained:,} parameters", phase.steps, done) as advance:
        for step in range(done + 1, phase.steps + 1):
            rate = learning_rate(phase, step)
            for group in optimiser.param_groups:
                group["lr"] = rate
            torch.manual_seed(hash((config.seed, step, accelerator.process_index)) % 2**31)
            loss, seen = _gradients(
                mixture.batch(step, phase.batch), reads, model, processor, fetch, config, accelerator
            )
            n_tokens += seen
            norm = torch.nn.utils.clip_grad_norm_(trained.values(), config.clip)
            if not math.isfinite(loss) or not math.isfinite(norm):
                raise FloatingPointError(
                    f"phase {name}, step {step}: the loss is {loss} and its gradient {norm:.3g}; lower `lr`, or "
                    f"look at what step {step} draws"
                )
            optimiser.step()
            optimiser.zero_grad()
            advance(loss)
            last = step == phase.steps
            if accelerator.is_main_process and (step % config.log_every == 0 or last):
                entry = {"step": step, "loss": loss, "lr": rate, "norm": float(norm),
                         "tokens_per_s": n_tokens / (time.monotonic() - started)}  # fmt: skip
                _append(folder / "log.jsonl", entry)
                log(entry)
            if validation and (step % config.evaluate_every == 0 or last):
                figures = evaluate(validation, reads, model, processor, fetch, config, accelerator)
                model.train()
                if accelerator.is_main_process:
                    entry = {"step": step, **{f"valid/{key}": value for key, value in figures.items()}}
                    _append(folder / "log.jsonl", entry)
                    log(entry)
                    if figures["loss"] < best:
                        with _saving(step, folder):
                            save_tensors({key: p.detach() for key, p in trained.items()}, folder / "best.safetensors")
                best = min(best, figures["loss"])
            if accelerator.is_main_process and (step % config.save_every == 0 or last):
                _save(folder, step, best, trained, optimiser)
    if frozen_hash(model) != before:
        raise TrainingError(f"phase {name} changed a tensor that it should not train: this is a fault of the code")
    return Progressed(folder, phase.steps, figures)


def _gradients(
    drawn: Sequence[Drawn],
    reads: frozenset[str],
    model: NanoEmoX,
    processor: Processor,
    fetch: Fetch,
    config: RunConfig,
    accelerator: Accelerator,
) -> tuple[float, int]:
    """Accumulate a step's gradients over the portions of this process, then over the processes; the loss and tokens.

    Every process knows the whole batch, so its share of the loss needs no talk; gradients are summed once.
    """
    rows = [row(each, model, processor, fetch, reads) for each in drawn]
    whole = sum(weight(each) * each.n_supervised for each in rows)
    mine = rows[accelerator.process_index :: accelerator.num_processes]
    total = torch.zeros((), device=accelerator.device)
    for portion in portions(mine, config.portion):
        losses, at = forward(portion, model, processor, accelerator)
        part = (losses * portion.weights.to(losses.device)[at]).sum() / whole
        if part.requires_grad:  # not where no row has a slot that learns, such as clips without a face
            part.backward()
        total += part.detach()
    if accelerator.num_processes > 1:
        total = accelerator.reduce(total, "sum")
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        touched = torch.tensor([float(p.grad is not None) for p in trained], device=accelerator.device)
        for parameter, n in zip(trained, accelerator.reduce(touched, "sum").tolist(), strict=True):
            if n:  # what no process touched has no gradient, and the optimiser leaves it alone, as in one process
                gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = accelerator.reduce(gradient, "sum")
    return total.item(), sum(len(each.ids) for each in mine)


def forward(portion: Portion, model: NanoEmoX, processor: Processor, accelerator: Accelerator) -> tuple[Tensor, Tensor]:
    """`NanoEmoX.token_losses` of a portion under the accelerator's precision."""
    device = accelerator.device
    # Without this peft casts every input of an adapter to float32 and back, which costs a CPU a fifth of a step.
    uncast = disable_input_dtype_casting(model.lm) if isinstance(model.lm, PeftModel) else nullcontext()
    with uncast, accelerator.autocast():
        soft = portion.soft_tokens(model, device)
        embeddings = model.embed(portion.ids.to(device), soft, processor.placeholders)
        return model.token_losses(embeddings, portion.labels.to(device), portion.mask.to(device))


@torch.no_grad()
def evaluate(
    samples: Sequence[Sample],
    reads: frozenset[str],
    model: NanoEmoX,
    processor: Processor,
    fetch: Fetch,
    config: RunConfig,
    accelerator: Accelerator,
) -> dict[str, float]:
    """Loss a token, over all and by corpus and task; of label tasks also how often the label's first token is right."""
    model.eval()
    groups: dict[str, list[Row]] = {}
    for sample in samples[accelerator.process_index :: accelerator.num_processes]:
        each = row(Drawn(sample), model, processor, fetch, reads)
        groups.setdefault(f"{sample.corpus or 'mixed'}/{sample.task}", []).append(each)
    names = sorted({f"{sample.corpus or 'mixed'}/{sample.task}" for sample in samples})
    sums = torch.zeros(len(names), 4, device=accelerator.device)  # loss, tokens, right labels, rows
    for i, name in enumerate(names):
        for portion in portions(groups.get(name, []), config.portion):
            losses, at = forward(portion, model, processor, accelerator)
            first = torch.ones_like(at, dtype=torch.bool)
            first[1:] = at[1:] != at[:-1]
            # Of a label that is certain to be said, the loss is near 0: e^-loss above a half means that it is chosen.
            right = (losses[first] < math.log(2)).sum()
            sums[i] += torch.tensor([losses.sum(), len(losses), right, len(portion.ids)], device=sums.device)
    if accelerator.num_processes > 1:
        sums = accelerator.reduce(sums, "sum")
    figures = {"loss": (sums[:, 0].sum() / sums[:, 1].sum().clamp(min=1)).item()}
    for name, (loss, tokens, right, n) in zip(names, sums.tolist(), strict=True):
        figures[f"{name}/loss"] = loss / max(1, tokens)
        if name.rpartition("/")[2] in LABELLED:
            figures[f"{name}/sure"] = right / max(1, n)
    return figures


def resume(folder: Path, trained: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer) -> tuple[int, float]:
    """Load the last save of a phase into its parameters and optimiser; the step after which it was made, and the best
    validation loss so far.

    Raises:
        TrainingError: the save does not fit.
    """
    path = folder / "last.safetensors"
    if not path.is_file():
        return 0, math.inf
    state = load_file(path)
    shapes = {key: value.shape for key, value in state.items() if not key.startswith("optimiser.")}
    if {key: shapes[key] for key in set(shapes) - {"step", "best"}} != {key: p.shape for key, p in trained.items()}:
        raise TrainingError(f"{path} is of another model or phase: name another folder with --out, or remove it")
    with torch.no_grad():
        for key, parameter in trained.items():
            parameter.copy_(state[key])
    order = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    names = {id(parameter): key for key, parameter in trained.items()}
    for parameter in order:
        key = names[id(parameter)]
        if f"optimiser.{key}.step" in state:
            optimiser.state[parameter] = {
                part: state[f"optimiser.{key}.{part}"].to(parameter.device if part != "step" else "cpu")
                for part in ("step", "exp_avg", "exp_avg_sq")
            }
    return int(state["step"]), float(state["best"])


def _save(
    folder: Path, step: int, best: float, trained: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer
) -> None:
    tensors = {key: parameter.detach() for key, parameter in trained.items()}
    for key, parameter in trained.items():
        for part, value in optimiser.state.get(parameter, {}).items():
            tensors[f"optimiser.{key}.{part}"] = value
    tensors |= {"step": torch.tensor(step), "best": torch.tensor(best, dtype=torch.float64)}
    with _saving(step, folder):
        save_tensors(tensors, folder / "last.safetensors")
        write_bytes(json.dumps({"step": step, "best": best}).encode(), folder / "progress.json")


@contextmanager
def _saving(step: int, folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"step {step} could not be saved in {folder} ({error.strerror}); free some space and run again, it goes on "
            f"from the save before"
        ) from None


def _trim(path: Path, done: int) -> None:
    """Forget what was logged after the last save; it will be logged again."""
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= done]
        write_bytes("".join(f"{line}\n" for line in kept).encode(), path)


def _append(path: Path, entry: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


class _Bar:
    """A progress bar on stderr with the smoothed loss, for the main process."""

    def __init__(self, accelerator: Accelerator, title: str, total: int, done: int) -> None:
        from rich.console import Console

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
                   TextColumn("loss {task.fields[loss]:.3f}"))  # fmt: skip
        self._bar = Progress(*columns, console=Console(stderr=True), disable=not accelerator.is_main_process)
        self._task = self._bar.add_task(title, total=total, completed=done, loss=math.nan)
        self._mean: float | None = None

    def __enter__(self) -> Callable[[float], None]:
        self._bar.start()
        return self._advance

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _advance(self, loss: float) -> None:
        self._mean = loss if self._mean is None else 0.95 * self._mean + 0.05 * loss
        self._bar.update(self._task, advance=1, loss=self._mean)
