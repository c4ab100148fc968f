"""When a person's turn has ended, and which sounds of theirs are no turn at all: pure decisions.

People leave about 0.2 s between turns (Stivers et al. 2009, doi:10.1073/pnas.0903616106), less than many pauses inside
a turn, so silence alone cannot tell an end from a pause (Levinson and Torreira 2015, doi:10.3389/fpsyg.2015.00731).
What tells is how the words sounded, which words came last, and who cannot find them now. Words are English.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from model.types import Affect


@dataclass(frozen=True)
class Waits:
    """What a wait for the end of a turn is made of, in seconds of silence since the end of speech.

    Chosen on the development half of `python -m bench.endpointing` where no other source is named.
    """

    sure: float = 0.6
    """For a calm sentence that sounds complete. A reply takes longer than this to be ready, so it costs no time."""
    unsure: float = 0.8
    """More, if by its sound the turn is not complete at all; in between in proportion."""
    hesitation: float = 0.9
    """More after a filler or a word that wants another: "um" announces a delay (Clark and Fox Tree 2002,
    doi:10.1016/S0010-0277(02)00017-3)."""
    question: float = 0.15
    """Less after a question: whoever asks waits for the answer."""
    distress: float = 0.4
    """More for somebody surely sad or afraid, whom to interrupt is worst. Depressed people's pauses are longer than
    when they have recovered (Ellgring and Scherer 1996, doi:10.1007/BF02253071); how long is a choice."""
    least: float = 0.25
    most: float = 3.0
    """No wait is shorter or longer, whatever the parts say."""


WAITS = Waits()

BACKCHANNEL_S = 1.5
BACKCHANNEL_UNITS = 4
"""Who makes sounds of listening for longer, or more of them, wants to speak."""

_FILLER = re.compile(r"u+h+|u+m+|e+r+m*|e+h*m+|h+m+|m{2,}|a+h+")
_WANTS_MORE = frozenset({
    "and", "but", "or", "nor", "because", "cause", "cuz", "since", "although", "unless", "until", "while", "whereas",
    "if", "whether", "so", "than", "as", "the", "a", "an", "my", "your", "our", "their", "every", "very",
    "of", "to", "in", "into", "during", "between", "without", "against",
    "i", "we", "he", "she", "they", "i'm", "you're", "we're", "they're", "it's", "he's", "she's", "that's", "there's",
    "what's", "i've", "you've", "we've", "they've", "i'd", "he'd", "she'd", "we'd", "they'd", "i'll", "you'll", "he'll",
    "she'll", "we'll", "they'll", "am", "is", "are", "was", "were", "been", "being", "gonna", "wanna",
})  # fmt: skip
"""Words after which a sentence is seldom over; an "and" that hangs is often heard as "in". Not "with", "for" and others
that end one as often ("hard to deal with")."""
_CLOSES = re.compile(
    r".*\b(?:(?:think|hope|guess|believe|suppose|afraid|said|told (?:me|you)|even|or) so"
    r"|(?:want|wants|wanted|have|need|needed|had|used|going|supposed|able|try|talk|speak|listen|turn|relate) to"
    r"|(?:come|came|coming|let \w+|move|moved|moving|give|gave|giving) in"
    r"|(?:yes|no|yeah|so|who|what|how|where|way)\W+\w+ (?:am|is|are|was|were))"
)
"""Sentences that end in one of them all the same."""
_LOOKS_FOR_WORDS = re.compile(r".*\b(?:you know|i mean|kind of|sort of|such as)")
_OPEN_MARK = re.compile(r".*(?:[,;:…–—-]|\.\.)[\"'”)]*")

_SENTENCE_END = re.compile(r"(?<=[.!?…])\s+")
_INTERROGATIVE = re.compile(
    r"(?:(?:so|and|but|well|ok|okay|oh|hey|um|uh|then|now|please|sorry|hi|hello)\W+)*"
    r"(?:(?:to|for|with|from|in|at|on|about|of|since) )?"
    r"(?:who|whom|whose|what|when|where|which|why|how|am|is|are|was|were|do|does|did|have|has|had|can|could|will|would"
    r"|shall|should|may|might|must)(?:n't)?\b"
)
_TAG = re.compile(
    r".*\b(?:right|okay|ok|yeah|no|huh|you know"
    r"|(?:is|are|was|were|do|does|did|have|has|had|can|could|will|would|should)(?:n't)? (?:i|you|he|she|it|we|they))"
)
QUESTION_WORDS = 15
"""A longer question is thought out aloud, and may well go on."""

_SOUND = re.compile(r"\[[^\]]*\]|\([^)]*\)|\*[^*]*\*")
"""How recognisers write what is no word: "[BLANK_AUDIO]", "(coughs)", "*sighs*"."""
_LAUGHS = re.compile(r"laugh|chuckl|giggl", re.IGNORECASE)
_LISTENING = re.compile(
    r"(?:m+[ -]?h+u*m+|h+m+|m+|u+h+[ -]?h+u+[hm]+|a+h*[ -]?h+a+h*|h+u+h+|a+h+|a+w+|o+h+"  # hums
    r"|(?:h[aeu]+h?[ -]?){2,}|heh|lol"  # laughter
    r"|ye+a+h*|yep|yup|yes|right|ok|okay|alright|all right|sure|wow|whoa|really|exactly|true|indeed|absolutely"
    r"|definitely|totally|of course|cool|nice|great|good|got it|i see|i know|i understand|makes sense|fair enough"
    r"|(?:that's|it's) (?:right|true|nice|good|great)|that makes sense|no way|oh my god)(?![\w'])",
    re.IGNORECASE,
)
_LISTENS = re.compile(rf"(?:{_LISTENING.pattern}[\s,.!…–—-]*)+", re.IGNORECASE)
_DENIES = re.compile(r"\bm+[ -]m+\b", re.IGNORECASE)
"""Said twice in one breath, "mm-mm" is a no."""
_NEWS = re.compile(r"(?:(?:o+h+|wow|yeah|really|right|no way)[\s,!?.]*)+", re.IGNORECASE)
"""Of what is asked, only this wants no answer; "Huh?" and "Okay?" do."""


def wait_s(complete: float, text: str, affect: Affect | None, waits: Waits = WAITS) -> float:
    """How long to wait before the turn counts as over.

    Args:
        complete: probability in [0, 1] that the turn is complete by its sound: smart-turn's, asked after 0.2 s of
            silence about what was said since the pause before. Asked about the whole turn it knows less.
        text: what was said so far, as a recogniser that punctuates writes it; may be empty.
        affect: what the person seems to feel, or None where that is not known yet.
        waits: what the wait is made of.

    Returns:
        Seconds of silence since the end of speech, in [waits.least, waits.most]. Never longer for a higher `complete`.

    Raises:
        ValueError: `complete` is no probability.
    """
    if not 0 <= complete <= 1:
        raise ValueError(f"complete is {complete}, expected a probability from 0 to 1")
    wait = waits.sure + waits.unsure * (1 - complete)
    if hesitates(text):
        wait += waits.hesitation
    elif asks(text):
        wait -= waits.question
    if affect is not None:
        wait += waits.distress * distress(affect)
    return min(max(wait, waits.least), waits.most)


def distress(affect: Affect) -> float:
    """How surely the person is sad or afraid, in [0, 1]: by all that was read or by the voice alone, whichever more.

    Anger is as unpleasant but does not search for words, so valence is not asked.
    """
    read: tuple[Mapping[str, float], ...] = (affect.emotions, affect.evidence.voice or {})
    return min(1.0, max(emotions.get("sad", 0.0) + emotions.get("fear", 0.0) for emotions in read))


def hesitates(text: str) -> bool:
    """Whether the words break off: at a filler, a word that wants another, a comma, a dash, an ellipsis.

    Recognisers close with a full stop what breaks off, so that a full stop says nothing.
    """
    said = _plain(text)
    if _OPEN_MARK.fullmatch(said):
        return True
    asked = said.endswith("?")
    said = said.rstrip(" .!?\"')”")
    last = re.split(r"[^\w']+", said)[-1]
    if _FILLER.fullmatch(last):
        return True
    if asked or _CLOSES.fullmatch(said):
        return False
    return last in _WANTS_MORE or _LOOKS_FOR_WORDS.fullmatch(said) is not None


def asks(text: str) -> bool:
    """Whether it ends in a crisp question: a question mark, the form of a question, and not many words.

    A statement with a rising tone ("And then I went home?") gets a question mark too and is none.
    """
    said = _plain(text)
    if not said.endswith("?"):
        return False
    last = _SENTENCE_END.split(said)[-1].rstrip("?!. ")
    if len(last.split()) > QUESTION_WORDS:
        return False
    clauses = (last, last.rpartition(", ")[2])
    return any(map(_INTERROGATIVE.match, clauses)) or _TAG.fullmatch(last) is not None


def is_backchannel(text: str, duration_s: float) -> bool:
    """Whether somebody only shows that they listen: said while the agent speaks, it is no wish to speak.

    A short sound of hums, laughter and words of assent ("Mm-hmm.", "Yeah, right.", "I see.", "Hahaha"), and nothing
    else (Yngve 1970, "On getting a word in edgewise"). "No", "wait", "uh-uh" and a question are more than that.

    Args:
        text: what the recogniser wrote.
        duration_s: how long it sounded.
    """
    if duration_s > BACKCHANNEL_S:
        return False
    said = _SOUND.sub(" ", text).replace("’", "'").strip(" \"'“”")
    if not said:
        return _LAUGHS.search(text) is not None
    if _NEWS.fullmatch(said):
        return True
    if _DENIES.search(said) or not _LISTENS.fullmatch(said):
        return False
    return len(_LISTENING.findall(said)) <= BACKCHANNEL_UNITS


def is_nothing(text: str) -> bool:
    """Whether no word was said: a cough, a knock, music, silence."""
    return not any(character.isalnum() for character in _SOUND.sub(" ", text))


def _plain(text: str) -> str:
    return " ".join(_SOUND.sub(" ", text).replace("’", "'").lower().split())
