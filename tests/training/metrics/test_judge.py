"""A judge asks at temperature 0 for JSON, once per question, and refuses answers that are none."""

import json
from types import SimpleNamespace

import pytest

from training.metrics.judge import Judge, JudgeError, clue_overlap, emotion_words, label_overlap, reason_scores


class FakeClient:
    """Answers with one text after the other and keeps what it was asked."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self.chat = SimpleNamespace(completions=SimpleNamespace(create=self.create))

    def create(self, **request):
        self.asked.append(request)
        message = SimpleNamespace(content=self.answers.pop(0))
        return SimpleNamespace(choices=[SimpleNamespace(message=message)])


def test_judge_is_asked_at_temperature_zero_for_json(tmp_path):
    client = FakeClient('{"score": 7}')
    assert clue_overlap(Judge(client, "small", tmp_path), "He smiles.", "He grins.") == 7
    (request,) = client.asked
    assert request["model"] == "small"
    assert request["temperature"] == 0
    assert request["response_format"] == {"type": "json_object"}
    assert request["messages"][1]["content"] == "A: He smiles.\n\nB: He grins."
    assert "JSON" in request["messages"][0]["content"]


def test_the_same_question_is_asked_once(tmp_path):
    client = FakeClient('{"score": 7}')
    for _ in range(2):
        assert clue_overlap(Judge(client, "small", tmp_path), "a", "b") == 7
    assert len(client.asked) == 1


def test_another_model_or_question_is_asked_anew(tmp_path):
    client = FakeClient('{"score": 7}', '{"score": 3}', '{"score": 1}')
    assert clue_overlap(Judge(client, "small", tmp_path), "a", "b") == 7
    assert clue_overlap(Judge(client, "large", tmp_path), "a", "b") == 3
    assert clue_overlap(Judge(client, "small", tmp_path), "b", "a") == 1


def test_labels_are_taken_from_both_sides_and_then_compared(tmp_path):
    client = FakeClient('{"emotions": ["Sad", "tired"]}', '{"emotions": ["sad"]}', '{"score": 8.5}')
    assert label_overlap(Judge(client, "small", tmp_path), "gold", "predicted") == 8.5
    assert [request["messages"][1]["content"] for request in client.asked][2] == "A: sad\n\nB: sad, tired"


def test_no_prediction_scores_zero_without_asking(tmp_path):
    client = FakeClient('{"score": 10}', '{"emotions": ["sad"]}', '{"emotions": ["sad"]}', '{"score": 6}')
    scores = reason_scores(Judge(client, "small", tmp_path), {"a": "right", "b": "right too"}, {"a": "said"})
    assert scores == {"clue_overlap": 5.0, "label_overlap": 3.0}
    assert client.answers == []


def test_a_description_without_emotion_scores_zero(tmp_path):
    assert label_overlap(Judge(FakeClient('{"emotions": []}'), "small", tmp_path), "gold", "a room") == 0


@pytest.mark.parametrize("said", ["I would say 7", "[7]", "", None])
def test_an_answer_that_is_no_json_object_is_refused_and_not_kept(tmp_path, said):
    with pytest.raises(JudgeError, match="JSON"):
        clue_overlap(Judge(FakeClient(said), "small", tmp_path), "a", "b")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("score", [0, 11, "7", True, None])
def test_a_score_outside_one_to_ten_is_refused(tmp_path, score):
    judge = Judge(FakeClient(json.dumps({"score": score})), "small", tmp_path)
    with pytest.raises(JudgeError, match="1 to 10"):
        clue_overlap(judge, "a", "b")


def test_emotions_must_be_a_list(tmp_path):
    with pytest.raises(JudgeError, match="emotions"):
        emotion_words(Judge(FakeClient('{"emotions": "sad"}'), "small", tmp_path), "a")
