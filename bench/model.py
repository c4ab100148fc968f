"""How fast the model is hosted here: `python -m bench.model`; with a GPU `--variant nano_emox_2b --device cuda`.

Prefill, decoding, six tasks on clips, first words and throughput, alone and under load, beside what the machine could
do at best: a step of decoding has to read every weight and the rows' keys and values once, so bytes over bandwidth is
its limit. The peer is `transformers.generate` over the same weights in the same run, on a CPU llama.cpp with SmolLM2,
too (`--llama-cpp PYTHON`, of an environment that holds llama-cpp-python). Without the default's weights, or where
`--variant` names another, weights are random, which changes no time. Writes `bench/results/model.json`, or
`model-cuda.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.branches import BranchCache, run_together
from model.build import (
    LANGUAGE_MODELS,
    NANO_EMOX_EMBEDDED,
    VARIANTS,
    compose,
    load,
    make_processor,
    merged_language_model,
)
from model.device import on_device
from model.engine import LocalModel
from model.fused import FEW_ROWS, is_fusible
from model.manifest import embedded_checkpoint
from model.nano_emox import NanoEmoX
from model.rounds import Pass, Room
from model.types import Busy, ModelCard, ReplyBrief, Thought
from model.weights import WEIGHTS, locate
from perception.types import Faces, Frames, Speech, UserTurn
from training.benches import find
from training.evaluate import chosen
from training.metrics.language import perplexity, reply_ids

OUT = Path(__file__).parent / "results"
SAID = (
    "My dog died last night and I cannot stop crying.",
    "I finally got the job I wanted, I start on Monday!",
    "My boss took credit for my work in front of everyone, and nobody said a word.",
    "I have my exam tomorrow and I have not slept for two nights.",
)
CLIP_S = 4.0
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


def open_model(variant: str, device: str, tokenizer: Path | None) -> LocalModel:
    """The variant ready to be asked; with random weights in bf16 unless it is the default."""
    if variant == "nano_emox_tiny":
        from tests.model.tiny import tiny_model

        return tiny_model()
    if variant == "nano_emox_embedded":
        return load(locate("smollm2"), device=device)
    config = VARIANTS[variant]
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = compose(config, lora=False)
    torch.set_default_dtype(torch.float32)
    if tokenizer is None:
        tokenizer = locate("smollm2")
    words = AutoTokenizer.from_pretrained(tokenizer, local_files_only=True)
    processor = make_processor(words, config, config.max_tokens)
    card = ModelCard(variant, "random", frozenset(("text", "voice", "face")))
    return LocalModel(model, processor, card, fused=is_fusible(model.lm))


def clip(number: int) -> UserTurn:
    """Four seconds of somebody who speaks and is seen."""
    draw = np.random.default_rng(number)
    times = np.linspace(0, CLIP_S, 8)
    return UserTurn(
        SAID[number % len(SAID)],
        Speech(draw.normal(0, 0.1, int(CLIP_S * 16_000)).astype(np.float32)),
        Frames(draw.integers(0, 256, (8, 240, 320, 3), dtype=np.uint8), times),
        Faces(draw.integers(0, 256, (8, 112, 112, 3), dtype=np.uint8), times, np.zeros((8, 4), np.float32)),
    )


@on_device
def plain(model: LocalModel) -> Any:
    """The language model as transformers has it, as layers of a fused one are taken out of it."""
    if model.card.variant == "nano_emox_embedded":
        return AutoModelForCausalLM.from_pretrained(locate("smollm2"), dtype=torch.bfloat16, local_files_only=True)
    if model.rounds.llama is None:
        return model.model.lm
    with torch.device(model.rounds.device):
        return LANGUAGE_MODELS[VARIANTS[model.card.variant].lm]().to(torch.bfloat16).eval()


def synchronize(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


@on_device
def machine(device: str) -> dict[str, Any]:
    """What it runs on: bytes a second of a large copy (read and written), operations a second of a bf16 product."""
    n = 2**31 if device == "cuda" else 2**28
    source = torch.ones(n // 2, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(torch.bfloat16) for _ in range(2))

    def copy() -> None:
        target.copy_(source)
        synchronize(device)

    def multiply() -> None:
        a @ b
        synchronize(device)

    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name,
        "bytes_per_s": 2 * n / min(timed(copy, 9)),
        "bf16_flop_per_s": 2 * side**3 / min(timed(multiply, 9)),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


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
    rows = [model.rounds.rows.take(cache, 0, 2 * n_steps, 1.1) for _ in range(n_rows)]
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


def six_tasks(model: LocalModel, turn: UserTurn, tokens: int) -> dict[str, float]:
    """All six tasks on a clip; seconds from the start to what was perceived, understood, first said, and to the end."""
    started = time.perf_counter()
    marks = {}
    prefix = model.attend(turn)
    affect = model.perceive(prefix)
    marks["perceived"] = time.perf_counter() - started
    understanding, _ = model.understand(prefix, affect)
    marks["understood"] = time.perf_counter() - started
    thought = Thought(understanding.scenario, affect.emotion, understanding.cause, "comfort them")
    n = 0
    for _ in model.empathize(prefix, ReplyBrief(thought, max_tokens=tokens)):
        marks.setdefault("first_word", time.perf_counter() - started)
        n += 1
    marks["whole"] = time.perf_counter() - started
    marks.setdefault("first_word", marks["whole"])
    marks["pieces"] = n
    return marks


def at_once(model: LocalModel, n: int, tokens: int, first: int = 0) -> list[dict[str, float]]:
    """`six_tasks` of `n` people who speak at the same moment, with the clips from the number `first` on."""
    found: list[dict[str, float]] = [{} for _ in range(n)]
    turns = [clip(first + number) for number in range(n)]
    ready = threading.Barrier(n)

    def ask(number: int) -> None:
        ready.wait()
        found[number] = six_tasks(model, turns[number], tokens)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """Median of every figure in milliseconds, and of the pieces of a reply."""
    marks = ("perceived", "understood", "first_word", "whole")
    found = {f"{mark}_ms": 1000 * statistics.median(row[mark] for row in rows) for mark in marks}
    found["pieces"] = statistics.median(row["pieces"] for row in rows)
    return found | {"last_whole_ms": 1000 * max(row["whole"] for row in rows)}


def throughput(model: LocalModel, n: int, most: int, tokens: int) -> dict[str, float]:
    """`most` people whose turns were read get their replies, `n` at once: tokens a second over all, wait for the first
    word.
    """
    prefixes = [model.attend(clip(number)) for number in range(most)]
    for prefix in prefixes:
        model.perceive(prefix)

    def ask(prefix: Any) -> tuple[float, int]:
        started = time.perf_counter()
        marks = [time.perf_counter() - started for _ in model.empathize(prefix, ReplyBrief(None, max_tokens=tokens))]
        return marks[0], len(marks)

    started = time.perf_counter()
    with ThreadPoolExecutor(n) as several:
        firsts, counts = zip(*several.map(ask, prefixes), strict=True)
    took = time.perf_counter() - started
    return {"tokens_per_s": sum(counts) / took, "first_word_ms": 1000 * statistics.median(firsts), "s": took}


def refused(model: LocalModel, n: int = 20) -> float:
    """Milliseconds until somebody is told that the model answers as many as it may; the longest of `n`."""
    full = LocalModel(model.model, model.processor, model.card, room=Room(requests=0))
    waits = []
    for _ in range(n):
        started = time.perf_counter()
        try:
            full.attend(UserTurn(SAID[0]))
        except Busy:
            waits.append(1000 * (time.perf_counter() - started))
    assert len(waits) == n, "whoever is too many is told so"
    return max(waits)


@on_device
def quality(model: LocalModel, data: Path, n: int = 150) -> dict[str, float]:
    """What speed costs the default on a CPU, on replies that people gave in EmpatheticDialogues (validation).

    Perplexity of the replies over steps of few bits and over bf16, after the same prompts; the largest difference in
    the probability of any emotion to passes as transformers makes them.
    """
    llama = model.rounds.llama
    assert llama is not None
    lm = merged_language_model(locate("smollm2"), embedded_checkpoint(), NANO_EMOX_EMBEDDED)
    plain = LocalModel(NanoEmoX(lm), model.processor, model.card, model._scaling)
    quick_or_not: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    apart = []
    for case in chosen(find("empathetic_dialogues", data).cases, n, seed=0):
        felt, also = (one.perceive(one.attend(UserTurn(case.text))).emotions for one in (model, plain))
        apart.append(max(abs(felt[label] - also[label]) for label in felt))
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
        "labels_apart": max(apart),
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


def bench(options: argparse.Namespace, tell: Callable[[str], None]) -> dict[str, Any]:
    """Run everything and return the figures."""
    facts: dict[str, Any] = {"machine": machine(options.device)}
    tell(f"{facts['machine']}")
    started = time.perf_counter()
    model = open_model(options.variant, options.device, options.tokenizer)
    facts["load_s"] = time.perf_counter() - started
    facts["model"] = {"variant": model.card.variant, "layers": layers(model)}
    tell(f"loaded in {facts['load_s']:.1f} s")
    facts["prefill_200"] = prefill(model, options.device)
    tell(f"prefill {facts['prefill_200']}")
    facts["decoding"], facts["generate"] = {}, {}
    peer = plain(model)
    for n in options.rows:
        facts["decoding"][n] = figures = decoding(model, n)
        figures["share_of_bandwidth"] = figures["bytes"] / (figures["step_ms"] / 1000) / facts["machine"]["bytes_per_s"]
        facts["generate"][n] = generate(peer, n, options.device)
        tell(f"{n} rows: {figures}, generate {facts['generate'][n]}")
    if options.data:
        facts["quality"] = quality(model, options.data)
        tell(f"quality {facts['quality']}")
    if options.llama_cpp:
        facts["llama_cpp"] = beside_llama_cpp(model, options.llama_cpp)
        tell(f"llama.cpp {facts['llama_cpp']}")
    facts["six_tasks"] = {}
    for n in options.clips:
        at_once(model, n, options.reply)
        rows = [row for number in range(options.repeat) for row in at_once(model, n, options.reply, number)]
        facts["six_tasks"][n] = medians(rows)
        tell(f"{n} clips at once: {facts['six_tasks'][n]}")
    facts["throughput"] = {}
    for n in options.concurrent:
        facts["throughput"][n] = throughput(model, n, max(options.concurrent), options.reply)
        tell(f"{n} replies at once: {facts['throughput'][n]}")
    facts["refused_ms"] = refused(model)
    tell(f"told that it is busy after {facts['refused_ms']:.2f} ms")
    if options.device == "cuda":
        facts["peak_memory_mb"] = torch.cuda.max_memory_allocated() // 2**20
    else:
        import resource

        facts["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return facts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variant", default="nano_emox_embedded", choices=VARIANTS)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer for a variant with random weights")
    parser.add_argument("--llama-cpp", metavar="PYTHON", help="an interpreter that has llama-cpp-python")
    parser.add_argument("--data", type=Path, help="folder of the corpora: what int8 costs the default's replies")
    parser.add_argument("--rows", type=int, nargs="*", default=[1, 4, 16])
    parser.add_argument("--clips", type=int, nargs="*", default=[1, 4])
    parser.add_argument("--concurrent", type=int, nargs="*", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--reply", type=int, default=48, help="tokens of a reply, at most")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    started = time.perf_counter()
    facts = bench(options, lambda line: print(f"{time.perf_counter() - started:6.1f} s  {line}", flush=True))
    facts["command"] = " ".join(["python -m bench.model", *("PATH" if "/" in word else word for word in sys.argv[1:])])
    out = options.out or OUT / ("model.json" if options.device == "cpu" else f"model-{options.device}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(facts, indent=1) + "\n")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
