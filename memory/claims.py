"""What a person says about themselves in so many words, read by patterns: no model has to be trusted with it.

The patterns are English and prefer to miss: whatever is asked, supposed, wished, denied, quoted or told by somebody
else is no claim, and a phrase that does not end where it should is left alone. Two anchors carry almost all of them,
"I ..." as the subject of a clause and "my sister ..."; a pattern reads on from its anchor, or back.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from .dates import MONTHS, WHEN, resolve
from .types import FactKind


@dataclass(frozen=True)
class Claim:
    """One thing that is said to be so: `key` holds one value at a time, `text` says it in a sentence about the person.

    `ends` says that it is so no longer; `value` is then what it was, or "" where that is not said, and `text` is "".
    """

    kind: FactKind
    key: str
    value: str
    text: str
    ends: bool = False


Placed = Iterator[tuple[int, Claim]]
"""Claims, each with where in its sentence it was found."""


def claims(text: str, at: datetime) -> list[Claim]:
    """What the words of a person claim about their life, in the order of the text, each once.

    Args:
        text: their words alone, in any spelling; a reply may quote memories and has to stay out.
        at: when they were said: "tomorrow" is the day after its date.
    """
    found: dict[Claim, None] = {}
    sentences = list(_sentences(text))
    for sentence in sentences:
        placed = [pair for read in (_people, _states, _events, _likes, _life) for pair in read(sentence, at.date())]
        found.update(dict.fromkeys(claim for _, claim in sorted(placed, key=lambda pair: pair[0])))
        if len(sentences) == 1 or _ABOUT_WORK.search(text):
            found.update(dict.fromkeys(_quitting(sentence)))
    return list(found)


# ---- words -----------------------------------------------------------------------------------------------------------


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.I)


def _list(words: str, separator: str | None = None) -> list[str]:
    return [" ".join(word.split()) for word in words.split(separator)]


def _any(words: list[str]) -> str:
    """A pattern for one of the words, longest first: "nurse practitioner" is not read as "nurse"."""
    return f"(?:{'|'.join(sorted(words, key=len, reverse=True))})"


def _article(noun: str) -> str:
    return f"{'an' if re.match('(?i)(?!uni|eu|one|us)[aeiou]', noun) else 'a'} {noun}"


_UPPER = "A-ZÀ-ÖØ-Þ"
_ADVERBS = (
    r"(?:(?:really|just|also|actually|still|absolutely|always|finally|recently|definitely|honestly|currently|truly"
    r"|totally|officially|already|both|now|only|mostly|generally|especially|literally|sadly|suddenly|unfortunately"
    r"|mainly|simply|happily|newly|do|been|have) )*"
)
_OVER = (
    r"(?= ?(?:[^\w\s'&-]|$)| (?:and|but|so|because|cause|since|as|now|right|at|today|again|too|where|which|who|though"
    r"|although|while|currently|these|this|last|for|with|to|in|on|by|from|over|until|when|after|before|during|any more"
    r"|recently|yesterday|I|we|it|he|she|they|my)\b)"
)
"""Where a phrase may end: at a mark, or before a word that starts something else."""

_NO_NAMES = frozenset(
    _list(
        """monday tuesday wednesday thursday friday saturday sunday january february march april june july
        august september october november december christmas easter thanksgiving halloween covid happy sir
        god jesus english german french spanish american british chinese facebook netflix instagram whatsapp
        youtube tv ok okay lol he she it they we you who that this there these those nobody everybody
        everyone someone somebody anyone what which one here music life work home time money love food
        nature art reading my your his her our their the and but so then now when while why how if since
        because as is was has had will would can did does do not no yes just also even always never still dr
        mr mrs ms prof by for away into up out back upon on over down in to at after a an me him them us
        names crazy lazy fat ugly stupid weird bad mean selfish off about from late again together all every
        each some any"""
    )
)

# ---- sentences that can be believed ----------------------------------------------------------------------------------

MAX_SENTENCE = 800
"""Characters of a sentence that are read; what comes after says little that a pattern could rely on."""

_DOT = "․"  # stands for the dot of "Dr." while sentences are cut
_SPELLING = [
    (re.compile(pattern, re.I | re.M), plain)
    for pattern, plain in (
        (r"^\s*>.*$", ""),
        (r"[‘’`´ʼ]", "'"),
        (r'["“”„«»][^"“”„«»]*(?:["“”„«»]|\Z)', ' " '),
        (r"(?:^|(?<=[\s:,(]))'(?=\w).{1,300}?(?<=[\w.,!?])'(?=[\s.,!?)]|$)", ' " '),
        (r"\bU\.S\.(?:A\.)?", "US"),
        (r"\bU\.K\.", "UK"),
        (r"\b(Dr|Mr|Mrs|Ms|Prof|St)\.", rf"\1{_DOT}"),
        (r"\bi ?'m\b|\bim\b", "I am"),
        (r"\bi'?ve\b", "I have"),
        (r"\bi\b", "I"),
        (r"\bcan'?t\b|\bcannot\b", "can not"),
        (r"\bwon'?t\b", "will not"),
        (r"\b(do|does|did|is|are|was|were|has|have|had|could|would|should)n'?t\b", r"\1 not"),
        (r"\b(he|she|it|that|there|who|what)'s\b", r"\1 is"),
        (r"'ve\b", " have"),
        (r"'re\b", " are"),
        (r"'ll\b", " will"),
        (r"'d\b", " would"),
        (r"\banymore\b", "any more"),
        (r"[^\S\n]+", " "),
    )
]
_SENTENCE = re.compile(r"([^\n;]+?)(?:([.!?…]+)(?=[\s\"')]|$)|(?<=[a-z])([.!?…]+)(?=[A-Za-z])|\n|;|$)")

_UNSURE = _compile(
    r"\b(?:if|unless|whether|in case|until|till|maybe|perhaps|probably|possibly|almost|nearly|might|may|would|should"
    r"|could(?! not)|must|never|supposed?|supposedly|imagin\w+|pretend\w*|wish\w*|hop(?:e|es|ed|ing)|dream\w*|nightmare"
    r"|afraid|worr\w+|scared|fear\w*|terrified|think\w*|thought|believe\w*|guess|say|says|said|saying|tells?|told"
    r"|telling|ask\w*|claim\w*|wrote|writes|heard|according|rumou?rs?|lied?|lying|jok\w+|kidding|character"
    r"|not because|not that|instead of|as if|as though|like if"
    r"|(?:feel|feels|felt|feeling|seems?|seemed|looks?|looked|sounds?|act\w*) (?:like|as))\b"
)
"""Before a claim in its sentence, these make it supposed, wished, feared, or somebody else's."""

