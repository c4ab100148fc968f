"""What a reply should do: pure decisions from what was felt, meant and remembered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memory.policy import DISTRESS_VALENCE, policy_for
from memory.types import Episode
from model.types import EMOTIONS, Affect, Thought, Understanding

from .state import Plan

LOW_CONFIDENCE = 0.3
"""Below this, the likeliest of seven emotions is little more than a guess."""

DISAGREEMENT = 0.6
"""Total variation distance between two modalities' distributions above which they tell different stories."""

SHORT_WORDS = 8

MET_AFTER = 2
"""Turns in a row on which distress is met before brighter times are brought up."""

_SMALL_TALK = re.compile(
    r"\W*(hi|hello|hey|good (morning|afternoon|evening|night)|how are you|thanks?|thank you|bye|goodbye|see you|"
    r"ok|okay|yes|no|sure|cool|nice)([\s,!.?]+(there|again|you|all|everyone|today|doing|later|soon|then|bye|hi|hello|"
    r"see|so|very|much|a|lot|thanks|how|are|ok|okay))*\W*",
    re.IGNORECASE,
)

_STRATEGY = {"happy": "celebrate", "angry": "reflect", "disgust": "reflect", "surprise": "explore"}
_ASKING = {"Ask for help", "Asking for opinions"}
_VOICE = {"happy": "bright", "sad": "calm", "fear": "calm", "angry": "warm", "disgust": "warm", "surprise": "warm"}


def is_small_talk(text: str) -> bool:
    """Greetings, thanks and the like, which need no chain of thought."""
    return _SMALL_TALK.fullmatch(text) is not None


def disagreement(affect: Affect) -> float:
    """Largest total variation distance in [0, 1] between the emotions that two modalities show."""
    read = [d for d in (affect.evidence.text, affect.evidence.voice, affect.evidence.face) if d is not None]
    pairs = [(a, b) for i, a in enumerate(read) for b in read[i + 1 :]]
    return max((sum(abs(a[label] - b[label]) for label in EMOTIONS) / 2 for a, b in pairs), default=0.0)


def in_distress(affect: Affect) -> bool:
    """Whether it hurts."""
    return affect.valence <= DISTRESS_VALENCE


def plan_reply(text: str, affect: Affect, understanding: Understanding | None, distressed: int = 0) -> Plan:
    """Choose route, strategy, voice and what to recall.

    Small talk has not been understood and gets no thought. Affect that is unsure, or told differently by two
    modalities, is asked about gently rather than asserted. Brighter times are recalled once a feeling has been met on
    `MET_AFTER` turns in a row (`distressed` counts them), or when somebody in distress asks for help: offered sooner
    they read as not having listened.
    """
    voice = _VOICE.get(affect.emotion, "plain")
    if understanding is None:
        return Plan("small_talk", "explore", "none", "warm")
    if affect.confidence < LOW_CONFIDENCE or disagreement(affect) > DISAGREEMENT:
        return Plan("clarify", "clarify", policy_for(affect, text), "warm")
    if understanding.intent in _ASKING and text.rstrip().endswith("?"):
        strategy = "suggest" if affect.valence < -0.2 else "inform"
    elif affect.emotion in _STRATEGY:
        strategy = _STRATEGY[affect.emotion]
    elif affect.emotion == "neutral" or len(text.split()) < SHORT_WORDS:
        strategy = "explore"
    else:
        strategy = "comfort"
    supports = in_distress(affect) and (strategy == "suggest" or (strategy == "comfort" and distressed > MET_AFTER))
    return Plan("empathize", strategy, "counter" if supports else policy_for(affect, text), voice)


def think(affect: Affect, understanding: Understanding, open_words: Sequence[str], goal: str) -> Thought:
    """The chain of empathy from what the heads found.

    Of words alone the first open word is the finest name for the feeling. With a voice or a face the open words may
    follow those where the reading as a whole does not, so its label is taken.
    """
    words_alone = affect.evidence.voice is None and affect.evidence.face is None
    felt = open_words[0] if open_words and words_alone else affect.emotion
    return Thought(understanding.scenario, felt, understanding.cause, goal)


def memory_line(episode: Episode) -> str:
    """An earlier turn in a few words, as the reply is told of it."""
    words = episode.text.split()
    said = " ".join(words[:24]) + (" ..." if len(words) > 24 else "")
    return f'On {episode.at:%B} {episode.at.day} they said "{said}" and felt {episode.affect.emotion}.'
