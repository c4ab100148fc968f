"""How each kind of benchmark is asked of a model and scored; `evaluate.py` puts the result together."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from rich.console import Console
from rich.progress import track
from torch import nn

from model.engine import LocalModel
from model.readings import Cause
from model.types import EMOTIONS, SENTIMENTS, STRATEGIES, AffectModel, ReplyBrief, Thought
from model.weights import locate
from perception.errors import MediaError
from perception.face import FaceFinder
from perception.types import UserTurn

from .benches import Bench, Kind
from .data.cases import TO_OURS, Case, Skip
from .data.features import Part
from .metrics import classification, emotions, sentiment
from .metrics.bootstrap import Measure, intervals
from .metrics.causes import line_scores, span_f1
from .metrics.empathy import diversity
from .metrics.language import perplexity, reply_ids, reply_loss
from .metrics.wheels import Wheels
from .metrics.wheels import load as load_wheels
from .prepare import read_turn

CAUSE_AT = 0.35
"""Lines with this probability are named as causes: F1 is greatest at half of the F1 that is reached, here about 0.7
(Lipton et al. 2014, arXiv:1402.1892)."""

LEAST_OF_A_SPEAKER = 10
"""Cases a speaker must have to be scored apart."""

_GOALS = {"happy": "celebrate", "surprise": "explore", "neutral": "explore", "angry": "reflect", "disgust": "reflect"}
"""Strategy by perceived emotion; the others are comforted. The agent's plan in short, without what it remembers."""


class Asked(AffectModel, Protocol):
    """What of a `LocalModel` is asked here."""

    def classify(self, prefix: Any, task: str, labels: Sequence[str]) -> dict[str, float]:
        """Probabilities of the labels of a task."""

    def causes(self, prefix: Any, emotion: str) -> tuple[Cause, ...]:
        """Clauses with the probability that each is why."""

    def cause_lines(self, prefix: Any, emotion: str) -> dict[int, float]:
        """Lines with the probability that each holds a cause."""


class EvaluationError(ValueError):
    """A checkpoint that cannot be asked this, a split of which nothing can be read, or wheels that are missing."""


@dataclass(frozen=True)
class Asking:
    """What is asked of whom. `wheels` is the folder of the emotion wheels, `untuned` gives the plain language model."""

    name: str
    bench: Bench
    cases: Sequence[Case]
    model: Asked
    seed: int = 7
    wheels: Path | None = None
    untuned: Callable[[], nn.Module] | None = None


@dataclass
class Scores:
    """What was found over `n` cases; `figures` holds labels, confusion and reliability where there are classes."""

    n: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: list[Skip] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)


def one_of_labels(asking: Asking) -> Scores:
    """One of some classes; the first task is the headline, the others are groups, as are speakers."""
    headline, *others = asking.bench.labels
    asked, rows, skipped = _classify(asking, asking.bench.labels)
    probabilities, gold = rows[headline], _gold(asked, headline, asking.bench.labels[headline])
    groups: dict[str, dict[str, Any]] = {
        task: {"n": len(asked), **classification.scores(rows[task], _gold(asked, task, asking.bench.labels[task]))}
        for task in others
    }
    speakers = [case.speaker for case in asked]
    if any(speakers):
        scored = classification.by_group(probabilities, gold, speakers, at_least=LEAST_OF_A_SPEAKER)
        groups |= {f"speaker {speaker}": scores for speaker, scores in scored.items()}
    return Scores(
        len(asked),
        classification.scores(probabilities, gold),
        classification.intervals(probabilities, gold, _units(asked), seed=asking.seed),
        groups,
        skipped,
        _figures(probabilities, gold, asking.bench.labels[headline]),
    )