_UNDONE = _compile(
    r"\b(?:if|unless|in (?:a|the|my|our|this) (?:dream|game|movie|film|show|book|story|novel|play)|just kidding|jk"
    r"|(?:he|she|they|you|(?:my|his|her) \w+) (?:said|says|told|asked|shouted|wrote|thinks|claims))\b"
)
"""After a claim in its sentence, these undo it."""

_LONG_AGO = _compile(
    r"\b(?:when (?:I|we) (?:was|were|lived|went|had|first)|as an? (?:kid|child|teen\w*|boy|girl|young)|one time|once"
    r"|back (?:in|then|when)|in (?:high school|college|school|19\d\d)|growing up|used to|grew up"
    r"|previous|in the (?:19)?\d0'?s)\b"
)


def _sentences(text: str) -> Iterator[str]:
    """The statements in a text, in one spelling, one space between words, without the marks they end with."""
    text = unicodedata.normalize("NFKC", text)
    for pattern, plain in _SPELLING:
        text = pattern.sub(plain, text)
    for match in _SENTENCE.finditer(text):
        sentence = match[1][:MAX_SENTENCE].strip(" -")
        shouted = re.findall(r"\b[A-Z]{2,}\b", sentence)
        if len(shouted) > 3 and len(shouted) > len(sentence.split()) / 2:
            sentence = re.sub(r"\bi\b", "I", sentence.lower())
        if sentence and "?" not in (match[2] or match[3] or ""):
            yield sentence


def _stands(sentence: str, start: int, end: int, *, now: bool = False) -> bool:
    """Whether what was found from `start` to `end` is meant; `now` refuses what the sentence places long ago."""
    if _UNSURE.search(sentence, 0, start) or _UNDONE.search(sentence, end):
        return False
    return not (now and _LONG_AGO.search(sentence))


_SUBJECT = _compile(
    r"(?:^|[,:()–—] ?| - |\b(?:and|but|so|because|cause|since|as|though|although|now|well|yes|yeah|no|oh|ok|okay|hi"
    r"|hello|hey|actually|honestly|also|plus|today|currently|lately|nowadays|personally|anyway|yesterday|recently"
    r"|sadly|unfortunately) )(?P<subject>I|we) "
)
"""A clause starts; "the people I love" and "what I love" start none."""

# ---- people ----------------------------------------------------------------------------------------------------------

_RELATIONS = {
    word: words.split("/")[0]
    for words in _list(
        """mother/mom/mum/mommy/mama, father/dad/daddy/papa, sister/sis, brother/bro, son, daughter, twin,
        child, husband/hubby, wife, girlfriend/gf, boyfriend, partner, fiancé/fiance, fiancée/fiancee, ex,
        uncle, aunt/auntie, cousin, nephew, niece, grandmother/grandma/granny/nana,
        grandfather/grandpa/grandad/granddad, friend/buddy, best friend/bestfriend/bff, boss, manager,
        supervisor, colleague/coworker/co-worker, neighbour/neighbor, classmate, roommate, flatmate,
        housemate, teacher, professor, tutor, coach, doctor, dentist, therapist, psychologist, psychiatrist,
        counsellor/counselor, dog/doggy/puppy/pup, cat/kitty/kitten, horse, hamster, rabbit, parrot,
        parents, grandparents""",
        ",",
    )
    for word in words.split("/")
}
_SEVERAL = frozenset(
    _list(
        """friend colleague neighbour classmate roommate flatmate housemate cousin uncle aunt nephew niece son
        daughter child teacher professor tutor coach doctor grandson granddaughter"""
    )
)
"""Of these one often has more than one, so that the names stand beside each other, each under a key of its own."""
_WHO = (
    r"(?P<prefix>(?:ex|step|half|god|great[ -]?grand|grand)[ -]?)?"
    rf"(?P<relation>{_any(list(_RELATIONS))})(?P<in_law>[ -]in[ -]law)?(?![\w-])"
)
_MINE = _compile(
    r"\b(?:my|our) (?:(?:new|dear|good|close|lovely|poor|sweet|beloved|beautiful|wonderful|own|old(?= friend)) )*"
    rf"(?:(?P<which>older|younger|little|big|elder|eldest|oldest|youngest|twin|other|former|late) )?{_WHO}"
)
_PROPER = rf"(?-i:(?:(?:Dr|Mr|Mrs|Ms|Prof){_DOT}? )?[{_UPPER}](?=[\w'-]*[^\W\dA-Z_])[\w'-]+)"
_NAME = rf"(?P<name>{_PROPER})"
_NO_GIFT = "".join(
    f"(?<!{verb} )"
    for verb in _list(
        "give gave giving got get bought showed sent taught fed feed made wish wished call called took told tell"
    )
)
_CLAUSE = r"(?:^|[,:] |\b(?:and|but|because) )"
_NAMES = tuple(
    (_compile(rf"(?:{before})$"), _compile(after), ends)
    for before, after, ends in (
        (
            "",
            r"(?:,? (?:is|was) (?:called|named)|'s name (?:is|was)) (?P<name>[^\W\d_]+)(?= ?(?:[^\w\s'-]|$)| and| but)",
            0,
        ),
        (_NO_GIFT, rf" {_NAME}(?! (?-i:[{_UPPER}]))", 0),
        ("", rf", {_NAME}(?=,(?! and| or)|\)|$)", 0),
        (rf"{_CLAUSE}{_NAME} is ", r"(?=[^\w'-]|$)(?<!friend)(?<!therapist)(?<!teacher)(?! (?:and|or|any more)\b)", 0),
        (rf"(?:^|[,:] ){_NAME}, ", ",(?! and| or)", 0),
        (rf"{_CLAUSE}{_NAME} is no longer ", r"(?=[^\w'-]|$)", 1),
        (rf"{_CLAUSE}{_NAME} is not ", r" any more\b", 1),
    )
)
"""What stands before and after "my sister" where her name is told, or (1) that she is so no longer."""
_OWN_NAME = _compile(r"\bmy (?:first )?name is (?P<name>[^\W\d_]+)(?= ?(?:[^\w\s'-]|$)| and| but)")
_NAMED = _compile(
    rf"\b(?:I|we) {_ADVERBS}(?:have|had|got|adopted) an? (?:\w+ )?{_WHO} (?:called|named) (?P<name>[^\W\d_]+)"
)


