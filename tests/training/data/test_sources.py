"""Every corpus by its name."""

import pytest

from tests.training.corpora import make_faces, write_lines
from training.data.published import PUBLISHED
from training.data.sample import CorpusError
from training.data.sources import LOCAL, read_corpus


def test_a_corpus_is_read_where_it_lies(tmp_path):
    write_lines(tmp_path / "text_restricted" / "isear" / "train.jsonl", [{"text": "oh", "emotion": "joy"}])
    make_faces(tmp_path / "face_restricted" / "fer2013", "train", ["sad", "happy"])
    reading = read_corpus("isear", tmp_path, "train")
    assert [sample.label for sample in reading.samples] == ["happy", "positive"]
    assert {sample.corpus for sample in reading.samples} == {"isear"}
    assert not reading.skipped
    assert [sample.label for sample in read_corpus("fer2013", tmp_path, "train").samples] == ["sad", "happy"]


def test_an_unknown_corpus_is_told_with_those_that_there_are(tmp_path):
    with pytest.raises(CorpusError, match="there is no corpus 'isaer': choose from ") as told:
        read_corpus("isaer", tmp_path, "train")
    assert all(name in str(told.value) for name in (*LOCAL, *PUBLISHED))


@pytest.mark.parametrize("name", sorted({*LOCAL, *PUBLISHED}))
def test_a_missing_folder_is_told_in_one_sentence(tmp_path, name):
    with pytest.raises(CorpusError) as told:
        read_corpus(name, tmp_path, "test" if name in {"emer", "ov_merd"} else "train")
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)


def test_no_name_means_two_corpora():
    assert not set(LOCAL) & set(PUBLISHED)
