"""Episodes and facts as they are kept: JSON documents, exact both ways, and the flat fields an index filters by."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from .errors import MemoryStoreError
from .types import Episode, Fact

SCHEMA = 2
"""Version of the documents. Raise it when an older reader would misread what is written, and teach `upgraded` the step.

1  the first release: `recalled` held ids alone; no outcome, thought, recall policy, voice or revisions; no facts
2  since then
"""


@cache
def _episodes() -> TypeAdapter[Episode]:
    return TypeAdapter(Episode)


@dataclass(frozen=True)
class _Kept:
    schema: int
    episode: Episode


_PRESENT = f'{{"schema":{SCHEMA},'
"""How a document of this version begins, which pydantic reads as it is."""


@cache
def _kept() -> TypeAdapter[_Kept]:
    return TypeAdapter(_Kept)


@cache
def _facts() -> TypeAdapter[Fact]:
    return TypeAdapter(Fact)


def to_json(episode: Episode) -> str:
    """JSON `{"schema", "episode"}`; `from_json` gives an equal episode, its times in UTC.

    Raises:
        ValueError: the episode cannot be kept as it is: a time has no zone, a number is not finite or not a Python
            number, or a text holds half a surrogate pair.
    """
    return _dumped({"schema": SCHEMA, "episode": episode_to_plain(episode)})


def from_json(document: str) -> Episode:
    """The episode of a document that `to_json` wrote, in this version or an earlier one.

    Raises:
        MemoryStoreError: a newer version wrote it, or it is damaged.
    """
    with _damage("an episode"):
        if document.startswith(_PRESENT):
            return _episode_in_utc(_kept().validate_json(document).episode)
        content = json.loads(document)
        _check_schema("an episode", content["schema"])
        return episode_from_plain(content["episode"], content["schema"])


def fact_to_json(fact: Fact) -> str:
    """JSON `{"schema", "fact"}`; `fact_from_json` gives an equal fact. Raises what `to_json` raises."""
    return _dumped({"schema": SCHEMA, "fact": fact_to_plain(fact)})


def fact_from_json(document: str) -> Fact:
    """The fact of a document that `fact_to_json` wrote. Raises what `from_json` raises."""
    with _damage("a fact"):
        content = json.loads(document)
        _check_schema("a fact", content["schema"])
        return fact_from_plain(content["fact"])


def episode_to_plain(episode: Episode) -> dict[str, Any]:
    """Plain values for `json.dumps`, times in UTC. Raises what `to_json` raises."""
    with _unfit(f"episode {episode.id!r}"):
        plain: dict[str, Any] = _episodes().dump_python(_episode_in_utc(episode), mode="json", warnings="error")
        _dumped(plain).encode()
    return plain


def episode_from_plain(plain: dict[str, Any], schema: int = SCHEMA) -> Episode:
    """What `episode_to_plain` gave, in this version of the schema or an earlier one.

    Raises:
        ValueError: it is not that, or a field is wrong (pydantic's ValidationError is one).
    """
    return _episode_in_utc(_episodes().validate_python(upgraded(plain, schema)))


def fact_to_plain(fact: Fact) -> dict[str, Any]:
    """Plain values for `json.dumps`, times in UTC. Raises what `to_json` raises."""
    with _unfit(f"fact {fact.id!r}"):
        plain: dict[str, Any] = _facts().dump_python(_fact_in_utc(fact), mode="json", warnings="error")
        _dumped(plain).encode()
    return plain


def fact_from_plain(plain: dict[str, Any]) -> Fact:
    """What `fact_to_plain` gave. Raises what `episode_from_plain` raises."""
    return _fact_in_utc(_facts().validate_python(plain))


def upgraded(plain: dict[str, Any], schema: int) -> dict[str, Any]:
    """The plain values of an episode, from an earlier version of the schema to this one."""
    if schema < 2:
        plain = plain | {"recalled": [{"id": id, "score": 0.0} for id in plain.get("recalled", ())]}
    return plain


def to_metadata(episode: Episode) -> dict[str, str | float]:
    """What an index can filter by: strings and floats, times in seconds since 1970. Each takes a row of Chroma's."""
    affect = episode.affect
    return {
        "thread": episode.thread_id,
        "at": episode.at.timestamp(),
        "emotion": affect.emotion,
        "valence": float(affect.valence),
        "arousal": float(affect.arousal),
        "confidence": float(affect.confidence),
        "intent": episode.understanding.intent if episode.understanding else "",
        "strategy": episode.strategy,
        "modalities": ",".join(episode.modalities),
        "model_version": episode.model_version,
        "provenance": "said" if any(revision.affect for revision in episode.revisions) else "perceived",
    }


class NaiveTime(ValueError):
    """A time that does not say its zone."""


def _episode_in_utc(episode: Episode) -> Episode:
    what = f"episode {episode.id!r}"
    revisions = tuple([replace(revision, at=_utc(revision.at, what)) for revision in episode.revisions])
    return replace(episode, at=_utc(episode.at, what), revisions=revisions)


def _fact_in_utc(fact: Fact) -> Fact:
    what, until = f"fact {fact.id!r}", fact.valid_to
    return replace(fact, valid_from=_utc(fact.valid_from, what), valid_to=None if until is None else _utc(until, what))


def _utc(at: datetime, what: str) -> datetime:
    if at.tzinfo is None:
        raise NaiveTime(f"{what} has a time without a zone: give it in UTC")
    return at.astimezone(UTC)


def _dumped(plain: dict[str, Any]) -> str:
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _check_schema(what: str, schema: int) -> None:
    if schema > SCHEMA:
        raise MemoryStoreError(f"{what} has schema {schema}, this version reads up to {SCHEMA}: upgrade emox")


@contextmanager
def _unfit(what: str) -> Iterator[None]:
    """Say what cannot be kept without quoting it, as the error of a library may."""
    try:
        yield
    except NaiveTime:
        raise
    except ValueError as error:
        raise ValueError(
            f"{what} cannot be kept: its numbers must be finite Python numbers, its texts valid Unicode"
        ) from error


@contextmanager
def _damage(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MemoryStoreError(f"{what} is damaged and cannot be read: restore the memory from a backup") from error