def _people(sentence: str, at: date) -> Placed:
    """Who is in their life by name, and who no longer is what they were."""
    for mine in _MINE.finditer(sentence):
        for before, after, ends in _NAMES:
            ahead, behind = before.search(sentence[: mine.start()]), after.match(sentence, mine.end())
            if ahead and behind and _stands(sentence, ahead.start(), behind.end()):
                name = (ahead.groupdict() | behind.groupdict())["name"]
                yield from ((mine.start(), claim) for claim in _called(_relation(mine), name, bool(ends)))
    for match in _NAMED.finditer(sentence):
        if _stands(sentence, match.start(), match.end()):
            yield from ((match.start(), claim) for claim in _called(_relation(match), match["name"]))
    for match in _OWN_NAME.finditer(sentence):
        name = match["name"][0].upper() + match["name"][1:]
        if name.lower() not in _NO_NAMES and _stands(sentence, match.start(), match.end()):
            yield match.start(), Claim("life", "life/name", name, f"Their name is {name}.")


def _called(who: str, name: str, ends: bool = False) -> list[Claim]:
    """The claim that somebody has a name, or none where the word can hardly be one."""
    name = re.sub(r"'s?$", "", name).replace(_DOT, ".")
    if name.lower() in _NO_NAMES or not who.islower() or who.endswith("parents"):
        return []
    name = name[0].upper() + name[1:]
    if who.split()[-1] in _SEVERAL and who != "best friend":
        key, text = f"person/{who}/{name.lower()}", f"They have {_article(who)} called {name}."
    else:
        key, text = f"person/{who}/name", f"Their {who} is called {name}."
    return [Claim("person", key, name, "" if ends else text, ends)]


def _relation(match: re.Match[str]) -> str:
    """The relation of a match by one name: "my little bro" is "little brother", "my ex gf" is "ex-girlfriend"."""
    prefix = re.sub("[ -]", "", match["prefix"] or "").lower().replace("great", "great-")
    which, in_law = match.groupdict().get("which"), "-in-law" if match["in_law"] else ""
    relation = _RELATIONS[match["relation"].lower()]
    if match["relation"][0].isupper():  # a headline: "My Sister Got Married"
        relation = relation.title()
    return f"{which.lower() + ' ' if which else ''}{prefix}{'-' if prefix in ('ex', 'half') else ''}{relation}{in_law}"


