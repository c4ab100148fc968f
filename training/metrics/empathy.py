"""Empathic replies on AvaMERG: was the speaker's emotion named right, and how varied are the replies?

`emotion_scores` and `diversity` are to be used; `reference_scores` repeats the published way, whose accuracy compares
a projected gold label with a raw prediction (71 of the 75 raw labels, if predicted perfectly, are wrong). All values
lie in [0, 1]; the papers have percents. Spec section 5.4.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from .answers import UNKNOWN, speaker_emotion, without_chain
from .empathy_labels import COARSE_OF, FAMILY_OF, KEYWORDS, REFERENCE_CLASS


def emotion_scores(gold: Mapping[str, str], replies: Mapping[str, str]) -> dict[str, float]:
    """Is the emotion that a reply names the speaker's? Both sides go through one map (`empathy_labels`).

    Args:
        gold: name -> the speaker's emotion, a raw or a projected label.
        replies: name -> whole reply with its chain, or an answer "the emotion of the speaker is ...". A missing reply,
            one that names no emotion, or a word that the map does not know, is wrong.

    Returns:
        accuracy (same fine label), hit (same one of eight classes), unknown (share of replies without a known emotion).

    Raises:
        ValueError: no gold, a reply without gold, or a gold label that the map does not know.
    """
    _check_names(gold, replies)
    labels = {name: label.strip().lower() for name, label in gold.items()}
    if strange := sorted(set(labels.values()) - set(FAMILY_OF)):
        raise ValueError(
            f"gold labels {', '.join(strange)} are in no family of empathy_labels.FAMILIES: add them there"
        )
    said = {name: speaker_emotion(replies.get(name, "")) for name in gold}
    return {
        "accuracy": _share(FAMILY_OF.get(said[name]) == FAMILY_OF[label] for name, label in labels.items()),
        "hit": _share(COARSE_OF.get(said[name]) == COARSE_OF[label] for name, label in labels.items()),
        "unknown": _share(word not in FAMILY_OF for word in said.values()),
    }


def diversity(replies: Iterable[str]) -> dict[str, float]:
    """Distinct n-grams over all n-grams: Dist-1 and Dist-2, within each reply and over all of them.

    Chains are removed; words are lower case, split at white space. `dist_n` is the mean over the replies that have an
    n-gram: any fluent short reply comes near 0.95 and 1.00, and one reply given to everybody does not lower it.
    `corpus_dist_n` counts over all replies together (Li et al., arXiv:1510.03055) and falls as the corpus grows, so
    it compares only on the same number of replies. No n-gram at all gives 0.
    """
    words = [without_chain(reply).lower().split() for reply in replies]
    result = {}
    for n in (1, 2):
        grams = [list(zip(*(reply[i:] for i in range(n)), strict=False)) for reply in words]
        grams = [of_reply for of_reply in grams if of_reply]
        total = sum(map(len, grams))
        result[f"dist_{n}"] = sum(len(set(g)) / len(g) for g in grams) / len(grams) if grams else 0.0
        result[f"corpus_dist_{n}"] = len({gram for g in grams for gram in g}) / total if total else 0.0
    return result


def reference_emotion(reply: str) -> str:
    """The emotion as the published scorer finds it: in the chain, else by the first keyword anywhere in the reply.

    The keyword is found inside words too, so "I made it" is angry. The list of keywords is ours, so a reply without a
    chain can be read otherwise than by the published scorer.
    """
    if "<think>" in reply and (stated := speaker_emotion(reply)) != UNKNOWN:
        return stated
    text = reply.lower()
    return next((label for label, keys in KEYWORDS.items() if any(key in text for key in keys)), UNKNOWN)


def reference_scores(gold: Mapping[str, str], replies: Mapping[str, str]) -> dict[str, float]:
    """Accuracy and hit as published: compare with published numbers only.

    Args:
        gold: name -> label after `REFERENCE_GOLD`; apply it once, to raw labels.
        replies: name -> whole reply; one for every gold label.

    Raises:
        ValueError: names differ, or a label is not among the 36 of `REFERENCE_CLASS`: there the published scorer stops
            with a KeyError (for `unknown`, `tired`, `frustrated` and others), so there is no published value.
    """
    _check_names(gold, replies)
    if missing := sorted(set(gold) - set(replies)):
        raise ValueError(f"{len(missing)} gold labels have no reply, the first is {missing[0]!r}: check the names")
    said = {name: reference_emotion(replies[name]) for name in gold}
    if strange := sorted({*gold.values(), *said.values()} - set(REFERENCE_CLASS)):
        raise ValueError(
            f"{', '.join(strange)}: not in the published map of eight classes, which has no value here; "
            "use emotion_scores"
        )
    return {
        "accuracy": _share(said[name] == label for name, label in gold.items()),
        "hit": _share(REFERENCE_CLASS[said[name]] == REFERENCE_CLASS[label] for name, label in gold.items()),
    }


def _check_names(gold: Mapping[str, str], replies: Mapping[str, str]) -> None:
    if not gold:
        raise ValueError("no gold label: nothing can be scored")
    if unknown := sorted(set(replies) - set(gold)):
        raise ValueError(f"{len(unknown)} replies have no gold, the first is {unknown[0]!r}: check the names")


def _share(truths: Iterable[bool]) -> float:
    values = list(truths)
    return sum(values) / len(values)
