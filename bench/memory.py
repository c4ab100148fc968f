"""How fast memories are here, beside others: `python -m bench.memory --sizes 1000,10000`.

Ours, a plain Chroma collection, mem0, langmem and emotional-memory keep the same sentences and are asked by the same
cues in one run, each in a process of its own (`bench.peers`). They take turns in small blocks, so that whatever else
the machine does falls on all. The sentences are put together from the words below and their vectors made up:
sentences that share words are alike, which is all that an index cares for. What the encoder takes is measured with
the real one, at the smallest size. Installing the peers needs PyPI, measuring needs no network. Writes
`bench/results/memory.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.machine import machine
from bench.peers import SYSTEMS, Row
from model.cache import cache_dir
from model.types import CIRCUMPLEX

WORDS = (
    "This morning,Last night,On Monday,Yesterday,At noon,In June,Before work,After dinner,At dawn,On my way home",
    "my sister,my boss,Tom,our neighbour,my daughter,an old friend,my father,Dr Lee,the new girl,my ex,a stranger",
    "forgot my birthday,called me a liar,sang for us,lost the keys,got the job,told me the truth,moved out,fell ill,"
    "gave me a book,won the race,read my letters,cooked for everyone,said goodbye,asked for money,took my seat",
    "at home,in the kitchen,at the office,on the train,in the park,at school,by the sea,in town,on the phone,in bed",
    "and that was that,and I went on,and I did not mind,and I could have danced,and I laughed all day,and I felt light,"
    "and I cried for hours,and it still hurts,and I feel empty,and I am furious,and I slammed the door,and I yelled,"
    "and I could not sleep,and my hands shook,and I am scared,and it made me sick,and I looked away,and I felt dirty,"
    "and I could not believe it,and I stood there speechless,and nobody saw it coming",
)
"""When, who, what, where, and how it felt: three each of the emotions of `CIRCUMPLEX`, in its order."""

WIDTH, WARM, BLOCK = 384, 10, 10
"""Of the vectors; turns before the clock counts; turns of one system before the next has its own."""

PEERS = {
    "mem0": ["mem0ai==2.2.1", f"chromadb=={version('chromadb')}"],
    "langmem": ["langmem==0.0.30", "langgraph==1.2.24", "numpy"],
    "emotional-memory": ["emotional-memory[sqlite]==0.18.1"],
}
"""What each environment holds; "mem0+qdrant" runs in that of "mem0"."""

if not hasattr(sqlite3.Connection, "enable_load_extension"):
    PEERS["emotional-memory"].append("pysqlite3-binary")

OFFLINE = {
    **dict.fromkeys(("MEM0_TELEMETRY", "ANONYMIZED_TELEMETRY", "LANGSMITH_TRACING", "LANGCHAIN_TRACING_V2"), "false"),
    **dict.fromkeys(("HF_HUB_OFFLINE", "DO_NOT_TRACK", "OTEL_SDK_DISABLED"), "true"),
}
OUT = Path(__file__).parent / "results" / "memory.json"


class PeerError(RuntimeError):
    """A system that cannot be measured; the text says why."""


def sentences(n: int, n_turns: int) -> tuple[list[Row], np.ndarray]:
    """Different sentences, n + n_turns of them, then n_turns cues to some of the n; float32 vectors of length 1.

    A vector is the sum of one random vector for each part of the sentence and one of its own; a cue's is that of the
    sentence it asks for, a little off (cosine 0.9).
    """
    draw, rng = random.Random(0), np.random.default_rng(0)
    slots = [slot.split(",") for slot in WORDS]
    picked: dict[tuple[int, ...], None] = {}
    while len(picked) < n + n_turns:
        picked[tuple(draw.randrange(len(slot)) for slot in slots)] = None
    rows = []
    for number, picks in enumerate(picked):
        *words, felt = (slot[pick] for slot, pick in zip(slots, picks, strict=True))
        emotion = list(CIRCUMPLEX)[picks[-1] // 3]
        valence, arousal = (level + draw.uniform(-0.2, 0.2) for level in CIRCUMPLEX[emotion])
        rows.append(Row(f"{' '.join(words)}, {felt}.", emotion, valence, arousal, 600.0 * (number - n)))
    vectors = rng.standard_normal((len(rows), WIDTH), np.float32)
    for slot, picks in zip(slots, np.array([*picked]).T, strict=True):
        vectors += rng.standard_normal((len(slot), WIDTH), np.float32)[picks]
    vectors = unit(vectors)
    asked = rng.integers(n, size=n_turns)
    cues = unit(vectors[asked] + 0.5 * unit(rng.standard_normal((n_turns, WIDTH), np.float32)))
    rows += [rows[i]._replace(text=f"Remember? {rows[i].text}", at_s=6e5, target=rows[i].text) for i in asked]
    return rows, np.concatenate([vectors, cues])


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def environment(folder: Path, requirements: Sequence[str]) -> Path:
    """The Python of an environment that holds the requirements, made where it is missing."""
    python, ready = folder / ("Scripts" if os.name == "nt" else "bin") / "python", folder / "installed.txt"
    if not ready.is_file() or ready.read_text().split() != requirements:
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
        for command in ((sys.executable, "-m", "venv", "--clear", folder), pip):
            done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
            if done.returncode:
                raise PeerError(f"not installed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
        ready.write_text("\n".join(requirements))
    return python


class Worker:
    """A system in its own process (`bench.peers`)."""

    def __init__(self, system: str, python: Path | str, home: Path) -> None:
        self._data, self._log = home / system / "data", home / system / "log.txt"
        self._data.mkdir(parents=True)
        script = Path(__file__).with_name("peers.py")
        env = os.environ | OFFLINE | {"MEM0_DIR": str(self._data.parent)}
        if system in ("ours", "ours+minilm"):
            env["PYTHONPATH"] = str(script.parent.parent)
        command, pipe = [python, "-P", script, system, home, self._data], subprocess.PIPE
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True, env=env)
        self._facts: dict[str, Any] = next(self._answers())
        self._turns: list[tuple[float, float, bool]] = []
        self.spent_s = 0.0

    def load(self, n: int, patience_s: float) -> Iterator[int]:
        """Load n sentences, telling how many are in; gives up when it sees that this would take too long."""
        started = time.perf_counter()
        for answer in self._ask({"load": n}):
            self._facts["load_s"] = round(time.perf_counter() - started, 2)
            if "loaded" not in answer:
                return
            expected_s = self._facts["load_s"] * n / answer["loaded"]
            if expected_s > patience_s and n / 20 <= answer["loaded"] < n:
                self.process.kill()
                raise PeerError(f"loading would take {expected_s:,.0f} s, the patience is {patience_s:,.0f} s")
            yield answer["loaded"]

    def take(self, turns: Sequence[tuple[int, int]]) -> None:
        """Keep one sentence and recall by one cue, for each pair."""
        started = time.perf_counter()
        answer = next(self._ask({"turns": turns}))
        self._turns += answer["turns"]
        self._facts["memory_mb"] = answer["memory_mb"]
        self.spent_s += time.perf_counter() - started

    def finish(self) -> dict[str, Any]:
        """Close the memory and say what was measured; `found` is how often a recall brought what the cue asks for."""
        self.process.communicate()
        adds, recalls, found = zip(*self._turns[WARM:], strict=True)
        size = sum(file.stat().st_size for file in self._data.rglob("*") if file.is_file())
        measured = {"turns": len(adds), "add_ms": spread(adds), "recall_ms": spread(recalls)}
        return self._facts | measured | {"found": statistics.mean(found), "disk_mb": round(size / 2**20, 1)}

    def _ask(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return self._answers()

    def _answers(self) -> Iterator[dict[str, Any]]:
        for line in self.process.stdout or ():
            answer = json.loads(line)
            if "error" in answer:
                raise PeerError(answer["error"])
            yield answer
        raise PeerError(f"it ended: {(self._log.read_text().strip() or 'without a word').splitlines()[-1]}")


def spread(times: Sequence[float]) -> dict[str, float]:
    """The middle and the 95th percentile."""
    return {"p50": round(statistics.median(times), 2), "p95": round(sorted(times)[int(0.95 * len(times))], 2)}


def at_size(n: int, systems: Sequence[str], options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Measure every system with n memories; one that cannot be measured has its reason under "skipped"."""
    results: dict[str, Any] = {}
    workers: dict[str, Worker] = {}
    n_turns, draw = options.n + WARM, random.Random(0)

    @contextmanager
    def or_skip(system: str) -> Iterator[None]:
        try:
            yield
        except (PeerError, OSError) as error:
            results[system] = {"skipped": str(error)}
            console.print(f"{system}, {n:,}: skipped, {error}")

    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        status = stack.enter_context(console.status(f"{n:,} sentences"))
        rows, vectors = sentences(n, n_turns)
        (home / "rows.json").write_text(json.dumps(rows))
        np.save(home / "vectors.npy", vectors)
        for system in systems:
            with or_skip(system):
                status.update(f"{system}: starting")
                kind = system.split("+")[0]
                python = environment(options.envs / kind, PEERS[kind]) if kind in PEERS else sys.executable
                workers[system] = Worker(system, python, home)
                stack.callback(workers[system].process.kill)
                for loaded in workers[system].load(n, options.patience):
                    status.update(f"{system}: {loaded:,} of {n:,} loaded")
                console.print(f"{system}, {n:,}: loaded")
        for start in range(0, n_turns, BLOCK):
            turns = [(n + i, n + n_turns + i) for i in range(start, min(start + BLOCK, n_turns))]
            for system in draw.sample([*workers], len(workers)):  # nobody always writes after the same other
                if system not in results and workers[system].spent_s < options.patience:
                    status.update(f"{system}: turn {start} of {n_turns}, {n:,} memories")
                    with or_skip(system):
                        workers[system].take(turns)
        for system, worker in workers.items():
            if system not in results:
                results[system] = worker.finish()
    return {system: results[system] for system in systems}


