"""A scripted model is asked small corpora of every kind; what it gets is worked out by hand."""

import json
import math

import pytest

from tests.model.tiny import tiny_model
from tests.perception.clips import make_clip
from tests.training.corpora import ScriptedModel, dialogue, make_faces, make_voices, write_lines, write_table
from tests.training.data import published_folders
from training.benches import find
from training.evaluate import EvaluationError, chosen, evaluate
from training.metrics import bootstrap
from training.report import page, write_report

LOUD, SOFT = 0.9, 0.1


def hears(turn, task):
    """Loud is angry, soft is sad."""
    return "angry" if abs(turn.speech.samples).max() > 0.3 else "sad"


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(bootstrap, "N_RESAMPLES", 100)


@pytest.fixture
def voices(tmp_path):
    folder = tmp_path / "ravdess"
    rows = [(f"{speaker}{i}.wav", emotion, speaker, "valid", loudness)
            for speaker, second in (("01", SOFT), ("02", LOUD))
            for i, (emotion, loudness) in enumerate([("angry", LOUD), ("sad", second)] * 5)]  # fmt: skip
    make_voices(folder, rows)  # speaker 02 is sad aloud, which the model hears as angry
    return folder


def test_voices_are_scored_as_a_whole_and_by_speaker(voices):
    model = ScriptedModel(hears)
    result = evaluate(find("ravdess", voices), model)
    assert (result["bench"], result["split"], result["n"], result["checkpoint"]) == ("ravdess", "valid", 20, "fake-1")
    assert result["metrics"]["accuracy"] == 0.75
    assert result["metrics"]["uar"] == pytest.approx((1 + 0.5) / 2)
    assert result["metrics"]["ece"] == pytest.approx(0.05)  # 0.8 sure, 0.75 right
    assert result["groups"]["speaker 01"]["uar"] == 1.0
    assert result["groups"]["speaker 02"]["uar"] == 0.5
    assert result["intervals"]["accuracy"] == (0.5, 1.0)  # two people: either may be drawn twice
    assert result["resampled_by"] == "speaker"
    confusion = dict(zip(result["labels"], result["confusion"], strict=True))
    assert confusion["sad"][result["labels"].index("angry")] == 5


def test_candidates_are_the_corpus_own_labels(voices):
    model = ScriptedModel(hears)
    evaluate(find("ravdess", voices), model, limit=1)
    ((task, labels),) = model.asked
    assert task == "emotion"
    assert labels == ("neutral", "happy", "sad", "angry", "fear", "disgust", "surprise", "calm")


def test_a_corrupt_clip_is_counted_and_named(voices):
    (voices / "010.wav").write_bytes(b"not a sound")
    result = evaluate(find("ravdess", voices), ScriptedModel(hears))
    assert result["n"] == 19
    (skip,) = result["skipped"]
    assert (skip["n"], skip["names"]) == (1, ["010.wav"])
    assert "damaged" in skip["why"]


def test_a_folder_of_corrupt_clips_is_an_error(voices):
    for path in voices.glob("*.wav"):
        path.write_bytes(b"not a sound")
    with pytest.raises(EvaluationError, match="none of 20 cases could be read"):
        evaluate(find("ravdess", voices), ScriptedModel(hears))


def test_a_checkpoint_that_cannot_hear_is_refused(voices):
    with pytest.raises(EvaluationError, match=r"ravdess needs voice, which the checkpoint fake-1 was not trained"):
        evaluate(find("ravdess", voices), ScriptedModel(modalities=("text",)))


def test_the_limit_draws_the_same_cases_for_the_same_seed():
    assert chosen(range(100), 5, seed=3) == chosen(range(100), 5, seed=3)
    assert chosen(range(100), 5, seed=3) != chosen(range(100), 5, seed=4)
    assert chosen(range(100), 5, seed=3) == sorted(chosen(range(100), 5, seed=3))
    assert chosen(range(3), 5, seed=3) == [0, 1, 2]


def test_faces_in_an_archive_are_read(tmp_path):
    make_faces(tmp_path, "publictest", ["angry", "sad", "sad"])  # grey values 0, 10, 20

    def sees(turn, task):
        assert turn.faces.crops.shape == (1, 48, 48, 3)
        return "sad" if turn.faces.crops.mean() > 15 else "angry"

    result = evaluate(find("fer2013", tmp_path), ScriptedModel(sees))
    assert result["metrics"]["accuracy"] == pytest.approx(2 / 3)
    assert result["resampled_by"] == "case"


