"""A word finds its group on every wheel, under both policies, from every layout of the files."""

import csv
import json
import shutil

import pytest

from tests.training.metrics.golden import AS_SHIPPED, LISTS, golden, golden_wheels, small_wheels
from training.metrics.wheels import LOOKUP, Words, available_policies, compose, load, read_words


@pytest.fixture
def lists_only(tmp_path):
    golden("word_to_wheel.json")
    for path in LISTS.iterdir():
        if path.name != LOOKUP:
            shutil.copy(path, tmp_path)
    return tmp_path


def test_every_word_of_the_reference_finds_its_group():
    wheels = golden_wheels()
    for word, expected in golden("word_to_wheel.json")["words"].items():
        for level in (1, 2):
            for wheel in range(5):
                group = expected[f"wheel{wheel + 1}_level{level}"]
                assert wheels.groups([word], wheel, level) == ({group} if group else set()), (word, wheel, level)


def test_base_words_are_those_of_the_reference():
    expected, words = golden("word_to_wheel.json"), read_words(LISTS)
    assert len(words.bases) == expected["counts"]["format_keys"]
    assert len(words.labels) == expected["counts"]["synonym_keys"]
    assert len({label for labels in words.labels.values() for label in labels}) == expected["counts"]["wheel_labels"]
    for word, entry in expected["words"].items():
        bases = words.bases.get(word.lower(), ())
        assert set(bases) == set(entry["forms"])
        assert (bases[0] if bases else "") == entry["case1"]
        assert (words.labels[bases[0]][0] if bases else "") == entry["case2"]


def test_lists_compose_to_the_look_up_table(lists_only):
    assert load(lists_only) == golden_wheels()


@pytest.mark.parametrize("policy", ["reference", "self_first"])
def test_both_layouts_give_the_same_wheels(policy):
    assert golden_wheels(policy, AS_SHIPPED) == golden_wheels(policy)


def test_the_alphabet_sends_fear_to_joy_and_self_first_does_not():
    reference, self_first = golden_wheels(), golden_wheels("self_first")
    assert [reference.tables[1][wheel]["fear"] for wheel in range(5)] == [
        "scared",
        "happy",
        "joyful",
        "genius",
        "joyful",
    ]
    assert [self_first.tables[1][wheel]["fear"] for wheel in range(5)] == [
        "scared",
        "fearful",
        "scared",
        "fear",
        "scared",
    ]


def test_policies_cover_the_same_forms():
    reference, self_first = golden_wheels(), golden_wheels("self_first")
    assert reference.forms == self_first.forms
    assert [set(table) for table in reference.tables[1]] == [set(table) for table in self_first.tables[1]]


def test_first_label_of_the_alphabet_wins_unless_the_word_comes_first():
    assert small_wheels().groups(["fear"], 0) == {"happy"}
    assert small_wheels("self_first").groups(["fear"], 0) == {"afraid"}


def test_self_first_takes_the_base_spelled_alike_before_others_and_a_base_before_its_labels():
    words = Words(
        bases={"low": ("blue", "low"), "bluish": ("blue",)},
        labels={"low": ("scared",), "blue": ("brave",)},
    )
    rows = [("happy", "proud", "brave"), ("afraid", "anxious", "scared")]
    off_wheel, on_wheel = rows, [*rows, ("sad", "down", "blue")]
    wheels = compose(words, [off_wheel, on_wheel], "self_first")
    assert [wheels.tables[1][0][form] for form in ("low", "bluish")] == ["afraid", "happy"]
    assert [wheels.tables[1][1][form] for form in ("low", "bluish")] == ["afraid", "sad"]


def test_words_without_a_group_are_dropped_and_case_does_not_matter():
    assert small_wheels().groups([" Gloom ", "GLAD", "zzz"], 2) == {"sad", "happy"}


def test_a_bare_hub_becomes_its_first_child_at_level_two():
    assert small_wheels().groups(["gloom"], 0, level=2) == {"low"}


def test_look_up_table_alone_serves_the_reference_policy_only(tmp_path):
    columns = ["form", *(f"w{wheel}l{level}" for level in (1, 2) for wheel in range(1, 6))]
    with (tmp_path / LOOKUP).open("w", newline="") as file:
        csv.writer(file).writerows([columns, ["glad", *["happy"] * 5, *["cheerful"] * 4, ""], ["used", *[""] * 10]])
    wheels = load(tmp_path)
    assert wheels.forms == {"glad", "used"}
    assert wheels.groups(["glad", "used"], 0, level=2) == {"cheerful"}
    assert wheels.groups(["glad"], 4, level=2) == set()
    assert available_policies(tmp_path) == ("reference",)
    with pytest.raises(FileNotFoundError, match="name the folder"):
        load(tmp_path, "self_first")


def test_blank_cells_repeat_the_row_above(tmp_path):
    (tmp_path / "format.json").write_text(json.dumps({"glad": ["gladly"], "low": []}))
    (tmp_path / "synonym.json").write_text(json.dumps({"cheerful": [["glad", 3]], "low": []}))
    for number in range(1, 6):
        (tmp_path / f"wheel{number}.csv").write_text(
            "\ufefflevel1,level2,level3\nSad,Low,Blue\n,Lost,Numb\nHappy,Cheerful,Glad\n"
        )
    wheels = load(tmp_path)
    assert wheels.groups(["gladly"], 0) == {"happy"}
    assert wheels.groups(["low"], 4, level=2) == {"low"}
    assert wheels.tables[1][0].get("lost") is None  # on the wheel, but no form


def test_a_folder_without_wheels_says_what_to_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder of the emotion wheels"):
        load(tmp_path)


def test_an_unknown_policy_is_refused(tmp_path):
    with pytest.raises(ValueError, match="reference, self_first"):
        load(tmp_path, "best")  # type: ignore[arg-type]
