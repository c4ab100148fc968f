import os
import zipfile
from collections import OrderedDict

import numpy as np
import pytest

from tests.training.data.published_folders import put_npz
from training.data.pickled_labels import read_labels
from training.data.sample import CorpusError

LABELS = {
    "a": {"emo": "happy", "val": -1.25, "votes": [1, 2]},
    "b": {"emo": np.int64(3), "val": np.float32(0.5), "word": np.str_("愤怒"), "empty": np.str_("")},
    "c": {"probabilities": np.array([0.25, 0.75]), "words": np.array(["x", "yz"]), "any": np.array([1, "x"], object)},
}
PLAIN = {
    "a": {"emo": "happy", "val": -1.25, "votes": [1, 2]},
    "b": {"emo": 3, "val": 0.5, "word": "愤怒", "empty": ""},
    "c": {"probabilities": [0.25, 0.75], "words": ["x", "yz"], "any": [1, "x"]},
}


def save_now(path, **corpora):
    np.savez(path, **corpora)


def save_compressed(path, **corpora):
    np.savez_compressed(path, **corpora)


@pytest.mark.parametrize("save", [put_npz, save_now, save_compressed])
def test_labels_are_read_as_any_numpy_wrote_them(tmp_path, save):
    save(tmp_path / "label.npz", train_corpus={"z": {}}, test_corpus=LABELS)
    assert read_labels(tmp_path / "label.npz", "test_corpus") == PLAIN
    assert type(read_labels(tmp_path / "label.npz", "test_corpus")["b"]["emo"]) is int


class Runs:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [put_npz, save_now])
def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path, save):
    trap = tmp_path / "trapped"
    save(tmp_path / "label.npz", test_corpus={"a": {"emo": Runs(trap)}})
    with pytest.raises(CorpusError, match=r"label.npz: test_corpus cannot be read as labels: it asks for \w+.mkdir"):
        read_labels(tmp_path / "label.npz", "test_corpus")
    assert not trap.exists()
    np.load(tmp_path / "label.npz", allow_pickle=True)["test_corpus"]
    assert trap.exists()  # the trap does work


@pytest.mark.parametrize("value", [OrderedDict(a=1), 1j, np.datetime64("2020-01-01"), np.array(b"x"), int])
def test_whatever_is_no_label_is_refused(tmp_path, value):
    put_npz(tmp_path / "label.npz", test_corpus={"a": {"emo": value}})
    with pytest.raises(CorpusError, match="cannot be read as labels"):
        read_labels(tmp_path / "label.npz", "test_corpus")


class Addresses:
    """A pickle of this is an array of objects whose content is bytes, that is, addresses in memory."""

    def __reduce__(self):
        make, arguments, state = np.array([1, 2], object).__reduce__()
        return make, arguments, (*state[:-1], b"A" * 16)


def test_bytes_are_never_taken_for_objects(tmp_path):
    put_npz(tmp_path / "label.npz", test_corpus={"a": {"any": Addresses()}})
    with pytest.raises(CorpusError, match="values of the kind O8 are not labels"):
        read_labels(tmp_path / "label.npz", "test_corpus")


def test_a_missing_dictionary_is_named_with_those_there_are(tmp_path):
    put_npz(tmp_path / "label.npz", train_corpus={}, test_corpus={})
    with pytest.raises(CorpusError, match="holds no test1_corpus; it holds: train_corpus, test_corpus"):
        read_labels(tmp_path / "label.npz", "test1_corpus")


@pytest.mark.parametrize("corpus", [np.zeros(3), {"a": 1}, [1], "x"])
def test_arrays_and_other_shapes_are_refused(tmp_path, corpus):
    np.savez(tmp_path / "label.npz", test_corpus=corpus)
    with pytest.raises(CorpusError, match=r"test_corpus (cannot be read as labels|is not a dictionary)"):
        read_labels(tmp_path / "label.npz", "test_corpus")


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "label.npz"
    put_npz(path, test_corpus=LABELS)
    with zipfile.ZipFile(path) as archive:
        data = archive.read("test_corpus.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("test_corpus.npy", data[:200])
    with pytest.raises(CorpusError, match="cannot be read as labels"):
        read_labels(path, "test_corpus")
    path.write_bytes(b"not a zip")
    with pytest.raises(CorpusError, match=r"is not an .npz file"):
        read_labels(path, "test_corpus")
