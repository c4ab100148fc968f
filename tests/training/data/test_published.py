import shutil

import pytest

from model import processor as p
from model.types import EMOTIONS, Utterance
from perception.media import read_clip
from tests.training.data import published_folders as folders
from training.data.published import PUBLISHED
from training.data.published_reasons import open_set
from training.data.questions import REASON_QUESTIONS
from training.data.sample import CorpusError


def read(tmp_path, corpus, split):
    if not (tmp_path / corpus).exists():
        (tmp_path / corpus).mkdir()
        getattr(folders, corpus)(tmp_path / corpus)
    return PUBLISHED[corpus](tmp_path / corpus, split)


def told(sample):
    return "".join(part for part, _ in sample.answer)


# What is read of each split: (task, name, label, text, sound, pictures)
EXPECTED = {
    ("crema_d", "train"): [
        ("emotion", "Anger_1001_DFA_ANG_XX", "angry", "", "audio/Anger_1001_DFA_ANG_XX.wav", None),
        ("emotion", "Happy_1002_IEO_HAP_HI", "happy", "", "audio/Happy_1002_IEO_HAP_HI.wav", None),
    ],
    ("m3ed", "train"): [
        ("emotion", "A_1", "happy", "你好", "audio/A_1.wav", None),
        ("emotion", "A_2", "angry", "走开", "audio/A_2.wav", None),
    ],
    ("caer", "train"): [
        ("emotion", "train/Anger/0001", "angry", "", None, "train/Anger/0001.avi"),
        ("emotion", "train/Sad/0001", "sad", "", None, "train/Sad/0001.avi"),
    ],
    ("caer", "valid"): [("emotion", "validation/Happy/0002", "happy", "", None, "validation/Happy/0002.avi")],
    ("caer", "test"): [("emotion", "test/Fear/0003", "fear", "", None, "test/Fear/0003.avi")],
    ("ferv39k", "train"): [
        ("emotion", "Action/Sad/0010", "sad", "", None, "video/Action/Sad/0010.mp4"),
        ("emotion", "Crime/Angry/0011", "angry", "", None, "video/Crime/Angry/0011.avi"),
    ],
    ("ferv39k", "test"): [("emotion", "Action/Happy/0012", "happy", "", None, "video/Action/Happy/0012.mp4")],
    ("caer_ferv39k", "train"): [
        ("emotion", "c_1", "surprise", "", None, "video/c_1.avi"),
        ("emotion", "f_1", "angry", "", None, "video/f_1.mp4"),
    ],
    ("mintrec", "train"): [
        (
            "intent",
            "S05_E16_329",
            "Ask for help",
            "can you hold this?",
            "audio/S05_E16_329.wav",
            "video/S05_E16_329.mp4",
        )
    ],
    ("mintrec", "valid"): [
        ("intent", "S06_E01_001", "Thank", "thanks.", "audio/S06_E01_001.wav", "video/S06_E01_001.mp4")
    ],
    ("mintrec", "test"): [
        ("intent", "S04_E13_377", "Prevent", "go away.", "audio/S04_E13_377.wav", "video/S04_E13_377.mp4")
    ],
    ("mintrec2", "train"): [
        ("intent", "dia0_utt0", "Doubt", "i doubt it.", "audio/dia0_utt0.wav", "video/dia0_utt0.mp4")
    ],
    ("mintrec2", "valid"): [
        ("intent", "dia9_utt2", "Invite", "let's go together.", "audio/dia9_utt2.wav", "video/dia9_utt2.mp4")
    ],
    ("mintrec2", "test"): [("intent", "dia1_utt4", "Warn", "watch out!", "audio/dia1_utt4.wav", "video/dia1_utt4.mp4")],
    ("mer_caption_plus", "train"): [
        ("open", "s_1", "happy, proud", "We won.", "audio/s_1.wav", "video/video/s_1.mp4"),
        ("reason", "s_1", "", "We won.", "audio/s_1.wav", "video/video/s_1.mp4"),
        ("open", "s_2", "neutral", "", "audio/s_2.wav", "video/video/s_2.mp4"),
        ("reason", "s_2", "", "", "audio/s_2.wav", "video/video/s_2.mp4"),
    ],
    ("merr_fine", "train"): [
        (
            "reason",
            "sample_00000023",
            "angry",
            "I was quiet.",
            "audio/sample_00000023.wav",
            "test3/sample_00000023.mp4",
        ),
        ("reason", "sample_00000046", "contempt", "", "audio/sample_00000046.wav", "test3/sample_00000046.avi"),
    ],
    ("emer", "test"): [
        ("reason", "sample_1", "angry", "Go, now.", "audio/sample_1.wav", "video/sample_1.mp4"),
        ("reason", "sample_2", "happy", "", "audio/sample_2.wav", "video/sample_2.mp4"),
    ],
    ("avamerg", "train"): [
        (task, f"dia00001utt{at}_60", "anxious", text, f"audio/dia00001utt{at}_60.wav", f"video/dia00001utt{at}_60.mp4")
        for at, text in ((0, "My cat ran away."), (2, "Last night."))
        for task in ("empathy", "open")
    ],
    ("avamerg", "test"): [
        (task, name, "anxious", "Last night.", f"test_audio/{name}.wav", f"test_video/{name}.mp4")
        for name in ("dia03997utt2_60",)
        for task in ("empathy", "open")
    ],
    ("mer2023", "train"): [("open", "a", "sad", "a in English", "audio/a.wav", "video/a.mp4")],
    ("mer2023", "test"): [("open", "b", "worried", "b in English", "audio/b.wav", "video/b.avi")],
    ("mer2024", "train"): [("open", "a", "angry", "a 中文", "audio/a.wav", "video/a.mp4")],
    ("mer2024", "test"): [("open", "b", "neutral", "b 中文", "audio/b.wav", "video/b.mp4")],
    **{
        ("meld", split): [("open", n, label, f"{n} in English", f"subaudio/{n}.wav", f"subvideo/{n}.mp4")]
        for split, n, label in (("train", "train", "anger"), ("valid", "val", "sadness"), ("test", "test", "surprise"))
    },
    **{
        ("iemocap4", split): [("open", n, label, f"{n} in English", f"subaudio/{n}.wav", f"subvideo-tgt/{n}.avi")]
        for split, n, label in (("train", "Ses01F_impro01_M000", "anger"), ("test", "Ses05M_script02_F011", "happy"))
    },
    **{
        (corpus, split): [
            ("sentiment", n, label, f"{n} in English", f"{audio}/{n}.wav", f"{video}/{n}.mp4") for n, label in found
        ]
        for corpus, video, audio in (
            ("cmu_mosi", "subvideo", "subaudio"),
            ("cmu_mosei", "subvideo_new", "subaudio"),
            ("sims", "video", "audio"),
            ("simsv2", "video_new", "audio"),
        )
        for split, found in (
            ("train", [("a", "positive")]),
            ("valid", [("b", "negative")]),
            ("test", [("c", "negative"), ("d", "neutral"), ("e", "positive")]),
        )
    },
}
EXPECTED["ov_merd", "test"] = EXPECTED["mer_caption_plus", "train"]