_ILLNESS = _any(
    _list(
        """cancer dementia alzheimer's alzheimers parkinson's parkinsons leukemia leukaemia diabetes depression
        covid covid-19 pneumonia epilepsy autism als ms"""
    )
)
_IS, _HAS = r"(?: (?:is|are)|'s)", r"(?: (?:has|have)(?: got)?|'s got)"
_VERY = r"(?: (?:very|really|quite|so|seriously|terribly|terminally|still|also|just|back|now|\w+ (?:weeks|months)))*"
_DONE = r"(?: (?:just|has|have|had|also|recently|suddenly|sadly|unexpectedly|finally))*"
_NOT_OF = "".join(f"(?<!{word} )" for word in _list("of with for to from by about like than or near"))
_NOT_ONCE = _NOT_OF + "".join(f"(?<!{word} )" for word in _list("when whenever while time"))
_I_DID, _PARTED = rf"{_SUBJECT.pattern}{_ADVERBS}", r"(?:broke|broken|split) up"
_STATES = tuple(
    (_compile(rf"(?:{before})$"), _compile(rf"(?:,? {_PROPER},?)?{after}"), value, text)
    for before, after, value, text in (
        (_NOT_OF, rf"{_DONE} (?:died|passed away|passed on|passed{_OVER}|(?:was|got|had to be) put (?:down|to sleep))"
         r"(?! (?:laughing|of (?:laughter|embarrassment|boredom)|inside|a little|on (?:me|us)))",
         "died", "Their {who} died."),
        (_NOT_ONCE, rf"{_IS}{_VERY} pregnant", "pregnant", "Their {who} is pregnant."),
        (_NOT_ONCE, rf"{_IS}{_VERY} (?:ill|sick){_OVER}(?! and tired| with (?:worry|me))",
         "ill", "Their {who} is ill."),
        (_NOT_ONCE, rf"{_IS}{_VERY} in (?:the )?(?:hospital|icu|intensive care)\b",
         "in hospital", "Their {who} is in hospital."),
        (_NOT_ONCE, rf"{_IS}{_VERY} in (?:a |the )?(?P<what>coma|hospice|rehab|jail|prison)\b",
         "in {what}", "Their {who} is in {what}."),
        (_NOT_OF, rf"{_HAS}{_VERY} (?:(?:stage \w+|\w+) )?(?P<what>{_ILLNESS}){_OVER}",
         "has {what}", "Their {who} has {what}."),
        (_NOT_OF, rf"(?:{_DONE} been| was| got|{_IS}) diagnosed with (?:stage \w+ |\w+ )?(?P<what>{_ILLNESS}){_OVER}",
         "has {what}", "Their {who} was diagnosed with {what}."),
        (_NOT_OF, rf"{_DONE} had (?:a|another) (?P<what>stroke|heart attack|baby|miscarriage)\b",
         "had a {what}", "Their {who} had a {what}."),
        (_NOT_OF, rf"(?:{_DONE} got|{_IS}) (?P<what>married|engaged|divorced){_OVER}",
         "{what}", "Their {who} is {what}."),
        (_NOT_OF, rf"{_DONE} (?P<what>ran away|went missing)\b", "{what}", "Their {who} {what}."),
        (_NOT_OF, rf"{_DONE} (?:left|dumped) (?:me|us){_OVER}(?! (?:at|in|on|with|my|to))",
         "left them", "Their {who} left them."),
        (_NOT_OF, rf"(?:{_DONE}|{_IS}|{_HAS} been) (?:cheated|cheating) on me\b",
         "cheated on them", "Their {who} cheated on them."),
        (_NOT_OF, rf"{_DONE} lost (?:his|her|their) job\b", "lost their job", "Their {who} lost their job."),
        (_NOT_OF, rf"{_DONE} {_PARTED} with me\b", "broke up", "They and their {who} broke up."),
        (rf"{_I_DID}{_PARTED} with ", _OVER, "broke up", "They and their {who} broke up."),
        (r"\b(?:me|I) and ", rf" {_ADVERBS}{_PARTED}\b", "broke up", "They and their {who} broke up."),
        ("", rf" and (?:I|me) {_ADVERBS}{_PARTED}\b", "broke up", "They and their {who} broke up."),
        (rf"{_I_DID}lost ", rf"{_OVER}(?! (?:at|in|on|for|as|with))", "died", "Their {who} died."),
        (rf"{_I_DID}(?:had to )?put ", r" (?:down|to sleep)\b", "died", "Their {who} died."),
        (_NOT_OF, rf"{_IS} (?:(?:all|feeling|doing) )*(?:(?:better|healthy|well|fine) (?:again|now)"
         rf"|(?:out of|home from|back from) (?:the )?hospital)|{_DONE} recovered{_OVER}", "", ""),
        (_NOT_OF, rf"{_IS} (?:(?P<no>no longer)|not) (?P<what>pregnant|ill|sick|in (?:the )?hospital)"
         r"(?(no)| any more)\b", "{what}", ""),
    )
)  # fmt: skip
_NO_DEATH = frozenset(_list("friend boss ex dog cat boyfriend girlfriend horse hamster rabbit"))
"""To have lost one of these need not mean that they died."""
_PARTNER = _compile(r"(?:husband|wife|girlfriend|boyfriend|partner|fiancée?)$")
_PARTED_NAME = _compile(rf"{_I_DID}{_PARTED} with {_NAME}{_OVER}")


def _states(sentence: str, at: date) -> Placed:
    """What has become of the people in their life; no sentence means that it is over."""
    for mine in _MINE.finditer(sentence):
        who = _relation(mine).lower()
        for before, after, value, text in _STATES:
            ahead, behind = before.search(sentence[: mine.start()]), after.match(sentence, mine.end())
            if not ahead or not behind or not _stands(sentence, ahead.start(), behind.end(), now=value != "died"):
                continue
            if ("lost" in ahead[0].lower() and who in _NO_DEATH) or (value == "left them" and not _PARTNER.search(who)):
                continue
            what = (behind.groupdict().get("what") or "").lower().replace("sick", "ill").replace("the ", "")
            text = text.format(who=who, what=what)
            if who.endswith("parents"):
                text = text.replace(" is ", " are ").replace(" has ", " have ")
            key = f"person/{who}/state"
            yield mine.start(), Claim("person", key, value.format(what=what), text, ends=not text)
    for match in _PARTED_NAME.finditer(sentence):
        name = match["name"]
        if name.lower() not in _NO_NAMES and _stands(sentence, match.start(), match.end()):
            key, text = f"person/{name.lower()}/state", f"They broke up with {name}."
            yield match.start(), Claim("person", key, "broke up", text)


# ---- events ----------------------------------------------------------------------------------------------------------

