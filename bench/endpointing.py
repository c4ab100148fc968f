"""Does the agent wait when somebody only pauses, and not when they are done? `python -m bench.endpointing --data DIR`

A pause that is longer than the wait is a cut-off; what the waits at true ends cost is their mean. Over the turns of
`bench/endpointing_set.py`, ours is set against

    timer        the same silence for everybody, as long as ours waits on average at the ends
    smart-turn   as Pipecat uses it: 0.2 s where it says that the turn is complete, else 3 s
    sound alone, without words, without affect    ours with less to go by, brought to the same mean wait

Intervals are 95 % bootstraps over pauses. Writes `bench/results/endpointing.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.edge import main_guard
from agent.settings import load_settings
from agent.voice.endpointing import WAITS, Waits, distress, wait_s
from bench.endpointing_set import HEARD_S, SEED, Moment, known_moments, read_moments, turns

DRAWS = 2000
OUT = Path(__file__).parent / "results" / "endpointing.json"

GRID = {
    "sure": (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7),
    "unsure": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5),
    "hesitation": (0.3, 0.5, 0.7, 0.9, 1.2, 1.5),
}
"""What is tried; the other parts are choices, see `Waits`."""
MEAN_S, P95_S, CALM_S = 0.9, 1.5, 0.8
"""Bounds of a choice on the development half: mean and 95th percentile of the waits at ends, and the wait after a calm
sentence of which smart-turn is as sure as `SURE`. The reply is ready about a second after the end of speech."""
SURE = 0.9
TOLERANCE = 1
"""Of choices that cut off so few pauses more, the one that heeds smart-turn most is taken: it doubts the ends of the
synthetic voice, which people's do not deserve."""
CALM = 0.3
"""Less distress than this is calm."""

Policy = Callable[[Moment], float]


def ours(waits: Waits) -> Policy:
    """The policy of `agent.voice.endpointing`."""
    return lambda moment: wait_s(moment.complete, moment.text, moment.affect, waits)


def smart_turn(moment: Moment) -> float:
    """Pipecat's use of smart-turn: the turn ends at once or, if it is not convinced, after `stop_secs`."""
    return HEARD_S if moment.complete_turn > 0.5 else 3.0


def timer(seconds: float) -> Policy:
    """The same silence whatever was said."""
    return lambda _: seconds


LESS: Mapping[str, Callable[[Moment], Moment]] = {
    "sound alone": lambda moment: replace(moment, text="", affect=None),
    "without words": lambda moment: replace(moment, text=""),
    "without affect": lambda moment: replace(moment, affect=None),
    "without sound": lambda moment: replace(moment, complete=0.5),
}
"""Ours with less to go by."""


def waits_at(policy: Policy, moments: Sequence[Moment], *, ends: bool) -> np.ndarray:
    """Seconds at the ends, or at the pauses."""
    return np.array([policy(moment) for moment in moments if (moment.pause_s is None) == ends])


def cut_offs(policy: Policy, moments: Sequence[Moment]) -> np.ndarray:
    """Whether each pause is taken for an end."""
    return np.array([moment.pause_s > policy(moment) for moment in moments if moment.pause_s is not None])


def same_mean(see: Callable[[Moment], Moment], waits: Waits, moments: Sequence[Moment], mean_s: float) -> Policy:
    """Ours with what `see` leaves of a moment, and `sure` such that the mean wait at the ends is `mean_s`."""
    low, high = -3.0, 3.0
    for _ in range(40):
        middle = (low + high) / 2
        policy = _seeing(see, replace(waits, sure=middle))
        low, high = (middle, high) if waits_at(policy, moments, ends=True).mean() < mean_s else (low, middle)
    return policy


def _seeing(see: Callable[[Moment], Moment], waits: Waits) -> Policy:
    return lambda moment: ours(waits)(see(moment))


def policies(waits: Waits, moments: Sequence[Moment]) -> dict[str, Policy]:
    """All that are compared on these moments."""
    mean_s = float(waits_at(ours(waits), moments, ends=True).mean())
    less = {name: same_mean(see, waits, moments, mean_s) for name, see in LESS.items()}
    return {"ours": ours(waits), "timer": timer(mean_s), "smart-turn": smart_turn, **less}


