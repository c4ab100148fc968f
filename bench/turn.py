"""How fast a turn is here: `make bench`, or `python -m bench.turn`.

Medians over turns after a warm-up; ratios come from pairs measured in the same run. Writes `bench/results/turn.json`
with a description of the machine. The peer of the six tasks is what the paper's authors do: six generations, each of
which encodes and prefills everything again, with the same weights, greedy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from langgraph.checkpoint.memory import InMemorySaver
from rich.console import Console
from rich.table import Table

from agent.conversations import serializer
from agent.edge import main_guard
from agent.nodes import Ears
from agent.opening import open_agent
from agent.plan import plan_reply, think
from agent.session import Agent
from agent.settings import Settings, load_settings
from agent.speech import STYLES, write_wav
from bench.decoding import decoding, prefill
from bench.machine import machine, timed
from memory.store import InMemoryStore
from model import processor as p
from model.build import NANO_EMOX_EMBEDDED, merged_language_model
from model.device import on_device
from model.engine import LocalModel
from model.manifest import embedded_checkpoint
from model.types import STRATEGIES, ReplyBrief
from model.weights import locate
from perception.media import read_clip
from perception.types import UserTurn
from tests.fakes import FakeAsr, FakeEmbedder, FakeFaceFinder, FakeModel

LINES = (
    "My dog died last night and I cannot stop crying.",
    "I finally got the job I wanted, I start on Monday!",
    "My boss took credit for my work in front of everyone, and nobody said a word.",
    "I have my exam tomorrow and I have not slept for two nights.",
    "My sister moved to the other end of the world, and the house is quiet now.",
    "There was a huge spider in my bathroom this morning, and it is still somewhere.",
    "We looked at old photographs today, and I did not know whether to laugh or to cry.",
)

CAPS = {"sentiment": 12, "emotion": 12, "open": 16, "reason": 44, "intent": 8, "empathy": 160}
"""Most tokens of each separate generation; it ends earlier at the stop token. The reply's includes its whole thought,
the reason's as many as ours decodes for scenario and cause together."""

OUT = Path(__file__).parent / "results" / "turn.json"


def stages(agent: Agent, turns: Sequence[dict[str, Any]], folder: Path) -> dict[str, float]:
    """Median milliseconds of every stage over whole, spoken turns; the first is warm-up."""
    rows = []
    for number, turn in enumerate(turns):
        result = agent.ask(**turn, user="bench", thread=f"bench-{number}", speak_to=folder / "reply.wav")
        rows.append(result.timings_ms)
    rows = rows[1:]
    return {name: round(statistics.median(row[name] for row in rows), 1) for name in rows[0]}


def six_tasks_shared(model: LocalModel, turn: UserTurn) -> str:
    """All six tasks from one prefix, as a turn runs them."""
    prefix = model.attend(turn)
    affect = model.perceive(prefix)
    understanding, words = model.understand(prefix, affect)
    plan = plan_reply(turn.text, affect, understanding)
    thought = think(affect, understanding, words, STRATEGIES[plan.strategy])
    return "".join(model.empathize(prefix, ReplyBrief(thought)))


@on_device
@torch.inference_mode()
def six_tasks_separate(model: LocalModel, lm: Any, turn: UserTurn) -> dict[str, str]:
    """Each task on its own: encode, prefill, generate until the stop token; as the released evaluation does.

    `lm` is the model's language model as transformers has it.
    """
    questions = {
        "sentiment": p.SENTIMENT_QUESTION,
        "emotion": p.EMOTION_QUESTION,
        "open": p.OPEN_QUESTION,
        "reason": p.CAUSE_QUESTION.format(emotion="this"),
        "intent": p.INTENT_QUESTION,
        "empathy": p.EMPATHY_QUESTION,
    }
    answers = {}
    for task, question in questions.items():
        soft = model.model.soft_tokens(model.model.encode(model.processor.inputs(turn, model.model.slots)))
        ids = [
            *model.processor.header_ids(),
            *model.processor.prefix_ids(soft.counts(), turn.text),
            *model.processor.question_ids(question),
        ]
        embeddings = model.model.embed(torch.tensor([ids]), soft, model.processor.placeholders)
        told = lm.generate(
            inputs_embeds=embeddings,
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=CAPS[task],
            do_sample=False,
            eos_token_id=sorted(model.processor.stop_ids),
            pad_token_id=0,
        )
        answers[task] = model.processor.text(told[0].tolist())
    return answers


def six_tasks(model: LocalModel, turns: Sequence[UserTurn]) -> dict[str, float]:
    """Median seconds of both ways and the median of their paired ratios; the first turn is warm-up."""
    lm = on_device(merged_language_model)(locate("smollm2"), embedded_checkpoint(), NANO_EMOX_EMBEDDED)
    pairs = []
    for turn in turns:
        shared, _ = timed(lambda turn=turn: six_tasks_shared(model, turn))
        separate, _ = timed(lambda turn=turn: six_tasks_separate(model, lm, turn))
        pairs.append((shared, separate))
    pairs = pairs[1:]
    return {
        "shared_s": statistics.median(shared for shared, _ in pairs),
        "separate_s": statistics.median(separate for _, separate in pairs),
        "ratio": statistics.median(shared / separate for shared, separate in pairs),
    }


