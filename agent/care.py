"""Care that does not depend on a language model: the crisis screen, its replies, consent and disclosure.

The screen reads words only; the same words always give the same answer, with the id of the rule that fired. It is
a first net, not a diagnosis: it prefers a false alarm to a miss when somebody speaks of themselves. Its rules
live in `care_data/crisis_<language>.yaml`; a new language is a new file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from model.types import Affect
from perception.types import MODALITIES, Modality

from .plain_text import Spelling

Level = Literal["safe", "concern", "crisis"]
Category = Literal["self_harm", "harm_to_others", "abuse"]
About = Literal["self", "other"]

HISTORY_TURNS = 6
"""How many of the person's latest utterances can give weight to a hint ("I have the pills")."""

_DATA = Path(__file__).parent / "care_data"
_SEVERITY = {"safe": 0, "concern": 1, "crisis": 2}
_CONTEXT = 160  # characters looked at on either side of a match: bounds the time, and how far a guard reaches in a rant
_OWN = re.compile(r"\b(?:i|me|my|myself)\b")
_THEIRS = re.compile(r"\b(?:himself|herself|themselves|themself|his|her|their)\b")
_AFTERWARDS = re.compile(r"(?: \w+){0,3}")


@dataclass(frozen=True)
class Screening:
    """What the screen found.

    `level` is `concern` when it is about somebody else, something long past, a joke, or too vague to call. `category`
    is None when safe. `rule` names the rule in the data file; `about` says whose crisis it is.
    """

    level: Level = "safe"
    category: Category | None = None
    rule: str = ""
    about: About = "self"


@dataclass(frozen=True)
class Rule:
    """One way a crisis is put into words.

    `pattern` finds it; `unless` near the match makes it a figure of speech. `level` is the most it can be. `about` is
    set where the pattern itself says whose crisis it is, else the subject before the match decides. `negatable` is
    false where "not" is part of the meaning ("not want to live"). `facts` drops it beside words of news or fiction,
    `named` where the clause is about something unknown ("the cat may jump out of the window").
    """

    id: str
    category: Category
    pattern: re.Pattern[str]
    unless: re.Pattern[str] | None = None
    level: Level = "crisis"
    about: About | None = None
    negatable: bool = True
    facts: bool = False
    named: bool = False


@dataclass(frozen=True)
class Language:
    """One data file, compiled. `guards` are the patterns that change what a match means, by name."""

    spelling: Spelling
    rules: tuple[Rule, ...]
    guards: Mapping[str, re.Pattern[str]]
    after_crisis: re.Pattern[str]


def screen(text: str, history: Sequence[str] = ()) -> Screening:
    """Screen a person's words for a crisis, before any language model sees them.

    Args:
        text: what they wrote or said, in any case and spelling.
        history: the same person's earlier utterances, oldest first. After a crisis of their own among the last
            `HISTORY_TURNS`, hints that mean little alone ("I have the pills") are a crisis, too.

    Returns:
        The most severe finding; takes time linear in the length of `text`.
    """
    found = _screen_alone(text)
    if found.level == "crisis" or not history or not is_hint(text):
        return found
    earlier = (_screen_alone(line) for line in history[-HISTORY_TURNS:])
    if any((e.level, e.category, e.about) == ("crisis", "self_harm", "self") for e in earlier):
        return Screening("crisis", "self_harm", "after_crisis")
    return found


def is_hint(text: str) -> bool:
    """Whether words that may mean little alone ("I meant it") count after a crisis; else `screen` needs no history."""
    return any(language.after_crisis.search(language.spelling.plain(text)) for language in _languages())


def _screen_alone(text: str) -> Screening:
    worst = Screening()
    for language in _languages():
        for sentence in language.spelling.plain(text).split(" . "):
            for found in _findings(sentence, language):
                if found.level == "crisis":
                    return found
                if _SEVERITY[found.level] > _SEVERITY[worst.level]:
                    worst = found
    return worst


def _findings(sentence: str, language: Language) -> Iterator[Screening]:
    """Everything the rules find in one sentence of plain words, after the guards."""
    for rule in language.rules:
        for match in rule.pattern.finditer(sentence):
            found = _judge(match, rule, language.guards)
            if found:
                yield found


