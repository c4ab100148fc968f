"""Lasting facts, drawn from episodes without a language model: the same episodes always give the same facts.

What holds under a key, and what held when, is a chain of values in the order of time. It is computed anew from all
claims that are at hand, so the order in which episodes arrive does not matter, nor how often they are read.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from .claims import Claim, claims
from .types import Episode, Fact, Provenance

Embed = Callable[[Sequence[str]], np.ndarray]
"""float32 (N, D), rows of length 1, as `Embedder.embed`."""

LOW_VALENCE = -0.3
"""Triggers are sought among episodes at most this pleasant."""

SAME_CAUSE = 0.5
"""Mean cosine with a group of causes from which on another belongs to it. With all-MiniLM-L6-v2, restatements of one
cause have a median cosine of 0.5 and different causes hardly ever 0.4; at 0.5 no group of twelve tried was mixed."""

MIN_EPISODES = 3
MIN_DAYS = 2
"""So often, and on so many days, must something come back; outcomes must be as many, too."""

MAX_QUOTE = 100
"""Characters of a cause that a fact quotes."""

NO_CAUSE = frozenset(
    re.findall(
        r"\w+",
        """i m im am was is it s my me a the feel feels feeling felt so very really just bit little kind of again today
        still always all day now lately these days right sad bad down low awful terrible horrible depressed angry mad
        upset afraid scared anxious nervous stressed worried unhappy miserable not good well ok okay don t do know why
        what to and but yes no oh""",
    )
)
"""Words that name no cause of a feeling."""

UNWELL_VALENCE = -0.2
MIN_LIFT = 0.15
"""What helped is sought among episodes at most `UNWELL_VALENCE` pleasant; their mean lift must reach `MIN_LIFT`."""

T_90 = (3.08, 1.89, 1.64, 1.53, 1.48, 1.44, 1.41, 1.40, 1.38, 1.37)
"""Student's t that chance exceeds one time in ten, one-sided, for 1 to 10 degrees of freedom; more are taken as 10."""

FEELING = {"sad": "sad", "angry": "angry", "fear": "afraid", "disgust": "disgusted", "surprise": "upset"}
"""Emotions that a trigger can bring, as `claim.text` words them."""

HELPED = {
    "explore": "a reply that asks gently what happened",
    "reflect": "a reply that shows that it understands",
    "comfort": "a comforting reply",
    "celebrate": "a reply that shares their joy",
    "suggest": "a reply that suggests one small step",
    "inform": "a plain answer to what they ask",
    "clarify": "a reply that asks how they really feel",
}
"""Every strategy of `model.types.STRATEGIES`, as a kind of reply."""


@dataclass(frozen=True)
class Drawn:
    """A claim, when it came to be made, and the ids of the episodes that bear it out, oldest first."""

    claim: Claim
    at: datetime
    episodes: tuple[str, ...]


def derive(held: Sequence[Fact], episodes: Sequence[Episode], embed: Embed) -> list[Fact]:
    """The facts that are new or changed after reading one person's episodes; keep them by id.

    Args:
        held: all facts that are kept about the person.
        episodes: all that the person has, in any order. A part will do, such as the latest: then `held` stands for the
            rest, exactly if the rest is older. What recurs is only found within the part, and a fact that rests on
            more than the part shows is not overturned by it.
        embed: sentences to unit vectors, for likeness of causes.

    Raises:
        ValueError: the episodes are of several people.
    """
    episodes = _ordered(episodes)
    low = [episode for episode in episodes if episode.affect.valence <= LOW_VALENCE]
    recurring = triggers(low, embed([cause(episode) for episode in low])) if len(low) >= MIN_EPISODES else []
    keys = _keys(held, recurring, _read(episodes))
    recurring = [replace(one, claim=replace(one.claim, key=keys[one.claim.key])) for one in recurring]
    drawn = [Drawn(claim, one.at, (one.id,)) for one in episodes for claim in claims(one.text, one.at)]
    return merge(held, episodes, drawn + _weighed(held, recurring + helped(episodes), _read(episodes)))


def merge(held: Sequence[Fact], episodes: Sequence[Episode], drawn: Sequence[Drawn]) -> list[Fact]:
    """Put claims and the facts that are held into one chain per key; returns the facts that are new or changed.

    A fact whose episodes are all among `episodes` has to follow from `drawn` again. If it no longer does (a text was
    corrected, an outcome became known), it comes back as never having held: `valid_to` is its `valid_from`. A fact
    whose episode was forgotten is not touched; drop it before, and what it superseded holds again.

    Args:
        held: all facts that are kept about the person.
        episodes: those that were read.
        drawn: every claim that was found in them, in any order, but those of one episode in the order of its text.
    """
    users = {episode.user for episode in episodes}
    if len(users) > 1:
        raise ValueError(f"facts are about one person, the episodes are of {len(users)}: derive for each apart")
    if not users:
        return []
    read, partly = _read(episodes), _partly(held, _read(episodes))
    links: dict[str, list[_Link]] = {}
    for one in drawn:
        links.setdefault(one.claim.key, []).append(_Link(one.at, one.episodes[-1], 0, one.claim, one.episodes))
    for fact in held:
        if not _never_held(fact) and (fact.key in partly or not (fact.episodes and read.issuperset(fact.episodes))):
            links.setdefault(fact.key, []).extend(_links(fact, set() if fact.key in partly else read))
    (user,) = users
    chained = {fact.id: fact for key in links for fact in _chain(user, links[key])}
    known = {fact.id: fact for fact in held}
    dropped = [
        replace(fact, valid_to=fact.valid_from, superseded_by=None)
        for fact in held
        if fact.id not in chained and not _never_held(fact)
    ]
    return [fact for fact in chained.values() if known.get(fact.id) != fact] + dropped


