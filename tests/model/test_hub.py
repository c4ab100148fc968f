"""Checkpoints pulled from folders and from a double of the hub, and pushed to it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.build import Manifest, nano_emox_tiny, save
from model.hub import HubError, pull, push
from model.installed import PACKAGED, checkpoints_dir, find, installed
from model.manifest import CheckpointError, embedded_checkpoint, read_manifest
from tests.hub_double import TOKEN, HubDouble

REPO = Path(__file__).parents[2]
FACTS = Manifest("nano_emox_tiny", "1", "3", ("text", "voice"), ("synthetic",), "2026-01-01", "CC0")
ADAPTERS = "lora/adapter_model.safetensors"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("made") / "tiny"
    save(nano_emox_tiny(), folder, FACTS)
    (folder / "README.md").write_text("# tiny\n")
    return folder


@pytest.fixture
def checkpoint(made, tmp_path):
    folder = tmp_path / "tiny"
    for file in [path for path in made.rglob("*") if path.is_file()]:
        copy = folder / file.relative_to(made)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)


@pytest.fixture
def hub(monkeypatch):
    double = HubDouble()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", double.url)
    template = double.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield double
    double.shutdown()
    double.server_close()


def left():
    """Names of everything among the pulled checkpoints but locks."""
    return sorted(path.name for path in checkpoints_dir().iterdir() if path.suffix != ".lock")


def relist(folder, **files):
    """Change a manifest's list of files."""
    facts = json.loads((folder / "manifest.json").read_text())
    facts["files"] |= files
    (folder / "manifest.json").write_text(json.dumps(facts))


def test_a_checkpoint_of_a_repository_is_here_by_its_name(hub, checkpoint):
    hub.put("ann/tiny", checkpoint)
    pulled = pull("ann/tiny")
    assert pulled.fetched
    assert find("ann/tiny") == pulled.folder == checkpoints_dir() / "ann--tiny"
    assert read_manifest(pulled.folder) == read_manifest(checkpoint)
    assert (pulled.folder / "README.md").read_text() == "# tiny\n"
    files = {path.relative_to(pulled.folder).as_posix() for path in pulled.folder.rglob("*") if path.is_file()}
    assert files == {"manifest.json", "README.md", *pulled.manifest.files}
    assert left() == ["ann--tiny"]


def test_what_is_here_is_not_fetched_again_and_what_is_damaged_is(hub, checkpoint):
    hub.put("ann/tiny", checkpoint)
    folder = pull("ann/tiny").folder
    hub.asked.clear()
    assert not pull("ann/tiny").fetched
    assert hub.fetched() == ["manifest.json"]
    (folder / ADAPTERS).write_bytes(b"damaged")
    assert pull("ann/tiny").fetched
    assert read_manifest(folder).version == "1"


def test_a_newer_one_takes_the_place_of_the_old(hub, checkpoint, tmp_path):
    hub.put("ann/tiny", checkpoint)
    pull("ann/tiny")
    save(nano_emox_tiny(), tmp_path / "new", replace(FACTS, version="2"))
    hub.put("ann/tiny", tmp_path / "new")
    assert pull("ann/tiny").manifest.version == "2"
    assert read_manifest(find("ann/tiny")).version == "2"
    assert not (find("ann/tiny") / "README.md").exists()
    assert left() == ["ann--tiny"]


def test_a_revision_has_a_name_of_its_own(hub, checkpoint, tmp_path):
    hub.put("ann/tiny", checkpoint)
    save(nano_emox_tiny(), tmp_path / "new", replace(FACTS, version="2"))
    hub.put("ann/tiny", tmp_path / "new", branch="next")
    assert pull("ann/tiny@next").manifest.version == "2"
    assert find("ann/tiny@next").name == "ann--tiny@next"
    assert [row.name for row in installed()] == [PACKAGED, "ann/tiny@next"]


def test_a_file_that_broke_off_goes_on_from_there(hub, checkpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)  # 10 MB are held together otherwise
    hub.put("ann/tiny", checkpoint)
    hub.break_after[ADAPTERS] = [1000, 2000]
    assert pull("ann/tiny").fetched
    ranges = [asked for method, path, asked, _ in hub.asked if method == "GET" and path.endswith(ADAPTERS)]
    assert ranges == [None, "bytes=1000-", "bytes=3000-"]


