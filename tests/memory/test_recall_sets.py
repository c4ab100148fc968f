"""The sets that recall is measured on, and how an answer is scored."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest

from bench import recall
from bench.recall_sets import Asked, Line, asked, labelled, locomo, people
from tests.fakes import FakeEmbedder

AT = datetime(2025, 12, 1, tzinfo=UTC)
DOG, CAT = frozenset({0}), frozenset({1})


def sayings(*emotions_and_subjects):
    return [Line(f"{n}", f"line {n}", AT, e, s, "And what was it?") for n, (e, s) in enumerate(emotions_and_subjects)]


def test_right_is_what_is_about_a_like_subject_and_felt_alike():
    lines = sayings(("sad", DOG), ("sad", DOG), ("happy", DOG), ("sad", CAT))
    first = asked({"ann": lines}, "congruent")[0]
    assert (first.line, first.right) == ("0", {"1"})


def test_a_question_that_any_like_subject_would_answer_is_not_asked():
    assert not asked({"ann": sayings(("sad", DOG), ("sad", DOG))}, "congruent")


def test_counter_asks_of_bad_feelings_for_happy_times():
    lines = sayings(("sad", DOG), ("happy", DOG), ("angry", DOG), ("happy", CAT))
    assert [(one.line, one.right) for one in asked({"ann": lines}, "counter")] == [("0", {"1"}), ("2", {"1"})]


def test_a_factual_question_is_about_the_line_it_was_asked_of():
    (one,) = asked({"ann": sayings(("happy", DOG))}, "factual")
    assert (one.text, one.right, one.line) == ("And what was it?", {"0"}, "")


def test_no_dialogue_is_on_both_sides_and_none_is_dealt_twice(tmp_path):
    folder = tmp_path / "text" / "empathetic_dialogues"
    folder.mkdir(parents=True)
    turns = [[{"speaker": "speaker", "text": f"My dog and I, day {n // 2}"}] for n in range(56)]  # each text twice
    rows = [{"id": f"ed-{n}", "emotion": "joyful", "turns": one} for n, one in enumerate(turns)]
    (folder / "dialogues_valid.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ids = [line.id for split in ("dev", "test") for lines in people(tmp_path, split).values() for line in lines]
    assert len(ids) == len(set(ids)) == 28
    with pytest.raises(FileNotFoundError, match="--data"):
        people(tmp_path / "elsewhere", "dev")


def test_scores_of_a_ranking():
    assert recall.quality(["a", "b", "c"], frozenset("bz")) == (0.0, 0.5, 0.5)
    assert recall.quality([], frozenset("a")) == (0.0, 0.0, 0.0)
    assert recall.evidence_recall([*"abcdefg"], frozenset("acgz")) == (0.25, 0.5, 0.75)


def test_intervals_hold_the_value_and_ratios_are_to_cosine():
    ours, cosine = np.array([[1.0], [1.0], [0.0], [1.0]]), np.array([[1.0], [0.0], [0.0], [1.0]])
    found = recall.summary(["ann", "ann", "bob", "bob"], {"ours": ours, "cosine": cosine}, ["hit@1"])["ours"]["hit@1"]
    assert found["low"] <= found["value"] == 0.75 <= found["high"]
    assert found["ratio"]["value"] == 1.5


def test_the_memory_finds_what_was_felt_alike_where_cosine_does_not():
    lines = [
        Line("sad", "my dog is old", AT, "sad", DOG),
        Line("happy", "my dog is old and playful", AT, "happy", DOG),
        Line("now", "my dog is playful", AT, "sad", DOG),
    ]
    affects = {line.text: labelled(line.emotion) for line in lines}
    trial = recall.Trial({"ann": lines}, affects, FakeEmbedder())
    ways = trial.ways(Asked("ann", "my dog is playful", frozenset({"sad"}), "now"), "congruent")
    assert (ways["ours"][0], ways["cosine"][0]) == ("sad", "happy")


@pytest.fixture
def conversation(tmp_path):
    """A file in LoCoMo's format: two sessions, a picture, evidence in each way it is written."""
    said = {
        "speaker_a": "Ines",
        "speaker_b": "Tom",
        "session_1_date_time": "1:56 pm on 8 May, 2023",
        "session_1": [
            {"speaker": "Ines", "dia_id": "D1:1", "text": "my kiln arrived from Porto"},
            {"speaker": "Tom", "dia_id": "D1:2", "text": "look", "blip_caption": "a boat on a lake"},
        ],
        "session_2_date_time": "12:05 am on 1 June, 2023",
        "session_2": [{"speaker": "Ines", "dia_id": "D2:1", "text": "I sold the first bowl"}],
        "session_3_date_time": "9:00 am on 2 June, 2023",
    }
    qa = [
        {"question": "kiln arrived from Porto", "answer": "the kiln", "evidence": ["D1:1"], "category": 4},
        {"question": "boat or bowl", "answer": "both", "evidence": ["D:1:02; D2:1"], "category": 1},
        {"question": "who is she", "answer": "nobody", "evidence": [], "category": 3},
        {"question": "lost", "adversarial_answer": "none", "evidence": ["D9:9"], "category": 5},
    ]
    file = tmp_path / "talks.json"
    file.write_text(json.dumps([{"sample_id": "talk", "conversation": said, "qa": qa}]))
    return file


def test_long_conversations_are_read_turn_by_turn(conversation):
    talks, questions = locomo(conversation)
    assert [(line.id, line.text) for line in talks["talk"]] == [
        ("D1:1", "Ines: my kiln arrived from Porto"),
        ("D1:2", "Tom: look [picture: a boat on a lake]"),
        ("D2:1", "Ines: I sold the first bowl"),
    ]
    assert talks["talk"][0].at == datetime(2023, 5, 8, 13, 56, tzinfo=UTC)
    assert talks["talk"][2].at == datetime(2023, 6, 1, 0, 5, tzinfo=UTC)
    assert [(one.category, one.right) for one in questions] == [
        ("single-hop", {"D1:1"}),
        ("multi-hop", {"D1:2", "D2:1"}),
    ]


def test_evidence_recall_of_a_long_conversation(conversation):
    facts = recall.run_locomo(conversation, FakeEmbedder())
    assert facts["single-hop"]["words"]["ours"]["recall@1"]["value"] == 1.0
    assert facts["all but adversarial"]["words"]["cosine"]["recall@5"]["value"] == 1.0