def _never_held(fact: Fact) -> bool:
    return fact.valid_to == fact.valid_from and fact.superseded_by is None


def _read(episodes: Iterable[Episode]) -> set[str]:
    return {episode.id for episode in episodes}


def _partly(held: Iterable[Fact], read: set[str]) -> set[str]:
    """The keys of what recurs, where some of the evidence was not read: there, what is held stands as it is."""
    return {fact.key for fact in held if fact.kind in ("trigger", "helped") and not read.issuperset(fact.episodes)}


def _weighed(held: Sequence[Fact], recurring: Sequence[Drawn], read: set[str]) -> list[Drawn]:
    """What recurs, to be merged: every claim in its turn where all evidence was read, and else the last one of a key.

    That one must agree with the fact that is held, or rest on as many episodes.
    """
    partly = _partly(held, read)
    newest = {fact.key: fact for fact in sorted(held, key=lambda fact: fact.valid_from) if fact.key in partly}
    last = {one.claim.key: one for one in recurring if one.claim.key in partly}
    weighed = [one for one in recurring if one.claim.key not in partly]
    for key, one in last.items():
        fact = newest[key]
        agrees = fact.valid_to is None and not one.claim.ends and one.claim.value == fact.value
        if agrees or len(one.episodes) >= len(fact.episodes):
            weighed.append(one)
    return weighed


@dataclass(frozen=True)
class _Link:
    """A claim in the chain of its key; claims of one time are ordered by episode, what was held after what was read.

    `id` is that of a fact which was kept without any episode.
    """

    at: datetime
    by: str
    order: int
    claim: Claim
    episodes: tuple[str, ...]
    id: str = ""


def _links(fact: Fact, read: set[str]) -> Iterable[_Link]:
    """A fact that is held, as the claims of those of its episodes that were not read; the last one ended what ended."""
    first, last = (fact.episodes[0], fact.episodes[-1]) if fact.episodes else ("", "")
    claim = Claim(fact.kind, fact.key, fact.value, fact.text)
    unread = tuple(id for id in fact.episodes if id not in read)
    yield _Link(fact.valid_from, first, 1, claim, unread, "" if fact.episodes else fact.id)
    if fact.valid_to and not fact.superseded_by and last not in read:
        yield _Link(fact.valid_to, last, 1, replace(claim, ends=True), ())


def _chain(user: str, links: list[_Link]) -> list[Fact]:
    """The values of one key, one after the other: each holds until another is claimed, or until it is said to be over.

    An id names the user, the key, the value, and whether it holds for the first time, the second and so on. So it stays
    the same when an older episode comes to light; were it made from the first episode, a second fact would appear.
    """
    chain: list[Fact] = []
    times: Counter[str] = Counter()
    for link in sorted(links, key=lambda link: (link.at, link.by, link.order)):
        claim, value = link.claim, link.claim.value.casefold()
        holds = chain[-1] if chain and chain[-1].valid_to is None else None
        same = holds is not None and value == holds.value.casefold()
        if holds and (same or (claim.ends and not value)):
            episodes = tuple(dict.fromkeys(holds.episodes + link.episodes))
            chain[-1] = replace(holds, episodes=episodes, text=claim.text or holds.text)
            if claim.ends:
                chain[-1] = replace(chain[-1], text=holds.text, valid_to=link.at)
        elif not claim.ends:
            id = link.id or _id(user, claim.key, value, str(times[value]))
            times[value] += 1
            if holds:
                chain[-1] = replace(holds, valid_to=link.at, superseded_by=id)
            provenance: Provenance = "inferred" if claim.kind in ("trigger", "helped") else "said"
            said = (claim.kind, claim.key, claim.value, claim.text, provenance)
            chain.append(Fact(id, user, *said, valid_from=link.at, episodes=link.episodes))
    return chain


def _id(*parts: str) -> str:
    """16 hex digits."""
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()


def _ordered(episodes: Iterable[Episode]) -> list[Episode]:
    """Each once, oldest first, ids breaking ties."""
    return sorted({episode.id: episode for episode in episodes}.values(), key=lambda e: (e.at, e.id))


