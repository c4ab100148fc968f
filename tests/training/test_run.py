"""A whole run on corpora of a few clips: prepare, train all phases, release; and what is wrong with a run's folder."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from accelerate.state import AcceleratorState
from safetensors.torch import load_file, save_file

import training.run
from model.build import LANGUAGE_MODELS, NANO_EMOX_TINY, compose, nano_emox_tiny, read_manifest
from tests.model.tiny import tiny_tokenizer
from tests.training.corpora import make_faces, make_voices, write_lines
from tests.training.tiny_run import make_config, make_model
from training.config import Phase, RunConfig, as_table
from training.data.mixture import Mixture
from training.freeze import TRAINED
from training.loop import TrainingError
from training.release import recalibrate, release
from training.run import build, open_run, prepare_features, start_from, train

LABELS = ("neutral", "happy", "sad", "angry")
STEPS = 2


def phase(mixture, *start):
    return Phase(mixture, STEPS, lr=1e-3, min_lr=1e-4, start=start, batch=4, warmup=1)


PHASES = {
    "1.1": phase({"ravdess": 1.0}),
    "1.2": phase({"fer2013": 1.0}),
    "2": phase({"ravdess": 0.3, "voice+face": 0.4, "text+voice": 0.3}, "1.1", "1.2"),
    "3": phase({"goemotions/emotion": 0.6, "fer2013": 0.2, "text+voice+face": 0.2}, "2"),
}


def make_corpora(folder):
    """Three corpora, each with two clips or lines of each label in each split."""
    split = {"train": 0.2, "valid": 0.4}
    make_voices(folder / "speech" / "ravdess", [
        (f"{label}-{part}-{i}.wav", label, f"{part} {i}", part, loudness + i / 4)
        for part, loudness in split.items() for label in LABELS for i in range(2)
    ])  # fmt: skip
    for stem in ("train", "publictest"):
        make_faces(folder / "face_restricted" / "fer2013", stem, [label for label in LABELS for _ in range(2)])
    named = {"neutral": "neutral", "happy": "joy", "sad": "sadness", "angry": "anger"}
    for stem in ("train", "dev"):
        rows = [{"text": f"{stem} {label} {i}", "labels": [named[label]]} for label in LABELS for i in range(2)]
        write_lines(folder / "text" / "goemotions" / f"{stem}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished run: its configuration, the folder of the language model, what prepare and train said."""
    folder = tmp_path_factory.mktemp("made")
    lm = folder / "lm"
    torch.manual_seed(0)
    LANGUAGE_MODELS["tiny-llama"]().save_pretrained(lm)
    tiny_tokenizer().save_pretrained(lm)
    save_file(compose(NANO_EMOX_TINY).facial.state_dict(), folder / "face.safetensors")
    config = RunConfig("nano_emox_tiny", make_corpora(folder / "data"), folder / "run", PHASES,
                       face_network=folder / "face.safetensors", views={"ravdess": 1}, portion=4, save_every=1,
                       evaluate_every=1, evaluate_on=3, log_every=1)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.run, "keep_freed_memory", lambda: None)
        patch.setattr(training.run, "Mixture", SortedMixture)
        AcceleratorState._reset_state(reset_partial_state=True)
        report = prepare_features(config, lm=lm)
        results = train(PHASES, config, lm=lm)
    yield config, lm, report, results
    AcceleratorState._reset_state(reset_partial_state=True)  # leave no bf16 behind


class SortedMixture(Mixture):
    """A mixture that refuses corpora in an order that could be another in the next process."""

    def __init__(self, corpora, *arguments, **options):
        assert list(corpora) == sorted(corpora)
        super().__init__(corpora, *arguments, **options)


def test_every_clip_is_prepared_once_with_its_views(made):
    _, _, report, _ = made
    # Four sounds differ, each with a view, and eight pictures, for two encoders; the others hold the same bytes.
    assert report.encoded == 4 * 2 + 8 * 2
    assert report.encoded + report.found == 16 * 2 + 16 * 2
    assert report.skipped == ()


