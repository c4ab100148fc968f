"""Words for a speaker's emotion on AvaMERG: one total map of ours, and the two maps of the published scores.

The published maps disagree with each other and with themselves: the first sends `confused` to jealous but `confusion`
to anxious, `disappointment` to disappointed and `disappointed` to sad; the second lacks 43 of the 75 raw labels. They
are kept to compute published numbers (`empathy.reference_scores`). Spec section 5.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def _inverted(groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    return {word: group for group, words in groups.items() for word in words}


FAMILIES: Mapping[str, tuple[str, ...]] = {
    "neutral": ("neutral", "calm"),
    "happy": ("happy", "happiness"),
    "joyful": ("joyful", "joy"),
    "excited": ("excited", "excitement"),
    "anticipating": ("anticipating", "anticipation"),
    "hopeful": ("hopeful", "hope"),
    "confident": ("confident", "confidence"),
    "proud": ("proud", "pride"),
    "grateful": ("grateful", "gratitude", "thankful"),
    "content": ("content", "contentment"),
    "caring": ("caring",),
    "trusting": ("trusting", "trust"),
    "faithful": ("faithful",),
    "prepared": ("prepared",),
    "surprised": ("surprised", "surprise"),
    "impressed": ("impressed",),
    "angry": ("angry", "anger"),
    "furious": ("furious",),
    "annoyed": ("annoyed", "annoyance", "frustrated", "frustration"),
    "afraid": (
        "afraid", "fear", "fearful", "fragile", "helpless", "helplessness", "vulnerable", "vulnerability",
    ),
    "terrified": ("terrified",),
    "apprehensive": ("apprehensive",),
    "disgusted": ("disgusted", "disgust"),
    "contempt": ("contempt",),
    "jealous": ("jealous", "jealousy"),
    "sad": ("sad", "sadness", "melancholy", "melancholic", "heavy-hearted"),
    "devastated": ("devastated",),
    "disappointed": ("disappointed", "disappointment", "upset"),
    "lonely": ("lonely", "loneliness"),
    "guilty": ("guilty", "guilt", "regret"),
    "ashamed": ("ashamed", "shame", "inadequacy"),
    "embarrassed": ("embarrassed", "embarrassment"),
    "nostalgic": ("nostalgic", "nostalgia"),
    "sentimental": ("sentimental", "pensive", "reflective", "thoughtful"),
    "tired": ("tired", "tiredness", "weary", "fatigue", "exhausted", "exhaustion"),
    "anxious": (
        "anxious", "anxiety", "worried", "worry", "nervous", "uneasy", "concerned", "concern", "stressed", "stress",
        "burdened", "overwhelmed", "overwhelm", "conflicted", "confused", "confusion", "lost",
    ),
}  # fmt: skip
"""Fine label -> the words that mean it. All 75 raw labels of AvaMERG and the project's own basic emotions."""

COARSE: Mapping[str, tuple[str, ...]] = {
    "neutral": ("neutral",),
    "happy": (
        "happy", "joyful", "excited", "anticipating", "hopeful", "confident", "proud", "grateful", "content", "caring",
        "trusting", "faithful", "prepared",
    ),
    "surprised": ("surprised", "impressed"),
    "angry": ("angry", "furious", "annoyed"),
    "fear": ("afraid", "terrified", "apprehensive"),
    "disgusted": ("disgusted",),
    "contempt": ("contempt", "jealous"),
    "sad": (
        "sad", "devastated", "disappointed", "lonely", "guilty", "ashamed", "embarrassed", "nostalgic", "sentimental",
        "tired", "anxious",
    ),
}  # fmt: skip
"""Eight classes -> fine labels. As published (so `anxious` is with `sad`), but for `embarrassed`, which the published
map holds twice, and `tired`, which it lacks: both are with `sad`."""

FAMILY_OF = _inverted(FAMILIES)
COARSE_OF = {word: coarse for coarse, families in COARSE.items() for family in families for word in FAMILIES[family]}

REFERENCE_GOLD = _inverted({
    "afraid": ("fear", "fearful", "fragile", "helpless", "helplessness", "vulnerability", "vulnerable"),
    "angry": ("angry", "annoyed", "furious"),
    "annoyed": ("frustration",),
    "anxious": (
        "anxiety", "burdened", "concern", "concerned", "conflicted", "confusion", "nervous", "overwhelm",
        "overwhelmed", "stress", "stressed", "uneasy", "worried", "worry",
    ),
    "ashamed": ("inadequacy",),
    "contempt": ("jealous",),
    "disappointed": ("disappointment", "upset"),
    "disgusted": ("disgusted",),
    "fear": ("afraid", "apprehensive", "terrified"),
    "guilty": ("regret",),
    "happy": (
        "anticipating", "caring", "confident", "content", "excited", "faithful", "grateful", "hopeful", "joyful",
        "prepared", "proud", "trusting",
    ),
    "jealous": ("confused", "lost"),
    "lonely": ("loneliness",),
    "nostalgic": ("nostalgia",),
    "sad": (
        "anxious", "ashamed", "disappointed", "embarrassed", "frustrated", "guilty", "heavy-hearted", "lonely",
        "melancholic", "melancholy", "nostalgic", "sadness", "sentimental",
    ),
    "sentimental": ("pensive", "reflective", "thoughtful"),
    "surprised": ("devastated", "impressed", "surprised"),
    "tired": ("exhausted", "exhaustion", "fatigue", "tired", "tiredness", "weary"),
})  # fmt: skip
"""Raw label -> the label that published scores hold for right: 75 entries, applied once, to the gold only."""

REFERENCE_CLASS = _inverted({
    "neutral": ("neutral",),
    "happy": (
        "happy", "anticipating", "caring", "confident", "content", "excited", "faithful", "grateful", "hopeful",
        "joyful", "prepared", "proud", "trusting",
    ),
    "surprised": ("surprised", "impressed"),
    "angry": ("angry", "annoyed", "furious"),
    "fear": ("fear", "afraid", "apprehensive", "terrified"),
    "sad": (
        "sad", "anxious", "ashamed", "devastated", "disappointed", "guilty", "lonely", "nostalgic", "sentimental",
    ),
    "disgusted": ("disgusted", "embarrassed"),
    "contempt": ("contempt", "jealous"),
})  # fmt: skip
"""Label -> one of eight classes in published scores: 36 entries."""

KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "anxious": ("anxious", "anxiety", "nervous", "worried"),
    "grateful": ("grateful", "thankful", "appreciate"),
    "lonely": ("lonely", "alone"),
    "guilty": ("guilty", "guilt"),
    "ashamed": ("ashamed", "shame"),
    "embarrassed": ("embarrass",),
    "jealous": ("jealous", "envious"),
    "nostalgic": ("nostalgi",),
    "disappointed": ("disappoint",),
    "proud": ("proud", "pride"),
    "hopeful": ("hopeful", "hope"),
    "excited": ("excited", "thrilled"),
    "furious": ("furious", "rage"),
    "angry": ("angry", "anger", "mad"),
    "annoyed": ("annoyed", "irritated"),
    "terrified": ("terrified",),
    "afraid": ("afraid", "scared", "fear"),
    "disgusted": ("disgust",),
    "surprised": ("surprised", "shocked"),
    "sad": ("sad", "grief", "sorrow"),
    "happy": ("happy", "joy", "glad"),
    "content": ("content", "satisfied"),
}
"""Label -> what `empathy.reference_emotion` looks for in a reply without a chain. Our choice of words."""