def triggers(episodes: Sequence[Episode], vectors: np.ndarray) -> list[Drawn]:
    """What brings low moments again and again: alike causes of three or more, on at least two days (UTC).

    In the order of time, each low episode joins the group whose causes are most like its own, if their mean cosine is
    `SAME_CAUSE` or more, or starts a group. A group is named for its first cause, which no later episode changes. It
    makes a claim with every episode from the third on: the emotion is the most frequent one up to then, the words are
    those of the cause most like all others. The last claim of a key is what holds now.

    Args:
        episodes: in any order; those that were not low are passed over.
        vectors: (N, D) unit rows, the embedding of the `cause` of each.
    """
    rows = {episode.id: row for episode, row in zip(episodes, vectors, strict=True)}
    groups: list[list[Episode]] = []
    sums: list[np.ndarray] = []
    for episode in _ordered(episodes):
        if episode.affect.valence > LOW_VALENCE or not _says_why(cause(episode)):
            continue
        row = rows[episode.id]
        alike = [float(row @ total) / len(group) for total, group in zip(sums, groups, strict=True)]
        best = int(np.argmax(alike)) if alike else -1
        if best >= 0 and alike[best] >= SAME_CAUSE:
            groups[best].append(episode)
            sums[best] = sums[best] + row
        else:
            groups.append([episode])
            sums.append(row)
    return [
        Drawn(_trigger(group[:n], rows), group[n - 1].at, tuple(episode.id for episode in group[:n]))
        for group in groups
        for n in range(MIN_EPISODES, len(group) + 1)
        if len({episode.at.date() for episode in group[:n]}) >= MIN_DAYS
    ]


def _trigger(group: Sequence[Episode], rows: dict[str, np.ndarray]) -> Claim:
    felt = Counter(episode.affect.emotion for episode in reversed(group) if episode.affect.emotion in FEELING)
    emotion = max(felt, key=felt.__getitem__) if felt else "sad"  # the latest of equals
    total = np.sum([rows[episode.id] for episode in group], axis=0)
    words = cause(max(group, key=lambda episode: float(rows[episode.id] @ total)))
    words = words if len(words) <= MAX_QUOTE else words[:MAX_QUOTE].rsplit(" ", 1)[0] + " …"
    slug = "-".join(re.findall(r"\w+", cause(group[0]).lower())[:8])
    return Claim("trigger", f"trigger/{slug}", emotion, f'Again and again it makes them {FEELING[emotion]}: "{words}".')


def cause(episode: Episode) -> str:
    """What brought the feeling, in the person's own words: the cause that was understood, or all that they said."""
    understood = episode.understanding.cause if episode.understanding else ""
    return " ".join((understood or episode.text).split()).rstrip(".,;:")


def _says_why(words: str) -> bool:
    """Whether words can be a cause: three or more, and not only that something is felt ("I feel so sad today")."""
    said = re.findall(r"[^\W\d_]+", words.lower())
    return len(said) >= 3 and not NO_CAUSE.issuperset(said)


def _keys(held: Sequence[Fact], recurring: Sequence[Drawn], read: set[str]) -> dict[str, str]:
    """The key of each trigger: that of a fact which is held from episodes no longer at hand, if they share one."""
    older = [fact for fact in held if fact.kind == "trigger" and not read.issuperset(fact.episodes)]
    keys: dict[str, str] = {}
    for one in recurring:
        shared = (fact.key for fact in older if set(one.episodes) & set(fact.episodes))
        keys.setdefault(one.claim.key, next(shared, one.claim.key))
    return keys


def helped(episodes: Sequence[Episode]) -> list[Drawn]:
    """After which strategies they felt better: a mean lift of `MIN_LIFT` or more over three low moments or more.

    The lift must also be more than chance, by a one-sided t test against none at the level 0.1. The test is taken
    again with each outcome that is known, and the claim ends when it fails. Low moments tend to pass by themselves,
    so this says what came after a kind of reply, not that the reply brought it.
    """
    drawn = []
    for strategy, reply in HELPED.items():
        known = [
            episode
            for episode in _ordered(episodes)
            if episode.strategy == strategy and episode.affect.valence <= UNWELL_VALENCE and episode.after
        ]
        text = f"They often feel better after {reply}."
        for n in range(MIN_EPISODES, len(known) + 1):
            better = _is_lift([episode.lift for episode in known[:n]])
            claim = Claim("helped", f"helped/{strategy}", strategy, text if better else "", ends=not better)
            drawn.append(Drawn(claim, known[n - 1].at, tuple(episode.id for episode in known[:n])))
    return drawn


def _is_lift(lifts: Sequence[float]) -> bool:
    """Whether lifts are large and, by Student's t, more than chance; three or more of them."""
    n, mean = len(lifts), sum(lifts) / len(lifts)
    spread = math.sqrt(sum((lift - mean) ** 2 for lift in lifts) / (n - 1))
    return mean >= MIN_LIFT and mean * math.sqrt(n) >= T_90[min(n - 1, len(T_90)) - 1] * spread