def test_every_phase_leaves_its_weights_log_and_curves(made):
    _config, _, _, results = made
    assert [result.folder.name for result in results] == [f"phase-{name}" for name in PHASES]
    for name, result in zip(PHASES, results, strict=True):
        there = {path.name for path in result.folder.iterdir()}
        assert there >= {"last.safetensors", "best.safetensors", "progress.json", "log.jsonl", "curves.png"}
        saved = load_file(result.folder / "last.safetensors")
        assert int(saved.pop("step")) == result.step == STEPS
        saved.pop("best")
        parts = {key.split(".")[0] for key in saved if not key.startswith("optimiser.")}
        assert parts == {"lm" if part == "lora" else part for part in TRAINED[name]}
        assert "loss" in result.figures
    assert "goemotions/emotion/sure" in results[-1].figures
    assert not any(key.startswith("ravdess") for key in results[-1].figures)


def test_the_run_tells_what_it_was_made_of(made):
    config, _, _, _ = made
    assert yaml.safe_load((config.out / "config.yaml").read_text())["phases"]["2"]["start"] == ["1.1", "1.2"]
    told = json.loads((config.out / "data.json").read_text())
    assert {name: facts["train"]["samples"] for name, facts in told.items()} == {
        "fer2013": 8, "goemotions": 8 * 2 + 6, "ravdess": 8,
    }  # fmt: skip
    assert json.loads((config.out / "environment.json").read_text())["torch"] == torch.__version__


def test_a_phase_starts_from_the_phases_before_it(made):
    config, lm, _, _ = made
    model, _ = build(config, lm)
    new = {key: value.clone() for key, value in model.state_dict().items()}
    start_from(model, "2", config)
    before = {name: load_file(config.out / f"phase-{name}" / "last.safetensors") for name in ("1.1", "1.2")}
    for key, value in model.state_dict().items():
        expected = before["1.1"].get(key, before["1.2"].get(key, new[key]))
        assert torch.equal(value, expected), key
    assert not torch.equal(model.audio.queries, new["audio.queries"])


def test_a_finished_run_is_not_trained_again(made, monkeypatch):
    config, lm, _, _ = made
    monkeypatch.setattr(training.run, "keep_freed_memory", lambda: None)
    log = config.out / "phase-1.1" / "log.jsonl"
    before = log.read_text()
    (again,) = train(["1.1"], config, lm=lm)
    assert again.step == STEPS
    assert log.read_text() == before


def test_a_finished_run_is_released_with_its_calibration(made, tmp_path, monkeypatch):
    config, lm, _, _ = made
    monkeypatch.setattr(training.release, "keep_freed_memory", lambda: None)
    manifest = release(config, "3", tmp_path / "checkpoint", 8, lm=lm)
    assert read_manifest(tmp_path / "checkpoint") == manifest
    assert (manifest.variant, manifest.phase) == ("nano_emox_tiny", "3")
    assert manifest.data == ("FER2013", "GoEmotions", "RAVDESS")
    assert set(manifest.scaling) >= {"emotion/text", "sentiment/text", "emotion/voice", "emotion/text+voice+face"}
    assert "intent/text" not in manifest.scaling  # no corpus of intents
    assert manifest.metrics["emotion/voice n"] == 8
    saved = load_file(tmp_path / "checkpoint" / "branches.safetensors")
    trained = load_file(config.out / "phase-3" / "last.safetensors")
    assert torch.equal(saved["audio.queries"], trained["audio.queries"].to(torch.bfloat16))

    config = replace(config, weights={"lm": str(lm)})
    again = recalibrate(config, tmp_path / "checkpoint", tmp_path / "again", 6)
    assert read_manifest(tmp_path / "again") == again
    assert again.version.startswith(f"{manifest.version}+")
    assert again.files == manifest.files
    assert again.scaling.keys() == manifest.scaling.keys()
    assert again.metrics["emotion/voice n"] == 6
    twice = recalibrate(config, tmp_path / "again", tmp_path / "twice", 6)
    assert twice.version == f"{again.version}.2"
    assert twice.scaling["emotion/text"] == again.scaling["emotion/text"]  # of what is scored, not of what was scaled


