"""The cut of corpora that ship no validation split."""

import pytest

from training.data.splits import is_valid


@pytest.mark.parametrize(
    ("corpus", "position", "name", "expected"),
    [
        ("mintrec", 0, "S06_E06_589.mp4", True),
        ("mintrec", 9, "S05_E16_329.mp4", False),
        ("mintrec2", 0, "dia19_utt3.mp4", True),
        ("mintrec2", 9, "dia20_utt9.mp4", False),
        ("ravdess_av", 0, "01-01-03-01-01-02-01", True),
        ("ravdess_av", 9, "01-01-03-02-01-01-01", True),
        ("isear", 9, "", True),
        ("isear", 10, "", False),
        ("merr", 19, "", True),
        ("empathetic_dialogues", 9, "", True),
        ("esconv", 8, "", False),
    ],
)
def test_corpora_are_cut_by_season_dialogue_actor_or_position(corpus, position, name, expected):
    assert is_valid(corpus, position, name) is expected


def test_a_name_of_another_form_is_refused():
    with pytest.raises(ValueError, match="not the name of a clip of mintrec"):
        is_valid("mintrec", 0, "clip7.mp4")


def test_a_corpus_with_splits_of_its_own_is_refused():
    with pytest.raises(ValueError, match="meld is not cut here"):
        is_valid("meld", 0)