@pytest.mark.parametrize(("corpus", "split"), EXPECTED, ids="-".join)
def test_a_published_folder_is_read(tmp_path, corpus, split):
    reading = read(tmp_path, corpus, split)
    root = tmp_path / corpus

    def inside(path):
        return path and path.relative_to(root).as_posix()

    found = [(s.task, s.name, s.label, s.text, inside(s.clip.sound), inside(s.clip.pictures)) for s in reading.samples]
    assert found == EXPECTED[corpus, split]
    assert {s.corpus for s in reading.samples} == {corpus}
    assert reading.skipped == []
    assert all(path is None or path.is_file() for s in reading.samples for path in (s.clip.sound, s.clip.pictures))


def test_every_corpus_is_read_here():
    assert {corpus for corpus, _ in EXPECTED} == set(PUBLISHED)


@pytest.mark.parametrize("corpus", PUBLISHED)
def test_a_folder_that_is_not_there_is_named(tmp_path, corpus):
    split = next(split for name, split in EXPECTED if name == corpus)
    with pytest.raises(CorpusError, match=r"nowhere.* is missing"):
        PUBLISHED[corpus](tmp_path / "nowhere", split)


@pytest.mark.parametrize("corpus", PUBLISHED)
def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path, corpus):
    with pytest.raises(CorpusError, match=r"has no split 'later'; it has: (train|test)"):
        PUBLISHED[corpus](tmp_path, "later")


@pytest.mark.parametrize(
    ("corpus", "split", "folder"),
    [
        ("crema_d", "train", "audio"),
        ("caer_ferv39k", "train", "video"),
        ("meld", "test", "subvideo"),
        ("emer", "test", "audio"),
    ],
)
def test_a_missing_folder_of_clips_is_named(tmp_path, corpus, split, folder):
    read(tmp_path, corpus, split)
    shutil.rmtree(tmp_path / corpus / folder)
    with pytest.raises(CorpusError, match=f"has no folder {folder}"):
        read(tmp_path, corpus, split)