def test_two_processes_of_the_command_train_one_model(made, tmp_path):
    if not torch.distributed.is_gloo_available():
        pytest.skip("torch was built without gloo, by which processes on CPUs talk")
    config, lm, _, _ = made
    shared = replace(config, out=tmp_path / "run", cache=config.out / "features", weights={"lm": str(lm)})
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(as_table(shared)), encoding="utf-8")
    command = [sys.executable, "-m", "agent", "train", "1.2", "--config", str(tmp_path / "run.yaml")]
    port = str(20_000 + os.getpid() % 20_000)
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            command, env={**os.environ, **told, "RANK": str(i), "LOCAL_RANK": str(i), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE, text=True,
        )
        for i in range(2)
    ]  # fmt: skip
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    assert json.loads((shared.out / "environment.json").read_text())["processes"] == 2
    assert int(load_file(shared.out / "phase-1.2" / "last.safetensors")["step"]) == STEPS


# ---- what is wrong with a run ----------------------------------------------------------------------------------------


def save(config, name, tensors, step=12):
    folder = config.out / f"phase-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    save_file({**tensors, "step": torch.tensor(step), "best": torch.tensor(1.0)}, folder / "last.safetensors")


@pytest.fixture
def after(tmp_path):
    """A configuration whose phase 2 starts from 1.1 and 1.2."""
    config = make_config(tmp_path)
    return replace(config, phases={**config.phases, "2": replace(config.phases["2"], start=("1.1", "1.2"))})


def test_a_later_phase_wins_where_both_trained_a_part(after):
    save(after, "1.1", {"audio.queries": torch.full((3, 16), 1.0), "optimiser.audio.queries.step": torch.tensor(9.0)})
    save(after, "1.2", {"audio.queries": torch.full((3, 16), 2.0)})
    model = make_model()
    start_from(model, "2", after)
    assert (model.audio.queries == 2).all()


def test_a_phase_that_is_missing_or_unfinished_is_told(after):
    with pytest.raises(TrainingError, match=r"phase 2 starts from phase 1\.1, which is missing: run `emox train 1\.1`"):
        start_from(make_model(), "2", after)
    save(after, "1.1", {}, step=11)
    with pytest.raises(TrainingError, match=r"phase 1\.1 stopped after step 11: run `emox train 1\.1` again"):
        start_from(make_model(), "2", after)


@pytest.mark.parametrize("odd", [{"audio.queries": torch.zeros(4, 16)}, {"taste.queries": torch.zeros(3, 16)}])
def test_weights_of_another_variant_are_refused_by_name(after, odd):
    save(after, "1.1", odd)
    (key,) = odd
    with pytest.raises(TrainingError, match=rf"phase-1\.1/last\.safetensors is of another variant: its {key} has"):
        start_from(nano_emox_tiny(), "2", after)


def test_a_run_is_opened_again_with_the_same_configuration_alone(tmp_path):
    config = make_config(tmp_path)
    open_run(config)
    open_run(config)
    with pytest.raises(TrainingError, match=r"holds a run with another `seed`: name a new folder with --out, or take"):
        open_run(replace(config, seed=7))
    open_run(config)


def test_a_phase_may_change_until_it_begins(tmp_path):
    config = make_config(tmp_path)
    open_run(config)
    (tmp_path / "phase-1.1").mkdir()

    def with_more_steps(name):
        return replace(config, phases={**config.phases, name: replace(config.phases[name], steps=99)})

    with pytest.raises(TrainingError, match=r"another `phases, 1\.1`"):
        open_run(with_more_steps("1.1"))
    open_run(with_more_steps("2"))
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["phases"]["2"]["steps"] == 99


def test_an_unknown_variant_and_a_missing_face_network_are_told(made):
    config, lm, _, _ = made
    with pytest.raises(TrainingError, match="there is no variant 'nano': choose from nano_emox_2b, nano_emox_embedded"):
        build(replace(config, variant="nano"), lm)
    with pytest.raises(TrainingError, match="`face_network` is missing in the configuration"):
        build(replace(config, face_network=None), lm)
