"""Corpora are found by name, by folder and by split, and what is wrong with them is said."""

import pytest

from tests.training.corpora import dialogue, make_faces, make_voices, write_lines, write_table
from training.benches import BENCHES, find
from training.data.layouts import Lines
from training.data.sample import CorpusError
from training.data.splits import CUT

VOICES = [
    ("a.wav", "fearful", "01", "valid", 0.5),
    ("b.wav", "calm", "02", "valid", 0.5),
    ("c.wav", "happy", "03", "test", 0.5),
]


@pytest.fixture
def data(tmp_path):
    make_voices(tmp_path / "speech" / "ravdess", VOICES)
    return tmp_path


def test_a_corpus_is_found_under_the_data_folder_and_by_its_own(data):
    under, own = find("ravdess", data), find("ravdess", data / "speech" / "ravdess")
    assert under.cases == own.cases
    assert [(case.gold["emotion"], case.speaker) for case in under.cases] == [("fear", "01"), ("calm", "02")]


def test_a_test_split_is_taken_where_there_is_one(data):
    assert [case.name for case in find("ravdess", data, "test").cases] == ["c.wav"]


def test_a_wrong_split_names_those_that_exist(data):
    with pytest.raises(CorpusError, match="no split tset: choose from valid, test"):
        find("ravdess", data, "tset")


def test_a_wrong_benchmark_names_those_that_exist(data):
    with pytest.raises(CorpusError, match=r"no benchmark ravdes: choose from ravdess, .*simsv2, ovmerd"):
        find("ravdes", data)


def test_a_missing_corpus_says_where_it_should_be(data):
    with pytest.raises(CorpusError, match=r"isear is not in .*: expected text_restricted/isear there"):
        find("isear", data)
    with pytest.raises(CorpusError, match=r"there is no folder .*nowhere.*--data"):
        find("isear", data / "nowhere")


def test_another_corpus_is_told_apart(tmp_path):
    write_lines(tmp_path / "train.jsonl", [{"sentence": "x", "mood": "fine"}] * 10)
    with pytest.raises(CorpusError, match=r"row 10 of valid in .* is not one of isear: KeyError\('emotion'\)"):
        find("isear", tmp_path)


def test_a_line_that_is_not_json_is_named(tmp_path):
    (tmp_path / "train.jsonl").write_text('{"text": "x", "emotion": "joy"}\nnonsense\n')
    with pytest.raises(CorpusError, match=r"train.jsonl line 2 is not JSON"):
        find("isear", tmp_path)


def test_a_feeling_without_a_basic_emotion_is_skipped_and_named(tmp_path):
    make_voices(tmp_path, [("a.wav", "bored", "03", "valid", 0.5), ("b.wav", "sad", "03", "valid", 0.5)])
    found = find("emodb", tmp_path)
    assert [case.name for case in found.cases] == ["b.wav"]
    assert [(skip.name, skip.why) for skip in found.skipped] == [("a.wav", "no basic emotion stands for bored")]


def test_a_label_that_is_none_of_the_corpus_is_skipped(tmp_path):
    make_voices(tmp_path, [("a.wav", "calm", "03", "valid", 0.5), ("b.wav", "sad", "03", "valid", 0.5)])
    found = find("urdu", tmp_path)
    assert [(skip.name, skip.why) for skip in found.skipped] == [("a.wav", "calm is none of the labels of urdu")]


@pytest.mark.parametrize(("split", "stem"), [("valid", "publictest"), ("test", "privatetest")])
def test_fer2013_splits_have_the_names_of_the_challenge(tmp_path, split, stem):
    names = make_faces(tmp_path, stem, ["angry", "sad"])
    found = find("fer2013", tmp_path, split)
    assert [case.clip.pictures for case in found.cases] == [tmp_path / f"{stem}.zip" / name for name in names]


def test_a_table_whose_archive_is_missing_is_named(tmp_path):
    make_faces(tmp_path, "publictest", ["sad"])
    (tmp_path / "publictest.zip").unlink()
    with pytest.raises(CorpusError, match=r"publictest.zip is missing"):
        find("fer2013", tmp_path)


