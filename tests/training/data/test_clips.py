"""Readers of clip corpora: labels in our words, where the clips lie, and what is wrong with a folder."""

from collections import Counter

import pytest

from model.types import EMOTIONS, VOICE_EMOTIONS
from tests.perception.clips import DATA
from training.data import clips
from training.data.contents import read_bytes
from training.data.sample import Clip, CorpusError

VOICES = """file,emotion,intensity,speaker,split
Actor_02/a.ogg,calm,normal,02,train
Actor_02/b.ogg,fearful,strong,02,train
Actor_17/c.ogg,surprised,normal,17,valid
"""


def folder(tmp_path, table, name="labels.csv"):
    (tmp_path / name).write_text(table)
    return tmp_path


def test_a_voice_sample_asks_which_emotion_it_is_without_words(tmp_path):
    calm, fear = clips.ravdess(folder(tmp_path, VOICES), "train")
    assert calm.answer == (("The most likely label is", False), (" calm.", True))
    assert (calm.task, calm.text, calm.corpus, calm.speaker) == ("emotion", "", "ravdess", "02")
    assert calm.clip == Clip(sound=tmp_path / "Actor_02" / "a.ogg")
    assert [calm.label, fear.label] == ["calm", "fear"]
    assert [s.label for s in clips.ravdess(tmp_path, "valid")] == ["surprise"]


def test_a_label_without_one_of_ours_is_left_out_and_counted(tmp_path):
    root = folder(tmp_path, "file,emotion,speaker,split\na.ogg,bored,03,train\nb.ogg,sad,03,train\n")
    left_out = Counter()
    assert [s.label for s in clips.emodb(root, "train", left_out)] == ["sad"]
    assert left_out == {"bored": 1}
    assert len(list(clips.emodb(root, "train"))) == 1


def test_the_actor_with_pictures_only_validates(tmp_path):
    root = folder(
        tmp_path,
        "clip,emotion,repetition,actor,faces_mp4\n1,happy,1,1,faces/1.mp4\n2,angry,2,1,faces/2.mp4\n3,calm,2,1,\n",
    )
    assert not list(clips.ravdess_av(root, "train"))
    first, second = clips.ravdess_av(root, "valid")
    assert (first.label, second.label) == ("happy", "angry")
    assert first.clip == Clip(root / "faces/1.mp4", root / "faces/1.mp4", cropped=True)


def test_the_voice_of_the_actor_with_pictures_is_not_trained_on(tmp_path):
    table = "file,emotion,speaker,split\na.ogg,sad,01,train\nb.ogg,sad,02,train\nc.ogg,sad,01,valid\n"
    root = folder(tmp_path, table)
    assert [sample.name for sample in clips.ravdess(root, "train")] == ["b.ogg"]
    assert [sample.name for sample in clips.ravdess(root, "valid")] == ["c.ogg"]


def test_faces_lie_in_the_archive_of_their_split(tmp_path):
    root = folder(tmp_path, "file,label\nsad/1.jpg,sad\n", "publictest.csv")
    (tmp_path / "publictest.zip").write_bytes(b"")
    (face,) = clips.fer2013(root, "valid")
    assert face.clip == Clip(pictures=tmp_path / "publictest.zip" / "sad" / "1.jpg", cropped=True)
    assert (face.label, face.name) == ("sad", "sad/1.jpg")


@pytest.mark.parametrize("reader", [clips.ravdess, clips.emodb, clips.urdu, clips.ravdess_av, clips.fer2013])
def test_a_missing_folder_is_said(tmp_path, reader):
    with pytest.raises(CorpusError, match="name the corpus' own folder"):
        list(reader(tmp_path / "nowhere", "train"))


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("file,emotion,speaker,split\na.ogg,hapy,1,train\n", "a.ogg .* has the label 'hapy'"),
        ("file,speaker,split\na.ogg,1,train\n", "a row without emotion"),
        ("file,emotion,speaker,split\na.ogg,sad,1,dev\n", "no split train: choose from dev"),
    ],
)
def test_a_table_that_is_wrong_is_said(tmp_path, table, complaint):
    with pytest.raises(CorpusError, match=complaint):
        list(clips.ravdess(folder(tmp_path, table), "train"))


@pytest.mark.clips
@pytest.mark.skipif(not (DATA / "speech").is_dir(), reason=f"the recordings are not in {DATA}")
@pytest.mark.parametrize(
    ("reader", "place", "n_train", "n_valid"),
    [
        (clips.ravdess, "speech/ravdess", 900, 240),
        (clips.emodb, "speech_restricted/emodb", 238, 112),
        (clips.urdu, "speech_restricted/urdu", 250, 78),
        (clips.ravdess_av, "av/ravdess_actor01", 0, 26),
        (clips.fer2013, "face_restricted/fer2013", 28_322, 3_543),
    ],
)
def test_real_corpora_are_read_whole(reader, place, n_train, n_valid):
    train, valid = (list(reader(DATA / place, split)) for split in ("train", "valid"))
    assert (len(train), len(valid)) == (n_train, n_valid)
    assert {s.label for s in train + valid} <= set(VOICE_EMOTIONS if reader is clips.ravdess else EMOTIONS)
    for one in (*train[:1], *train[-1:], valid[0], valid[-1]):
        assert all(read_bytes(path) for path in {one.clip.sound, one.clip.pictures} - {None})