def test_a_folder_without_clips_is_no_empty_corpus(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(CorpusError, match="caer has no clip"):
        PUBLISHED["caer"](tmp_path, "train")


@pytest.mark.parametrize(
    ("corpus", "split", "missing", "name", "why"),
    [
        (
            "crema_d",
            "train",
            "audio/Anger_1001_DFA_ANG_XX.wav",
            "Anger_1001_DFA_ANG_XX",
            "audio/Anger_1001_DFA_ANG_XX.wav",
        ),
        ("ferv39k", "train", "video/Action/Sad/0010.mp4", "Action/Sad/0010", "video/Action/Sad/0010.mp4 or .avi"),
        ("mer_caption_plus", "train", "audio/s_1.wav", "s_1", "audio/s_1.wav"),
        ("avamerg", "train", "video/dia00001utt0_60.mp4", "dia00001utt0_60", "video/dia00001utt0_60.mp4 or .avi"),
        ("sims", "test", "audio/d.wav", "d", "audio/d.wav"),
    ],
)
def test_a_missing_clip_is_counted_and_named(tmp_path, corpus, split, missing, name, why):
    before = read(tmp_path, corpus, split)
    (tmp_path / corpus / missing).unlink()
    after = read(tmp_path, corpus, split)
    assert after.skipped == [(name, f"{why} is missing")]
    assert after.samples == [sample for sample in before.samples if sample.name != name]


WRONG = {
    "crema_d": lambda root: folders.put_json(
        root / "crema_d_annotations.json", [folders.message("audios", "x", "", "calm")]
    ),
    "m3ed": lambda root: folders.put_json(
        root / "m3ed_annotaton.json", [folders.message("audios", "x", "", "worried")]
    ),
    "caer": lambda root: folders.put(root, "train/Boredom/0001.avi"),
    "ferv39k": lambda root: (root / "4_setups/All_scenes/train_All.csv").write_text("Action/Bored/0001 Bored\n"),
    "caer_ferv39k": lambda root: folders.put_json(
        root / "caer_ferv39k_ann.json", [folders.message("videos", "x", "", "calm")]
    ),
    "mintrec": lambda root: folders.put_json(
        root / "train_MIntRec_ann.json", [folders.message("videos", "S04_E01_1.mp4", "so", "complain")]
    ),
    "mintrec2": lambda root: folders.put_json(
        root / "train_MIntRec2_ann.json", [folders.message("videos", "dia0_utt0.mp4", "so", "OOS")]
    ),
    "merr_fine": lambda root: folders.put_json(
        root / "MERR_fine_grained.json", {"x": {"pseu_emotion": "bored", "smp_reason_caption": "It is long."}}
    ),
    "emer": lambda root: folders.put_csv(
        root / "gt-eng.csv", ("names", "emotions", "subtitles", "reasons"), ("x", "bored", "", "It is long.")
    ),
    "mer2023": lambda root: folders.put_npz(root / "label-6way.npz", test1_corpus={"b": {"emo": "bored"}}),
    "mer2024": lambda root: folders.put_npz(root / "label-6way.npz", test1_corpus={"b": {"emo": "fear"}}),
    "meld": lambda root: folders.put_npz(root / "label.npz", test_corpus={"test": {"emo": 7}}),
    "iemocap4": lambda root: folders.put_npz(
        root / "label_4way.npz", whole_corpus={"Ses05M_script02_F011": {"emo": -1}}
    ),
    "cmu_mosi": lambda root: folders.put_npz(root / "label.npz", test_corpus={"c": {"val": 3.5}}),
    "cmu_mosei": lambda root: folders.put_npz(root / "label.npz", test_corpus={"c": {"val": -4}}),
    "sims": lambda root: folders.put_npz(root / "label.npz", test_corpus={"c": {"val": 1.2}}),
    "simsv2": lambda root: folders.put_npz(root / "label.npz", test_corpus={"c": {"val": -1.2}}),
    "avamerg": lambda root: folders.put_json(
        root / "train.json",
        [
            {
                "conversation_id": "1",
                "speaker_profile": {"ID": 1},
                "turns": [{"turn_id": 0, "dialogue_history": [{"role": "narrator", "utterance": "so"}]}],
            }
        ],
    ),
}


WRONG_IN_TRAINING = ("caer", "ferv39k", "mintrec", "mintrec2", "avamerg")


@pytest.mark.parametrize("corpus", WRONG)
def test_a_label_of_no_corpus_of_that_name_is_an_error(tmp_path, corpus):
    split = "test" if (corpus, "test") in EXPECTED and corpus not in WRONG_IN_TRAINING else "train"
    read(tmp_path, corpus, split)
    WRONG[corpus](tmp_path / corpus)
    with pytest.raises(CorpusError, match=r"has no label|has a valence of"):
        read(tmp_path, corpus, split)


def test_words_that_are_open_have_no_wrong_label():
    assert set(PUBLISHED) - set(WRONG) == {"mer_caption_plus", "ov_merd"}


def test_rows_that_cannot_be_read_are_named_and_the_others_kept(tmp_path):
    read(tmp_path, "m3ed", "train")
    good = folders.message("audios", "A_1.wav", "你好", "happy")
    rows = [{"messages": []}, "what?", folders.message("audios", "A_2.wav", "走", " "), good, good]
    folders.put_json(tmp_path / "m3ed/m3ed_annotaton.json", rows)
    reading = read(tmp_path, "m3ed", "train")
    assert [s.name for s in reading.samples] == ["A_1"]
    assert reading.skipped == [
        ("entry 1", "its label is missing or empty"),
        ("entry 2", "its label is missing or empty"),
        ("A_2", "its label is missing or empty"),
        ("A_1", "it is annotated more than once; the first annotation counts"),
    ]


def test_empty_cells_are_named_and_not_taken_for_neutral(tmp_path):
    read(tmp_path, "mer_caption_plus", "train")
    root = tmp_path / "mer_caption_plus"
    rows = [("s_1", ""), ("s_2", "[sad]"), ("s_3", "[sad]"), ("", "[sad]"), ("s_5",)]
    folders.put_csv(root / "track2_train_mercaptionplus.csv", ("name", "openset"), *rows)
    reasons = [("s_1", "x"), ("s_2", "Tears."), ("s_3", " "), ("s_4", "only here"), ("s_5", "x")]
    folders.put_csv(root / "track3_train_mercaptionplus.csv", ("name", "reason"), *reasons)
    reading = read(tmp_path, "mer_caption_plus", "train")
    assert [(s.name, s.task, s.label) for s in reading.samples] == [("s_2", "open", "sad"), ("s_2", "reason", "")]
    assert dict(reading.skipped) == {
        "s_1": "its openset is missing or empty",
        "s_3": "its reason is missing or empty",
        "row 4": "its openset is missing or empty",
        "s_5": "its openset is missing or empty",
        "s_4": "its openset is missing or empty",
    }


def test_a_clip_without_a_subtitle_line_or_a_number_is_named(tmp_path):
    read(tmp_path, "sims", "test")
    root = tmp_path / "sims"
    folders.put_npz(
        root / "label.npz", test_corpus={"a": {"val": 1}, "b": {}, "c": {"val": float("nan")}, "z": {"val": 1}}
    )
    reading = read(tmp_path, "sims", "test")
    assert [s.name for s in reading.samples] == ["a"]
    assert dict(reading.skipped) == {
        "b": "its val is missing or not a number",
        "c": "its val is missing or not a number",
        "z": "it has no line in transcription-engchi-polish.csv",
    }


def test_conversations_that_cannot_be_read_are_named(tmp_path):
    read(tmp_path, "avamerg", "train")
    whole, cut, mute = (folders.conversation("00001", 2) for _ in range(3))
    whole["turns"][1]["response"] = ""
    del cut["turns"]
    mute["conversation_id"] = "00003"
    mute["turns"] = [{"turn_id": 0, "dialogue_history": []}]
    folders.put_json(tmp_path / "avamerg/train.json", [whole, cut, mute])
    reading = read(tmp_path, "avamerg", "train")
    assert {s.name for s in reading.samples} == {"dia00001utt0_60"}
    assert dict(reading.skipped) == {
        "dia00001utt2_60": "its response is missing or empty",
        "conversation 2": "its dialogue_history is missing or empty",
        "dia00003utt0_60": "its dialogue_history is missing or empty",
    }


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("track2_train_mercaptionplus.csv", "name,words\ns_1,[sad]\n", "has no column openset; it has: name, words"),
        ("subtitle_chieng.csv", "name,chinese\ns_1,x\n", "has no column english"),
    ],
)
def test_a_table_without_its_column_is_an_error(tmp_path, file, content, why):
    read(tmp_path, "mer_caption_plus", "train")
    (tmp_path / "mer_caption_plus" / file).write_text(content)
    with pytest.raises(CorpusError, match=why):
        read(tmp_path, "mer_caption_plus", "train")


