"""What is remembered of a person, as documents: the same from `emox memory NAME --json`, the server's API and its page.

Every function raises `MemoryStoreError` where the memory fails or does not hold what is asked for, and `ValueError` for
what cannot be understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any, get_type_hints

from pydantic import BaseModel, create_model

from memory import mood as moods
from memory import privacy
from memory.document import episode_to_plain, fact_to_plain
from memory.mood import Mood, MoodState
from memory.store import MemoryStore
from memory.types import Episode, Fact, Felt, Provenance, Query, RecalledFact, Recollection, provenance
from memory.when import Window, window_of
from memory.why import Explanation, explain
from model.types import Thought

from .forgetting import Forgotten


def _model(name: str, kept: Any, **more: Any) -> type[BaseModel]:
    """A dataclass as a model of its document, with more fields."""
    hints = get_type_hints(kept)
    parts: dict[str, Any] = {field.name: (hints[field.name], ...) for field in fields(kept)} | more
    return create_model(name, __doc__=kept.__doc__, **parts)


EpisodeDocument = _model("Episode", Episode, lift=(float, ...))
OneEpisode = _model("OneEpisode", Episode, lift=(float, ...), provenance=(dict[str, Provenance], ...))
FactDocument = _model("Fact", Fact)


class Episodes(BaseModel):
    """Of `list`: newest first; `total` counts all that is remembered of the person."""

    user: str
    total: int
    episodes: list[EpisodeDocument]  # type: ignore[valid-type]


class FoundEpisode(BaseModel):
    """`score` is the sum of `parts`."""

    score: float
    parts: dict[str, float]
    episode: EpisodeDocument  # type: ignore[valid-type]


class FoundFact(BaseModel):
    """`score` is a cosine."""

    score: float
    fact: FactDocument  # type: ignore[valid-type]


class Found(BaseModel):
    """Of `search`: best first."""

    user: str
    query: str
    found: list[FoundEpisode]
    facts: list[FoundFact]


class Facts(BaseModel):
    """Of `facts`."""

    user: str
    facts: list[FactDocument]  # type: ignore[valid-type]


class Point(BaseModel):
    """A turn of the timeline, and the mood after it."""

    id: str
    at: datetime
    emotion: str
    valence: float
    arousal: float
    mood: MoodState


class Timeline(BaseModel):
    """Of `timeline`: oldest first."""

    user: str
    mood: Mood | None
    points: list[Point]
    triggers: list[FactDocument]  # type: ignore[valid-type]


class Why(BaseModel):
    """Of `why`: the reply, the plan behind it, what was recalled with its score, what was read, and the cause."""

    turn_id: str
    at: datetime
    text: str
    reply: str
    plan: dict[str, str]
    thought: Thought | None
    recalled: list[dict[str, Any]]
    affect: dict[str, Any]
    cause: str | None
    intent: str | None
    after: list[Felt]
    model_version: str


class ForgottenDocument(BaseModel):
    """Of `forget`: `proof` says how many files were searched for how many sentences, and which hold one still."""

    user: str
    forgotten: int
    threads: list[str]
    proof: dict[str, Any]


def plain(episode: Episode) -> dict[str, Any]:
    """An episode."""
    return episode_to_plain(episode) | {"lift": episode.lift}


def list_episodes(store: MemoryStore, user: str, **options: Any) -> dict[str, Any]:
    """Episodes, newest first; options of `MemoryStore.list`."""
    episodes = store.list(user, **options)
    return {"user": user, "total": store.count(user), "episodes": [plain(episode) for episode in episodes]}


def show(store: MemoryStore, user: str, id: str) -> dict[str, Any]:
    """One episode, whole, and where each part of it comes from."""
    episode = privacy.found(store, user, id)
    return plain(episode) | {"provenance": provenance(episode)}


def search(store: MemoryStore, user: str, words: str, limit: int) -> dict[str, Any]:
    """Episodes and facts about something, best first; a time in the words ("last week") narrows the search to it."""
    _, episodes, known = found_about(store, user, words, limit)
    return {
        "user": user,
        "query": words,
        "found": [{"score": r.score, "parts": r.parts, "episode": plain(r.episode)} for r in episodes],
        "facts": [{"score": one.score, "fact": fact_to_plain(one.fact)} for one in known],
    }


def found_about(
    store: MemoryStore, user: str, words: str, limit: int
) -> tuple[Window | None, list[Recollection], list[RecalledFact]]:
    """The time that the words speak of, and what `search` finds."""
    asked = time_in(words)
    query = Query(
        words,
        policy="factual",
        limit=limit,
        now=datetime.now(UTC),
        since=asked.since if asked else None,
        until=asked.until if asked else None,
    )
    return asked, store.recall(user, query), store.recall_facts(user, words, limit)


def facts(store: MemoryStore, user: str, *, history: bool = False) -> dict[str, Any]:
    """What follows from the episodes; with history also what held before."""
    return {"user": user, "facts": [fact_to_plain(fact) for fact in store.facts(user, history=history)]}


def timeline(store: MemoryStore, user: str, **options: Any) -> dict[str, Any]:
    """Feelings over time, the mood they add up to, and what brings them; options of `MemoryStore.list`."""
    episodes = oldest_first(store.list(user, **options))
    return timeline_of(user, episodes, triggers(store, user))


def timeline_of(user: str, episodes: Sequence[Episode], triggers: Sequence[Fact]) -> dict[str, Any]:
    """The document of `timeline`, of episodes in order."""
    now = moods.mood(episodes, datetime.now().astimezone())
    return {
        "user": user,
        "mood": asdict(now) | {"at": now.at.isoformat()} if now else None,
        "points": [
            {
                "id": episode.id,
                "at": episode.at.isoformat(),
                "emotion": episode.affect.emotion,
                "valence": episode.affect.valence,
                "arousal": episode.affect.arousal,
                "mood": asdict(state) | {"at": state.at.isoformat()},
            }
            for episode, state in zip(episodes, moods.track(episodes), strict=True)
        ],
        "triggers": [fact_to_plain(fact) for fact in triggers],
    }


def why(store: MemoryStore, user: str, turn_id: str) -> dict[str, Any]:
    """What a reply was made of."""
    return explained(explain(store, user, turn_id))


def correct(
    store: MemoryStore, user: str, id: str, *, emotion: str | None = None, text: str | None = None
) -> dict[str, Any]:
    """An episode after its feeling or its words were corrected; what stood there stays in its history."""
    return plain(privacy.correct(store, user, id, emotion=emotion, text=text))


def forgotten(user: str, result: Forgotten, server: str | None) -> dict[str, Any]:
    """What was forgotten, and the search after it; `server` names what could not be searched."""
    return {
        "user": user,
        "forgotten": result.n_episodes,
        "threads": list(result.threads),
        "proof": {
            "files": result.search.n_files,
            "bytes": result.search.n_bytes,
            "traces": [{"path": str(trace.path), "n": trace.n} for trace in result.search.traces],
            "looked_for": result.looked_for,
            "not_looked_for": result.not_looked_for,
            "not_searched": server,
        },
    }


def oldest_first(episodes: Sequence[Episode]) -> list[Episode]:
    """In the order of time."""
    return sorted(episodes, key=lambda episode: (episode.at, episode.id))


def triggers(store: MemoryStore, user: str) -> list[Fact]:
    """What brings a feeling, and what helped."""
    return [fact for fact in store.facts(user) if fact.kind in {"trigger", "helped"}]


def time_in(words: str) -> Window | None:
    """The time that words speak of, on this machine's clock."""
    return window_of(words, datetime.now().astimezone())


