"""Scores of a classifier against numbers worked out by hand, and their intervals."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from training.metrics import classification
from training.metrics.bootstrap import intervals


def one_hot(predicted, n_classes, confidence=1.0):
    rest = (1 - confidence) / (n_classes - 1)
    rows = np.full((len(predicted), n_classes), rest)
    rows[np.arange(len(predicted)), predicted] = confidence
    return rows


def test_scores_are_those_worked_out_by_hand():
    gold = np.array([0, 0, 0, 1, 1, 2])
    scores = classification.scores(one_hot([0, 0, 1, 1, 0, 2], 4), gold)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert scores["uar"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)  # class 3 does not occur
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert scores["weighted_f1"] == pytest.approx((3 * 2 / 3 + 2 * 1 / 2 + 1) / 6)


def test_scores_are_those_of_scikit_learn():
    draw = np.random.default_rng(0)
    probabilities, gold = draw.dirichlet(np.ones(4), 200), draw.integers(0, 4, 200)
    predicted = probabilities.argmax(1)
    scores = classification.scores(probabilities, gold)
    assert scores["uar"] == pytest.approx(balanced_accuracy_score(gold, predicted))
    assert scores["macro_f1"] == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert scores["weighted_f1"] == pytest.approx(f1_score(gold, predicted, average="weighted"))
    assert (classification.confusion(probabilities, gold) == confusion_matrix(gold, predicted)).all()


def test_a_class_that_only_was_predicted_does_not_enter_the_averages():
    scores = classification.scores(one_hot([2, 0], 3), np.array([0, 0]))
    assert scores["uar"] == 0.5
    assert scores["macro_f1"] == pytest.approx(2 / 3)


def test_calibration_error_is_the_distance_of_confidence_and_accuracy_by_bin():
    gold = np.array([0, 0, 0, 0])
    sure = one_hot([0, 1], 2, 0.95)  # one of two right at 0.95
    unsure = one_hot([0, 0], 2, 0.65)  # two of two right at 0.65
    both = np.concatenate([sure, unsure])
    assert classification.ece(both, gold) == pytest.approx((abs(0.5 - 0.95) + abs(1 - 0.65)) / 2)
    assert classification.reliability(both, gold) == [
        pytest.approx((0.65, 1.0, 0.5)),
        pytest.approx((0.95, 0.5, 0.5)),
    ]


def test_full_confidence_falls_into_the_last_bin():
    beside = np.concatenate([one_hot([1], 2), one_hot([0], 2, 0.92)])  # both in [0.9, 1]: one of two right at 0.96
    assert classification.ece(beside, np.array([0, 0])) == pytest.approx(0.46)
    assert classification.ece(one_hot([0, 0], 2), np.array([0, 0])) == 0
    assert classification.ece(one_hot([1, 1], 2), np.array([0, 0])) == 1


def test_confusion_has_gold_in_rows():
    counts = classification.confusion(one_hot([1, 1, 0], 2), np.array([0, 1, 0]))
    assert counts.tolist() == [[1, 1], [0, 1]]


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"expected \(N, C\)"):
        classification.scores(one_hot([0], 2), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"expected \(N, C\)"):
        classification.scores(np.zeros((0, 2)), np.array([], int))


def test_each_speaker_is_scored_alone():
    groups = classification.by_group(one_hot([0, 1, 1], 2), np.array([0, 1, 0]), ["a", "a", "b"])
    assert (groups["a"]["n"], groups["a"]["accuracy"]) == (2, 1.0)
    assert groups["b"]["accuracy"] == 0.0
    assert classification.by_group(one_hot([0], 2), np.array([0]), ["a"], at_least=2) == {}


def test_people_are_drawn_whole():
    """One speaker always right, one always wrong: single samples would give 0.5 and little around it."""
    right = np.array([True] * 50 + [False] * 50)
    by_person = intervals(lambda at: {"accuracy": right[at].mean()}, ["a"] * 50 + ["b"] * 50)
    alone = intervals(lambda at: {"accuracy": right[at].mean()}, [str(i) for i in range(100)])
    assert by_person["accuracy"] == (0.0, 1.0)
    low, high = alone["accuracy"]
    assert 0.38 < low < 0.45
    assert 0.55 < high < 0.62


def test_samples_of_one_person_are_drawn_singly():
    right = np.array([True, False] * 20)
    low, high = intervals(lambda at: {"accuracy": right[at].mean()}, ["a"] * 40)["accuracy"]
    assert low < 0.5 < high


def test_the_same_seed_draws_the_same():
    probabilities, gold = one_hot([0, 1, 1, 0, 1], 2, 0.8), np.array([0, 1, 0, 0, 1])
    units = list("abcde")
    first = classification.intervals(probabilities, gold, units, seed=1)
    assert first == classification.intervals(probabilities, gold, units, seed=1)
    assert first != classification.intervals(probabilities, gold, units, seed=2)
    scores = classification.scores(probabilities, gold)
    assert all(low <= scores[name] <= high for name, (low, high) in first.items())


def test_few_samples_look_uncalibrated_by_chance_alone():
    def expected(n):
        return classification.ece_if_calibrated(np.full((n, 2), 0.5) + np.array([0.05, -0.05]), n_draws=400)

    assert expected(25) == pytest.approx(0.7979 * (0.55 * 0.45 / 25) ** 0.5, rel=0.1)  # of a normal deviate, its size
    assert expected(10_000) < 0.01
    assert classification.ece_if_calibrated(one_hot([1, 0], 2)) == 0
