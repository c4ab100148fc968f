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
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from bench.decoding import beside_llama_cpp, decoding, generate, layers, plain, prefill, quality, synchronize, timed
from model.build import (
    VARIANTS,
    compose,
    load,
    make_processor,
)
from model.device import on_device
from model.engine import LocalModel
from model.fused import is_fusible
from model.rounds import Room
from model.types import Busy, ModelCard, ReplyBrief, Thought
from model.weights import locate
from perception.types import Faces, Frames, Speech, UserTurn

OUT = Path(__file__).parent / "results"
SAID = (
    "My dog died last night and I cannot stop crying.",
    "I finally got the job I wanted, I start on Monday!",
    "My boss took credit for my work in front of everyone, and nobody said a word.",
    "I have my exam tomorrow and I have not slept for two nights.",
)
CLIP_S = 4.0


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


def throughput(model: LocalModel, at_once: Sequence[int], tokens: int, n: int = 3) -> dict[int, dict[str, float]]:
    """As many people as at most are answered at once, whose turns were read, get replies of so many tokens, some at
    once: tokens a second over all and the wait for the first word, medians of `n` times in turns.

    As is usual where servers are compared, no reply ends by itself. `short` replies come after a question of a line,
    the others after a thought.
    """
    said: dict[int, dict[str, list[float]]] = {some: {} for some in at_once}
    ends, model._newline = model._newline, frozenset()
    for _ in range(n):
        for some in at_once:
            for kind, thought in (("short", None), ("thought", Thought(SAID[2], "anger", SAID[2], "comfort them"))):
                rate, first = _throughput(model, some, max(at_once), ReplyBrief(thought, max_tokens=tokens))
                said[some].setdefault(f"{kind}_tokens_per_s", []).append(rate)
                said[some].setdefault(f"{kind}_first_word_ms", []).append(first)
    model._newline = ends
    return {some: {name: statistics.median(each) for name, each in rows.items()} for some, rows in said.items()}


def _throughput(model: LocalModel, some: int, most: int, brief: ReplyBrief) -> tuple[float, float]:
    """Tokens a second and the median wait for the first word, ms."""
    prefixes = [model.attend(clip(number)) for number in range(most)]
    for prefix in prefixes:
        model.perceive(prefix)

    def ask(prefix: Any) -> tuple[float, int]:
        started = time.perf_counter()
        marks = [time.perf_counter() - started for _ in model.empathize(prefix, brief)]
        return marks[0], len(marks)

    started = time.perf_counter()
    with ThreadPoolExecutor(some) as several:
        firsts, counts = zip(*several.map(ask, prefixes), strict=True)
    return sum(counts) / (time.perf_counter() - started), 1000 * statistics.median(firsts)


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
    if options.concurrent:
        facts["throughput"] = throughput(model, options.concurrent, options.tokens)
        for n, figures in facts["throughput"].items():
            tell(f"{n} replies at once: {figures}")
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
    parser.add_argument("--reply", type=int, default=48, help="tokens of the six tasks' reply, at most")
    parser.add_argument("--tokens", type=int, default=48, help="tokens of each of the replies at once")
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
