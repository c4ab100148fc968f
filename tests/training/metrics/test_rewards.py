import pytest

from tests.training.metrics.golden import ROWS, WORDS, exactly, golden, golden_wheels, small_wheels
from training.metrics.answers import parse_list, thought_and_answer
from training.metrics.rewards import accuracy_reward, format_reward, length_penalty, overlap, reward
from training.metrics.wheels import compose


def test_format_rewards_equal_the_reference():
    for case in golden("grpo_reward.json")["format"]:
        assert format_reward(case["text"]) == case["reward"], case["text"]


def test_lists_and_parts_are_read_as_by_the_reference():
    for case in golden("grpo_reward.json")["to_list"]:
        assert parse_list(case["x"]) == case["list"]
    for case in golden("grpo_reward.json")["parse"]:
        assert list(thought_and_answer(case["text"])) == case["think_answer"]


def test_length_penalties_equal_the_reference():
    for case in golden("grpo_reward.json")["penalty"]:
        assert length_penalty(case["pred_n"], case["gt_n"]) == exactly(case["value"])


def test_rewards_of_pairs_equal_the_reference():
    wheels = golden_wheels()
    for case in golden("grpo_reward.json")["pairs"]:
        predicted, gold = case["pred"], case["gt"]
        f1_jaccard = list(overlap(predicted, gold, wheels, corrected=False))
        assert f1_jaccard == exactly([case["f1_5wheel"], case["jaccard_5wheel"]]), case
        assert accuracy_reward(predicted, gold, wheels, corrected=False) == exactly(case["accuracy_reward"]), case


def test_correction_changes_the_reward_of_junk_only():
    wheels = golden_wheels()
    for case in golden("grpo_reward.json")["pairs"]:
        junk = case["pred"] == ["zzz"]
        assert accuracy_reward(case["pred"], case["gt"], wheels) == exactly(0 if junk else case["accuracy_reward"])


def test_weights_of_the_parts_are_those_of_the_reference():
    assert set(golden("grpo_reward.json")["weights"].values()) == {0.25}


@pytest.mark.parametrize(("corrected", "expected"), [(True, 0.0), (False, 1.0)])
def test_junk_for_junk_earns_nothing_once_corrected(corrected, expected):
    assert overlap(["zzz"], ["yyy"], small_wheels(), corrected=corrected) == (expected, expected)
    assert accuracy_reward(["zzz"], ["yyy"], small_wheels(), corrected=corrected) == expected


def test_a_wheel_without_the_gold_does_not_count_once_corrected():
    without_glad = [row for row in ROWS if row[2] != "glad"]
    wheels = compose(WORDS, [ROWS] + [without_glad] * 4, "reference")
    assert overlap(["glad", "scared"], ["glad"], wheels) == (exactly(2 / 3), 0.5)
    assert overlap(["glad", "scared"], ["glad"], wheels, corrected=False) == (exactly(2 / 15), exactly(0.1))


def test_nothing_for_nothing_is_not_too_long():
    assert length_penalty(0, 0) == 1


def test_each_of_four_parts_earns_a_quarter():
    wheels, gold = small_wheels(), ["glad"]
    well_formed = "<think>t</think><answer>glad</answer>"
    assert reward(well_formed, gold, ["glad"], wheels) == 1
    assert reward(well_formed, gold, ["gloom"], wheels) == 0.5  # right form and answer, thought elsewhere
    assert reward("<think>t</think><answer>gloom</answer>", gold, ["gloom"], wheels) == 0.5  # form and agreement
    assert reward("<think>t</think>", gold, ["glad"], wheels) == 0.25  # only the thought is right
