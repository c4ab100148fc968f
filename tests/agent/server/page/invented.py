"""An invented person's three weeks, and a model that reads feelings from words, voice and face as a real one would."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from memory.store import MemoryStore
from memory.types import Episode, Fact, Felt, Recalled
from model.types import CIRCUMPLEX, EMOTIONS, INTENTS, STRATEGIES, Affect, Evidence, Thought, Understanding
from perception.types import UserTurn
from tests.fakes import FakeModel

LIFE: list[dict[str, Any]] = yaml.safe_load(Path(__file__).with_name("life.yaml").read_text("utf-8"))

FACTS = (
    ("person", "Their sister is called Anna.", 1),
    ("person", "Their cat is called Miso.", 9),
    ("life", "They live in Leeds.", 17),
    ("preference", "They like running along the canal.", 7),
    ("trigger", "The move makes them afraid.", 10),
    ("helped", "After being asked about Anna they felt better.", 13),
)


def shares_of(emotion: str, sure: float, seed: str) -> dict[str, float]:
    """A plausible distribution in which an emotion has a share, the same one for the same seed."""
    others = [label for label in EMOTIONS if label != emotion]
    weights = np.random.default_rng(zlib.crc32(seed.encode())).dirichlet(np.full(len(others), 0.6)) * (1 - sure)
    return {emotion: sure} | dict(zip(others, weights.tolist(), strict=True))


def affect_from(
    emotion: str, sure: float, seed: str, open: Sequence[str] = (), sources: Sequence[str] = ("text", "voice", "face")
) -> Affect:
    """A feeling with what each source showed of it."""
    shares = shares_of(emotion, sure, seed)
    valence, arousal = (sum(shares[label] * CIRCUMPLEX[label][axis] for label in EMOTIONS) for axis in (0, 1))
    of_each: dict[str, Any] = {
        source: shares_of(emotion, max(0.2, sure - 0.07 * i), seed + source) for i, source in enumerate(sources)
    }
    evidence = Evidence(**of_each, fusion=shares)
    return Affect(valence, emotion, shares, valence, arousal, sure, tuple(open), evidence)


def live(store: MemoryStore, user: str, now: datetime | None = None) -> list[Episode]:
    """Put the three weeks that end now into a memory."""
    now = now or datetime.now(UTC)
    episodes: list[Episode] = []
    for i, turn in enumerate(LIFE):
        words, emotion, cause, aim = turn["words"], turn["emotion"], turn["cause"], turn["aim"]
        hour, minute = divmod(round(60 * turn["hour"]), 60)
        at = (now - timedelta(days=turn["days"])).replace(hour=hour, minute=minute, second=0)
        sources = ("text", "voice", "face")[: 3 if i % 4 == 2 else 1 + i % 3]
        wanted = [one for one in episodes if (one.affect.valence > 0) == (aim == "suggest")]
        earlier = wanted[-2:]
        recalled = tuple(
            Recalled(one.id, 0.9 - 0.15 * k, {"text": 0.42 - 0.1 * k, "affect": 0.31, "recency": 0.17 - 0.05 * k})
            for k, one in enumerate(earlier)
        )
        episodes.append(
            Episode(
                id=f"{i:016x}",
                user=user,
                thread_id=turn["thread"],
                at=min(at, now - timedelta(minutes=5)),
                text=words,
                reply=turn["reply"],
                affect=affect_from(emotion, turn["sure"], words, turn["open"], sources),
                understanding=Understanding(words, cause, words, "Inform", dict.fromkeys(INTENTS, 1 / len(INTENTS))),
                thought=Thought(words, emotion, cause or words, STRATEGIES[aim]),
                route="empathize",
                strategy=aim,
                recall_policy="counter" if aim == "suggest" else "congruent",
                voice="warm",
                modalities=sources,
                recalled=recalled,
                model_version="invented",
            )
        )
    for i, episode in enumerate(episodes):
        later = [one for one in episodes[i + 1 :] if one.thread_id == episode.thread_id][:3]
        after = tuple(Felt(o.id, o.affect.emotion, o.affect.valence, o.affect.arousal) for o in later)
        store.add(replace(episode, after=after))
    facts = [
        Fact(f"fact{i}", user, kind, f"{kind}/{i}", text, text, "said", episodes[n].at, episodes=(episodes[n].id,))  # type: ignore[arg-type]
        for i, (kind, text, n) in enumerate(FACTS)
    ]
    store.put_facts(user, facts)
    return episodes


class InventedModel(FakeModel):
    """Reads what its words name, from each source that is there, and answers with a script."""

    feelings = (("miss", "sad", "wistful, homesick"), ("glad", "happy", "relieved"), ("scared", "fear", "tense"))

    def perceive(self, prefix: UserTurn) -> Affect:
        self.calls.append("perceive")
        words = prefix.text.lower()
        named = [(e, "") for e in EMOTIONS if e in words] + [(e, o) for key, e, o in self.feelings if key in words]
        emotion, self.open = named[0] if named else ("neutral", "")
        sources = ("text", *(("voice",) if prefix.speech else ()), *(("face",) if prefix.faces else ()))
        return replace(affect_from(emotion, 0.72, prefix.text, sources=sources), absent=dict(prefix.absent))

    def understand(self, prefix: UserTurn, affect: Affect, *, in_haste: bool = False) -> Any:
        self.calls.append("understand")
        cause = prefix.text.rstrip(".").rpartition(",")[2].strip().removeprefix("and ")
        found = Understanding(prefix.text, cause, prefix.text, "Inform", {i: float(i == "Inform") for i in INTENTS})
        return found, () if in_haste else tuple(word.strip() for word in self.open.split(",") if word)

    def empathize(self, prefix: UserTurn, brief: Any) -> Iterator[str]:
        if "miss" in prefix.text.lower():
            self.reply = "Of course you miss her. Five minutes away became two hours. What would you tell Anna tonight?"
        return super().empathize(prefix, brief)
