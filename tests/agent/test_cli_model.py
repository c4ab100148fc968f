"""`emox model` through `main`: what is printed where, and how it exits. No language model is needed."""

import json
import subprocess
import sys

import pytest

from agent import cli
from agent.settings import load_settings
from model.manifest import embedded_checkpoint

ADAPTERS = "lora/adapter_model.safetensors"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("EMOX_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("EMOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("EMOX_CHECKPOINT", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        with pytest.raises(SystemExit) as exit_:
            cli.main(["model", *arguments])
        told = capsys.readouterr()
        return exit_.value.code or 0, told.out, told.err

    return call


def one_line(err):
    (line,) = [line for line in err.splitlines() if line.strip()]
    assert line.startswith("emox: ")
    return line


def test_the_packaged_one_is_listed_and_used(run):
    status, out, _ = run("list", "--json")
    assert status == 0
    (row,) = json.loads(out)["checkpoints"]
    assert (row["name"], row["variant"], row["intact"], row["used"]) == ("packaged", "nano_emox_embedded", True, True)
    assert row["modalities"] == ["text", "voice", "face"]
    status, out, _ = run("list")
    assert status == 0
    assert "packaged" in out


def test_a_pulled_one_is_used_by_its_name(run, tmp_path, monkeypatch):
    assert run("export", "packaged", "--to", "mine")[0] == 0
    status, out, _ = run("pull", "mine", "--json")
    assert status == 0
    assert json.loads(out)["name"] == "mine"
    (tmp_path / "mine").rename(tmp_path / "moved")
    monkeypatch.setenv("EMOX_CHECKPOINT", "mine")
    assert load_settings().checkpoint == tmp_path / "cache" / "checkpoints" / "mine"
    rows = json.loads(run("list", "--json")[1])["checkpoints"]
    assert {row["name"]: row["used"] for row in rows} == {"packaged": False, "mine": True}
    status, out, _ = run("verify", "--json")
    assert status == 0
    assert json.loads(out)["folder"] == str(load_settings().checkpoint)
    status, out, _ = run("pull", "moved", "--to", "third")
    assert out.startswith("third is here now: nano_emox_embedded ")


def test_a_setting_that_names_nothing_says_so_where_it_is_used(run, monkeypatch):
    monkeypatch.setenv("EMOX_CHECKPOINT", "ann/nothing")
    status, out, _ = run("list", "--json")
    assert status == 0
    row = json.loads(out)["checkpoints"][-1]
    assert (row["name"], row["used"], row["intact"]) == ("ann/nothing", True, False)
    status, out, err = run("verify")
    assert (status, out) == (2, "")
    assert "ann/nothing is no checkpoint" in one_line(err)


def test_damage_is_a_table_and_one_sentence(run, tmp_path):
    run("export", "packaged", "--to", "mine")
    with (tmp_path / "mine" / ADAPTERS).open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x55")
    status, out, err = run("verify", "mine")
    assert status == 2
    assert "adapter_model" in out
    assert one_line(err) == f"emox: mine/{ADAPTERS} is missing or differs from its manifest: fetch the checkpoint again"
    status, out, _ = run("verify", "mine", "--json")
    assert status == 2
    document = json.loads(out)
    assert not document["intact"]
    assert {file["name"] for file in document["files"] if file["problem"]} == {ADAPTERS}
    status, _, err = run("pull", "mine")
    assert status == 2
    assert "nothing was kept" in one_line(err)


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("pull", "nothing"), 2, "neither a folder here nor a repository"),
        (("pull", "ann/tiny"), 1, "connect to the network"),
        (("push", "packaged", "no name"), 2, "no name of a repository"),
        (("push", "packaged", "ann/tiny"), 1, "connect to the network"),
        (("export", "packaged", "--to", "."), 2, "exists already"),
        (("export", "packaged", "--to", ".", "--merged"), 2, "exists already"),
        (("export", "nowhere", "--to", "new"), 2, "nowhere is no checkpoint"),
        (("export", "ann/tiny", "--to", "new"), 2, "ann/tiny is no checkpoint"),
        (("export", "nowhere", "--to", "new", "--merged"), 2, "nowhere is no checkpoint"),
        (("verify", "."), 2, "no manifest.json"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, monkeypatch, arguments, status, why):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("model.export.language_model", lambda *_: embedded_checkpoint())
    found, out, err = run(*arguments)
    assert (found, out) == (status, "")
    assert why in one_line(err)


def test_the_list_loads_no_torch():
    code = "import sys; from agent import cli; import model.installed; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