_EVENT = _any(
    _list(
        """exam exams test interview surgery operation appointment wedding funeral presentation date birthday
        flight trip vacation holiday party meeting deadline concert competition contest tournament race
        marathon recital audition trial hearing graduation anniversary scan biopsy check-up checkup review
        finals midterm midterms reunion"""
    )
)
_WHAT = (
    r"(?P<kinds>(?:(?!(?:not|no|never|every|each|that|who|of|to|the|an?|my|our|is|was|have|had|on|in|for|with|and|but"
    rf"|or|so|been|already|if|when|back|from|at|this|that)\b)[\w'-]+ ){{0,2}})(?P<event>{_EVENT})"
)
_PLAIN_KINDS = frozenset(
    _list(
        """big important huge little small very really first last final next new old another other great major
        own nice fun few scary stressful difficult hard tough some upcoming super hot good bad productive
        long quick short"""
    )
)
_SOON = r"(?:(?:on|at|in|coming up|scheduled|due|for|early|late|just|already|only) )*"
_MORE = (
    r"(?: (?!(?:every|each|since|until|till|before|after|not|if|unless|that|which|who|because|and|but|or|so|next|last"
    r"|this|was|is|I|we)\b)[\w'-]+){0,4}?"
)
_HAVE = r"(?P<verb>have got|have|got|am having|are having|had) (?:(?P<article>an?|my|our|the|another|some) )?"
_PLANS = tuple(
    _compile(pattern)
    for pattern in (
        rf"{_SUBJECT.pattern}{_ADVERBS}{_HAVE}{_WHAT}{_MORE},? {_SOON}{WHEN}",
        rf"(?:^|, |\b(?:and|but|so) )(?:on )?{WHEN},? (?:I|we) {_ADVERBS}{_HAVE}{_WHAT}(?![\w'-])",
        rf"\b(?P<article>my|our|the) {_WHAT}(?P<verb> (?:is|are|was|were)|'s) {_SOON}{WHEN}",
    )
)


def _events(sentence: str, at: date) -> Placed:
    """What happens to them on a day, in a week or in a month; the value is that in ISO 8601."""
    for pattern in _PLANS:
        for match in pattern.finditer(sentence):
            verb, article = match["verb"].strip().lower(), (match["article"] or "").lower()
            was = verb in ("had", "was", "were")
            resolved = resolve(match["when"].lower(), at, was)
            if not resolved or not _stands(sentence, match.start(), match.end()):
                continue
            value, when, first, last = resolved
            kinds = [_of(word) for word in match["kinds"].lower().split() if word not in _PLAIN_KINDS]
            event = " ".join([*kinds, match["event"].lower()])
            past = last < at or (first <= at and was)
            plural = event.endswith("s")
            if verb in ("is", "'s", "are", "was", "were"):
                be = ("were" if plural else "was") if past else ("are" if plural else "is")
                text = f"{'The' if article == 'the' else 'Their'} {event} {be} {when}."
            else:
                one = event if plural or event == "surgery" else _article(event)
                thing = f"their {event}" if article in ("my", "our") else one
                text = f"They {'had' if past else 'have'} {thing} {when}."
            yield match.start(), Claim("event", f"event/{event}", value, text)


def _of(word: str) -> str:
    """A word about an event in one spelling: "mom's" is "mother's"."""
    stem, apostrophe, rest = word.partition("'")
    return _RELATIONS.get(stem, stem) + apostrophe + rest


# ---- likes and dislikes ----------------------------------------------------------------------------------------------

_LIKING = _compile(
    rf"(?:{_ADVERBS}(?P<no>no longer |do not )?{_ADVERBS}"
    r"(?P<verb>love|like|enjoy|adore|prefer|hate|dislike|detest|loathe)"
    r"|can not (?P<stand>stand|bear)|am (?P<no_fan>not )?(?:really )?an? (?:\w+ )?(?P<fan>fan of)) "
)
_DISLIKED = frozenset(_list("hate dislike detest loathe"))
_GERUNDS = dict(
    pair.split("/")
    for pair in _list(
        """cook/cooking bake/baking read/reading write/writing run/running swim/swimming sing/singing
        dance/dancing paint/painting draw/drawing hike/hiking travel/travelling garden/gardening
        knit/knitting play/playing sew/sewing watch/watching listen/listening walk/walking sleep/sleeping
        eat/eating drive/driving camp/camping fish/fishing shop/shopping climb/climbing sail/sailing
        surf/surfing ski/skiing"""
    )
)
_NO_START = frozenset(
    _list(
        """thing something nothing anything everything king ring spring string evening morning wedding pudding
        clothing being seeing feeling having knowing hearing thinking saying asking admitting bothering
        complaining during up out down off away behind trying"""
    )
)
_LIGHT = frozenset(
    _list("""going taking getting making doing watching giving coming looking putting using keeping back""")
)
"""These say nothing without what belongs to them."""
_TRIM = frozenset(
    _list(
        """and but or so because cause since very really too much more most better best now sometimes also just anyways
        lately all anyway though although lol especially probably always never ever again still right then
        as than today either honestly actually period any lots quite even tbh haha except unless instead
        rather"""
    )
)
_PREPOSITIONS = frozenset(
    _list(
        """in on at to with for from about by into around over under after before during without through near
        like in_front_of"""
    )
)
_NO_OBJECT = frozenset(
    _list(
        """you your yours him her his he she it its they them their theirs we us our ours i me mine myself
        yourself himself herself itself themselves this that these those there here who whom which what when
        where why how whether if not no some one ones both u ya yall y'all em 'em ur almost everything anything
        anybody nothing everyone anyone every each a an is are was were am be been have has had do does did can
        will would could able such way getting of kind type case"""
    )
)
_VAGUE = frozenset(
    _list(
        """people things thing stuff everything everyone everybody anything nothing something someone somebody
        life men guy women guys man girl boy person kids part parts yesterday tomorrow last next mom dad
        hate love"""
    )
)
_THE = frozenset(
    _list(
        """rain beach sea ocean snow sun mountains dark cold heat outdoors gym winter summer city countryside
        night theatre theater forest desert woods"""
    )
)
_NO_ADVERB = frozenset(
    _list("family families fly jelly belly italy july lily curly emily kelly sicily ugly bully assembly")
)
_PHRASE = re.compile(r"[\w'&-]+(?: [\w'&-]+)*")
_PHRASE_ENDS = _compile(
    r"$|(?! ?[\[*/@#$%^]| ?\"\S|, (?!(?:I|it|they|he|she|we|you|so|but|and|because|too|though|lol)\b)"
    r"[\w'-]+(?: [\w'-]+)?(?:$|,| and| or))"
)
"""Not within a list, which may be one of adjectives, nor where something else than a word was said."""