def language_model(model: LocalModel) -> dict[str, float]:
    """Prefill of 200 tokens in milliseconds, and tokens a second of one reply and of four decoded together."""
    return {
        "prefill_200_ms": prefill(model, "cpu")["ms"],
        "tokens_per_s": decoding(model, 1)["tokens_per_s"],
        "tokens_per_s_4_replies": decoding(model, 4)["tokens_per_s"],
    }


def graph_overhead(n: int = 100) -> dict[str, float]:
    """Milliseconds of a whole turn when model, memory and checkpoints answer at once.

    What the memory takes in after a turn is waited for between turns, as it has the time that a person takes to speak.
    """
    agent = Agent(
        model=FakeModel(),
        store=InMemoryStore(FakeEmbedder()),
        ears=Ears(FakeAsr, FakeFaceFinder),
        checkpointer=InMemorySaver(serde=serializer()),
    )
    times = []
    for _ in range(n + 5):
        times.append(1000 * timed(lambda: agent.ask("I am sad about my cat, she ran away."))[0])
        agent.settle()
    return {"p50_ms": statistics.median(times), "p95_ms": sorted(times)[int(0.95 * len(times))]}


def cold_start(home: Path, n: int = 5) -> dict[str, float]:
    """Median seconds from nothing until `emox turn --text` prints its reply, and until its process has ended."""
    command = [sys.executable, "-m", "agent", "turn", "--text", LINES[0], "--json"]
    environment = os.environ | {"EMOX_HOME": str(home)}
    replies, ends = [], []
    for _ in range(n + 1):  # the first is warm-up
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment) as process:
            assert process.stdout is not None
            process.stdout.readline()
            replies.append(time.perf_counter() - started)
        ends.append(time.perf_counter() - started)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
    return {"reply_s": statistics.median(replies[1:]), "process_s": statistics.median(ends[1:])}


def bench(settings: Settings, console: Console) -> dict[str, Any]:
    """Run everything and return the figures."""
    facts: dict[str, Any] = {"command": "python -m bench.turn", "machine": machine()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = settings.model_copy(update={"home": folder / "home"})
        with open_agent(settings) as agent:
            model = agent.model
            assert isinstance(model, LocalModel)
            facts["model"] = {"variant": model.card.variant, "version": model.card.version}
            console.print("text turns ...")
            facts["text_turn_ms"] = stages(agent, [{"text": line} for line in LINES], folder)
            console.print("clip turns ...")
            clips = []
            for number, line in enumerate(LINES):
                clips.append({"clip": folder / f"{number}.wav"})
                write_wav(clips[-1]["clip"], agent.speaker.speak(line, STYLES["plain"]))
            facts["clip_turn_ms"] = stages(agent, clips, folder)
            console.print("six tasks, shared and separate ...")
            facts["six_tasks_text"] = six_tasks(model, [UserTurn(line) for line in LINES])
            spoken = [UserTurn(line, read_clip(c["clip"]).speech) for line, c in zip(LINES, clips, strict=True)]
            facts["six_tasks_clip"] = six_tasks(model, spoken)
            facts["language_model"] = language_model(model)
        facts["graph"] = graph_overhead()
        facts["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        console.print("cold starts ...")
        facts["cold_start"] = cold_start(folder / "cold")
    return facts


def show(facts: dict[str, Any], console: Console) -> None:
    """Print the figures."""
    table = Table("stage (median ms)", "text turn", "clip turn", show_edge=False)
    text, clip = facts["text_turn_ms"], facts["clip_turn_ms"]
    for stage in dict.fromkeys([*clip, *text]):
        table.add_row(stage, f"{text.get(stage, float('nan')):.0f}", f"{clip.get(stage, float('nan')):.0f}")
    console.print(table)
    lm, graph, cold = facts["language_model"], facts["graph"], facts["cold_start"]
    for kind in ("text", "clip"):
        six = facts[f"six_tasks_{kind}"]
        console.print(
            f"six tasks, {kind}: shared {six['shared_s']:.2f} s, separate {six['separate_s']:.2f} s, "
            f"ratio {six['ratio']:.2f}"
        )
    console.print(
        f"prefill of 200 tokens {lm['prefill_200_ms']:.0f} ms; {lm['tokens_per_s']:.0f} tokens/s, four replies "
        f"{lm['tokens_per_s_4_replies']:.0f}\n"
        f"graph alone: p50 {graph['p50_ms']:.1f} ms, p95 {graph['p95_ms']:.1f} ms\n"
        f"peak memory {facts['peak_memory_mb']} MB\n"
        f"cold start to the first reply {cold['reply_s']:.1f} s, to the end of its process {cold['process_s']:.1f} s"
    )


def main() -> None:
    """Command line."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with main_guard():
        console = Console(highlight=False)
        facts = bench(load_settings(), console)
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(facts, indent=1) + "\n")
        show(facts, console)
        console.print(f"written to {OUT}")


if __name__ == "__main__":
    main()
