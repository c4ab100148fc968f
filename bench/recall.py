"""Does the memory bring back the right episodes? `python -m bench.recall --data DIR`

Against plain cosine on the same embeddings, and against baselines that know the feeling too, over the sets of
`bench/recall_sets.py`. What each line feels like comes from the model's reading of its words, with `--voice` also from
words and an acted voice, and from the annotation, which says how far better readings could take it. Intervals are 95 %
bootstraps over people; ratios are paired with cosine. Writes `bench/results/recall.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.edge import main_guard
from bench import recall_sets as sets
from bench.recall_sets import Asked, People
from memory.embedding import Embedder, MiniLmEmbedder
from memory.policy import BRIGHT, WEIGHTS
from memory.scoring import Weights, affect_vector
from memory.store import InMemoryStore
from memory.types import Episode, Query, RecallPolicy
from model.types import Affect
from model.weights import locate

METRICS = ("hit@1", "recall@3", "MRR@10")
LIMIT = 10
LOCOMO_KS = (1, 5, 10)
DRAWS = 2000
OUT = Path(__file__).parent / "results" / "recall.json"

GRID: dict[RecallPolicy, dict[str, tuple[float, ...]]] = {
    "congruent": {"affect": (0.1, 0.15, 0.2, 0.3, 0.4, 0.6), "recency": (0.0, 0.05, 0.1, 0.2), "importance": (0.0, 0.1),
                  "diversity": (0.0, 0.15)},
    "counter": {"affect": (0.1, 0.2, 0.3, 0.5, 1.0), "recency": (0.0, 0.05, 0.1), "importance": (0.0, 0.1),
                "diversity": (0.0, 0.15)},
    "factual": {"recency": (0.0, 0.02, 0.05, 0.1), "diversity": (0.0, 0.15)},
}  # fmt: skip
"""What is tried; the other weights, that of words among them, stay as the policy has them."""
TOLERANCE = 0.005
"""Of weights that lose no more, those with most recency and variety are taken: the sets cannot say what they give."""

Affects = Mapping[str, Affect]


class OnceEmbedder:
    """An embedder that embeds each text once."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._rows: dict[str, np.ndarray] = {}
        self.name, self.dim = embedder.name, embedder.dim

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (N, D), rows of length 1."""
        if new := [text for text in dict.fromkeys(texts) if text not in self._rows]:
            self._rows.update(zip(new, self._embedder.embed(new), strict=True))
        return np.array([self._rows[text] for text in texts], np.float32).reshape(len(texts), self.dim)


class Trial:
    """People's memories, what each text is taken to feel like, and every way to recall from them."""

    def __init__(self, everybody: People, affects: Affects, embedder: Embedder) -> None:
        self._people, self._affects, self._embedder = everybody, affects, embedder
        self._store = InMemoryStore(embedder)
        self._now = max(line.at for lines in everybody.values() for line in lines)
        for person, lines in everybody.items():
            embedder.embed([line.text for line in lines])
            for line in lines:
                self._store.add(Episode(line.id, person, person, line.at, line.text, "", affects[line.text]))

    def ours(self, asked: Asked, policy: RecallPolicy) -> list[str]:
        """Ids that the memory brings back under a policy, best first."""
        exclude = frozenset({asked.line} if asked.line else ())
        query = Query(asked.text, self._affects.get(asked.text), policy, limit=LIMIT, now=self._now, exclude=exclude)
        return [found.episode.id for found in self._store.recall(asked.person, query)]

    def ways(self, asked: Asked, policy: RecallPolicy) -> dict[str, list[str]]:
        """The best ids by every way of recalling; those that know the feeling only where the policy asks for one."""
        lines = [line for line in self._people[asked.person] if line.id != asked.line]
        embed = self._embedder.embed
        scores = {"cosine": embed([line.text for line in lines]) @ embed([asked.text])[0]}
        if policy != "factual":
            aim = BRIGHT if policy == "counter" else self._affects[asked.text]
            felt = [self._affects[line.text] for line in lines]
            worded = [f"{line.text} {affect.emotion}" for line, affect in zip(lines, felt, strict=True)]
            same = np.array([affect.emotion == aim.emotion for affect in felt])
            scores["text + emotion word"] = embed(worded) @ embed([f"{asked.text} {aim.emotion}"])[0]
            scores["same emotion only"] = scores["cosine"] + 9.0 * same
            scores["feeling alone"] = np.stack([affect_vector(affect) for affect in felt]) @ affect_vector(aim)
        best = {way: np.argsort(-values, kind="stable")[:LIMIT] for way, values in scores.items()}
        return {way: [lines[i].id for i in at] for way, at in best.items()} | {"ours": self.ours(asked, policy)}


