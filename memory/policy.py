"""Which memories a turn calls for: felt alike, brighter, or simply on the subject.

`policy_for` decides from affect and words alone. It never answers "counter": brighter times offered at once read as not
having listened. The plan asks for them once a feeling has been met (`agent.plan`).
"""

from __future__ import annotations

import numpy as np

from model.types import CIRCUMPLEX, EMOTIONS, Affect

from .embedding import Embedder
from .scoring import AFFECT_DIM, Cue, Weights, affect_vector, intensity
from .types import Query, RecallPolicy

WEIGHTS: dict[RecallPolicy, Weights] = {
    "congruent": Weights(text=1.0, affect=0.2, recency=0.1, diversity=0.15),
    "counter": Weights(text=0.5, affect=0.5, recency=0.05, helped=0.5, diversity=0.15, min_affect=0.3, min_lift=0.3),
    "factual": Weights(text=1.0, recency=0.05, diversity=0.15),
}
"""Tuned on the development people of `bench.recall`, but for `helped`, which no corpus tells about. `counter` lets
nothing back that was neither felt as bright nor followed by feeling better: a sad day is no comfort for want of a happy
one."""

DISTRESS_VALENCE = -0.3
STRONG_INTENSITY = 0.6

BRIGHT = Affect(
    sentiment=CIRCUMPLEX["happy"][0],
    emotion="happy",
    emotions={label: float(label == "happy") for label in EMOTIONS},
    valence=CIRCUMPLEX["happy"][0],
    arousal=CIRCUMPLEX["happy"][1],
    confidence=1.0,
)
"""The affect that counter-congruent recall aims at. A target, not a negative weight: the opposite of sadness on this
map would be any lively moment, anger included."""


def policy_for(affect: Affect, text: str) -> RecallPolicy:
    """How to recall for a turn, from what is felt and said.

    Distress or a strong feeling wants to be met first: congruent, whatever is said. A calm question is about its
    subject: factual. Other words: congruent, where a mild affect counts little. No words and no feeling: none.
    """
    if affect.valence <= DISTRESS_VALENCE or intensity(affect) >= STRONG_INTENSITY:
        return "congruent"
    words = text.strip()
    if not words:
        return "none"
    return "factual" if words.endswith(("?", "？", "؟")) else "congruent"


def cue_for(query: Query, embedder: Embedder) -> Cue | None:
    """What a query looks for, or None when there is nothing to recall by: policy none, or neither words nor affect."""
    if query.policy == "none":
        return None
    weights = WEIGHTS[query.policy]
    text = embedder.embed([query.text])[0] if query.text.strip() else np.zeros(embedder.dim, np.float32)
    target = BRIGHT if query.policy == "counter" else query.affect
    affect = np.zeros(AFFECT_DIM, np.float32) if target is None else affect_vector(target)
    says_something = (weights.text * text).any() or (weights.affect * affect).any()
    return Cue(text=text, affect=affect, weights=weights) if says_something else None
