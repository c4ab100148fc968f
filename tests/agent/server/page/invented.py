"""An invented person's three weeks, and a model that reads feelings from words, voice and face as a real one would."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from memory.store import MemoryStore
from memory.types import Episode, Fact, Felt, Recalled
from model.types import CIRCUMPLEX, EMOTIONS, INTENTS, Affect, Evidence, Thought, Understanding
from perception.types import UserTurn
from tests.fakes import FakeModel

# days ago, hour, conversation, feeling, how sure, free words, words, cause, aim, reply
LIFE: tuple[tuple[Any, ...], ...] = (
    (21, 19.2, "moving", "fear", 0.62, "overwhelmed, tense", "I signed the lease today. Three weeks until I move to Leeds, and I have packed nothing.", "I have packed nothing", "reflect", "That is a big step, and a lot of boxes at once. What feels heaviest about it right now?"),
    (21, 19.25, "moving", "sad", 0.58, "wistful", "Leaving my sister Anna, mostly. We have lived five minutes apart since we were kids.", "leaving my sister Anna", "comfort", "Five minutes away for a whole life. Of course it hurts to stretch that. Does Anna know how much it moves you?"),
    (20, 20.5, "moving", "neutral", 0.66, "", "I made a list for the packing. Books first.", "I made a list", "reflect", "Books first sounds like a good beginning. How was it to see it all on paper?"),
    (18, 18.1, "work", "angry", 0.71, "unfairly treated", "My manager gave the project I started to somebody else. In front of everyone.", "my manager gave the project to somebody else", "reflect", "You built it, and it was taken in front of everybody. That would make many people angry. What did you say?"),
    (18, 18.15, "work", "angry", 0.54, "powerless", "Nothing. I just sat there. I hate that I said nothing.", "I said nothing", "comfort", "Going quiet when something hits you is not weakness. What would you have liked to say?"),
    (17, 21.0, "work", "sad", 0.49, "tired", "I could not sleep, I kept going over that meeting.", "I kept going over that meeting", "comfort", "A night of replaying it takes its toll. Is there somebody at work who saw it as you did?"),
    (15, 17.4, "evenings", "happy", 0.74, "proud, relieved", "I talked to my manager. She apologised, and I lead the second phase now!", "she apologised", "celebrate", "You went and said it, and it changed something. How did it feel when she apologised?"),
    (14, 20.0, "evenings", "neutral", 0.6, "calm", "Quiet day. I ran along the canal for the first time in months.", "I ran along the canal", "reflect", "A quiet day with a run in it. Did your legs remember?"),
    (13, 22.3, "evenings", "sad", 0.55, "lonely", "The flat is half empty already. It echoes.", "the flat is half empty", "comfort", "An echo makes a place feel less like home. What was the last thing you took off the wall?"),
    (12, 9.2, "evenings", "happy", 0.57, "amused", "Miso slept in a moving box all night. I think she wants to come along as cargo.", "Miso slept in a moving box", "celebrate", "Miso has packed herself, then. That is one thing less on your list."),
    (10, 19.0, "moving", "fear", 0.66, "worried", "The movers cancelled. I have nine days and no van.", "the movers cancelled", "suggest", "Nine days and no van is a scare. The run by the canal did you good last week; maybe one call tonight, and then a walk?"),
    (10, 19.1, "moving", "disgust", 0.44, "fed up", "And the kitchen smells, something died behind the fridge.", "something died behind the fridge", "reflect", "On top of everything. I am sorry, that is truly foul. Can the landlord send someone?"),
    (9, 18.6, "moving", "surprise", 0.63, "astonished", "You will not believe it. Anna has a friend with a van, and they both take the day off for me.", "Anna and a friend take the day off", "celebrate", "Both of them, a whole day! What did you feel when she told you?"),
    (8, 21.2, "evenings", "happy", 0.61, "grateful", "Loved. A bit teary, but the good kind.", "Anna's help", "celebrate", "The good kind of teary. I am glad you have her."),
    (6, 20.4, "evenings", "neutral", 0.58, "", "What did Anna say about visiting? I forgot.", "", "inform", "You told me that she wants to come up in the first weekend of the month."),
    (5, 23.1, "nights", "fear", 0.52, "restless", "I lie awake and think it is all a mistake.", "it may all be a mistake", "comfort", "At night big decisions grow bigger. What would you tell a friend who lay awake like this?"),
    (4, 19.5, "nights", "sad", 0.6, "homesick", "Last dinner with Anna. We both cried into the soup.", "last dinner with Anna", "comfort", "Crying into the same soup is a kind of togetherness. What did you talk about?"),
    (2, 20.2, "leeds", "happy", 0.52, "relieved, tired", "It is done. Boxes everywhere, but the bed stands and Miso found the radiator.", "it is done", "celebrate", "You are there, all of you. Miso has her priorities. How is the first evening?"),
    (1, 19.3, "leeds", "surprise", 0.5, "touched", "A neighbour left a plant at my door with a note.", "a neighbour left a plant", "celebrate", "What a welcome. Do you know yet who it was?"),
)  # fmt: skip

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
    emotion: str, sure: float, seed: str, open: str = "", sources: tuple[str, ...] = ("text", "voice", "face")
) -> Affect:
    """A feeling with what each source showed of it."""
    shares = shares_of(emotion, sure, seed)
    valence, arousal = (sum(shares[label] * CIRCUMPLEX[label][axis] for label in EMOTIONS) for axis in (0, 1))
    of_each: dict[str, Any] = {
        source: shares_of(emotion, max(0.2, sure - 0.07 * i), seed + source) for i, source in enumerate(sources)
    }
    evidence = Evidence(**of_each, fusion=shares)
    words = tuple(word.strip() for word in open.split(",") if word.strip())
    return Affect(valence, emotion, shares, valence, arousal, sure, words, evidence)


def thought_of(words: str, emotion: str, cause: str, goal: str) -> Thought:
    return Thought(scenario=words, emotion=emotion, cause=cause or words, goal=goal)


def live(store: MemoryStore, user: str, now: datetime | None = None) -> list[Episode]:
    """Put the three weeks that end now into a memory."""
    now = now or datetime.now(UTC)
    episodes: list[Episode] = []
    for i, (days, hour, thread, emotion, sure, open, words, cause, aim, reply) in enumerate(LIFE):
        at = (now - timedelta(days=days)).replace(hour=int(hour), minute=round(60 * (hour % 1)), second=0)
        sources = ("text", "voice", "face")[: 1 + i % 3]
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
                thread_id=thread,
                at=min(at, now - timedelta(minutes=5)),
                text=words,
                reply=reply,
                affect=affect_from(emotion, sure, words, open, sources),
                understanding=Understanding(words, cause, words, "Inform", dict.fromkeys(INTENTS, 1 / len(INTENTS))),
                thought=thought_of(words, emotion, cause, aim),
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