@pytest.mark.parametrize("content", ["{", '{"a": 1}'])
def test_annotations_of_another_form_are_an_error(tmp_path, content):
    read(tmp_path, "m3ed", "train")
    (tmp_path / "m3ed/m3ed_annotaton.json").write_text(content)
    with pytest.raises(CorpusError, match=r"m3ed_annotaton\.json (is not JSON|should be a list)"):
        read(tmp_path, "m3ed", "train")


def test_answers_begin_as_the_model_is_led_to_begin(tmp_path):
    (felt,) = (s for s in read(tmp_path, "crema_d", "train").samples if s.label == "angry")
    assert (felt.question, felt.answer) == (p.EMOTION_QUESTION, ((p.EMOTION_LEAD, False), (" angry.", True)))
    assert felt.label in EMOTIONS
    words = read(tmp_path, "mer_caption_plus", "train").samples[0]
    assert (words.question, words.answer) == (p.OPEN_QUESTION, ((p.OPEN_LEAD, False), (" happy, proud.", True)))
    sentiment = read(tmp_path, "sims", "test").samples[1]
    assert (sentiment.question, told(sentiment)) == (p.SENTIMENT_QUESTION, f"{p.SENTIMENT_LEAD} neutral.")
    (wanted,) = read(tmp_path, "mintrec", "train").samples
    assert (wanted.question, told(wanted)) == (p.INTENT_QUESTION, f"{p.INTENT_LEAD}Ask for help")