def test_a_network_that_stays_away_is_one_sentence_and_what_came_is_kept(hub, checkpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.put("ann/tiny", checkpoint)
    hub.break_after[ADAPTERS] = [0] * 6
    with pytest.raises(HubError, match=r"connection broke off .*what is whole is not sent again"):
        pull("ann/tiny")
    assert left() == [".ann--tiny.partial"]
    assert installed()[-1].name == PACKAGED
    hub.asked.clear()
    pull("ann/tiny")
    assert hub.fetched() == [ADAPTERS]


def test_a_pull_that_was_killed_goes_on(hub, checkpoint, tmp_path):
    hub.put("ann/tiny", checkpoint)
    hub.held[ADAPTERS] = threading.Event()
    env = os.environ | {
        "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN,
        "EMOX_HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf"),
    }  # fmt: skip
    command = [sys.executable, "-m", "agent", "model", "pull", "ann/tiny", "--json"]
    first = subprocess.Popen(command, cwd=REPO, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    partial = checkpoints_dir() / ".ann--tiny.partial"
    until = time.monotonic() + 120
    while time.monotonic() < until and first.poll() is None:
        done = len(list(partial.rglob("*.metadata")))  # manifest, card, configuration, branches
        if ADAPTERS in hub.fetched() and done == 4:
            break
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert left() == [".ann--tiny.partial"]
    hub.held.pop(ADAPTERS).set()
    hub.asked.clear()
    done = subprocess.run(command, cwd=REPO, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["name"], told["fetched"]) == ("ann/tiny", True)
    assert hub.fetched() == [ADAPTERS]
    assert {asked[3] for asked in hub.asked} == {f"Bearer {TOKEN}"}
    assert left() == ["ann--tiny"]


def test_changed_bytes_are_refused_and_nothing_stays(hub, checkpoint):
    hub.put("ann/tiny", checkpoint)
    files = hub.repos["ann/tiny"]["main"]
    files[ADAPTERS] = files[ADAPTERS][:-1] + bytes([files[ADAPTERS][-1] ^ 1])
    with pytest.raises(CheckpointError, match=f"ann/tiny/{ADAPTERS} is missing or differs from its manifest"):
        pull("ann/tiny")
    assert left() == []


def test_a_bad_update_leaves_the_old_one(hub, checkpoint):
    hub.put("ann/tiny", checkpoint)
    pull("ann/tiny")
    facts = json.loads(hub.repos["ann/tiny"]["main"]["manifest.json"])
    hub.repos["ann/tiny"]["main"]["manifest.json"] = json.dumps(facts | {"variant": "nano_emox_9b"}).encode()
    with pytest.raises(CheckpointError, match="nano_emox_9b, which is none of"):
        pull("ann/tiny")
    assert hub.fetched()[-1] == "manifest.json"  # and no more than that
    assert read_manifest(find("ann/tiny")).variant == "nano_emox_tiny"


def test_a_pickle_beside_a_checkpoint_stays_where_it_is(hub, checkpoint):
    (checkpoint / "pytorch_model.bin").write_bytes(b"x")
    hub.put("ann/tiny", checkpoint)
    assert not (pull("ann/tiny").folder / "pytorch_model.bin").exists()
    assert "pytorch_model.bin" not in hub.fetched()


def test_a_pickle_that_a_manifest_lists_is_refused(hub, checkpoint):
    (checkpoint / "weights.pt").write_bytes(b"x")
    relist(checkpoint, **{"weights.pt": "0"})
    hub.put("ann/tiny", checkpoint)
    with pytest.raises(CheckpointError, match=r"ann/tiny/weights.pt is refused: weights must be safetensors"):
        pull("ann/tiny")
    assert hub.fetched() == ["manifest.json"]
    assert left() == []


@pytest.mark.parametrize("name", ["../../elsewhere.json", "/elsewhere.json", "..\\elsewhere.json", "*.json"])
def test_a_manifest_reaches_no_other_file(checkpoint, tmp_path, name):
    (tmp_path / "elsewhere.json").write_text("{}")
    relist(checkpoint, **{name: "0"})
    with pytest.raises(CheckpointError, match="not a file of the checkpoint"):
        pull(str(checkpoint))
    assert left() == []


def test_tensors_of_another_variant_are_refused(hub, checkpoint):
    facts = json.loads((checkpoint / "manifest.json").read_text())
    (checkpoint / "manifest.json").write_text(json.dumps(facts | {"variant": "nano_emox_embedded"}))
    hub.put("ann/tiny", checkpoint)
    with pytest.raises(CheckpointError, match=r"does not fit its variant: .* where nano_emox_embedded has"):
        pull("ann/tiny")
    assert left() == []


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("ann/nothing", "has no ann/nothing, or it is private"),
        ("ann/tiny@nowhere", "no such revision"),
        ("ann/secret", "HF_TOKEN"),
    ],
)
def test_what_the_hub_does_not_give_is_one_sentence(hub, checkpoint, source, why):
    hub.put("ann/tiny", checkpoint)
    hub.put("ann/secret", checkpoint)
    hub.private.add("ann/secret")
    with pytest.raises(HubError, match=why):
        pull(source)
    assert left() == []