def score(policy: Policy, moments: Sequence[Moment]) -> dict[str, Any]:
    """Share of pauses cut off, in all and by kind, and seconds waited at the ends."""
    cut, waits = cut_offs(policy, moments), waits_at(policy, moments, ends=True)
    kinds = [moment.turn.kind for moment in moments if moment.pause_s is not None]
    calm = [m for m in moments if m.affect is None or distress(m.affect) < CALM]
    return {
        "cut_off": round(float(cut.mean()), 4),
        "cut_offs": int(cut.sum()),
        "by_kind": {kind: int(cut[[one == kind for one in kinds]].sum()) for kind in dict.fromkeys(kinds)},
        "wait_s": {
            "mean": round(float(waits.mean()), 3),
            **{f"p{p}": round(float(np.percentile(waits, p)), 3) for p in (50, 90, 95)},
            "calm_p50": round(float(np.median(waits_at(policy, calm, ends=True))), 3),
        },
    }


def fewer(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """Difference of two shares of cut-offs at the same pauses, with its interval."""
    difference = other.astype(float) - one
    drawn = np.random.default_rng(SEED).choice(difference, (DRAWS, len(difference))).mean(1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {"value": round(float(difference.mean()), 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def run(waits: Waits, moments: Sequence[Moment]) -> dict[str, Any]:
    """Every policy's scores, ours against the timer, and how long a timer would have to be that cuts off no more."""
    compared = policies(waits, moments)
    cut = cut_offs(compared["ours"], moments)
    pauses = sorted(moment.pause_s for moment in moments if moment.pause_s is not None)
    return {
        "turns": len({moment.turn.id for moment in moments}),
        "pauses": len(pauses),
        "policies": {name: score(policy, moments) for name, policy in compared.items()},
        "fewer_than_timer": fewer(cut, cut_offs(compared["timer"], moments)),
        "timer_with_as_few_s": pauses[len(pauses) - 1 - int(cut.sum())],
    }


def tune(moments: Sequence[Moment], console: Console) -> Waits:
    """The parts of the grid that cut off least within the bounds; see `TOLERANCE`."""
    tried = []
    for point in itertools.product(*GRID.values()):
        waits = replace(WAITS, **dict(zip(GRID, point, strict=True)))
        at_ends = waits_at(ours(waits), moments, ends=True)
        calm = waits.sure + waits.unsure * (1 - SURE)
        if at_ends.mean() <= MEAN_S and np.percentile(at_ends, 95) <= P95_S and calm <= CALM_S:
            tried.append((int(cut_offs(ours(waits), moments).sum()), at_ends.mean(), waits))
    tried.sort(key=lambda one: one[:2])
    good = [one for one in tried if one[0] <= tried[0][0] + TOLERANCE]
    taken = min(good, key=lambda one: (-one[2].unsure, *one[:2]))
    table = Table(*GRID, "cut off", "mean wait", show_edge=False)
    for cut, mean, waits in [*tried[:9], taken]:
        table.add_row(*(f"{getattr(waits, name):g}" for name in GRID), str(cut), f"{mean:.3f}")
    console.print(table, "the last row is taken\n")
    return taken[2]


def show(split: str, facts: Mapping[str, Any], console: Console) -> None:
    """Print a table for a split."""
    kinds = list(facts["policies"]["ours"]["by_kind"])
    table = Table(f"{split} ({facts['pauses']} pauses)", "cut off", "mean s", "p50", "p90", "p95", "calm p50", *kinds)
    for name, one in facts["policies"].items():
        waited = [f"{value:.2f}" for value in one["wait_s"].values()]
        table.add_row(name, f"{one['cut_off']:.3f}", *waited, *(str(one["by_kind"][kind]) for kind in kinds))
    console.print(table)
    gain = facts["fewer_than_timer"]
    console.print(
        f"fewer cut-offs than the timer: {gain['value']:.3f} [{gain['low']:.3f}, {gain['high']:.3f}]; a timer that "
        f"cuts off no more waits {facts['timer_with_as_few_s']:.2f} s"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds the corpora")
    parser.add_argument(
        "--known", action="store_true", help="the words and feelings as annotated: fast, nothing written"
    )
    parser.add_argument("--tune", action="store_true", help="search the parts on the development half")
    args = parser.parse_args()
    with main_guard():
        console = Console(highlight=False)
        settings = load_settings().model_copy(update={"threads": 1})
        moments = (known_moments if args.known else read_moments)(turns(args.data), settings)
        halves = {split: [one for one in moments if one.turn.split == split] for split in ("dev", "test")}
        if args.tune:
            waits = tune(halves["dev"], console)
            show("dev", run(waits, halves["dev"]), console)
            return
        facts = {split: run(WAITS, half) for split, half in halves.items()}
        for split, one in facts.items():
            show(split, one, console)
        if args.known:
            return
        command = "python -m bench.endpointing --data DIR"
        OUT.parent.mkdir(exist_ok=True)
        OUT.write_text(json.dumps({"command": command, "waits": asdict(WAITS), **facts}, indent=1) + "\n")
        console.print(f"written to {OUT}")


if __name__ == "__main__":
    main()
