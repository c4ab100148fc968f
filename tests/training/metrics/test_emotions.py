"""Hit rate and open-vocabulary scores equal the reference's, and its gaps are closed as documented."""

import pytest

from tests.training.metrics.golden import LEVELS, exactly, golden, golden_wheels, small_wheels
from training.metrics.answers import parse_list
from training.metrics.emotions import hit_rate, open_vocabulary, shares_group
from training.metrics.wheels import N_WHEELS


def parsed(lists):
    return {name: parse_list(text) for name, text in lists.items()}


def or_zero(f_p_r):
    """The reference's F is null where precision and recall are 0; ours is 0."""
    return [0.0 if value is None else value for value in f_p_r]


@pytest.mark.parametrize("level", LEVELS)
def test_open_vocabulary_equals_the_reference(level):
    wheels = golden_wheels()
    for name, case in golden("ew_metric.json")["cases"].items():
        expected = case[f"level{level}"]
        scores = open_vocabulary(parsed(case["gt"]), parsed(case["pred"]), wheels, level)
        f = []
        for wheel, f_p_r in expected["per_wheel_F_P_R"].items():
            got = [scores[f"{score}_{wheel}"] for score in ("f", "precision", "recall")]
            assert got == exactly(or_zero(f_p_r)), (name, wheel)
            f.append(or_zero(f_p_r)[0])
        _, precision, recall = expected["avg_F_P_R"]
        assert [scores["f"], scores["precision"], scores["recall"]] == exactly([sum(f) / len(f), precision, recall]), (
            name
        )


def test_hit_rate_equals_the_reference():
    wheels = golden_wheels()
    for name, case in golden("hit_rate.json")["cases"].items():
        scores = hit_rate(case["gt"], parsed(case["pred"]), wheels)
        assert [scores["hit"], scores["m_score"]] == exactly(case["avg_hit_mscore"]), name
        for wheel, expected in case["per_wheel_hit_mscore"].items():
            assert [scores[f"hit_{wheel}"], scores[f"m_score_{wheel}"]] == exactly(expected), (name, wheel)


def test_shared_groups_equal_the_reference():
    wheels = golden_wheels()
    for case in golden("hit_or_not.json")["cases"]:
        assert shares_group(parse_list(case["gt"]), parse_list(case["pred"]), wheels) == case["per_wheel"]


def test_shipped_predictions_of_three_checkpoints_get_the_reference_values():
    shipped, wheels = golden("shipped_ov_merd_eval.json"), golden_wheels()
    gold = parsed(shipped["name2gt_from_reason"])
    for expected in shipped["systems"].values():
        predicted = parsed(expected["name2pred"])
        for level in LEVELS:
            scores = open_vocabulary(gold, predicted, wheels, level)
            got = [scores["f"], scores["precision"], scores["recall"]]
            assert got == exactly(expected[f"ew_level{level}_F_P_R"])
            if level == 1:
                per_wheel = [[scores[f"{s}_wheel{n}"] for s in ("precision", "recall")] for n in range(1, N_WHEELS + 1)]
                assert [v for pair in per_wheel for v in pair] == exactly(
                    [v for p in expected["per_wheel_P_R"] for v in p]
                )
        hits = hit_rate(shipped["name2gt_onehot"], predicted, wheels)
        assert [hits["hit"], hits["m_score"]] == exactly(expected["onehot_hit_mscore"])


def test_policy_decides_whether_fear_is_fear():
    gold, predicted = {"a": ["scared"]}, {"a": ["fear"]}
    assert open_vocabulary(gold, predicted, small_wheels("reference"))["f"] == 0
    assert open_vocabulary(gold, predicted, small_wheels("self_first"))["f"] == 1


def test_a_missing_prediction_is_wrong():
    gold = {"a": ["glad"], "b": ["gloom"]}
    assert open_vocabulary(gold, {"a": ["glad"]}, small_wheels())["recall"] == 0.5
    assert hit_rate({"a": "glad", "b": "gloom"}, {"a": ["glad"]}, small_wheels())["hit"] == 0.5


def test_naming_everything_hits_but_lowers_the_m_score():
    scores = hit_rate({"a": "glad", "b": "gloom"}, {"a": ["glad", "gloom"], "b": ["gloom", "scared"]}, small_wheels())
    assert scores["hit"] == 1
    assert scores["m_score"] == 0.75  # nobody's gold is afraid, so it is not held against b


def test_gold_that_no_wheel_knows_cannot_be_scored():
    with pytest.raises(ValueError, match="nothing can be scored"):
        open_vocabulary({"a": ["neutral"]}, {"a": ["glad"]}, small_wheels())
    with pytest.raises(ValueError, match="nothing can be scored"):
        hit_rate({"a": "neutral"}, {"a": ["glad"]}, small_wheels())


def test_a_prediction_without_gold_is_refused():
    with pytest.raises(ValueError, match="'b'"):
        open_vocabulary({"a": ["glad"]}, {"b": ["glad"]}, small_wheels())
