"""What a person may do with their memory: correct it, choose what to forget, and take their corrections along."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from model.types import CIRCUMPLEX, EMOTIONS, Affect

from .store import MemoryStore
from .types import Episode, Fact, Query, Revision

ABOUT_AT = 0.45
"""Cosine of an episode's words with a topic, above which they are about it."""

MAX_ABOUT = 500
"""Episodes that are looked at for a topic, the nearest first."""


def correct(store: MemoryStore, user: str, id: str, *, emotion: str | None = None, text: str | None = None) -> Episode:
    """Say what was really felt or said; what stood there before is kept among the episode's revisions.

    A corrected feeling is that emotion with certainty, at its place on the circumplex; what each modality seemed to
    show stays as evidence. Facts that followed from the old words alone never held, those of the new ones do.

    Raises:
        ValueError: nothing to correct, no such emotion, or no such episode.
    """
    if emotion is None and text is None:
        raise ValueError("nothing to correct: give an emotion, a text or both")
    if emotion is not None and emotion not in EMOTIONS:
        raise ValueError(f"{emotion!r} is no basic emotion: choose from {', '.join(EMOTIONS)}")
    if text is not None and not text.strip():
        raise ValueError("a corrected text has words; to remove an episode, forget it")
    found(store, user, id)

    def edit(episode: Episode) -> Episode:
        before = Revision(
            datetime.now(UTC),
            text=episode.text if text is not None else None,
            affect=episode.affect if emotion is not None else None,
        )
        return replace(
            episode,
            text=episode.text if text is None else text.strip(),
            affect=episode.affect if emotion is None else said_to_be(episode.affect, emotion),
            revisions=(*episode.revisions, before),
        )

    corrected = store.change(user, id, edit)
    if text is not None:
        from .derive import derive  # here, as in `digest`

        store.put_facts(user, derive(store.facts(user, history=True), [corrected], store.embedder.embed))
    return corrected


def said_to_be(affect: Affect, emotion: str) -> Affect:
    """An affect that the person has named: certain, its free words gone with the reading they came from."""
    valence, arousal = CIRCUMPLEX[emotion]
    return replace(
        affect,
        emotion=emotion,
        emotions={label: float(label == emotion) for label in EMOTIONS},
        sentiment=valence,
        valence=valence,
        arousal=arousal,
        confidence=1.0,
        open=(),
    )


def labels(store: MemoryStore, user: str) -> Iterator[dict[str, Any]]:
    """Corrected feelings as samples to learn from; the corpus `corrections` reads them (training/data/text.py).

    Each is {"id", "at", "text", "emotion", "was", "modalities", "model_version"}, oldest first.
    """
    corrected = [episode for episode in store.walk(user) if any(revision.affect for revision in episode.revisions)]
    for episode in sorted(corrected, key=lambda episode: (episode.at, episode.id)):
        first = next(revision.affect for revision in episode.revisions if revision.affect is not None)
        yield {
            "id": episode.id,
            "at": episode.at.isoformat(),
            "text": episode.text,
            "emotion": episode.affect.emotion,
            "was": first.emotion,
            "modalities": list(episode.modalities),
            "model_version": episode.model_version,
        }


def chosen(
    store: MemoryStore,
    user: str,
    *,
    ids: Collection[str] = (),
    since: datetime | None = None,
    until: datetime | None = None,
    about: str | None = None,
    person: str | None = None,
) -> list[Episode]:
    """The episodes that any of these choose, oldest first; nothing is changed.

    Args:
        store: where they are.
        user: whose.
        ids: of single episodes.
        since: with `until`, a time: since <= at < until.
        until: see `since`.
        about: a topic, in words: episodes that contain all of its words, or are about it by their meaning.
        person: a name: episodes that name them, or say what they are to the user where a fact tells ("my sister").

    Raises:
        ValueError: an id is of no episode, or there are no words to look for.
    """
    going = {id: found(store, user, id) for id in ids}
    if about is not None:
        nearest = store.recall(user, Query(about, policy="factual", limit=MAX_ABOUT))
        going |= {r.episode.id: r.episode for r in nearest if _cosine(r.parts) >= ABOUT_AT}
    patterns = [_mentions(about)] if about is not None else []
    patterns += [_mentions(words) for words in _names_of(store, user, person)] if person is not None else []
    in_time = since is not None or until is not None
    if patterns or in_time:
        for episode in store.walk(user):
            inside = in_time and (since is None or since <= episode.at) and (until is None or episode.at < until)
            words = f"{episode.text}\n{episode.reply}"
            if inside or any(all(each.search(words) for each in pattern) for pattern in patterns):
                going[episode.id] = episode
    return sorted(going.values(), key=lambda episode: (episode.at, episode.id))


def forget(store: MemoryStore, user: str, ids: Collection[str] | None) -> list[Fact]:
    """Forget episodes, or with None everything of a person; the facts that went with them or are worded anew.

    A fact may quote any of its episodes, so it goes with the first of them that is forgotten and is drawn again from
    the others. What it had superseded holds again unless it is.
    """
    from .derive import derive  # here, as in `digest`

    before = {fact.id: fact for fact in store.facts(user, history=True)}
    store.forget(user, ids)
    left = {fact.id: fact for fact in store.facts(user, history=True)}
    gone = [fact for id, fact in before.items() if id not in left]
    others = {id for fact in gone for id in fact.episodes} - set(ids or before)
    orphans = [fact for fact in left.values() if fact.superseded_by is not None and fact.superseded_by not in left]
    held = left | {fact.id: replace(fact, valid_to=None, superseded_by=None) for fact in orphans}
    episodes = [episode for id in others if (episode := store.get(user, id)) is not None]
    drawn = {fact.id: fact for fact in derive(list(held.values()), episodes, store.embedder.embed)}
    store.put_facts(user, list(({fact.id: held[fact.id] for fact in orphans} | drawn).values()))
    texts = {fact.text for fact in (left | drawn).values()}
    return [fact for fact in gone if fact.text not in texts]


def found(store: MemoryStore, user: str, id: str) -> Episode:
    """The episode of that id.

    Raises:
        ValueError: there is none.
    """
    episode = store.get(user, id)
    if episode is None:
        raise ValueError(f"{user} has no episode {id}: `emox memory list --user {user}` shows what there is")
    return episode


def _cosine(parts: dict[str, float]) -> float:
    return parts["text"]  # factual recall weighs words by 1


def _names_of(store: MemoryStore, user: str, person: str) -> list[str]:
    """The name, and what that person is to the user, in the words that the user has for them."""
    relations = [
        fact.key.split("/")[1]
        for fact in store.facts(user, history=True)
        if fact.kind == "person" and fact.key.endswith("/name") and fact.value.casefold() == person.casefold()
    ]
    return [person, *(f"my {relation}" for relation in dict.fromkeys(relations))]


def _mentions(words: str) -> list[re.Pattern[str]]:
    """Patterns that all match where each of the words stands, as "my sister" does in "My sister's".

    Raises:
        ValueError: there are none.
    """
    found = re.findall(r"\w+", words)
    if not found:
        raise ValueError("there are no words to look for")
    if words.casefold().startswith("my "):
        return [re.compile(r"\b" + r"\W+".join(map(re.escape, found)) + r"\b", re.IGNORECASE)]
    return [re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE) for word in found]
