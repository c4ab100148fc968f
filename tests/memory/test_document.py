import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given

from memory.document import SCHEMA, fact_from_json, fact_to_json, from_json, to_json
from memory.errors import MemoryStoreError
from memory.types import Episode, Fact, Recalled
from model.types import Affect
from tests.fakes import episode_of
from tests.memory.strategies import episodes, facts


@given(episodes)
def test_an_episode_comes_back_as_it_was(episode: Episode):
    back = from_json(to_json(episode))
    assert back == episode
    assert repr(back) == repr(episode)  # tuples, enums and -0.0 too


@given(episodes)
def test_a_document_that_was_written_by_other_means_is_read_as_well(episode: Episode):
    spaced = json.dumps(json.loads(to_json(episode)), indent=1)
    assert repr(from_json(spaced)) == repr(episode)


@given(facts)
def test_a_fact_comes_back_as_it_was(fact: Fact):
    back = fact_from_json(fact_to_json(fact))
    assert back == fact
    assert repr(back) == repr(fact)


FIRST_RELEASE = (
    '{"schema":1,"episode":{"id":"t1","user":"ann","thread_id":"main","at":"2026-01-05T10:00:00Z","text":"my dog '
    'died","reply":"I am so sorry.","affect":{"sentiment":-0.7,"emotion":"sad","emotions":{"sad":1.0},"valence":-'
    '0.7,"arousal":-0.4,"confidence":1.0,"open":["grieving"],"evidence":{"text":{"sad":1.0},"voice":null,"face":n'
    'ull,"fusion":null},"absent":{"voice":"not given"}},"understanding":null,"route":"empathize","strategy":"comf'
    'ort","modalities":["text"],"recalled":["t0"],"model_version":"first"}}'
)


def test_an_episode_of_the_first_release_is_read():
    episode = from_json(FIRST_RELEASE)
    assert (episode.text, episode.strategy) == ("my dog died", "comfort")
    assert episode.recalled == (Recalled("t0", 0.0),)
    assert (episode.thought, episode.after, episode.revisions, episode.recall_policy) == (None, (), (), "none")
    assert from_json(to_json(episode)) == episode


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
