"""How the web server bears many people: `python -m bench.server [--real]`; writes bench/results/server.json.

Without `--real` the model answers at once, a word every so often as a person reads, and everything else is real: HTTP,
tokens, the graph, memory and checkpoints on the disk. Every person holds one stream of /v1/chat/completions after the
other. Overhead is the time until a piece of the reply arrives, less the time at which the model gave it.

With `--real` the model that comes along answers 8 people who talk at once, and then so many that some are turned away.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from agent.care import Consent
from agent.edge import main_guard
from agent.people import People
from agent.reply import LAG_WORDS
from bench.machine import machine

OUT = Path(__file__).parent / "results" / "server.json"
SENTENCES = (
    "I had a long day at work and my boss was angry with me.",
    "My sister called, and we talked about the summer at the lake.",
    "I am afraid of the exam on Friday, I cannot sleep.",
    "The cat is back! I am so happy I could cry.",
    "It is raining again and I miss the people at home.",
)
REPLY = (
    "I hear you, and I would like to know more about what happened and how you feel about it now. That sounds like a "
    "lot to carry for one day, and it makes sense that it stays with you."
)
WORDS = REPLY.split()
"""As many as 64 tokens give, at most; and by default as fast as they are said aloud, 150 a minute."""


def serve(port: int, word_s: float, people: int) -> None:
    """The server process: a scripted model and embedder, real memory and checkpoints."""
    from unittest import mock

    from agent import cli, opening
    from agent.server import run
    from memory.chroma import ChromaStore
    from tests.fakes import FakeEmbedder, FakeModel

    class Paced(FakeModel):
        def empathize(self, prefix: Any, brief: Any) -> Iterator[str]:
            began = time.time()
            for n, word in enumerate(WORDS, 1):
                if word_s:
                    time.sleep(max(0.0, began + n * word_s - time.time()))
                yield f" {word}_{time.time_ns()}"  # the wall clock is the same in every process of this machine

    os.environ |= {
        "EMOX_TURNS_AT_ONCE": str(2 * people), "EMOX_TURNS_WAITING": str(2 * people), "EMOX_TURNS_A_MINUTE": "100000",
    }  # fmt: skip
    scripted = mock.patch.multiple(
        opening,
        load_model=lambda settings: Paced(),
        open_store=lambda settings: ChromaStore(
            settings.memory_url or settings.home / "memory", FakeEmbedder(), apart=settings.memory_apart
        ),
    )
    with scripted, mock.patch.object(run, "_voice", return_value=None):
        cli.main(["serve", "--port", str(port)])


@contextlib.contextmanager
def served(arguments: Sequence[str], people: int, home: Path) -> Iterator[tuple[str, list[str], int]]:
    """A server process; gives its address, a token for each person, and its process id."""
    known = People(home / "people.sqlite")
    tokens = []
    for i in range(people):
        known.agree(f"person{i}", Consent())
        tokens.append(known.new_token(f"person{i}"))
    known.close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, *(part.replace("PORT", str(port)) for part in arguments)]
    process = subprocess.Popen(command, env=os.environ | {"EMOX_HOME": str(home)}, stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{address}/ready").status_code == 200:
                    break
            time.sleep(0.2)
        yield address, tokens, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


class Person:
    """Somebody who talks with the server, and what they waited for, in milliseconds."""

    def __init__(self, client: httpx.AsyncClient, address: str, token: str, number: int, word_s: float) -> None:
        self._client, self._address, self._number, self._word_s = client, address, number, word_s
        self._headers = {"Authorization": f"Bearer {token}"}
        self.statuses: Counter[int] = Counter()
        self.retry_after: list[int] = []
        self.first_ms: list[float] = []
        self.total_ms: list[float] = []
        self.late_ms: list[float] = []
        self.before_ms: list[float] = []
        self.after_ms: list[float] = []
        self.errors: list[str] = []

    async def say(self, n: int) -> None:
        """One turn, streamed."""
        text = SENTENCES[(self._number + n) % len(SENTENCES)]
        body = {"model": "nano-emox", "stream": True, "messages": [{"role": "user", "content": text}],
                "emox": {"thread": "bench"}}  # fmt: skip
        began, sent, words, arrived = time.perf_counter(), time.time(), "", []
        try:
            async with self._client.stream(
                "POST", f"{self._address}/v1/chat/completions", json=body, headers=self._headers
            ) as response:
                self.statuses[response.status_code] += 1
                if response.status_code != 200:
                    await response.aread()
                    if "retry-after" in response.headers:
                        self.retry_after.append(int(response.headers["retry-after"]))
                    return
                async for line in response.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    now = time.time()
                    for choice in json.loads(line[6:]).get("choices", ()):
                        piece = choice["delta"].get("content") or ""
                        if piece and not words:
                            self.first_ms.append(1000 * (time.perf_counter() - began))
                        words += piece
                        arrived += [now] * (len(words.split()) - len(arrived))
        except httpx.HTTPError as error:
            self.errors.append(type(error).__name__)
            return
        if not words:
            self.errors.append("no reply")
        given = [int(word.split("_")[1]) / 1e9 for word in words.split() if "_" in word]
        for i, at in enumerate(arrived[: len(given)]):  # a word is held back until so many more are known
            self.late_ms.append(1000 * (at - given[min(i + LAG_WORDS, len(given) - 1)]))
        self.total_ms.append(1000 * (time.perf_counter() - began))
        if given:
            self.before_ms.append(1000 * (given[0] - self._word_s - sent))
            self.after_ms.append(1000 * (time.time() - given[-1]))


def family(pid: int) -> list[int]:
    """A process and those that it started."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def resident_mb(pid: int) -> float:
    """Resident memory of a process in MB, with those that it started."""
    pages = sum(int(Path(f"/proc/{one}/statm").read_text().split()[1]) for one in family(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def cpu_s(pid: int) -> float:
    """Seconds of processor time a process has used, with those that it started."""
    parts = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in family(pid)]
    return sum(int(part[11]) + int(part[12]) for part in parts) / os.sysconf("SC_CLK_TCK")


def stages_s(address: str, token: str) -> dict[str, tuple[float, float]]:
    """Seconds and count of each stage of all turns so far, as /metrics tells."""
    text = httpx.get(f"{address}/metrics", headers={"Authorization": f"Bearer {token}"}).text
    told = dict(re.findall(r'^emox_stage_seconds_((?:sum|count)\{stage="\w+"\}) (\S+)', text, re.M))
    names = re.findall(r'emox_stage_seconds_sum\{stage="(\w+)"', text)
    return {n: (float(told[f'sum{{stage="{n}"}}']), float(told[f'count{{stage="{n}"}}'])) for n in names}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and the most, in milliseconds."""
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 1),
        "p95": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1),
        "max": round(ordered[-1], 1),
    }


async def talk(
    address: str, tokens: Sequence[str], turns: int, spread_s: float, pid: int, word_s: float = 0.0
) -> tuple[list[Person], list[float], float]:
    """Everybody holds so many turns one after the other, beginning within `spread_s`; memory is read meanwhile."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=300, limits=limits) as client:
        persons = [Person(client, address, token, i, word_s) for i, token in enumerate(tokens)]
        memory: list[float] = []

        async def one(person: Person, i: int) -> None:
            await asyncio.sleep(spread_s * i / len(persons))
            for n in range(turns):
                await person.say(n)

        async def watch() -> None:
            while True:
                memory.append(resident_mb(pid))
                await asyncio.sleep(0.5)

        watching = asyncio.create_task(watch())
        began = time.monotonic()
        await asyncio.gather(*(one(person, i) for i, person in enumerate(persons)))
        wall_s = time.monotonic() - began
        watching.cancel()
    return persons, memory, wall_s


def summary(persons: Sequence[Person], wall_s: float) -> dict[str, Any]:
    """What everybody saw."""
    statuses: Counter[int] = sum((person.statuses for person in persons), Counter())
    return {
        "people": len(persons),
        "turns": sum(len(person.total_ms) for person in persons),
        "wall_s": round(wall_s, 1),
        "statuses": {str(status): n for status, n in statuses.items()},
        "errors": sum(len(person.errors) for person in persons),
    }


async def load(people: int, turns: int, word_s: float, folder: Path) -> dict[str, Any]:
    """Many paced streams at once, on the scripted model."""
    arguments = ["-m", "bench.server", "--serve", "PORT", "--word-s", str(word_s), "--people", str(people)]
    with served(arguments, people, folder) as (address, tokens, pid):
        reply_s = word_s * len(WORDS)
        await talk(address, tokens, 1, reply_s or 5, pid, word_s)  # everybody's memory is opened
        used_s, before = cpu_s(pid), stages_s(address, tokens[0])
        persons, memory, wall_s = await talk(address, tokens, turns, reply_s, pid, word_s)
        used_s, after = cpu_s(pid) - used_s, stages_s(address, tokens[0])
        means = {
            stage: round(1000 * (total - before[stage][0]) / (n - before[stage][1]), 1)
            for stage, (total, n) in after.items()
        }
        held = len(memory) // 4
        return summary(persons, wall_s) | {
            "word_s": word_s,
            "reply_s": round(reply_s, 2),
            "before_model_ms": percentiles([ms for person in persons for ms in person.before_ms]),
            "piece_late_ms": percentiles([ms for person in persons for ms in person.late_ms]),
            "after_model_ms": percentiles([ms for person in persons for ms in person.after_ms]),
            "overhead_ms": percentiles(
                [sum(both) for person in persons for both in zip(person.before_ms, person.after_ms, strict=True)]
            ),
            "stage_means_ms": means,
            "cpu_ms_per_turn": round(1000 * used_s / max(1, len(persons) * turns), 1),
            "resident_mb": {
                "first_quarter": round(statistics.median(memory[:held] or memory), 1),
                "last_quarter": round(statistics.median(memory[-held:] or memory), 1),
            },
        }


async def real(folder: Path) -> dict[str, Any]:
    """The real model: 8 people at once, then 40."""
    arguments = ["-m", "agent", "serve", "--port", "PORT"]
    found: dict[str, Any] = {}
    with served(arguments, 40, folder) as (address, tokens, pid):
        await talk(address, tokens[:1], 2, 0, pid)
        for name, people, turns in (("eight", 8, 5), ("overload", 40, 1)):
            persons, _, wall_s = await talk(address, tokens[:people], turns, 0, pid)
            answered = [person for person in persons if person.total_ms]
            medians = [statistics.median(person.first_ms) for person in answered]
            found[name] = summary(persons, wall_s) | {
                "answered_people": len(answered),
                "first_piece_ms": percentiles([ms for person in persons for ms in person.first_ms]),
                "turn_ms": percentiles([ms for person in persons for ms in person.total_ms]),
                "slowest_to_fastest": round(max(medians) / min(medians), 2),
                "retry_after_s": sorted({s for person in persons for s in person.retry_after}),
            }
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=200, help="streams at once")
    parser.add_argument("--turns", type=int, default=5, help="turns of each")
    parser.add_argument("--word-s", type=float, default=0.4, help="seconds between the words of a reply")
    parser.add_argument("--real", action="store_true", help="the model that comes along, 8 people and then 40")
    parser.add_argument("--serve", type=int, metavar="PORT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    with main_guard():
        if options.serve:
            serve(options.serve, options.word_s, options.people)
        with tempfile.TemporaryDirectory() as folder:
            if options.real:
                found = asyncio.run(real(Path(folder)))
            else:
                name = f"paced_{options.people}" if options.word_s else f"at_once_{options.people}"
                found = {name: asyncio.run(load(options.people, options.turns, options.word_s, Path(folder)))}
    command = " ".join(["python -m bench.server", *sys.argv[1:]])
    for part in found.values():
        part |= {"command": command, "machine": machine()}
    OUT.write_text(json.dumps((json.loads(OUT.read_text()) if OUT.is_file() else {}) | found, indent=1) + "\n")
    console = Console(highlight=False)
    for name, part in found.items():
        console.print(f"[bold]{name}[/bold]", *(f"  {key}: {value}" for key, value in part.items()), sep="\n")


if __name__ == "__main__":
    main()