def test_a_private_one_is_given_to_whose_token_it_is(hub, checkpoint, monkeypatch):
    hub.put("ann/secret", checkpoint)
    hub.private.add("ann/secret")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pull("ann/secret").fetched


@pytest.mark.parametrize("source", ["nothing", "a/b/c", "./nowhere", "a b/c", "/nowhere"])
def test_what_is_no_source_is_said(source):
    with pytest.raises(CheckpointError, match="neither a folder here nor a repository"):
        pull(source)


def test_without_a_network_there_is_one_sentence(hub, checkpoint, monkeypatch):
    hub.put("ann/tiny", checkpoint)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"could not be reached .*ConnectError.*connect to the network"):
        pull("ann/tiny")
    assert left() == []


def test_a_folder_is_pulled_under_its_name(checkpoint):
    pulled = pull(str(checkpoint))
    assert (pulled.name, find("tiny"), pulled.fetched) == ("tiny", pulled.folder, True)
    assert not pull(str(checkpoint)).fetched
    assert read_manifest(find("tiny")) == read_manifest(checkpoint)


@pytest.mark.parametrize("name", [PACKAGED, ".hidden"])
def test_some_names_are_not_given(checkpoint, tmp_path, name):
    checkpoint.rename(tmp_path / name)
    with pytest.raises(CheckpointError, match="cannot be pulled under the name"):
        pull(str(tmp_path / name))
    assert pull(str(tmp_path / name), tmp_path / "mine").fetched


def test_a_folder_that_was_half_copied_is_finished(checkpoint):
    partial = checkpoints_dir() / ".tiny.partial"
    (partial / "lora").mkdir(parents=True)
    (partial / ADAPTERS).write_bytes(b"half")
    (partial / "model.safetensors").write_bytes(b"of an earlier one")
    pull(str(checkpoint))
    assert left() == ["tiny"]
    assert not (find("tiny") / "model.safetensors").exists()


def test_a_folder_that_is_there_is_not_written_over(checkpoint, tmp_path):
    assert pull(str(checkpoint), tmp_path / "mine").folder == tmp_path / "mine"
    with pytest.raises(FileExistsError, match="mine exists already"):
        pull(str(checkpoint), tmp_path / "mine")
    assert {path.name for path in tmp_path.iterdir()} == {"tiny", "mine"}


def test_all_that_is_here_is_listed(checkpoint, tmp_path):
    pull(str(checkpoint))
    (find("tiny") / ADAPTERS).unlink()
    rows = {row.name: row for row in installed(tmp_path / "nowhere")}
    assert list(rows) == [PACKAGED, "tiny", str(tmp_path / "nowhere")]
    assert rows[PACKAGED].problem == ""
    assert rows[PACKAGED].size_bytes > 20e6
    assert "is missing or differs" in rows["tiny"].problem
    assert rows["tiny"].variant == "nano_emox_tiny"
    assert "no checkpoint" in rows[str(tmp_path / "nowhere")].problem
    assert [name for name, row in rows.items() if row.used] == [str(tmp_path / "nowhere")]
    assert [row.name for row in installed(find("tiny")) if row.used] == ["tiny"]
    assert [row.name for row in installed() if row.used] == [PACKAGED]


def test_names_stand_for_folders(checkpoint, tmp_path, monkeypatch):
    pull(str(checkpoint))
    monkeypatch.chdir(tmp_path / "cache")
    assert find(PACKAGED) == embedded_checkpoint()
    assert find(Path("tiny")) == checkpoints_dir() / "tiny"
    (tmp_path / "cache" / "tiny").mkdir()
    assert find("tiny") == Path("tiny")  # a folder here goes first


def test_what_is_pushed_comes_back(hub, checkpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (checkpoint / "notes.txt").write_text("not of the checkpoint")
    (checkpoint / "optimizer.pt").write_bytes(b"x")
    url = push(checkpoint, "ann/new", private=True)
    assert url.startswith(f"{hub.url}/ann/new/commit/")
    manifest = read_manifest(checkpoint)
    assert hub.repos["ann/new"]["main"].keys() == {"manifest.json", "README.md", *manifest.files}
    assert hub.private == {"ann/new"}
    assert pull("ann/new").manifest == manifest
    push(checkpoint, "ann/new", revision="next")
    assert pull("ann/new@next").manifest == manifest


def test_a_damaged_checkpoint_is_not_pushed(hub, checkpoint, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (checkpoint / ADAPTERS).write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="differs from its manifest"):
        push(checkpoint, "ann/new")
    assert hub.asked == []


def test_who_is_not_known_may_not_push(hub, checkpoint):
    with pytest.raises(HubError, match="log in with"):
        push(checkpoint, "ann/new")
    assert hub.repos == {}
