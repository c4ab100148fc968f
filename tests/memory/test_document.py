import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.document import SCHEMA, from_json, to_json
from memory.errors import MemoryStoreError
from memory.types import Episode
from model.types import EMOTIONS, INTENTS, Affect, Evidence, Understanding
from perception.types import MODALITIES, Absence
from tests.fakes import episode_of

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
episodes = st.builds(
    Episode,
    id=names,
    user=names,
    thread_id=texts,
    at=st.datetimes().map(lambda at: at.replace(tzinfo=UTC, fold=0)),
    text=texts,
    reply=texts,
    affect=affects,
    understanding=st.none() | understandings,
    route=texts,
    strategy=texts,
    modalities=st.lists(texts).map(tuple),
    recalled=st.lists(texts).map(tuple),
    model_version=texts,
)


@given(episodes)
def test_an_episode_comes_back_as_it_was(episode: Episode):
    back = from_json(to_json(episode))
    assert back == episode
    assert repr(back) == repr(episode)  # tuples, enums and -0.0 too


def test_a_time_in_another_zone_becomes_the_same_instant_in_utc():
    there = datetime(2026, 3, 29, 2, 30, tzinfo=timezone(timedelta(hours=-5)))
    back = from_json(to_json(episode_of("a", at=there)))
    assert (back.at, back.at.tzinfo) == (there, UTC)


@pytest.mark.parametrize(
    "broken",
    [
        {"at": datetime(2026, 1, 1)},
        {"text": "half a pair \ud800"},
        {"text": 5},
        {"affect": Affect(0.0, "sad", {"sad": float("nan")}, 0.0, 0.0, 1.0)},
    ],
)
def test_what_could_not_be_read_back_is_refused_without_quoting_it(broken: dict):
    with pytest.raises(ValueError, match="episode 'a' ") as refused:
        to_json(episode_of("a", **broken))
    assert "half a pair" not in str(refused.value)


def test_a_document_of_a_newer_version_is_refused():
    newer = json.dumps({"schema": SCHEMA + 1, "episode": {"colour": "blue"}})
    with pytest.raises(MemoryStoreError, match="upgrade emox"):
        from_json(newer)


@pytest.mark.parametrize("damaged", ["", "[]", "{}", '{"schema": "one"}', '{"schema": 1, "episode": {"id": "a"}}'])
def test_a_damaged_document_is_named_as_such(damaged: str):
    with pytest.raises(MemoryStoreError, match="damaged"):
        from_json(damaged)
