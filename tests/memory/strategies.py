"""Hypothesis strategies of what a memory keeps: anything its types allow."""

from datetime import UTC

from hypothesis import strategies as st

from memory.types import Episode, Fact, Felt, Recalled, Revision
from model.types import EMOTIONS, INTENTS, Affect, Evidence, Thought, Understanding
from perception.types import MODALITIES, Absence

finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text()
names = st.text(min_size=1)
shares = st.dictionaries(st.sampled_from(EMOTIONS), finite)
affects = st.builds(
    Affect,
    sentiment=finite,
    emotion=texts,
    emotions=shares,
    valence=finite,
    arousal=finite,
    confidence=finite,
    open=st.lists(texts).map(tuple),
    evidence=st.builds(Evidence, *[st.none() | shares] * 4),
    absent=st.dictionaries(st.sampled_from(MODALITIES), st.sampled_from(Absence)),
)
understandings = st.builds(
    Understanding, texts, texts, texts, texts, st.dictionaries(st.sampled_from(INTENTS), finite, max_size=4)
)
times = st.datetimes().map(lambda at: at.replace(tzinfo=UTC, fold=0))
episodes = st.builds(
    Episode,
    id=names,
    user=names,
    thread_id=texts,
    at=times,
    text=texts,
    reply=texts,
    affect=affects,
    understanding=st.none() | understandings,
    thought=st.none() | st.builds(Thought, texts, texts, texts, texts),
    route=texts,
    strategy=texts,
    recall_policy=st.sampled_from(["congruent", "counter", "factual", "none"]),
    voice=texts,
    modalities=st.lists(texts).map(tuple),
    recalled=st.lists(st.builds(Recalled, texts, finite, st.dictionaries(texts, finite, max_size=3))).map(tuple),
    after=st.lists(st.builds(Felt, texts, texts, finite, finite), max_size=3).map(tuple),
    revisions=st.lists(st.builds(Revision, times, st.none() | texts, st.none() | affects), max_size=2).map(tuple),
    model_version=texts,
)
facts = st.builds(
    Fact,
    id=names,
    user=names,
    kind=st.sampled_from(["person", "event", "preference", "life", "trigger", "helped"]),
    key=texts,
    value=texts,
    text=texts,
    provenance=st.sampled_from(["said", "inferred"]),
    valid_from=times,
    valid_to=st.none() | times,
    superseded_by=st.none() | texts,
    episodes=st.lists(texts).map(tuple),
)
