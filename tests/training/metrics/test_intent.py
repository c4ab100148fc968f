import pytest

from tests.training.metrics.golden import golden
from training.metrics.intent import scores


def percents(result):
    """As the reference prints them: percents with two decimals."""
    names = (
        ("Intent_Accuracy", "accuracy"),
        ("Weighted_F1", "weighted_f1"),
        ("Weighted_Precision", "weighted_precision"),
    )
    return {theirs: round(result[ours] * 100, 2) for theirs, ours in names}


def test_scores_equal_the_reference():
    for name, case in golden("mintrec.json")["cases"].items():
        answered = {key: label for key, label in case["gt"].items() if key in case["pred"]}  # it skips the others
        assert percents(scores(answered, case["pred"])) == case["result"], name


def test_a_missing_prediction_is_wrong():
    result = scores({"a": "Thank", "b": "Joke"}, {"a": "Thank"})
    assert (result["accuracy"], result["weighted_f1"], result["weighted_precision"]) == (0.5, 0.5, 0.5)


def test_case_and_punctuation_are_forgiven_in_the_folded_scores_only():
    result = scores({"a": "Ask for help", "b": "Thank"}, {"a": "ask for help.", "b": '"Thank"'})
    assert result["accuracy"] == 0
    assert result["folded_accuracy"] == result["folded_weighted_f1"] == 1


def test_names_must_match():
    with pytest.raises(ValueError, match="'z'"):
        scores({"a": "Thank"}, {"z": "Thank"})
    with pytest.raises(ValueError, match="no gold"):
        scores({}, {})