def _judge(match: re.Match[str], rule: Rule, guards: Mapping[str, re.Pattern[str]]) -> Screening | None:
    """What a match means where it stands; None when it is denied, a figure of speech or no one's."""
    before = match.string[max(0, match.start() - _CONTEXT) : match.start()]
    after = match.string[match.end() : match.end() + _CONTEXT]
    around = before + match[0] + after
    if rule.unless and rule.unless.search(around):
        return None
    clause = before[_last_end(guards["boundary"], before) :]
    subject = _subject(clause, guards)
    about = _whose(match[0], rule, subject)
    if about is None or (rule.named and subject in ("thing", "unknown")):
        return None
    if rule.facts:
        # "I feel suicidal since that movie" is no fact about a movie; "suicidal characters in that movie" is.
        near = _AFTERWARDS.match(after)
        if guards["facts"].search(around if subject != "first" else near[0] if near else ""):
            return None
    if rule.negatable:
        own_clause = clause[_last_end(guards["first"], clause) :] + match[0]
        if guards["negation"].search(guards["no_negation"].sub(" ", own_clause)):
            return None
    if about == "self" and guards["reported"].search(before[-80:]):
        about = "other"
    past = guards["past"].search(around) and not guards["present"].search(around)
    level: Level = "concern" if about == "other" or past or guards["joking"].search(around) else rule.level
    return Screening(level, rule.category, rule.id, about)


def _subject(clause: str, guards: Mapping[str, re.Pattern[str]]) -> str:
    """Who the clause is about: its last "first", "third", "generic" or "thing"; else "unknown", or "" if it is bare."""
    ends = {name: _last_end(guards[name], clause) for name in ("thing", "generic", "third", "first")}
    name = max(ends, key=lambda n: ends[n])
    if ends[name]:
        return name
    return "unknown" if guards["adverbs"].sub("", clause).strip() else ""


def _whose(words: str, rule: Rule, subject: str) -> About | None:
    """Whose crisis the matched words are; None for people in general and characters in stories."""
    if rule.about == "self" or (rule.category == "self_harm" and _OWN.search(words)):
        return "self"
    if subject == "generic":
        return None
    theirs = rule.category == "self_harm" and _THEIRS.search(words)
    return "other" if rule.about == "other" or theirs or subject == "third" else "self"


def _last_end(pattern: re.Pattern[str], text: str) -> int:
    """Where the last match of `pattern` ends in `text`; 0 without one."""
    return max((match.end() for match in pattern.finditer(text)), default=0)


@cache
def _languages() -> tuple[Language, ...]:
    return tuple(_load_language(path) for path in sorted(_DATA.glob("crisis_*.yaml")))


def _load_language(path: Path) -> Language:
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    lists: dict[str, str] = {}
    for name, alternatives in data["lists"].items():  # a list may use those above it
        lists[name] = _expand(alternatives, lists)

    def pattern(*alternatives: str, tail: str = "") -> re.Pattern[str]:
        return re.compile(rf"(?<!\S)(?:{'|'.join(_expand(a, lists) for a in alternatives)})(?!\S){tail}")

    rules = tuple(_load_rule(rule, pattern) for rule in data["rules"])
    guards = {name: pattern(text) for name, text in data["guards"].items()}
    guards["reported"] = pattern(data["guards"]["reported"], tail=r"(?: \w+){0,3} ?$")
    guards["third"], guards["generic"] = pattern(lists["third"]), pattern(lists["generic"])
    after_crisis = pattern(*data["after_crisis"])
    sources = [after_crisis.pattern, *(g.pattern for g in guards.values())]
    sources += [p.pattern for rule in rules for p in (rule.pattern, rule.unless) if p]
    vocabulary = frozenset(word for source in sources for word in re.findall(r"[^\W\d_]{2,}", source))
    spelling = Spelling(data["spelling"], data["phrases"], data["emoji"], vocabulary, data["critical"])
    return Language(spelling, rules, guards, after_crisis)


def _load_rule(data: dict[str, Any], pattern: Any) -> Rule:
    unless = pattern(data["unless"]) if "unless" in data else None
    rest = {k: v for k, v in data.items() if k not in ("patterns", "unless")}
    return Rule(pattern=pattern(*data["patterns"]), unless=unless, **rest)


def _expand(text: str, lists: Mapping[str, str]) -> str:
    """Write out `~3 ` and `<name>`, and drop the space YAML's folding leaves before a "|" that starts a line."""
    text = re.sub(r"\s+\|", "|", text)
    text = re.sub(r"<(\w+)>", lambda name: lists[name[1]], text)
    return re.sub(r"~(\d) ", r"(?:\\w+ ){0,\1}", text)