def _likes(sentence: str, at: date) -> Placed:
    """What they like and do not, and their favourites."""
    for subject in _SUBJECT.finditer(sentence):
        match = _LIKING.match(sentence, subject.end())
        if (
            not match
            or subject["subject"].lower() == "we"
            or not _stands(sentence, subject.start(), match.end(), now=True)
        ):
            continue
        rest, verb = sentence[match.end() :], (match["verb"] or "like").lower()
        thing = _object(re.split(r" (?:to|over|than|rather)\b", rest)[0] if verb == "prefer" else rest)
        no_longer = (match["no"] or "").lower() == "no longer " or bool(re.match(r".{0,60}?\bany more\b", rest, re.I))
        negated, disliked = bool(match["no"] or match["no_fan"]), bool(match["stand"]) or verb in _DISLIKED
        if thing and (not negated or (not disliked and (no_longer or verb in ("like", "enjoy")))):
            said = f"can't {match['stand'].lower()}" if match["stand"] else f"don't {verb}" if negated else verb
            theirs = re.sub(r"\bmy\b", "their", thing)
            text = f"They {said} {theirs}{' any more' if no_longer else ''}."
            key = "preference/" + re.sub(r"^the |\bmy ", "", thing.lower())
            yield match.start(), Claim("preference", key, "dislikes" if negated or disliked else "likes", text)
    for match in _FAVOURITE.finditer(sentence):
        what, value = _favourite(match["what"].lower(), sentence[match.end() :])
        if value and _stands(sentence, match.start(), match.end(), now=True):
            key, text = f"preference/favourite {what}", f"Their favourite {what} is {value}."
            yield match.start(), Claim("preference", key, value, text)


def _object(rest: str) -> str:
    """The noun phrase, or the gerund with what belongs to it, that `rest` starts with; "" for anything else."""
    found = _PHRASE.match(rest.replace(" a lot", ";").replace(" in front of ", " in_front_of "))
    if not found or not _PHRASE_ENDS.match(found.string, found.end()):
        return ""
    words = found[0].split()
    if words[:1] == ["to"]:
        words = [_GERUNDS.get(" ".join(words[1:2]).lower(), "to"), *words[2:]]
    if words[0][0].isdigit() or words[0].lower() in _NO_START:
        return ""
    gerund = words[0].lower().endswith("ing") and len(words[0]) > 4
    kept: list[str] = []
    prepositions = 0
    for word in words:
        low = word.lower()
        if (
            low in _TRIM
            or (low.endswith("ly") and low not in _NO_ADVERB)
            or (gerund and kept and low in ("when", "while", "where", "if"))
        ):
            break
        if low in _PREPOSITIONS:
            prepositions += 1
            if not gerund or prepositions > 2:
                return ""
        elif low in ("the", "my", "a", "an") and gerund:
            pass
        elif low in _NO_OBJECT or low == "my" or (low == "the" and (kept or len(words) < 2 or words[1] not in _THE)):
            return ""
        kept.append(word)
    while kept and kept[-1].lower() in _PREPOSITIONS | {"the", "my", "a", "an"}:
        kept.pop()
    if not 0 < len(kept) <= (8 if gerund else 4) or _VAGUE & {kept[0].lower(), kept[-1].lower()}:
        return ""
    if kept[-1].lower() in _LIGHT or kept[-1].lower().endswith("'s"):
        return ""
    return " ".join([kept[0].lower() if gerund else kept[0], *kept[1:]]).replace("_", " ")


_FAVOURITE = _compile(
    r"\b(?:my|our) (?:(?:all[ -]time|absolute|current) )?favou?rite (?P<what>[a-z]+(?: [a-z]+)?)(?: (?:is|are)|'s) "
    r"(?:(?:probably|definitely|still|called) )?"
)
_COMMON = frozenset(
    _list(
        """colour food dish meal drink fruit vegetable season animal sport hobby pastime activity flavour
        subject flower dessert snack genre holiday month number cuisine pet fish tree"""
    )
)
"""Favourites with a common noun for a name; others need a capital, for "my favourite team is playing" names none."""
_NO_FAVOURITE = frozenset(
    _list("""part thing things one bit memory memories moment time way place person people day""")
)
_TITLE = re.compile(
    rf"(?:[Tt]he )?(?!I\b|The\b|My\b)[{_UPPER}0-9][\w'&-]*"
    rf"(?: (?:[{_UPPER}0-9][\w'&-]+|(?:of|the|in|de|to|and|&)(?= (?:[{_UPPER}][\w]|the [{_UPPER}]))))*"
)


def _favourite(what: str, rest: str) -> tuple[str, str]:
    """What the favourite is one of, in British spelling, and its name at the start of `rest`, or ""."""
    what = what.replace("color", "colour").replace("flavor", "flavour")
    if what.split()[-1] in _NO_FAVOURITE:
        return what, ""
    if named := _TITLE.match(rest):
        return what, named[0]
    found = re.match(r"[\w'&-]+(?: [\w'&-]+){0,2}?(?=[^\w\s'&-]|$| (?:and|but|because|so|since|too)\b)", rest)
    if what.split()[-1] not in _COMMON or not found or _NO_OBJECT & set(found[0].lower().split()):
        return what, ""
    return what, found[0]


# ---- their life ------------------------------------------------------------------------------------------------------

