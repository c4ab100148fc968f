"""Answers are read without a judge, whatever they look like."""

import math

import pytest

from tests.training.metrics.golden import golden
from training.metrics.answers import emotions, lexicon, parse_list, sentiment, thought_and_answer

READ_BETTER_THAN_THE_REFERENCE = {
    "[neutral].": ["neutral"],
    "[[happy], [sad]]": ["happy", "sad"],
    "happy; sad": ["happy", "sad"],
    "Output: [happy]": ["happy"],
}


def test_lists_are_read_as_by_the_reference_or_better():
    for case in golden("parse_list.json")["cases"]:
        text = case["input"]
        if text == "<float NaN>":
            assert parse_list(math.nan) == case["upstream"] == []
        else:
            as_reference = [label.lower() for label in case["nano"]]
            assert parse_list(text) == READ_BETTER_THAN_THE_REFERENCE.get(text, as_reference), text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        (["[joy]", "Sad"], ["joy", "sad"]),
        ("I see [joy, fear] and [nothing]", ["joy", "fear"]),
        ("[happy, sad", ["happy", "sad"]),
        ("joy\nfear", ["joy", "fear"]),
        ("Output: joy", ["joy"]),
    ],
)
def test_lists_are_found(value, expected):
    assert parse_list(value) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The most likely label is anger.", ["anger"]),
        ("The character's emotional state is regret, guilt, sadness.", ["regret", "guilt", "sadness"]),
        ("The character's emotional state is calm, and serious. He smiles.", ["calm", "serious"]),
        ("The emotion of the speaker is anxious.", ["anxious"]),
        ("<think>It is sad.</think><answer>sad, lonely</answer>.", ["sad", "lonely"]),
        ("joy", ["joy"]),
        (["joy"], ["joy"]),
        (None, []),
    ],
)
def test_emotions_are_read_from_every_template(answer, expected):
    assert emotions(answer) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The valence score is -1.20.", "negative"),
        ("The valence score is 0.40.", "positive"),
        ("The valence score is 0.00.", "neutral"),
        ("The character's sentiment state is positive.", "positive"),
        ("Negative", "negative"),
        ("-0.3", "negative"),
        ("1", "positive"),
        ("mixed", "neutral"),
        ("", "neutral"),
    ],
)
def test_sentiment_is_read_from_words_and_numbers(answer, expected):
    assert sentiment(answer) == expected


def test_lexicon_keeps_order_and_takes_each_known_word_once():
    known = {"sad", "self-blame", "angry"}
    assert lexicon("Angry, then SAD; self-blame, sad again. Madness.", known) == ["angry", "sad", "self-blame"]


def test_missing_tags_are_empty():
    assert thought_and_answer("<think> a\nb </think> c") == ("a\nb", "")