def quality(ranking: Sequence[str], right: frozenset[str]) -> tuple[float, float, float]:
    """`METRICS` of one recall; recall@3 is of the three, or of as many as are right."""
    hits = [id in right for id in ranking[:LIMIT]]
    first = 1 / (1 + hits.index(True)) if any(hits) else 0.0
    return float(any(hits[:1])), sum(hits[:3]) / min(3, len(right)), first


def evidence_recall(ranking: Sequence[str], right: frozenset[str]) -> tuple[float, ...]:
    """Which share of the evidence is among the first k, for each of `LOCOMO_KS`."""
    return tuple(len(right & set(ranking[:k])) / len(right) for k in LOCOMO_KS)


def summary(people: Sequence[str], values: Mapping[str, np.ndarray], metrics: Sequence[str]) -> dict[str, Any]:
    """Means of every way and metric, their ratio and difference to cosine, with 95 % bootstrap intervals over people.

    Args:
        people: whom each question was asked of (N).
        values: way -> (N, M), a column for each of `metrics`; "cosine" is among them.
    """
    names = sorted(set(people))
    of = np.array([[person == name for person in people] for name in names], float)  # (P, N)
    drawn = np.random.default_rng(sets.SEED).multinomial(len(names), [1 / len(names)] * len(names), DRAWS)
    drawn = np.vstack([np.ones(len(names)), drawn])  # (1 + draws, P): the first row is everybody once
    means = {way: (drawn @ of @ rows) / (drawn @ of.sum(1))[:, None] for way, rows in values.items()}

    def told(draws: np.ndarray) -> dict[str, float]:
        low, high = np.percentile(draws[1:], (2.5, 97.5))
        return {"value": round(float(draws[0]), 4), "low": round(float(low), 4), "high": round(float(high), 4)}

    result: dict[str, Any] = {}
    for way, (m, metric) in itertools.product(values, enumerate(metrics)):
        one, base = means[way][:, m], means["cosine"][:, m]
        compared = {"ratio": told(one / np.maximum(base, 1e-9)), "difference": told(one - base)}
        result.setdefault(way, {})[metric] = told(one) | (compared if way != "cosine" else {})
    return result


def tune(trials: Sequence[Trial], everybody: People, console: Console) -> dict[str, dict[str, float]]:
    """Set the best weights of the grid for each policy, by the mean over metrics and trials; see `TOLERANCE`."""
    for policy, grid in GRID.items():
        questions, base = sets.asked(everybody, policy), WEIGHTS[policy]
        tried: list[tuple[np.ndarray, Weights]] = []
        for point in itertools.product(*grid.values()):
            WEIGHTS[policy] = replace(base, **dict(zip(grid, point, strict=True)))
            scores = [quality(trial.ours(q, policy), q.right) for trial in trials for q in questions]
            tried.append((np.mean(scores, 0), WEIGHTS[policy]))
        tried.sort(key=lambda one: -one[0].mean())
        good = [one for one in tried if one[0].mean() >= tried[0][0].mean() - TOLERANCE]
        taken = max(good, key=lambda one: (one[1].recency, one[1].diversity, one[0].mean()))
        WEIGHTS[policy] = taken[1]
        table = Table(policy, *METRICS, "mean", show_edge=False)
        for scores, weights in [*tried[:5], taken]:
            shown = " ".join(f"{name} {getattr(weights, name):g}" for name in grid)
            table.add_row(shown, *(f"{value:.3f}" for value in scores), f"{scores.mean():.4f}")
        console.print(table, "the last row is taken\n")
    return {policy: {name: getattr(WEIGHTS[policy], name) for name in grid} for policy, grid in GRID.items()}


def run(everybody: People, trials: Mapping[str, Trial]) -> dict[str, Any]:
    """Every way's scores on every set, for each source of feelings."""
    facts: dict[str, Any] = {}
    for policy in GRID:
        questions = sets.asked(everybody, policy)
        n, n_right = len(questions), sum(len(one.right) for one in questions)
        facts[policy] = {"questions": n, "right": round(n_right / n, 2)}
        for source, trial in trials.items() if policy != "factual" else [("words", trials["words"])]:
            ranked = [(trial.ways(asked, policy), asked.right) for asked in questions]
            values = {way: np.array([quality(found[way], right) for found, right in ranked]) for way in ranked[0][0]}
            facts[policy][source] = summary([asked.person for asked in questions], values, METRICS)
    return facts