_NO_PLACES = _NO_NAMES | frozenset(
    _list(
        """fear pain hell poverty misery denial peace silence darkness shame hope harmony student housing
        apartments town college dorms luxury anxiety stress chaos constant another comfort squalor isolation
        filth terror uncertainty fantasy dread suburbs sin regret public private plan mac windows linux
        sales marketing teaching management hr northern southern solitude"""
    )
)
_PLACE = (
    rf"(?P<place>(?-i:(?:the )?[{_UPPER}][\w'{_DOT}-]++"
    rf"(?: (?:[{_UPPER}][\w'-]++|(?:de|of|la|del|upon)(?= [{_UPPER}]))){{0,3}}+))"
    r"(?! (?:region|area|part|side|coast|suburbs|county|state|team|office|store)\b)"
)
_LOW_PLACE = (
    r"(?P<low>(?-i:(?:(?:new|san|los|las|north|south|west|east|st|el|salt lake) )?[a-z]{4,}))"
    r"(?= ?(?:[^\w\s'-]|$)| (?:and|but|so|where|now|because|since|which|right|with|any more)\b)"
)
_WORKPLACE = (
    r"(?P<shop>(?:an?|the) (?:[\w-]+ ){0,2}(?:hospital|bank|school|restaurant|supermarket|bakery|factory|warehouse"
    r"|library|call cent(?:er|re)|hotel|bar|cafe|café|clinic|nursing home|university|pharmacy|law firm|museum|office"
    r"|gym|daycare|kindergarten|store|shop|company|startup|farm|church|lab|laboratory|salon|garage|charity|newspaper))"
)
_PROFESSION = _any(
    _list(
        """accountant, actor, actress, administrator, analyst, architect, artist, attorney, author, baker,
        banker, barber, barista, bartender, biologist, bookkeeper, builder, bus driver, butcher, care
        worker, carpenter, cashier, chef, chemist, cleaner, composer, consultant, dentist, designer,
        developer, doctor, economist, editor, electrician, engineer, farmer, firefighter, flight attendant,
        florist, freelancer, gardener, geologist, hairdresser, historian, journalist, judge, lawyer,
        lecturer, librarian, locksmith, machinist, manager, mechanic, midwife, musician, nanny, nurse, nurse
        practitioner, nutritionist, optician, paralegal, paramedic, pastor, pharmacist, photographer,
        physicist, physiotherapist, pilot, plumber, police officer, postman, priest, professor, programmer,
        psychiatrist, psychologist, realtor, receptionist, recruiter, researcher, salesman, salesperson,
        scientist, secretary, security guard, social worker, soldier, surgeon, taxi driver, teacher,
        technician, therapist, translator, truck driver, tutor, vet, veterinarian, waiter, waitress, welder,
        writer""",
        ",",
    )
)
_ROLE = r"(?:student|housewife|homemaker|stay[ -]at[ -]home (?:mom|mum|mother|dad|father))"
_KINDS = (
    r"(?:(?!(?:good|bad|great|terrible|bit|kind|sort|such|like|lot|better|of|not|the|an?|my|big|real|would|wannabe|former"
    r"|retired|future|aspiring|fake|is|was|friend|fan|little|huge|and|but|or|so|at|in|for)\b)[\w-]+ ){0,2}"
)
_FIELD = _any(
    _list(
        """medicine, law, psychology, computer science, engineering, nursing, biology, chemistry, physics,
        mathematics, maths, math, history, philosophy, economics, business, accounting, finance, marketing,
        art, art history, music, architecture, design, education, sociology, political science, politics,
        literature, english literature, journalism, theology, pharmacy, dentistry, geology, geography,
        linguistics, anthropology, archaeology, astronomy, statistics, data science, biochemistry,
        neuroscience, film, photography, graphic design, mechanical engineering, electrical engineering,
        civil engineering, software engineering, social work, criminology, criminal justice, veterinary
        medicine, international relations, business administration""",
        ",",
    )
)
_AM, _WORK = rf"(?:am|are) {_ADVERBS}", rf"{_ADVERBS}(?:work|am working) {_ADVERBS}"
_GOT, _NEW = rf"{_ADVERBS}(?:got|gotten|landed|started|found) an? ", "(?:(?:new|great|better) )"
_MINE_ALONE = tuple(
    (_compile(pattern), key, text)
    for pattern, key, text in (
        (rf"{_AM}(?:originally )?from {_PLACE}", "origin", "They are from {}."),
        (rf"{_WORK}as an? (?P<value>{_KINDS}?[\w-]+){_OVER}", "work", "They work as {a}."),
        (rf"{_AM}an? (?P<value>{_KINDS}{_PROFESSION}){_OVER}", "work", "They work as {a}."),
        (rf"{_AM}an? (?P<value>{_KINDS}{_ROLE}){_OVER}", "work", "They are {a}."),
        (rf"{_AM}(?P<value>retired|unemployed){_OVER}", "work", "They are {}."),
        (rf"{_GOT}{_NEW}+job as an? (?P<value>{_KINDS}{_PROFESSION}){_OVER}", "work", "They work as {a}."),
        (rf"{_GOT}{_NEW}*(?P<value>new job)(?! as ){_OVER}", "work", "They have a new job."),
        (rf"{_ADVERBS}lost my job{_OVER}", "work", "They lost their job."),
        (rf"{_ADVERBS}(?:got|was) (?:fired|laid off|let go|made redundant){_OVER}", "work", "They lost their job."),
        (rf"{_ADVERBS}quit my job{_OVER}", "work", "They quit their job."),
        (rf"{_GOT}{_NEW}*job (?:at|with) {_PLACE}", "workplace", "They work at {}."),
        (rf"{_WORK}at (?:{_PLACE}|{_WORKPLACE}{_OVER})", "workplace", "They work at {}."),
        (rf"{_WORK}as an? {_KINDS}?[\w-]+ at {_PLACE}", "workplace", "They work at {}."),
        (rf"{_WORK}for (?:{_PLACE}|{_WORKPLACE}{_OVER})", "workplace", "They work for {}."),
        (rf"{_WORK}in {_WORKPLACE}{_OVER}", "workplace", "They work in {}."),
        (rf"{_ADVERBS}(?:study|am studying|am majoring in|major in) (?P<value>{_FIELD}){_OVER}",
         "study", "They study {}."),
        (rf"{_AM}(?P<value>\d{{1,3}}) (?:years? old|yrs? old|y/?o)\b", "age", "They were {} years old in {month}."),
        (rf"{_AM}(?P<value>1[3-9]|[2-9]\d)(?! ?[,.:/-]\d)(?= ?(?:[^\w\s'%$°/-]|$))",
         "age", "They were {} years old in {month}."),
        (r"(?:just|recently|finally) turned (?P<value>\d{1,3})(?= ?(?:[^\w\s'%$°:/-]|$)| (?:today|last|and)\b)",
         "age", "They were {} years old in {month}."),
        (rf"{_AM}(?:an? )?(?P<value>vegetarian|vegan|pescatarian){_OVER}", "diet", "They are {}."),
        (rf"{_AM}(?:[\w-]+ (?:weeks|months) )?(?P<value>pregnant){_OVER}", "pregnancy", "They are {}."),
    )
)  # fmt: skip
_OURS = tuple(
    (_compile(pattern), key, text)
    for pattern, key, text in (
        (rf"{_ADVERBS}(?:live|am living|are living) in (?:{_PLACE}|{_LOW_PLACE})", "home", "They live in {}."),
        (rf"{_ADVERBS}(?:moved|relocated) (?:back )?to {_PLACE}", "home", "They live in {}."),
        (rf"{_AM}(?P<value>married|engaged|divorced|single|widowed){_OVER}(?! (?:in|by|to my (?:job|work)))",
         "relationship", "They are {}."),
        (rf"{_ADVERBS}(?:got|gotten) (?P<value>married|engaged|divorced){_OVER}", "relationship", "They are {}."),
    )
)  # fmt: skip
"""What "we" may say as well as "I"."""
_OVER_NOW = tuple(
    (_compile(form), key)
    for key, negated, what in (
        ("home", "do not live in", rf"(?:{_PLACE}|{_LOW_PLACE})"),
        ("workplace", "do not work (?:at|for|in)", rf"(?:{_PLACE}|{_WORKPLACE})"),
        ("work", "do not work as an?", r"(?P<value>[\w-]+(?: [\w-]+)??)"),
        ("work", "am not an?", rf"(?P<value>{_PROFESSION}|{_ROLE})"),
        ("study", "do not study", f"(?P<value>{_FIELD})"),
        ("diet", "am not", "(?:an? )?(?P<value>vegetarian|vegan|pescatarian)"),
        ("relationship", "am not", "(?P<value>married|engaged|single)"),
        ("pregnancy", "am not", "(?P<value>pregnant)"),
    )
    for form in (
        rf"{negated} {what} any more\b",
        rf"{negated.replace('do not', 'no longer').replace('am not', 'am no longer')} {what}{_OVER}",
    )
)
_QUIT = _compile(rf"{_SUBJECT.pattern}{_ADVERBS}quit$")
_ABOUT_WORK = _compile(r"\b(?:work\w*|jobs?|boss|office|shifts?|company|career|manager|salary|notice)\b")