@pytest.fixture
def voice_and_face(tmp_path):
    """Six clips of one actor: the angry and the sad ones are loud or soft; the pictures always look the same."""
    rows = []
    for i, emotion in enumerate(["angry", "sad", "happy"] * 2):
        name = f"01-01-0{i}-01-01-02-01"
        make_clip(tmp_path / f"{name}.mp4", video="libx264", audio="aac", rate_hz=16_000, layout="mono", seconds=0.5)
        rows.append({"clip": name, "emotion": emotion, "actor": "1", "faces_mp4": f"{name}.mp4"})
    write_table(tmp_path / "labels.csv", rows)
    return tmp_path


def test_both_modalities_are_compared_with_the_better_one_alone(voice_and_face):
    order = iter(["angry", "sad", "happy"] * 2)
    said = {}

    def perceives(turn, task):
        if turn.faces is None:
            said["gold"] = next(order)  # the first view of each clip is the voice
            return "angry"
        if turn.speech is None:
            assert turn.frames is not None
            return said["gold"] if said["gold"] != "happy" else "sad"
        return said["gold"]

    result = evaluate(find("ravdess_av", voice_and_face), ScriptedModel(perceives))
    groups = result["groups"]
    assert [groups[view]["uar"] for view in ("voice", "face", "both")] == pytest.approx([1 / 3, 2 / 3, 1])
    assert result["metrics"]["uar"] == 1
    assert result["compared_with"] == "face"
    assert result["metrics"]["uar_gain"] == pytest.approx(1 / 3)
    low, high = result["intervals"]["uar_gain"]
    assert 0 <= low <= 1 / 3 <= high
    assert "better" not in groups


def test_meld_scores_sentiment_beside_emotion(tmp_path):
    rows = [
        {"dialogue": 0, "utterance": i, "speaker": "Ann", "text": text, "emotion": emotion, "sentiment": sentiment}
        for i, (text, emotion, sentiment) in enumerate([("Oh no!", "fear", "negative"), ("Great.", "joy", "positive")])
    ]
    write_lines(tmp_path / "dev.jsonl", rows)
    result = evaluate(
        find("meld", tmp_path), ScriptedModel(lambda turn, task: {"emotion": "happy"}.get(task, "positive"))
    )
    assert result["metrics"]["accuracy"] == 0.5
    assert result["groups"]["sentiment"]["uar"] == 0.5


def test_named_cause_lines_are_scored(tmp_path):
    turns = [
        {"turn": 1, "speaker": "A", "text": "we won the cup", "emotion": "happiness",
         "cause_turns": [1], "cause_spans": ["won the cup"]},
        {"turn": 2, "speaker": "B", "text": "lovely news", "emotion": "happiness",
         "cause_turns": [1, 2], "cause_spans": ["we won the cup", "news"]},
        {"turn": 3, "speaker": "A", "text": "but I broke my leg", "emotion": "sadness",
         "cause_turns": [3], "cause_spans": ["broke my leg"]},
    ]  # fmt: skip
    write_lines(tmp_path / "valid.jsonl", [{"id": "d1", "turns": turns}])
    result = evaluate(find("reccon", tmp_path), ScriptedModel())  # which always names the first line and the third
    assert result["n"] == 3
    assert result["metrics"]["cause_precision"] == pytest.approx(3 / 4)
    assert result["metrics"]["cause_recall"] == pytest.approx(3 / 4)
    assert result["metrics"]["span_f1"] == pytest.approx((2 * 3 / 7 + 1 + 0) / 3)


@pytest.fixture
def wheels(tmp_path):
    """A look-up of two groups on every wheel, beside the corpus."""
    columns = [f"w{wheel}l{level}" for level in (1, 2) for wheel in range(1, 6)]
    rows = {"happy": "joy", "joyful": "joy", "sad": "sorrow", "worried": "sorrow", "neutral": ""}
    write_table(tmp_path / "emotion_wheel" / "ew_lookup.csv",
                [{"form": form, **dict.fromkeys(columns, group)} for form, group in rows.items()])  # fmt: skip
    return tmp_path / "emotion_wheel"


MERR = [{"id": f"s{i}", "emotion": emotion, "text": "So it is."} for i, emotion in
        enumerate(["neutral"] * 9 + ["happy"] + ["neutral"] * 9 + ["worried"] + ["neutral"] * 10)]  # fmt: skip


