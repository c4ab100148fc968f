"""A file of predictions is scored by the name of a metric; a bad file says which line and why."""

import json

import pytest

from tests.training.metrics.golden import LISTS, exactly, golden
from training.metrics.scores_files import ON_WHEELS, PLAIN, score_file


@pytest.fixture
def table(tmp_path):
    def write(text, name="predictions.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def test_intents_of_a_table(table):
    scores = score_file(table('name,prediction,gold\na,Thank,Thank\nb,"Joke.",Joke\nc,,Thank\n'), "intent")
    assert scores["n"] == 3
    assert scores["accuracy"] == exactly(1 / 3)
    assert scores["folded_accuracy"] == exactly(2 / 3)


def test_sentiments_of_json_lines(table):
    lines = [
        {"name": 1, "prediction": "The valence score is 0.5.", "gold": 1.2},
        {"name": 2, "prediction": "positive", "gold": -0.4},
        {"name": 3, "gold": -2},
        {"name": 4, "prediction": "positive", "gold": 0},
    ]
    scores = score_file(table("\n".join(map(json.dumps, lines)) + "\n", "predictions.jsonl"), "sentiment")
    assert scores["accuracy"] == exactly(2 / 3)
    assert scores["n"] == 3


def test_replies_with_quotes_and_line_ends(table):
    reply = '"<think>\nSecondly, the emotion of the speaker is worried.\n</think>\n I said ""no"" no"'
    scores = score_file(table(f"name,prediction,gold\na,{reply},anxious\n"), "empathy")
    assert (scores["accuracy"], scores["hit"]) == (1, 1)
    assert scores["dist_1"] == 1


def test_diversity_needs_no_gold(table):
    assert score_file(table("name,prediction\na,x y\nb,x y\n"), "diversity")["corpus_dist_1"] == 0.5


def test_hit_rate_is_reported_under_both_policies(table):
    case = golden("hit_rate.json")["cases"]["mer2023_mix"]
    lines = [{"name": n, "prediction": case["pred"][n], "gold": g} for n, g in case["gt"].items()]
    scores = score_file(table("\n".join(map(json.dumps, lines)), "p.jsonl"), "hit_rate", LISTS)
    assert [scores["hit"], scores["m_score"]] == exactly(case["avg_hit_mscore"])
    assert scores["self_first_m_score"] > scores["m_score"]  # fear is fear, no longer joy


def test_open_vocabulary_takes_lists(table):
    case = golden("ew_metric.json")["cases"]["paper_fig5"]
    line = json.dumps({"name": "s", "gold": case["gt"]["s"], "prediction": case["pred"]["s"].split(", ")})
    scores = score_file(table(line, "p.jsonl"), "open_vocabulary", LISTS)
    assert [scores["f"], scores["precision"], scores["recall"]] == exactly(case["level1"]["avg_F_P_R"])


def test_reasons_compare_the_feelings_named_in_free_text(table):
    golden("ew_metric.json")
    text = "name,prediction,gold\na,She is sad.,His voice is full of sadness\n"
    assert score_file(table(text), "reasons", LISTS)["f"] > 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,gold\na,b\n", "no column prediction"),
        ("name,prediction,gold\na,b,c\na,b,c\n", "line 3 repeats the name 'a'"),
        ("name,prediction,gold\na,b,\n", "has no gold"),
        ("name,prediction,gold\n,b,c\n", "line 2 has no name"),
        ("name,prediction,gold\n", "holds no case"),
    ],
)
def test_a_bad_table_says_what_is_wrong(table, text, message):
    with pytest.raises(ValueError, match=message):
        score_file(table(text), "intent")


def test_bad_json_lines_say_which(table):
    good = '{"name": "a", "prediction": "x", "gold": "y"}'
    for bad in ("{", "[1]"):
        with pytest.raises(ValueError, match="line 2 is no JSON"):
            score_file(table(f"{good}\n{bad}\n", "p.jsonl"), "intent")


def test_gold_of_sentiment_must_be_a_number(table):
    for gold in ("good", "nan"):
        with pytest.raises(ValueError, match="expected a valence"):
            score_file(table(f"name,prediction,gold\na,positive,{gold}\n"), "sentiment")


def test_an_unknown_metric_lists_those_there_are(table):
    with pytest.raises(ValueError, match="sentiment") as error:
        score_file(table("name,prediction,gold\na,b,c\n"), "bleu")
    assert all(metric in str(error.value) for metric in [*PLAIN, *ON_WHEELS])


def test_a_wheel_metric_asks_for_the_wheels(table):
    with pytest.raises(ValueError, match="folder of the emotion wheels"):
        score_file(table("name,prediction,gold\na,b,c\n"), "hit_rate")


def test_other_files_are_refused(table, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        score_file(tmp_path / "none.csv", "intent")
    with pytest.raises(ValueError, match=r"neither \.csv nor \.jsonl"):
        score_file(table("", "p.txt"), "intent")