def test_training_and_validation_of_a_cut_corpus_share_nothing(tmp_path):
    rows = [{"clip": f"dia{i}_utt0.mp4", "text": f"line {i}", "intent": "Inform"} for i in range(30)]
    write_lines(tmp_path / "train.jsonl", rows)
    train, valid = ({case.name for case in find("mintrec2", tmp_path, split).cases} for split in ("train", "valid"))
    assert valid == {"dia9_utt0.mp4", "dia19_utt0.mp4", "dia29_utt0.mp4"}
    assert train | valid == {row["clip"] for row in rows}
    assert not train & valid


def test_a_test_split_is_never_cut(tmp_path):
    write_lines(tmp_path / "dialogues_test.jsonl", [
        dialogue(f"d{i}", ("speaker", "I won."), ("listener", "Well done!"), emotion="proud") for i in range(12)
    ])  # fmt: skip
    assert len(find("empathetic_dialogues", tmp_path, "test").cases) == 12


def test_one_actor_validates_as_a_whole(tmp_path):
    rows = [
        {"clip": f"01-01-03-01-01-{n}-01", "emotion": "happy", "actor": "1", "faces_mp4": "x.mp4"} for n in ("01", "02")
    ]
    write_table(tmp_path / "labels.csv", rows)
    assert len(find("ravdess_av", tmp_path, "valid").cases) == len(find("ravdess_av", tmp_path, "test").cases) == 2
    with pytest.raises(CorpusError, match="nothing in train"):
        find("ravdess_av", tmp_path, "train")


def test_every_corpus_that_is_cut_has_a_benchmark():
    layouts = {bench.layout.corpus for bench in BENCHES.values() if isinstance(bench.layout, Lines)}
    assert set(CUT) - {"ravdess_av"} <= layouts


def test_comments_of_two_minds_are_skipped(tmp_path):
    rows = [
        {"id": "a", "text": "Lovely.", "labels": ["joy", "love"]},
        {"id": "b", "text": "Hm!", "labels": ["joy", "anger"]},
    ]
    write_lines(tmp_path / "dev.jsonl", rows)
    found = find("goemotions", tmp_path)
    assert [(case.name, case.gold["emotion"]) for case in found.cases] == [("a", "happy")]
    assert [skip.name for skip in found.skipped] == ["b"]


def test_causes_are_lines_so_far_counted_from_zero(tmp_path):
    turns = [
        {"turn": 1, "speaker": "A", "text": "It rains .", "emotion": "neutral"},
        {"turn": 2, "speaker": "B", "text": "I won , hurray !", "emotion": "happiness",
         "cause_turns": [2, 3, "b"], "cause_spans": ["I won", "later", "before"]},
        {"turn": 3, "speaker": "A", "text": "Oh no .", "emotion": "sadness", "cause_turns": [4], "cause_spans": ["x"]},
    ]  # fmt: skip
    write_lines(tmp_path / "valid.jsonl", [{"id": "d1", "turns": turns}])
    found = find("reccon", tmp_path)
    (case,) = found.cases
    assert (case.text, case.cause_lines, case.cause_spans) == ("I won, hurray!", {1}, ("I won",))
    assert [(line.role, line.text) for line in case.history] == [("assistant", "It rains.")]
    assert [skip.name for skip in found.skipped] == ["d1 turn 3"]


def test_a_reply_comes_after_all_that_was_said(tmp_path):
    turns = [("speaker", "I won."), ("listener", "Well done!"), ("speaker", "Thanks."), ("listener", "What was it?")]
    write_lines(tmp_path / "dialogues_test.jsonl", [dialogue("d", *turns, emotion="proud")])
    first, second = find("empathetic_dialogues", tmp_path, "test").cases
    assert (first.text, first.history, first.reference) == ("I won.", (), "Well done!")
    assert (second.text, second.reference) == ("Thanks.", "What was it?")
    assert [(line.role, line.text) for line in second.history] == [("user", "I won."), ("assistant", "Well done!")]
    assert second.gold == {"emotion": "happy"}
    assert second.unit == "d"
