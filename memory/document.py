"""An episode as it is kept: one JSON document, exact both ways, and the flat fields an index filters by."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC
from functools import cache

from pydantic import TypeAdapter

from .errors import MemoryStoreError
from .scoring import intensity
from .types import Episode

SCHEMA = 1
"""Version of the document. Raise it when an older reader would misread what is written."""


@cache
def _adapter() -> TypeAdapter[Episode]:
    return TypeAdapter(Episode)


def to_json(episode: Episode) -> str:
    """JSON `{"schema", "episode"}`; `from_json` gives an equal episode, its time in UTC.

    Raises:
        ValueError: the episode cannot be kept as it is: its time has no zone, a number is not finite or not a
            Python number, or a text holds half a surrogate pair.
    """
    if episode.at.tzinfo is None:
        raise ValueError(f"episode {episode.id!r} has a time without a zone: give it in UTC")
    try:
        plain = _adapter().dump_python(replace(episode, at=episode.at.astimezone(UTC)), mode="json", warnings="error")
        document = json.dumps(
            {"schema": SCHEMA, "episode": plain}, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        document.encode()
    except ValueError as error:  # its message may quote what was said
        raise ValueError(
            f"episode {episode.id!r} cannot be kept: its numbers must be finite Python numbers, its texts valid Unicode"
        ) from error
    return document


def from_json(document: str) -> Episode:
    """The episode of a document that `to_json` wrote.

    Raises:
        MemoryStoreError: a newer version wrote it, or it is damaged.
    """
    try:
        content = json.loads(document)
        schema = content["schema"]
        if schema <= SCHEMA:
            episode = _adapter().validate_python(content["episode"])
            return replace(episode, at=episode.at.astimezone(UTC))
    except (ValueError, TypeError, KeyError) as error:
        raise MemoryStoreError("an episode is damaged and cannot be read: restore the memory from a backup") from error
    raise MemoryStoreError(f"an episode has schema {schema}, this version reads up to {SCHEMA}: upgrade emox")


def to_metadata(episode: Episode) -> dict[str, str | float]:
    """What an index can filter by: strings and floats, times in seconds since 1970."""
    affect = episode.affect
    return {
        "schema": float(SCHEMA),
        "id": episode.id,
        "thread": episode.thread_id,
        "at": episode.at.timestamp(),
        "emotion": affect.emotion,
        "valence": float(affect.valence),
        "arousal": float(affect.arousal),
        "sentiment": float(affect.sentiment),
        "confidence": float(affect.confidence),
        "intensity": intensity(affect),
        "intent": episode.understanding.intent if episode.understanding else "",
        "strategy": episode.strategy,
        "route": episode.route,
        "modalities": ",".join(episode.modalities),
        "model_version": episode.model_version,
    }
