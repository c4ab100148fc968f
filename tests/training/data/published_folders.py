"""Folders laid out as the corpora are published, with a few generated clips."""

from __future__ import annotations

import csv
import io
import json
import pickle
import shutil
import zipfile
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np

from tests.perception.clips import make_clip


@cache
def clip_like(kind: str) -> Path:
    """A generated clip of 0.4 seconds; made once, copied for every name."""
    video = {"mp4": "libx264", "avi": "mpeg4"}.get(kind)
    audio = {"wav": "pcm_s16le", "mp4": "aac"}.get(kind)
    path = Path(mkdtemp()) / f"clip.{kind}"
    return make_clip(path, video=video, audio=audio, rate_hz=16_000, layout="mono", seconds=0.4)


def put(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip_like(path.rpartition(".")[2]), root / path)


def put_both(root: Path, *names: str, video: str = "video", audio: str = "audio", kind: str = "mp4") -> None:
    for name in names:
        put(root, f"{video}/{name}.{kind}", f"{audio}/{name}.wav")


def put_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def put_csv(path: Path, *rows: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def put_npz(path: Path, **corpora: dict) -> None:
    """As NumPy 1 wrote it, with which the files were published."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for key, corpus in corpora.items():
            stream = io.BytesIO()
            box = np.array(corpus, dtype=object)
            np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
            stream.write(pickle.dumps(box, protocol=3).replace(b"numpy._core", b"numpy.core"))
            archive.writestr(f"{key}.npy", stream.getvalue())


def message(kind: str, path: str, text: str, label: str) -> dict:
    said = [{"role": "user", "content": text}, {"role": "assistant", "content": label}]
    return {"messages": said, kind: [f"/home/lab/dataset/{path}"]}


def crema_d(root: Path) -> None:
    names = {"Anger_1001_DFA_ANG_XX": "anger", "Happy_1002_IEO_HAP_HI": "happy"}
    put_json(root / "crema_d_annotations.json", [message("audios", f"{n}.wav", "", e) for n, e in names.items()])
    put(root, *(f"audio/{name}.wav" for name in names))


def m3ed(root: Path) -> None:
    rows = [message("audios", "A_1.wav", "你好", "happy"), message("audios", "A_2.wav", "走开", "anger")]
    put_json(root / "m3ed_annotaton.json", rows)
    put(root, "audio/A_1.wav", "audio/A_2.wav")


def caer(root: Path) -> None:
    put(root, "train/Anger/0001.avi", "train/Sad/0001.avi", "validation/Happy/0002.avi", "test/Fear/0003.avi")


def ferv39k(root: Path) -> None:
    folder = root / "4_setups/All_scenes"
    folder.mkdir(parents=True)
    (folder / "train_All.csv").write_text("Action/Sad/0010 Sad\nCrime/Angry/0011 Angry\n")
    (folder / "test_All.csv").write_text("Action/Happy/0012 Happy\n")
    put(root, "video/Action/Sad/0010.mp4", "video/Crime/Angry/0011.avi", "video/Action/Happy/0012.mp4")


def caer_ferv39k(root: Path) -> None:
    rows = [message("videos", "v/c_1.avi", "not to be read", "surprise"), message("videos", "v/f_1.mp4", "", "anger")]
    put_json(root / "caer_ferv39k_ann.json", rows)
    put(root, "video/c_1.avi", "video/f_1.mp4")


def mintrec(root: Path) -> None:
    train = [
        message("videos", "S05_E16_329.mp4", "can you hold this?", "Ask for help"),
        message("videos", "S06_E01_001.mp4", "thanks.", "Thank"),
    ]
    put_json(root / "train_MIntRec_ann.json", train)
    put_json(root / "test_MIntRec_ann.json", [message("videos", "S04_E13_377.mp4", "go away.", "Prevent")])
    put_both(root, "S05_E16_329", "S06_E01_001", "S04_E13_377")


def mintrec2(root: Path) -> None:
    train = [
        message("videos", "dia0_utt0.mp4", "i doubt it.", "Doubt"),
        message("videos", "dia9_utt2.mp4", "let's go together.", "Invite"),
    ]
    put_json(root / "train_MIntRec2_ann.json", train)
    put_json(root / "test_MIntRec2_ann.json", [message("videos", "dia1_utt4.mp4", "watch out!", "Warn")])
    put_both(root, "dia0_utt0", "dia9_utt2", "dia1_utt4")


def mer2025(root: Path, file: str) -> None:
    put_csv(root / f"track2_train_{file}.csv", ("name", "openset"), ("s_1", "['Happy', 'proud']"), ("s_2", "[]"))
    put_csv(
        root / f"track3_train_{file}.csv", ("name", "reason"), ("s_1", "He smiles, so he is happy."), ("s_2", "Calm.")
    )
    put_csv(root / "subtitle_chieng.csv", ("name", "english", "chinese"), ("s_1", "We won.", "赢"), ("s_2", "", ""))
    put_both(root, "s_1", "s_2", video="video/video")


def mer_caption_plus(root: Path) -> None:
    mer2025(root, "mercaptionplus")


def ov_merd(root: Path) -> None:
    mer2025(root, "ovmerd")


def merr_fine(root: Path) -> None:
    clues = {"AU_list": ["AU04"], "visual_prior_list": ["Frowns"], "audio_prior_list": "loud", "peak_index": "20"}
    row = {"pseu_emotion": "angry", "text": "I was quiet.", "smp_reason_caption": "A bald man frowns.", **clues}
    other = {"pseu_emotion": "contempt", "text": "", "smp_reason_caption": "She sneers.", **clues}
    put_json(root / "MERR_fine_grained.json", {"sample_00000023": row, "sample_00000046": other})
    put_both(root, "sample_00000023", video="test3")
    put_both(root, "sample_00000046", video="test3", kind="avi")


def emer(root: Path) -> None:
    header = ("names", "emotions", "subtitles", "reasons")
    rows = [("sample_1", "angry", "Go, now.", "He roared."), ("sample_2", "happy", "", 'He said "ha".')]
    put_csv(root / "gt-eng.csv", header, *rows)
    put_both(root, "sample_1", "sample_2")


def conversation(number: str, n_turns: int) -> dict:
    lines = [
        {"role": "speaker", "utterance": "My cat ran away.", "index": 0},
        {"role": "listener", "utterance": "When?", "index": 1},
        {"role": "speaker", "utterance": "Last night.", "index": 2},
    ]
    chain = {
        "event_scenario": 'The "cat" ran away.',
        "speaker_emotion": "Anxious",
        "emotion_cause": "It is gone.",
        "goal_to_response": "Comforting the speaker.",
    }
    turn = {"context": "A lost cat.", "response": "I hope it comes back.", "chain_of_empathy": chain}
    turns = [{**turn, "turn_id": str(i), "dialogue_history": lines[: 2 * i + 1]} for i in range(n_turns)]
    profile = {"ID": 60, "age": "young", "gender": "male", "timbre": "low"}
    return {
        "conversation_id": number,
        "speaker_profile": profile,
        "listener_profile": {},
        "topic": "pets",
        "turns": turns,
    }


def avamerg(root: Path) -> None:
    put_json(root / "train.json", [conversation("00001", 2)])
    put_json(root / "v_test_v5_0.json", [conversation("03997", 2)])
    put_both(root, "dia00001utt0_60", "dia00001utt2_60")
    put_both(root, "dia03997utt2_60", video="test_video", audio="test_audio")


def said(root: Path, *names: str, file: str = "transcription-engchi-polish.csv") -> None:
    put_csv(
        root / file, ("name", "english", "chinese"), *((name, f"{name} in English", f"{name} 中文") for name in names)
    )


def mer2023(root: Path) -> None:
    put_npz(
        root / "label-6way.npz", train_corpus={"a": {"emo": "sad", "val": -1.0}}, test1_corpus={"b": {"emo": "worried"}}
    )
    said(root, "a", "b")
    put_both(root, "a")
    put_both(root, "b", kind="avi")


def mer2024(root: Path) -> None:
    put_npz(
        root / "label-6way.npz", train_corpus={"a": {"emo": "angry"}}, test1_corpus={"b": {"emo": np.str_("neutral")}}
    )
    said(root, "a", "b", file="transcription_merge.csv")
    put_both(root, "a", "b")


def meld(root: Path) -> None:
    corpora = {
        f"{part}_corpus": {part: {"emo": index, "val": 0}} for part, index in (("train", 0), ("val", 2), ("test", 6))
    }
    put_npz(root / "label.npz", **corpora)
    said(root, "train", "val", "test")
    put_both(root, "train", "val", "test", video="subvideo", audio="subaudio")


def iemocap4(root: Path) -> None:
    names = {"Ses01F_impro01_M000": 3, "Ses05M_script02_F011": np.int64(0)}
    put_npz(root / "label_4way.npz", whole_corpus={name: {"emo": index} for name, index in names.items()})
    said(root, *names)
    put_both(root, *names, video="subvideo-tgt", audio="subaudio", kind="avi")


def valence(root: Path, video: str, audio: str) -> None:
    put_npz(
        root / "label.npz",
        train_corpus={"a": {"val": 1.0}},
        val_corpus={"b": {"val": np.float32(-0.25)}},
        test_corpus={"c": {"val": np.float64(-1.0)}, "d": {"val": 0}, "e": {"val": 0.2}},
    )
    said(root, *"abcde")
    put_both(root, *"abcde", video=video, audio=audio)


def cmu_mosi(root: Path) -> None:
    valence(root, "subvideo", "subaudio")


def cmu_mosei(root: Path) -> None:
    valence(root, "subvideo_new", "subaudio")


def sims(root: Path) -> None:
    valence(root, "video", "audio")


def simsv2(root: Path) -> None:
    valence(root, "video_new", "audio")