def bench(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Run everything and return the figures; a ratio is our time by theirs."""
    facts: dict[str, Any] = {
        "command": " ".join(["python -m bench.memory", *sys.argv[1:]]),
        "machine": machine(),
        "sizes": {},
        "ratios": {},
    }
    sizes = sorted(int(size) for size in options.sizes.split(","))
    for n in sizes:
        systems = [system for system in options.systems.split(",") if system != "ours+minilm" or n == sizes[0]]
        facts["sizes"][str(n)] = results = at_size(n, systems, options, console)
        measured = {system: result for system, result in results.items() if "skipped" not in result}
        facts["ratios"][str(n)] = {
            system: {key: round(measured["ours"][key]["p50"] / peer[key]["p50"], 2) for key in ("add_ms", "recall_ms")}
            for system, peer in measured.items()
            if "ours" in measured and not system.startswith("ours")
        }
        show(n, measured, facts["ratios"][str(n)], console)
    return facts


def show(n: int, measured: dict[str, Any], ratios: dict[str, Any], console: Console) -> None:
    """Print the figures of one size."""
    heads = ("p50 (p95), ms", "add", "recall", "found", "MB held", "MB on disk", "ours/it: add, recall")
    table = Table(*heads, title=f"{n:,} memories", show_edge=False)
    table.columns[0].no_wrap = True
    for system, r in measured.items():
        times = [f"{r[key]['p50']:.1f} ({r[key]['p95']:.1f})" for key in ("add_ms", "recall_ms")]
        sizes = (f"{r['found']:.0%}", str(r["memory_mb"]), f"{r['disk_mb']:.0f}")
        table.add_row(system, *times, *sizes, ", ".join(f"{ratio:.2f}" for ratio in ratios.get(system, {}).values()))
    console.print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000,10000,100000", help="how many memories there are, with commas")
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="which of these, with commas")
    parser.add_argument("--n", type=int, default=200, help="how many single adds and recalls are timed")
    parser.add_argument("--envs", type=Path, default=cache_dir() / "bench", help="folder of the peers' environments")
    parser.add_argument(
        "--patience", type=float, default=900, help="seconds for loading, and for the turns, of a system"
    )
    console = Console(highlight=False)
    facts = bench(parser.parse_args(), console)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(facts, indent=1) + "\n")
    console.print(f"written to {OUT}")


if __name__ == "__main__":
    main()
