"""`emox serve-model` and an agent that asks it."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from agent import cli, opening
from agent.model_host import hosted_of, size_of
from agent.settings import Settings
from model.installed import find
from model.tokens import hash_of
from tests.agent.light_emox import light_store
from tests.fakes import FakeModel
from tests.model.model_server import SlowModel, free_port, served


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOX_HOME", str(tmp_path))
    return tmp_path


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(list(arguments))
    return end.value.code, *capsys.readouterr()


def test_a_whole_turn_runs_on_a_model_elsewhere(home, monkeypatch, capsys):
    from model.server import make_app, under_names

    monkeypatch.setattr(opening, "open_store", light_store)
    model = FakeModel("I hear you, from afar.")
    with served(under_names({"default": make_app(model, {hash_of("right")})})) as url:
        monkeypatch.setenv("EMOX_MODEL_URL", f"{url}/models/default")
        status, _, told = run(capsys, "turn", "--text", "I am sad.", "--json")
        assert status == 1
        assert "token" in told
        monkeypatch.setenv("EMOX_MODEL_TOKEN", "right")
        status, told, _ = run(capsys, "turn", "--text", "I am sad.", "--json")
    assert status == 0
    turn = json.loads(told)
    assert turn["reply"] == "I hear you, from afar."
    assert turn["affect"]["emotion"] == "sad"
    assert model.calls == ["attend", "perceive", "understand", "empathize"]


def test_a_model_that_cannot_be_reached_is_told_in_one_line(monkeypatch, capsys):
    from model import remote

    monkeypatch.setattr(remote, "PAUSES_S", ())
    monkeypatch.setattr(opening, "open_store", light_store)
    monkeypatch.setenv("EMOX_MODEL_URL", f"http://127.0.0.1:{free_port()}/models/default")
    status, _, told = run(capsys, "turn", "--text", "I am sad.")
    assert status == 1
    assert "emox serve-model" in told
    assert told.count("\n") == 1


def test_a_lost_reply_is_told_as_one_that_may_be_asked_for_again(home, monkeypatch):
    from agent.server.errors import problem_of
    from model.remote import RemoteModel
    from model.server import make_app
    from model.types import Busy, ReplyBrief, Unreachable
    from perception.types import UserTurn

    for error in (Busy("busy"), Unreachable("lost")):
        assert problem_of(error).status == 503
        assert "Retry-After" in problem_of(error).headers
    with served(make_app(SlowModel(0.01, " ".join(["word"] * 500)))) as url:
        there = RemoteModel(url)
        reply = there.empathize(there.attend(UserTurn("hi")), ReplyBrief(None))
        next(reply)
        began = time.monotonic()
    # the server was told to stop: what it was saying is not finished
    with pytest.raises(Unreachable):
        list(reply)
    assert time.monotonic() - began < 10


def test_others_need_a_token(capsys):
    status, _, told = run(capsys, "serve-model", "--host", "0.0.0.0")
    assert status == 1
    assert "emox token model" in told


def test_a_token_is_shown_once_with_its_hash(capsys, home):
    status, told, _ = run(capsys, "token", "model", "--json")
    made = json.loads(told)
    assert status == 0
    assert made["hash"] == hash_of(made["token"])
    assert made["token"] not in "".join(path.read_text() for path in home.rglob("*") if path.is_file())
    _, told, _ = run(capsys, "token", "model")
    assert "EMOX_MODEL_TOKEN=emox-" in told


def test_models_are_hosted_by_name(tmp_path):
    settings = Settings(model_tokens=["hash"], threads=2)
    (default,) = hosted_of([], settings).values()
    assert (default.checkpoint, default.hashes, default.threads) == (None, ("hash",), 2)
    hosted = hosted_of(["one=packaged", f"two={tmp_path}"], settings)
    assert hosted["one"].checkpoint == str(find("packaged"))
    assert hosted["two"].checkpoint == str(tmp_path)
    for wrong in ("one", "=packaged", "One=packaged", "a/b=packaged"):
        with pytest.raises(ValueError, match="NAME=CHECKPOINT"):
            hosted_of([wrong], settings)
    with pytest.raises(ValueError, match="each name once"):
        hosted_of(["one=packaged", "one=packaged"], settings)


def test_sizes():
    assert (size_of("2").least, size_of("2").most) == (2, 2)
    assert (size_of("1-4").least, size_of("1-4").most) == (1, 4)
    for wrong in ("", "x", "0", "3-2", "-2"):
        with pytest.raises(ValueError, match="replicas"):
            size_of(wrong)


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="ray is installed")
def test_without_ray_it_is_told_what_to_install(capsys):
    status, _, told = run(capsys, "serve-model", "--replicas", "2")
    assert status == 1
    assert "emox[serve,cluster]" in told


def test_a_damaged_checkpoint_is_refused_before_anything_is_served(tmp_path, capsys):
    status, _, told = run(capsys, "serve-model", "--model", f"one={tmp_path}")
    assert status == 1
    assert "manifest" in told


def test_changes_are_for_replicas(capsys):
    status, _, told = run(capsys, "serve-model", "--change")
    assert status == 2
    assert "--replicas" in told


@pytest.mark.weights
def test_the_packaged_model_is_served_until_it_is_told_to_stop(home):
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "agent", "serve-model", "--port", str(port), "--model", "mine=packaged"],
        env=os.environ | {"EMOX_HOME": str(home)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline().strip() == f"EMOX_MODEL_URL=http://127.0.0.1:{port}/models/mine"
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                card = httpx.get(f"http://127.0.0.1:{port}/models/mine/card").json()
                break
            except httpx.TransportError:
                time.sleep(0.1)
        assert card["variant"] == "nano_emox_embedded"
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    finally:
        process.kill()
        process.wait()