def time_of(name: str, given: str | None) -> datetime | None:
    """A bound as a time: a date, or the beginning of what words such as "last week" mean.

    Raises:
        ValueError: it is neither.
    """
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except ValueError:
        found = time_in(given)
        if found is None or found.since is None:
            raise ValueError(
                f'{name} {given!r} is no time: give one such as 2026-03-01, 2026-03-01T18:00 or "last week"'
            ) from None
        return found.since
    return at if at.tzinfo else at.astimezone()


def explained(found: Explanation) -> dict[str, Any]:
    """The document of `why`."""
    episode = found.episode
    affect = episode.affect
    return {
        "turn_id": episode.id,
        "at": episode.at.isoformat(),
        "text": episode.text,
        "reply": episode.reply,
        "plan": {
            "route": episode.route,
            "strategy": episode.strategy,
            "recall_policy": episode.recall_policy,
            "voice": episode.voice,
        },
        "thought": asdict(episode.thought) if episode.thought else None,
        "recalled": [
            asdict(one)
            | {
                "kind": "forgotten" if memory is None else "fact" if isinstance(memory, Fact) else "episode",
                "text": memory.text if memory else None,
            }
            for one, memory in found.recalled
        ],
        "affect": {
            "emotion": affect.emotion,
            "confidence": affect.confidence,
            "valence": affect.valence,
            "arousal": affect.arousal,
            "open": list(affect.open),
            "evidence": asdict(affect.evidence),
        },
        "cause": episode.understanding.cause if episode.understanding else None,
        "intent": episode.understanding.intent if episode.understanding else None,
        "after": [asdict(felt) for felt in episode.after],
        "model_version": episode.model_version,
    }
