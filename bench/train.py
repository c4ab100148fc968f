"""How fast the curriculum trains: `python -m bench.train --variant nano_emox_2b --phase all --device cuda`.

Whole steps of `training.loop.train_phase`: composition, freezing, adapters, optimiser, precision, clipping, the feature
cache, validation and saving are a run's own. Made up are the weights (random, made on the device, the language model in
bf16), the features in the cache (random, of the shapes that the variant's encoders give), and the tokens (random ids,
as many as English text of those lengths would have). Steps are timed from one to the next, after a warm-up.

FLOPs of a step, multiplications and additions counted apart, over real tokens alone (padding is waste):

    4 N t        the language model's own weights N, t tokens: forward 2, backward 2, as frozen weights get no gradient
    6 A t        its adapters A, which get one; 0 where they are merged, in the phases that do not train them
    12 n d l^2   attention of n layers of width d over each row of l tokens, not halved for the causal mask
    4 V s        the head's V weights, at the s supervised tokens alone
    3 b          the branches, b being what their forward pass costs

Utilisation is this a second over what the card can do: by its data sheet (bf16, dense), and as a large product of
matrices reaches it in the same run. `formula_by_counted` is this formula over what `FlopCounterMode` counts in the
matrix products of a batch, padding in both. Writes `bench/results/train.json` after each phase.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import random
import re
import resource
import statistics
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from rich.console import Console
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from bench.machine import machine, timed
from model.build import LANGUAGE_MODELS, VARIANTS, make_processor
from model.device import keep_freed_memory
from model.encoders.features import Features
from model.nano_emox import EncoderOutputs, NanoEmoX
from model.processor import FRAME_PX, N_STEPS, SPECIAL_TOKENS, Inputs, Processor
from model.types import EMOTIONS, Thought, Utterance
from training.batch import Fetch, Row, moved, portions, row
from training.config import Phase, RunConfig
from training.curriculum import READS
from training.data import questions as q
from training.data.features import FeatureCache, Key, Part
from training.data.mixture import Drawn, Mixture
from training.data.sample import Clip, Sample
from training.freeze import freeze
from training.loop import forward, train_phase
from training.run import ATTENTION, MAX_TOKENS, assemble, ready

OUT = Path(__file__).parent / "results" / "train.json"

WARM_UP = 3
"""Steps that are not timed: they fill the allocator's cache and choose kernels."""

N_CLIPS = 64
N_VALIDATION = 16

MIXTURES = {
    "1.1": {"voices": 1.0},
    "1.2": {"faces": 1.0},
    "2": {"scenes/emotion": 0.7, "scenes/open": 0.3},
    "3": {"scenes": 1.0},
}
"""All tasks evenly in the last phase, as `data.mixture` draws them."""

VOCABULARY = (
    "I you we he she it they the a an my your our this that and but so because when while if not never always really "
    "quite just still again home work sister mother friend doctor school morning yesterday evening weekend window "
    "feel felt think thought know told said went came lost found called waited happy sad angry afraid proud alone "
    "understand remember together everything nothing something wonderful terrible difficult conversation opportunity"
)

