import pytest

from tests.training.metrics.golden import exactly, golden
from training.metrics.sentiment import scores


def test_scores_equal_the_reference():
    for name, case in golden("msa.json")["cases"].items():
        got = scores(case["gt"], case["pred"])
        assert [got["waf"], got["accuracy"], got["n"]] == exactly([case["WAF"], case["ACC"], case["n_used"]]), name


def test_neutral_counts_as_negative_and_gold_zero_not_at_all():
    assert scores([-1.0, 0.0, 2.0], ["neutral", "positive", "positive"]) == {"waf": 1.0, "accuracy": 1.0, "n": 2.0}


@pytest.mark.parametrize(("gold", "predicted"), [([0.0], ["positive"]), ([], []), ([1.0], [])])
def test_nothing_to_score_is_an_error(gold, predicted):
    with pytest.raises(ValueError, match="gold val"):
        scores(gold, predicted)