def views(asking: Asking) -> Scores:
    """The same clips from voice, from face and from both; what both add to the better one is measured in pairs."""
    labels = asking.bench.labels["emotion"]
    asked: list[Case] = []
    skipped: list[Skip] = []
    rows: dict[str, list[list[float]]] = {"voice": [], "face": [], "both": []}
    for case, turn in _turns(asking, skipped):
        parts = {
            "voice": replace(turn, frames=None, faces=None),
            "face": replace(turn, speech=None),
            "both": turn,
        }
        for view, part in parts.items():
            answer = asking.model.classify(asking.model.attend(part), "emotion", labels)
            rows[view].append([answer[label] for label in labels])
        asked.append(case)
    _require(asked, skipped)
    read = {view: np.array(values) for view, values in rows.items()}
    gold, units = _gold(asked, "emotion", labels), _units(asked)
    scores = {view: classification.scores(values, gold) for view, values in read.items()}
    better = max(("voice", "face"), key=lambda view: scores[view]["uar"])

    def gain(at: np.ndarray) -> dict[str, float]:
        both, single = (classification.scores(read[view][at], gold[at])["uar"] for view in ("both", better))
        return {"uar_gain": both - single}

    inside = {view: classification.intervals(values, gold, units, seed=asking.seed) for view, values in read.items()}
    gained, gained_inside = _measured(gain, asked, asking.seed)
    return Scores(
        len(asked),
        scores["both"] | gained,
        inside["both"] | gained_inside,
        {view: {"n": len(asked), **scores[view], "intervals": inside[view]} for view in read},
        skipped,
        {"compared_with": better, **_figures(read["both"], gold, labels)},
    )


def polarity(asking: Asking) -> Scores:
    """Positive or not, as MER-UniBench counts; the three classes are a group."""
    asked, rows, skipped = _classify(asking, {"sentiment": SENTIMENTS})
    gold = _gold(asked, "sentiment", SENTIMENTS)
    said = [SENTIMENTS[i] for i in rows["sentiment"].argmax(1)]
    counted = np.flatnonzero(gold != SENTIMENTS.index("neutral"))
    if not len(counted):
        raise EvaluationError(f"{asking.name} has no case that is positive or negative: nothing can be scored")

    def measure(at: np.ndarray) -> dict[str, float]:
        chosen = counted[at]
        found = sentiment.scores([gold[i] - 1 for i in chosen], [said[i] for i in chosen])
        return {"waf": found["waf"], "accuracy": found["accuracy"]}

    metrics, inside = _measured(measure, [asked[i] for i in counted], asking.seed)
    three = {"n": len(asked), **classification.scores(rows["sentiment"], gold)}
    figures = _figures(rows["sentiment"], gold, SENTIMENTS)
    return Scores(len(counted), metrics, inside, {"three classes": three}, skipped, figures)


def free_words(asking: Asking) -> Scores:
    """Free words against the corpus' own on the emotion wheels; the perceived basic emotion is a group."""
    if asking.wheels is None:
        raise EvaluationError(
            f"{asking.name} is scored on the emotion wheels: put their folder emotion_wheel into the data folder"
        )
    wheels = load_wheels(asking.wheels)
    skipped: list[Skip] = []
    asked: list[Case] = []
    said: list[tuple[str, ...]] = []
    perceived: list[list[float]] = []
    for case, turn in _turns(asking, skipped):
        prefix = asking.model.attend(turn)
        affect = asking.model.perceive(prefix)
        asked.append(case)
        said.append(asking.model.understand(prefix, affect)[1])
        perceived.append([affect.emotions[label] for label in EMOTIONS])
    _require(asked, skipped)
    on_wheel = np.array([i for i, case in enumerate(asked) if _lies_on(case.words, wheels)], int)
    if not len(on_wheel):
        raise EvaluationError(f"no label of {asking.name} lies on an emotion wheel: nothing can be scored")

    def measure(at: np.ndarray) -> dict[str, float]:
        names = {str(k): int(i) for k, i in enumerate(on_wheel[at])}  # a case may be drawn twice
        predicted = {name: said[i] for name, i in names.items()}
        if asking.bench.kind == "sets":
            found = emotions.open_vocabulary({name: asked[i].words for name, i in names.items()}, predicted, wheels)
        else:
            found = emotions.hit_rate({name: asked[i].words[0] for name, i in names.items()}, predicted, wheels)
        return {name: value for name, value in found.items() if "_wheel" not in name}

    metrics, inside = _measured(measure, [asked[i] for i in on_wheel], asking.seed)
    basic = [i for i, case in enumerate(asked) if "emotion" in case.gold]
    groups: dict[str, dict[str, Any]] = {}
    figures: dict[str, Any] = {}
    if basic:
        probabilities, gold = np.array(perceived)[basic], _gold([asked[i] for i in basic], "emotion", EMOTIONS)
        groups["perceived emotion"] = {"n": len(basic), **classification.scores(probabilities, gold)}
        figures = _figures(probabilities, gold, EMOTIONS)
    off = [Skip(case.name, f"{', '.join(case.words)} lies on no wheel") for i, case in enumerate(asked)
           if i not in set(on_wheel.tolist())]  # fmt: skip
    return Scores(len(on_wheel), metrics, inside, groups, skipped + off, figures)