def test_free_words_are_scored_on_the_wheels(tmp_path, wheels):
    write_lines(tmp_path / "merr" / "train.jsonl", MERR)
    model = ScriptedModel(lambda turn, task: "sad")  # its open word is "sad", worried's group
    result = evaluate(find("merr", tmp_path), model)
    assert result["n"] == 2  # of three, neutral lies on no wheel
    assert result["metrics"]["hit"] == 0.5
    assert [skip["why"] for skip in result["skipped"]] == ["neutral lies on no wheel"]
    assert result["groups"]["perceived emotion"]["n"] == 3
    assert "pseudo labels" in result["note"]


def test_free_words_without_wheels_are_refused(tmp_path):
    write_lines(tmp_path / "merr" / "train.jsonl", MERR)
    with pytest.raises(EvaluationError, match="put their folder emotion_wheel into the data folder"):
        evaluate(find("merr", tmp_path / "merr"), ScriptedModel())


def test_a_published_corpus_is_read_by_its_reader(tmp_path, wheels):
    published_folders.mer2023(tmp_path / "mer2023")
    result = evaluate(find("mer2023", tmp_path, "test"), ScriptedModel(lambda t, k: "sad", modalities=("text",)))
    assert (result["n"], result["metrics"]["hit"]) == (1, 1.0)


def test_polarity_leaves_out_what_is_neither(tmp_path):
    published_folders.sims(tmp_path / "sims")
    split = find("sims", tmp_path, "test")
    gold = [case.gold["sentiment"] for case in split.cases]
    result = evaluate(split, ScriptedModel(lambda turn, task: "negative", modalities=("text",)))
    assert result["n"] == len([label for label in gold if label != "neutral"])
    assert result["groups"]["three classes"]["n"] == len(gold)
    assert result["metrics"]["accuracy"] == gold.count("negative") / result["n"]


def test_a_split_that_a_published_corpus_lacks_is_named(tmp_path):
    published_folders.mer2023(tmp_path / "mer2023")
    with pytest.raises(ValueError, match=r"mer2023 has no split 'valid'; it has: train, test"):
        find("mer2023", tmp_path)


def test_replies_are_measured_beside_those_of_people(tmp_path):
    rows = [
        dialogue(f"d{i}", ("speaker", "I won a cup."), ("listener", reply), emotion="proud")
        for i, reply in enumerate(["well done", "well done", "so good"])
    ]
    write_lines(tmp_path / "dialogues_test.jsonl", rows)
    model = tiny_model(modalities=("text",))
    split = find("empathetic_dialogues", tmp_path, "test")
    result = evaluate(split, model, untuned=lambda: model.model.lm)
    metrics = result["metrics"]
    assert metrics["perplexity_ratio"] == pytest.approx(1)  # the same model on both sides
    assert result["groups"]["untuned"]["perplexity"] == pytest.approx(metrics["perplexity"])
    assert math.isfinite(metrics["perplexity"])
    assert result["groups"]["references"]["dist_1"] == pytest.approx(4 / 6)
    assert {"accuracy", "dist_1", "dist_2"} <= set(metrics)
    assert result["resampled_by"] == "dialogue"


def test_the_report_says_all_that_was_found(voices, tmp_path):
    (voices / "010.wav").write_bytes(b"not a sound")
    result = evaluate(find("ravdess", voices), ScriptedModel(hears))
    out = tmp_path / "report"
    written = write_report(result, out)
    assert {path.name for path in written} == {
        "report.json", "report.md", "confusion.png", "reliability.png", "speakers.png"
    }  # fmt: skip
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(result))
    text = (out / "report.md").read_text()
    low, high = result["intervals"]["uar"]
    assert f"| uar | {result['metrics']['uar']:.3f} | {low:.3f} to {high:.3f} |" in text
    assert "010.wav" in text
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in ("confusion.png", "speakers.png"))


def test_a_report_without_classes_has_no_figures(tmp_path):
    result = {
        "bench": "reccon", "split": "valid", "n": 1, "checkpoint": "c", "metrics": {"cause_f1": 0.5}, "intervals": {},
        "groups": {}, "skipped": [], "resampled_by": "case", "note": "",
    }  # fmt: skip
    (tmp_path / "confusion.png").write_bytes(b"of another benchmark")
    assert [path.name for path in write_report(result, tmp_path)] == ["report.json", "report.md"]
    assert not (tmp_path / "confusion.png").exists()
    assert "| cause_f1 | 0.500 |  |" in page(result, [])