def _life(sentence: str, at: date) -> Placed:
    """Where they live and come from, what they do, how things stand with them, and what of it is over."""
    typed_low = sentence.replace("I", "").islower()
    month = f"{MONTHS[at.month - 1]} {at.year}"
    for subject in _SUBJECT.finditer(sentence):
        alone = subject["subject"].lower() == "i"
        for pattern, key, text in _MINE_ALONE + _OURS if alone else _OURS:
            match = pattern.match(sentence, subject.end())
            if not match:
                continue
            value = _value(match, typed_low)
            if value is None or not _stands(sentence, subject.start(), match.end(), now=True):
                continue
            value = value or text.removeprefix("They ").rstrip(".")  # "lost their job"
            if key == "age" and not 5 <= int(value) <= 110:
                continue
            text = text.format(value, a=_article(value), month=month)
            yield match.start(), Claim("life", f"life/{key}", value, text)
            if value.endswith("their job"):
                yield match.start(), Claim("life", "life/workplace", "", "", ends=True)
        for pattern, key in _OVER_NOW:
            match = pattern.match(sentence, subject.end())
            if match and (value := _value(match, typed_low)) and _stands(sentence, subject.start(), match.end()):
                yield match.start(), Claim("life", f"life/{key}", value, "", ends=True)


def _quitting(sentence: str) -> list[Claim]:
    """What "I quit" ends, and no more than that: the work."""
    match = _QUIT.search(sentence)
    if not match or not _stands(sentence, match.start(), match.end()):
        return []
    return [Claim("life", key, "", "", ends=True) for key in ("life/work", "life/workplace")]


def _value(match: re.Match[str], typed_low: bool) -> str | None:
    """What a match about their life says; "" where the words say it all, None where they only look like a place."""
    said = match.groupdict()
    if place := said.get("place") or said.get("low"):
        first = place.removeprefix("the ").split()[0]
        if (first.lower() in _NO_PLACES and first != "US") or (said.get("low") and not typed_low):
            return None
        return place.title() if said.get("low") else place.replace(_DOT, ".")
    return (said.get("shop") or said.get("value") or "").lower()