DATA_SHEET_FLOPS = {"H100 80GB HBM3": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 of a card by a part of its name."""


class RandomTokenizer:
    """A token for every word's six characters, mark and line end, which is what English costs; ids by hash."""

    eos_token_id = 1

    def __init__(self, n: int) -> None:
        self._n = n

    def __len__(self) -> int:
        return self._n

    def __call__(self, text: str, **_: Any) -> SimpleNamespace:
        pieces = re.findall(r"\w{1,6}|[^\w ]", text)
        return SimpleNamespace(input_ids=[zlib.crc32(piece.encode()) % self._n for piece in pieces])


@contextmanager
def made_on(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Tensors are made on this device, in this type, where none is named."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(before)


def build(variant: str, device: torch.device, seed: int) -> tuple[NanoEmoX, Processor]:
    """The variant as `training.run.build` makes it, with random weights in the types that loaded ones have."""
    config = VARIANTS[variant]
    torch.manual_seed(seed)
    with made_on(device, torch.bfloat16):
        lm: Any = LANGUAGE_MODELS[config.lm]()
    lm.set_attn_implementation(ATTENTION[device.type])
    with made_on(device, torch.float32):
        model = assemble(config, lm)
    model.to(device)  # transformers makes a tensor or two on the CPU whatever the device is
    tokenizer = RandomTokenizer(lm.get_input_embeddings().num_embeddings - len(SPECIAL_TOKENS))
    return model, make_processor(tokenizer, config, MAX_TOKENS)


def corpora(seed: int) -> dict[str, list[Sample]]:
    """Samples of each phase: voices and faces alone, and scenes with words for all six tasks.

    Lines have 4 to 24 words, as in MELD and EmpatheticDialogues, replies 8 to 30, descriptions 30 to 70.
    """
    draw, vocabulary = random.Random(seed), VOCABULARY.split()

    def words(low: int, high: int) -> str:
        return " ".join(draw.choices(vocabulary, k=draw.randint(low, high))) + "."

    found: dict[str, list[Sample]] = {"voices": [], "faces": [], "scenes": []}
    for number in range(N_CLIPS):
        label = EMOTIONS[number % len(EMOTIONS)]
        sound, pictures = Path(f"{number}.wav"), Path(f"{number}.mp4")
        found["voices"].append(replace(q.emotion("", label), clip=Clip(sound=sound)))
        found["faces"].append(replace(q.emotion("", label), clip=Clip(pictures=pictures)))
        line = words(4, 24)
        before = (Utterance("user", words(4, 24)), Utterance("assistant", words(4, 24)))
        thought = Thought(words(6, 16), label, words(6, 16), words(4, 8))
        for asked in (
            q.emotion(line, label),
            q.sentiment_of(line, label),
            q.intent(line, draw.choice(["Complain", "Comfort", "Ask for help"])),
            q.open_words(line, draw.sample(EMOTIONS, 3)),
            q.reason(line, words(30, 70), paraphrase_by=str(number)),
            q.empathy(line, before[: draw.choice([0, 2])], thought, words(8, 30)),
        ):
            found["scenes"].append(replace(asked, clip=Clip(sound, pictures)))
    return {
        name: [replace(sample, corpus=name, name=f"{name}-{i}") for i, sample in enumerate(samples)]
        for name, samples in found.items()
    }


def made_up_cache(model: NanoEmoX, processor: Processor, folder: Path) -> Fetch:
    """A feature cache of `N_CLIPS` clips with random features, and how a sample's are read from it.

    The shapes are those that the model's own encoders give for three seconds of noise.
    """
    device = next(model.parameters()).device
    pixels = {
        part: torch.randint(256, (1, N_STEPS, 3, size, size), dtype=torch.uint8, device=device)
        for part, size in (("frames", FRAME_PX), ("faces", processor.face_px))
    }
    sound = torch.randn(1, N_STEPS, 32_000, device=device)
    given = model.encode(Inputs(**pixels, clips=sound, speech=(sound.flatten()[:48_000],)))
    cache = FeatureCache(folder)
    draw = torch.Generator().manual_seed(0)

    def like(features: Features) -> Features:
        hidden, *scales = (torch.randn(t.shape, generator=draw) for t in (features.hidden, *features.scales))
        return Features(hidden, tuple(scales), features.mask.cpu())

    def key(path: Path, part: Part) -> Key:
        return Key(path.stem, part, "made-up")

    parts: dict[Part, Features] = {part: one for part, one in vars(given).items() if one is not None}  # type: ignore[misc]
    with cache.writing():
        cache.put({key(Path(str(n)), part): like(one) for n in range(N_CLIPS) for part, one in parts.items()})

    def fetch(drawn: Drawn) -> EncoderOutputs:
        clip = drawn.sample.clip
        paths = {part: clip.sound if part == "acoustic" else clip.pictures for part in parts}
        return EncoderOutputs(**{part: cache.get(key(path, part)) for part, path in paths.items() if path is not None})

    return fetch


@dataclass(frozen=True)
class Costs:
    """What the formula multiplies: weights, widths and what the branches cost, of one model."""

    frozen: int
    adapters: int
    layers: int
    width: int
    head: int
    branches: dict[tuple[str, ...], float]
    """Parts that a clip has -> FLOPs of a forward pass of the branches."""

    def flops(self, rows: Sequence[Row], lengths: Sequence[int]) -> float:
        """Of a step over these rows, were they so long."""
        tokens, squares = sum(lengths), sum(n * n for n in lengths)
        return (
            (4 * self.frozen + 6 * self.adapters) * tokens
            + 12 * self.layers * self.width * squares
            + 4 * self.head * sum(each.n_supervised for each in rows)
            + 3 * sum(self.branches[there(each.features)] for each in rows)
        )


def there(features: EncoderOutputs) -> tuple[str, ...]:
    """The modalities of a clip."""
    return tuple(part for part, one in vars(features).items() if one is not None)


def costs(model: NanoEmoX, rows: Sequence[Row], accelerator: Accelerator) -> Costs:
    """What the formula needs to know of a model, for rows such as these."""
    causal = model.lm.get_base_model() if hasattr(model.lm, "get_base_model") else model.lm
    linear = [module for module in causal.model.modules() if isinstance(module, nn.Linear)]
    adapters = sum(p.numel() for name, p in causal.model.named_parameters() if "lora_" in name)
    branches: dict[tuple[str, ...], float] = {}
    for each in rows:
        if there(each.features) not in branches:
            with counting() as counter, accelerator.autocast():
                model.soft_tokens(moved(each.features, accelerator.device))
            branches[there(each.features)] = counter.get_total_flops()
    config = causal.config
    head_width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Costs(
        sum(module.weight.numel() for module in linear) - adapters, adapters, config.num_hidden_layers,
        config.num_attention_heads * head_width, causal.lm_head.weight.numel(), branches,
    )  # fmt: skip


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """Count FLOPs, with attention as plain products: of fused kernels not all are counted, and some compute twice."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        yield counter


def counted(model: NanoEmoX, rows: Sequence[Row], processor: Processor, size: int, accelerator: Accelerator) -> float:
    """FLOPs of the matrix products of a step, padding included, as torch counts them while they run."""
    with counting() as counter:
        for portion in portions(rows, size):
            forward(portion, model, processor, accelerator)[0].mean().backward()
    model.zero_grad()
    return float(counter.get_total_flops())


def matmul_flops(device: torch.device) -> float:
    """FLOPs a second of a product of square matrices in bf16: of side 8192, or 512 on a CPU; median of ten."""
    n = 8192 if device.type == "cuda" else 512
    a, b = (torch.randn(n, n, device=device).to(torch.bfloat16) for _ in range(2))

    def product() -> None:
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()

    seconds = [timed(product)[0] for _ in range(13)][3:]
    return 2 * n**3 / statistics.median(seconds)


def phase_figures(
    name: str, given: argparse.Namespace, accelerator: Accelerator, peaks: dict[str, float]
) -> dict[str, Any]:
    """Train a phase for some steps and tell how that went."""
    device = accelerator.device
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    built_s, (model, processor) = timed(lambda: build(given.variant, device, given.seed))
    warm_up = 4 if name in ("1.1", "1.2") else 0  # where branches are new, as in training/configs
    phase = Phase(MIXTURES[name], given.steps, lr=1e-4, min_lr=1e-5, batch=given.batch, warmup=2, warm_up=warm_up)
    samples = corpora(given.seed)
    mixture = Mixture(samples, phase.mixture, given.seed)
    validation = samples[next(iter(phase.mixture)).partition("/")[0]][:N_VALIDATION]
    entries: list[dict[str, Any]] = []
    ends: list[float] = []

    def log(entry: dict[str, Any]) -> None:
        if "lr" in entry:  # of a step, not of a validation
            ends.append(time.perf_counter())
            entries.append(entry)

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fetch = made_up_cache(model, processor, folder / "features")
        ready(model, name, device)
        n_trained = freeze(model, name)
        config = RunConfig(given.variant, folder, folder, {name: phase}, seed=given.seed, portion=given.portion,
                           log_every=1, save_every=given.steps, evaluate_every=given.steps)  # fmt: skip
        whole_s, done = timed(
            lambda: train_phase(name, config, model, processor, mixture, validation, fetch, folder / f"phase-{name}",
                                accelerator=accelerator, log=log)
        )  # fmt: skip
        memory = memory_mb(device)
        steps = [
            [row(each, model, processor, fetch, READS[name]) for each in mixture.batch(step, given.batch)]
            for step in range(1, given.steps + 1)
        ]
    seconds = [end - start for start, end in pairwise(ends)][WARM_UP - 1 :]
    timed_steps = steps[WARM_UP:]
    lengths = [[len(each.ids) for each in rows] for rows in timed_steps]
    padded = [padded_lengths(rows, given.portion) for rows in timed_steps]
    tokens, spent_s = sum(map(sum, lengths)), sum(seconds)
    cost = costs(model, [each for rows in steps for each in rows], accelerator)
    flops = sum(cost.flops(rows, each) for rows, each in zip(timed_steps, lengths, strict=True))
    by_formula = cost.flops(steps[-1], padded_lengths(steps[-1], given.portion))
    by_counter = counted(model, steps[-1], processor, given.portion, accelerator)
    return {
        "trained_parameters": n_trained,
        "timed_steps": len(seconds),
        "step_ms": {"median": 1000 * statistics.median(seconds), "p95": 1000 * p95(seconds)},
        "samples_per_s": given.batch * len(seconds) / spent_s,
        "tokens_per_s": tokens / spent_s,
        "tokens_per_sample": tokens / len(seconds) / given.batch,
        "padding": 1 - tokens / sum(map(sum, padded)),
        "loss": {"first": entries[0]["loss"], "last": entries[-1]["loss"], "validation": done.figures["loss"]},
        "memory_mb": memory,
        "tflops_per_step": flops / len(seconds) / 1e12,
        "tflops_per_s": flops / spent_s / 1e12,
        "utilisation": {kind: flops / spent_s / peak for kind, peak in peaks.items()},
        "formula_by_counted": by_formula / by_counter,
        "build_s": built_s,
        "whole_phase_s": whole_s,
    }


def padded_lengths(rows: Sequence[Row], size: int) -> list[int]:
    """Tokens that each row takes in its portion."""
    return [portion.ids.shape[1] for portion in portions(rows, size) for _ in portion.ids]


def p95(values: Sequence[float]) -> float:
    """The value that one in twenty exceeds."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def memory_mb(device: torch.device) -> dict[str, int]:
    """The most that was held: of the card, by tensors and by the allocator; of the process on a CPU."""
    if device.type == "cuda":
        most = {"allocated": torch.cuda.max_memory_allocated(), "reserved": torch.cuda.max_memory_reserved()}
        return {kind: n >> 20 for kind, n in most.items()}
    return {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}


def environment(device: torch.device) -> dict[str, Any]:
    """The machine, its card, and what computes on it."""
    facts = machine() | {name: version(name) for name in ("transformers", "peft", "accelerate")}
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        facts |= {"card": card.name, "card_memory_mb": card.total_memory >> 20, "cuda": torch.version.cuda}
    return facts


def bench(given: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run the phases asked for and return the figures; they are written after each."""
    keep_freed_memory()
    accelerator = Accelerator(mixed_precision="bf16", cpu=given.device == "cpu")
    device = accelerator.device
    peaks = {"of_matmul": matmul_flops(device)}
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        known = [flops for part, flops in DATA_SHEET_FLOPS.items() if part in name]
        peaks |= {"of_data_sheet": known[0]} if known else {}
    facts: dict[str, Any] = {
        "command": f"python -m bench.train --variant {given.variant} --phase {given.phase} --steps {given.steps} "
        f"--batch {given.batch} --portion {given.portion} --device {given.device}",
        "machine": environment(device),
        "peak_tflops_per_s": {kind: peak / 1e12 for kind, peak in peaks.items()},
        "phases": {},
    }
    for name in MIXTURES if given.phase == "all" else (given.phase,):
        console.print(f"phase {name}: {given.steps} steps of {given.batch} ...")
        facts["phases"][name] = phase_figures(name, given, accelerator, peaks)
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(facts, indent=1) + "\n")
        show(name, facts["phases"][name], console)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return facts


def show(name: str, figures: dict[str, Any], console: Console) -> None:
    """Print a phase's figures."""
    step, used = figures["step_ms"], figures["utilisation"]
    console.print(
        f"phase {name}: a step {step['median']:.0f} ms (p95 {step['p95']:.0f}), {figures['samples_per_s']:.1f} "
        f"samples/s, {figures['tokens_per_s']:.0f} tokens/s, {max(figures['memory_mb'].values())} MB, "
        f"{figures['tflops_per_s']:.2f} TFLOP/s, "
        + ", ".join(f"{100 * share:.1f} % {kind.replace('_', ' ')}" for kind, share in used.items())
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", choices=VARIANTS, default="nano_emox_2b")
    parser.add_argument("--phase", choices=[*MIXTURES, "all"], default="3")
    parser.add_argument("--steps", type=int, default=20, help=f"the first {WARM_UP} are not timed")
    parser.add_argument("--batch", type=int, default=8, help="samples a step")
    parser.add_argument("--portion", type=int, default=8, help="samples that go through the model together")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--out", type=Path, default=OUT, help="file for the figures")
    given = parser.parse_args(argv)
    if given.steps <= WARM_UP:
        parser.error(f"--steps is {given.steps}, of which the first {WARM_UP} are not timed: give more")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("there is no CUDA device here: give --device cpu")
    console = Console(highlight=False)
    bench(given, console)
    console.print(f"written to {given.out}")


if __name__ == "__main__":
    main()