def run_locomo(file: Path, embedder: Embedder) -> dict[str, Any]:
    """Evidence recall of cosine and of the factual policy; all turns count as neutral, which it does not weigh."""
    everybody, questions = sets.locomo(file)
    neutral = {line.text: sets.labelled("neutral") for lines in everybody.values() for line in lines}
    trial = Trial(everybody, neutral, embedder)
    ranked = [(trial.ways(asked, "factual"), asked) for asked in questions]
    groups = {"all but adversarial": [one for one in ranked if one[1].category != "adversarial"]}
    groups |= {name: [one for one in ranked if one[1].category == name] for name in sets.LOCOMO_CATEGORIES.values()}
    facts: dict[str, Any] = {}
    for name, some in groups.items():
        if some:
            ways = {way: np.array([evidence_recall(found[way], q.right) for found, q in some]) for way in some[0][0]}
            scores = summary([asked.person for _, asked in some], ways, [f"recall@{k}" for k in LOCOMO_KS])
            facts[name] = {"questions": len(some), "words": scores}
    return facts


def accuracy(everybody: People, affects: Affects) -> dict[str, Any]:
    """How often the likeliest emotion is the annotated one, over all lines and over those never trained on."""
    lines = [line for person in everybody.values() for line in person]
    groups = {"all": lines, "unseen": [line for line in lines if line.unseen]}
    right = {name: [affects[line.text].emotion == line.emotion for line in some] for name, some in groups.items()}
    return {name: {"n": len(one), "value": round(sum(one) / max(1, len(one)), 4)} for name, one in right.items()}


def show(facts: Mapping[str, Any], console: Console) -> None:
    """Print a table for each set."""
    for name, one in facts.items():
        metrics = list(one["words"]["cosine"])
        table = Table(f"{name} ({one['questions']})", "feeling from", *metrics, f"ratio of {metrics[0]}")
        for source, ways in one.items():
            for way in ways if isinstance(ways, dict) else ():
                if way != "cosine" or source == "words":
                    ratio = ways[way][metrics[0]].get("ratio")
                    cells = [ways[way][metric] for metric in metrics] + ([ratio] if ratio else [])
                    shown = [f"{cell['value']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]" for cell in cells]
                    table.add_row(way, "" if way == "cosine" or len(ways) == 2 else source, *shown)
        console.print(table)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the corpora")
    parser.add_argument("--voice", action="store_true", help="also feelings read from voices, an hour the first time")
    parser.add_argument("--tune", action="store_true", help="search weights on the development people")
    parser.add_argument("--weights", type=json.loads, default={}, metavar="JSON", help="as --tune prints them")
    parser.add_argument("--locomo", type=Path, metavar="FILE", help="also locomo10.json or a file of its format")
    args = parser.parse_args()
    with main_guard():
        console = Console(highlight=False)
        for policy, changes in args.weights.items():
            WEIGHTS[policy] = replace(WEIGHTS[policy], **changes)
        everybody = sets.people(args.data, "dev" if args.tune else "test")
        lines = [line for person in everybody.values() for line in person]
        affects = {"words": sets.readings({line.text: None for line in lines})}
        if args.voice:
            affects["words + voice"] = sets.readings(sets.voices(args.data, everybody))
        affects["labels"] = {line.text: sets.labelled(line.emotion) for line in lines}
        embedder = OnceEmbedder(MiniLmEmbedder(locate("minilm")))
        trials = {source: Trial(everybody, one, embedder) for source, one in affects.items()}
        if args.tune:
            best = tune([trial for source, trial in trials.items() if source != "labels"], everybody, console)
            console.print(f"--weights '{json.dumps(best)}'\n")
        facts = run(everybody, trials)
        show(facts, console)
        read = {source: accuracy(everybody, one) for source, one in affects.items() if source != "labels"}
        console.print(f"{len(everybody)} people, {len(lines)} episodes; emotions read rightly: {read}")
        if args.tune:
            return
        sizes = {"people": len(everybody), "episodes": len(lines)}
        weights = {policy: asdict(WEIGHTS[policy]) for policy in GRID}
        written = {"command": "python -m bench.recall", **sizes, "weights": weights, "reading_accuracy": read, **facts}
        if args.locomo:
            written["locomo"] = run_locomo(args.locomo, embedder)
            show(written["locomo"], console)
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps(written, indent=1) + "\n")
        console.print(f"written to {OUT}")


if __name__ == "__main__":
    main()