def causes(asking: Asking) -> Scores:
    """The lines that probably hold a cause, at least the likeliest, and the words of the likeliest clause."""
    named: list[list[int]] = []
    spans: list[float] = []
    for case in _progress(asking):
        prefix, felt = asking.model.attend(UserTurn(case.text), case.history), case.gold["emotion"]
        found = asking.model.causes(prefix, felt)
        lines = asking.model.cause_lines(prefix, felt)
        at = min(CAUSE_AT, max(lines.values(), default=0.0))
        named.append([line for line, probability in lines.items() if probability >= at])
        best = max(found, key=lambda cause: cause.probability, default=None)
        spans.append(span_f1(best.text, case.cause_spans) if best is not None else 0.0)

    def measure(at: np.ndarray) -> dict[str, float]:
        lines = line_scores([named[i] for i in at], [asking.cases[i].cause_lines for i in at])
        return lines | {"span_f1": float(np.mean([spans[i] for i in at]))}

    return Scores(len(asking.cases), *_measured(measure, asking.cases, asking.seed))


def replies(asking: Asking) -> Scores:
    """Perplexity of the replies that people gave, variety of the model's own, and the feeling its thought names."""
    model, cases = asking.model, asking.cases
    if not isinstance(model, LocalModel):
        raise EvaluationError("the perplexity of replies needs a model in this process")
    plain = asking.untuned() if asking.untuned is not None else None
    own: list[str] = []
    losses: dict[str, list[tuple[float, int]]] = {"tuned": [], "untuned": []}
    right: list[bool] = []
    perceived: list[list[float]] = []
    for case in _progress(asking):
        prefix = model.attend(UserTurn(case.text), case.history)
        affect = model.perceive(prefix)
        understanding, words = model.understand(prefix, affect)
        felt = words[0] if words else affect.emotion
        goal = STRATEGIES[_GOALS.get(affect.emotion, "comfort")]
        thought = Thought(understanding.scenario, felt, understanding.cause, goal)
        own.append("".join(model.empathize(prefix, ReplyBrief(thought))).strip())
        told = reply_ids(model.processor, case.text, case.history, thought, case.reference)
        losses["tuned"].append(reply_loss(model.model.lm, *told, model.rounds.llama))
        if plain is not None:
            losses["untuned"].append(reply_loss(plain, *told))
        right.append(TO_OURS.get(felt) == case.gold.get("emotion", ""))
        perceived.append([affect.emotions[label] for label in EMOTIONS])
    with_gold = "emotion" in asking.bench.labels

    def measure(at: np.ndarray) -> dict[str, float]:
        found = {"perplexity": perplexity(losses["tuned"][i] for i in at)}
        if plain is not None:
            found["perplexity_ratio"] = found["perplexity"] / perplexity(losses["untuned"][i] for i in at)
        if with_gold:
            found["accuracy"] = float(np.mean([right[i] for i in at]))
        return found

    metrics, inside = _measured(
        measure, cases, asking.seed
    )  # Dist has no interval: what is drawn twice is not distinct
    groups: dict[str, dict[str, Any]] = {"references": _variety([case.reference for case in cases])}
    if plain is not None:
        groups["untuned"] = {"perplexity": perplexity(losses["untuned"])}
    figures: dict[str, Any] = {}
    if with_gold:
        probabilities, gold = np.array(perceived), _gold(cases, "emotion", EMOTIONS)
        groups["perceived emotion"] = {"n": len(cases), **classification.scores(probabilities, gold)}
        figures = _figures(probabilities, gold, EMOTIONS)
    return Scores(len(cases), metrics | _variety(own), inside, groups, figures=figures)


