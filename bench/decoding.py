"""How fast the model decodes here, beside others that decode: for `bench.model`."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM

from model.branches import BranchCache, run_together
from model.build import (
    LANGUAGE_MODELS,
    NANO_EMOX_EMBEDDED,
    VARIANTS,
    merged_language_model,
)
from model.device import on_device
from model.engine import LocalModel
from model.fused import FEW_ROWS
from model.manifest import embedded_checkpoint
from model.nano_emox import NanoEmoX
from model.rounds import Pass
from model.types import Thought
from model.weights import WEIGHTS, locate
from perception.types import UserTurn
from training.benches import find
from training.evaluate import chosen
from training.metrics.language import perplexity, reply_ids

PROMPT = 180
"""Tokens before a step of decoding."""


def timed(action: Callable[[], Any], n: int) -> list[float]:
    """Seconds that each of `n` calls takes, after one more."""
    action()
    times = []
    for _ in range(n):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return times


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@on_device
@torch.inference_mode()
def prefill(model: LocalModel, device: str, n_tokens: int = 200) -> dict[str, float]:
    """Milliseconds that a pass of so many tokens takes, and what its arithmetic alone would take."""
    table = model.model.lm.get_input_embeddings()
    prompt = table(torch.arange(1000, 1000 + n_tokens, device=table.weight.device) % table.num_embeddings)

    def run() -> None:
        cache = BranchCache(model.model.lm.model)
        cache.append(0, prompt)
        model.rounds.serve([Pass(cache)])
        synchronize(device)

    return {"ms": 1000 * statistics.median(timed(run, 9)), "flop": 2.0 * n_tokens * layers(model)}


def layers(model: LocalModel) -> int:
    """Weights of the language model's products, without embeddings and head."""
    config = model.model.lm.config
    width = config.hidden_size
    attention = 2 * width * (width + width // config.num_attention_heads * config.num_key_value_heads)
    return config.num_hidden_layers * (attention + 3 * width * config.intermediate_size)


@on_device
@torch.inference_mode()
def decoding(model: LocalModel, n_rows: int, n_steps: int = 64) -> dict[str, float]:
    """Tokens a second of so many answers decoded together, and the bytes that a step has to read."""
    lm = model.model.lm
    table = lm.get_input_embeddings()
    cache = BranchCache(lm.model)
    cache.append(0, table(torch.arange(1000, 1000 + PROMPT, device=table.weight.device) % table.num_embeddings))
    model.rounds.serve([Pass(cache)])
    rows = [model.rounds.rows.take(cache, 0, 2 * n_steps) for _ in range(n_rows)]
    for _ in range(4):  # graphs are captured, rooms made
        model.rounds.rows.step(dict.fromkeys(rows, 7))
    steps = []
    for number in range(n_steps):
        started = time.perf_counter()
        model.rounds.rows.step(dict.fromkeys(rows, 11 + number))
        steps.append(time.perf_counter() - started)
    for row in rows:
        model.rounds.rows.give_up(row)
    kv = cache.row(0)
    kept = kv.numel() * kv.element_size()
    few = n_rows <= FEW_ROWS and not table.weight.is_cuda  # on a CPU: four bits, and two scales for each 32 weights
    weights = (0.625 if few else 2) * (layers(model) + (table.weight.numel() if few else 0))
    weights += 0 if few else 2 * table.weight.numel()
    return {
        "tokens_per_s": n_rows / statistics.median(steps),
        "step_ms": 1000 * statistics.median(steps),
        "bytes": weights + n_rows * kept,
    }


@on_device
def plain(model: LocalModel) -> Any:
    """The language model as transformers has it, as layers of a fused one are taken out of it."""
    if model.card.variant == "nano_emox_embedded":
        return AutoModelForCausalLM.from_pretrained(locate("smollm2"), dtype=torch.bfloat16, local_files_only=True)
    if model.rounds.llama is None:
        return model.model.lm
    with torch.device(model.rounds.device):
        return LANGUAGE_MODELS[VARIANTS[model.card.variant].lm]().to(torch.bfloat16).eval()


@on_device
@torch.inference_mode()
def generate(lm: Any, n_rows: int, device: str, n_tokens: int = 64) -> dict[str, float]:
    """Tokens a second of plain `transformers.generate`, greedy, after the same prompt."""
    ids = (torch.arange(1000, 1000 + PROMPT, device=device) % lm.config.vocab_size).expand(n_rows, -1)

    def run(n: int) -> float:
        started = time.perf_counter()
        lm.generate(ids, attention_mask=torch.ones_like(ids), min_new_tokens=n, max_new_tokens=n, do_sample=False,
                    pad_token_id=0)  # fmt: skip
        synchronize(device)
        return time.perf_counter() - started

    run(4)
    times = [run(n_tokens + 1) - run(1) for _ in range(3)]
    return {"tokens_per_s": n_rows * n_tokens / statistics.median(times)}


@on_device
def quality(model: LocalModel, data: Path, n: int = 150) -> dict[str, float]:
    """What speed costs the default on a CPU, on replies that people gave in EmpatheticDialogues (validation).

    Perplexity of the replies over steps of few bits and over bf16, after the same prompts; how far the probability of
    any emotion is at most from what transformers' passes give, in bf16 and in float32, and those from each other.
    """
    llama = model.rounds.llama
    assert llama is not None
    lm = merged_language_model(locate("smollm2"), embedded_checkpoint(), NANO_EMOX_EMBEDDED)
    exact = deepcopy(lm).float()
    plain, full = (LocalModel(NanoEmoX(one), model.processor, model.card, model._scaling) for one in (lm, exact))
    quick_or_not: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    apart: dict[str, list[float]] = {}
    for case in chosen(find("empathetic_dialogues", data).cases, n, seed=0):
        ours, bf16, float32 = (one.perceive(one.attend(UserTurn(case.text))).emotions for one in (model, plain, full))
        for name, one, other in (
            ("ours_from_bf16", ours, bf16),
            ("ours_from_float32", ours, float32),
            ("bf16_from_float32", bf16, float32),
        ):
            apart.setdefault(name, []).append(max(abs(one[label] - other[label]) for label in one))
        thought = Thought(case.text, case.words[0], case.text, "comfort them")
        prompt, answer = reply_ids(model.processor, case.text, case.history, thought, case.reference)
        for quick, losses in quick_or_not.items():
            losses.append(answer_loss(model, partial(llama, quick=quick), prompt, answer))
    perplexities = {quick: perplexity(losses) for quick, losses in quick_or_not.items()}
    return {
        "replies": n,
        "perplexity_bf16": perplexities[False],
        "perplexity_few_bits": perplexities[True],
        "ratio": perplexities[True] / perplexities[False],
        "labels_apart": {name: max(found) for name, found in apart.items()},
        "labels_apart_mean": {name: statistics.fmean(found) for name, found in apart.items()},
    }


@on_device
@torch.inference_mode()
def answer_loss(model: LocalModel, read: Any, prompt: Sequence[int], answer: Sequence[int]) -> tuple[float, int]:
    """Nats of an answer whose tokens go through `read` after a prompt read as usual, and how many tokens it has."""
    table = model.model.lm.get_input_embeddings()
    cache = BranchCache(model.model.lm.model)
    cache.append(0, table(torch.tensor(prompt)))
    first = run_together([cache], model.rounds.llama)[0][0][-1:]
    cache.append(0, table(torch.tensor(answer[:-1])))
    states = torch.cat([first, run_together([cache], read)[0][0]])
    logits = model.model.lm.lm_head(states).float()
    return functional.cross_entropy(logits, torch.tensor(answer), reduction="sum").item(), len(answer)


LLAMA = """
import json, statistics, sys, time
import llama_cpp
path, n_threads, n_prompt = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
llm = llama_cpp.Llama(path, n_ctx=1024, n_threads=n_threads, n_threads_batch=n_threads, verbose=False)
rates = []
for _ in range(4):
    llm.reset()
    llm.eval(list(range(1000, 1000 + n_prompt)))
    started = time.perf_counter()
    for number in range(64):
        llm.eval([11 + number])
    rates.append(64 / (time.perf_counter() - started))
print(json.dumps({"tokens_per_s": statistics.median(rates[1:]), "version": llama_cpp.__version__}))
"""


def llama_cpp(python: str) -> dict[str, Any]:
    """Tokens a second of llama.cpp with the Q4_1 weights that ours were made from, after the same prompt."""
    (package,) = WEIGHTS["smollm2"].packages
    path = distribution(package.name).locate_file(package.path)
    told = subprocess.run(
        [python, "-c", LLAMA, str(path), str(torch.get_num_threads()), str(PROMPT)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return json.loads(told.stdout.strip().splitlines()[-1])


def beside_llama_cpp(model: LocalModel, python: str, n: int = 5) -> dict[str, Any]:
    """Decoding one row here and with llama.cpp in turns, as what else the machine does falls on both: medians."""
    ours, theirs = [], []
    for _ in range(n):
        ours.append(decoding(model, 1)["tokens_per_s"])
        theirs.append(llama_cpp(python))
    rates = [each["tokens_per_s"] for each in theirs]
    ratios = [mine / rate for mine, rate in zip(ours, rates, strict=True)]
    return {
        "tokens_per_s": statistics.median(rates),
        "ours_tokens_per_s": statistics.median(ours),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "version": theirs[0]["version"],
    }