def crisis_reply(screening: Screening, locale: str, affect: Affect | None = None) -> str:
    """What to say to a finding, without a language model: a few warm sentences and where to reach a human.

    Args:
        screening: a finding that is not safe.
        locale: such as "en-GB" or "de_AT.UTF-8"; its country chooses the helplines, unknown ones an international list.
        affect: how the person seems to feel; named when read with confidence.

    Raises:
        ValueError: the screening is safe.
    """
    if screening.category is None:
        raise ValueError("The screening is safe; there is no crisis to reply to.")
    texts = _data("replies_en.yaml")
    kind = "other" if screening.about == "other" else screening.level
    feeling = texts["feelings"].get(affect.emotion, "") if affect and affect.confidence >= 0.5 else ""
    line, emergency = _helpline(locale, "abuse" if screening.category == "abuse" else "crisis")
    reply: str = texts[screening.category][kind]
    return reply.format(feeling=f"{feeling} " if feeling else "", line=line, emergency=emergency)


def _helpline(locale: str, service: str) -> tuple[str, str]:
    """A sentence that names the helpline of the locale's country, and the emergency number."""
    data = _data("helplines.yaml")
    language, *subtags = re.split(r"[-_]", locale.partition(".")[0].partition("@")[0])
    named = [tag.upper() for tag in subtags if len(tag) == 2]
    code = named[-1] if named else data["languages"].get(language.lower())
    everywhere, country = data["default"], data["countries"].get(code, {})
    line = country.get(service, everywhere[service])
    sentence = f"{line['name']}: {line['how']}."
    if service in country:
        sentence += f" Elsewhere, {everywhere[service]['how']}."
    return sentence, country.get("emergency", everywhere["emergency"])


@dataclass(frozen=True)
class Consent:
    """Which modalities a person lets the agent read feelings from."""

    text: bool = True
    voice: bool = False
    face: bool = False

    def allowed(self) -> frozenset[Modality]:
        """The modalities that may be read."""
        return frozenset(m for m in MODALITIES if getattr(self, m))

    def within(self, most: Consent) -> Consent:
        """What both allow."""
        return Consent(**{m: m in self.allowed() & most.allowed() for m in MODALITIES})


def disclosure(
    consent: Consent,
    modalities: frozenset[Modality],
    *,
    kept: str = "on the computer I run on",
    controls: str = "the settings, or the commands under `emox memory`",
) -> str:
    """What is said at first contact.

    Args:
        consent: what the person agreed to.
        modalities: those the loaded model reads (`ModelCard.modalities`).
        kept: where memory lives, completing "What I remember is kept ...".
        controls: how to change consent and see, correct or erase memories, completing "To change this, use ...".
    """
    sources = {"text": "your words", "voice": "your voice", "face": "your face"}
    read = [sources[m] for m in MODALITIES if m in consent.allowed() & modalities]
    unread = [sources[m] for m in MODALITIES if m in modalities - consent.allowed()]
    guess = f"I guess how you feel from {_listed(read)}, and I can be wrong." if read else "I do not guess feelings."
    leave = f" I leave {_listed(unread)} unread unless you allow it." if unread else ""
    return (
        f"Hi! Before we start: I am a program, not a human and not a therapist. {guess}{leave} "
        f"What I remember is kept {kept}. You can turn each of these off, and see, correct or erase what I remember, "
        f"at any time: use {controls}. In an emergency, please call your local emergency number."
    )


def _listed(items: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


def guard_reply(text: str) -> str | None:
    """Name the claim a generated sentence must not make ("human", "therapist", "life"), or None.

    "life" is a life the program has not lived: a wife, a childhood. The caller drops or replaces the sentence.
    """
    for language in _languages():
        plain = language.spelling.plain(text)
        for claim, pattern in _claims().items():
            if pattern.search(plain):
                return claim
    return None


@cache
def _claims() -> dict[str, re.Pattern[str]]:
    claims = _data("claims_en.yaml")
    return {name: re.compile(rf"(?<!\S)(?:{'|'.join(patterns)})(?!\w)") for name, patterns in claims.items()}


@cache
def _data(name: str) -> Any:
    return yaml.safe_load((_DATA / name).read_text(encoding="utf-8"))