KINDS: Mapping[Kind, Callable[[Asking], Scores]] = {
    "labels": one_of_labels,
    "views": views,
    "polarity": polarity,
    "words": free_words,
    "sets": free_words,
    "causes": causes,
    "replies": replies,
}


def _classify(
    asking: Asking, labels: Mapping[str, Sequence[str]]
) -> tuple[list[Case], dict[str, np.ndarray], list[Skip]]:
    """The cases that could be read, the probabilities (N, C) of each task, and the cases that could not."""
    asked: list[Case] = []
    skipped: list[Skip] = []
    rows: dict[str, list[list[float]]] = {task: [] for task in labels}
    for case, turn in _turns(asking, skipped):
        prefix = asking.model.attend(turn)
        for task, candidates in labels.items():
            answer = asking.model.classify(prefix, task, candidates)
            rows[task].append([answer[label] for label in candidates])
        asked.append(case)
    _require(asked, skipped)
    return asked, {task: np.array(values) for task, values in rows.items()}, skipped


def _turns(asking: Asking, skipped: list[Skip]) -> Iterator[tuple[Case, UserTurn]]:
    """The cases with their turns: of a clip, what the model was trained to read. A broken one goes to `skipped`."""
    trained = asking.model.card.modalities
    parts: set[Part] = {"acoustic"} if "voice" in trained else set()
    if "face" in trained:
        parts |= {"visual", "facial"}
    finder = cache(lambda: FaceFinder(locate("mtcnn")))
    for case in _progress(asking):
        try:
            turn = replace(read_turn(case.clip, parts, finder), text=case.text)
        except (MediaError, OSError, zipfile.BadZipFile) as error:
            skipped.append(Skip(case.name, str(error)))
            continue
        lacks = set(asking.bench.needs) - {"text"} - set(turn.modalities)
        if lacks or not turn.modalities:
            skipped.append(Skip(case.name, f"it has no {' and no '.join(sorted(lacks)) or 'modality that is read'}"))
        else:
            yield case, turn


def _progress(asking: Asking) -> Iterator[Case]:
    told = f"{asking.name}, {len(asking.cases)} cases"
    yield from track(asking.cases, told, console=Console(stderr=True), transient=True)


def _require(asked: Sequence[Case], skipped: Sequence[Skip]) -> None:
    if not asked:
        raise EvaluationError(f"none of {len(skipped)} cases could be read; the first, {skipped[0].name}: "
                              f"{skipped[0].why}")  # fmt: skip


def _measured(
    measure: Measure, cases: Sequence[Case], seed: int
) -> tuple[dict[str, float], dict[str, tuple[float, float]]]:
    """A measure of all cases, and its intervals."""
    return dict(measure(np.arange(len(cases)))), intervals(measure, _units(cases), seed=seed)


def _gold(cases: Sequence[Case], task: str, labels: Sequence[str]) -> np.ndarray:
    return np.array([labels.index(case.gold[task]) for case in cases])


def _units(cases: Sequence[Case]) -> list[str]:
    return [case.unit or case.name for case in cases]


def _lies_on(words: Sequence[str], wheels: Wheels) -> bool:
    return any(wheels.groups(words, n) for n in range(len(wheels.tables[1])))


def _figures(probabilities: np.ndarray, gold: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    return {
        "labels": list(labels),
        "confusion": classification.confusion(probabilities, gold).tolist(),
        "reliability": classification.reliability(probabilities, gold),
        "ece_if_calibrated": classification.ece_if_calibrated(probabilities),
    }


def _variety(texts: Sequence[str]) -> dict[str, float]:
    """Dist-1 and Dist-2 over all texts together."""
    found = diversity(texts)
    return {"dist_1": found["corpus_dist_1"], "dist_2": found["corpus_dist_2"]}