def test_reasons_are_asked_for_in_four_ways_in_training_and_one_in_tests(tmp_path):
    tested = [s for s in read(tmp_path, "ov_merd", "test").samples if s.task == "reason"]
    assert {s.question for s in tested + read(tmp_path, "emer", "test").samples} == {REASON_QUESTIONS[0]}
    names = [f"sample_{i}" for i in range(40)]
    row = {"pseu_emotion": "sad", "text": "so", "smp_reason_caption": "Tears."}
    root = tmp_path / "merr_fine"
    folders.put_json(root / "MERR_fine_grained.json", dict.fromkeys(names, row))
    folders.put_both(root, *names, video="test3")
    asked = [s.question for s in read(tmp_path, "merr_fine", "train").samples]
    assert set(asked) == set(REASON_QUESTIONS)
    assert asked == [s.question for s in read(tmp_path, "merr_fine", "train").samples]
    assert all(question.startswith("[Inference]") for question in REASON_QUESTIONS)


def test_a_reply_follows_its_whole_chain_of_empathy(tmp_path):
    reply, felt = read(tmp_path, "avamerg", "train").samples[2:]
    chain = p.THOUGHT.format(
        scenario="The 'cat' ran away", emotion="anxious", cause="It is gone", goal="Comforting the speaker"
    )
    assert reply.question == p.EMPATHY_QUESTION
    assert reply.answer == ((chain, True), ("I hope it comes back.", True))
    assert reply.history == (Utterance("user", "My cat ran away."), Utterance("assistant", "When?"))
    assert (felt.question, felt.history, told(felt)) == (p.OPEN_QUESTION, reply.history, f"{p.OPEN_LEAD} anxious.")
    assert {reply.speaker, felt.speaker} == {"60"}


def test_speakers_are_known_where_names_tell_them(tmp_path):
    assert [s.speaker for s in read(tmp_path, "crema_d", "train").samples] == ["1001", "1002"]
    assert [s.speaker for s in read(tmp_path, "iemocap4", "test").samples] == ["Ses05F"]


def test_clips_that_were_found_can_be_decoded(tmp_path):
    sample = read(tmp_path, "merr_fine", "train").samples[1]
    assert read_clip(sample.clip.sound).speech.duration_s == pytest.approx(0.4, abs=0.05)
    assert len(read_clip(sample.clip.pictures).frames.images) == 4


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("['Happy', 'sad']", ["happy", "sad"]),
        ("[happy, sad, happy]", ["happy", "sad"]),
        ('["self-blame"; "regret."]', ["self-blame", "regret"]),
        ("worried", ["worried"]),
        ("[]", ["neutral"]),
    ],
)
def test_an_open_set_is_read_however_it_is_written(cell, words):
    assert open_set(cell) == words
