"""Every command and snippet of the documentation runs, against a scripted model and real everything else.

Blocks marked `sh` run line by line, `python` as programs, `toml` as settings; what is written without a mark shows
output, or names commands with placeholders.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest

from agent.settings import Settings

REPO = Path(__file__).parents[1]
FILES = [REPO / "README.md", REPO / "CONTRIBUTING.md", *sorted((REPO / "docs").glob("*.md"))]
DEPLOY = REPO / "docs" / "deploy"
PORT = "7860"
TURN = ["turn", "--text", "My cat ran away yesterday, and I miss her."]


def blocks(language):
    """Every block of a language: (file, its number in the file, its text)."""
    found = []
    for file in FILES:
        texts = re.findall(rf"^```{language}\n(.*?)^```", file.read_text(), re.S | re.M)
        found += [pytest.param(file, text, id=f"{file.name}-{i}") for i, text in enumerate(texts)]
    return found


@pytest.fixture(scope="module")
def emox(tmp_path_factory):
    """An `emox` that has a scripted model, and a home beside it with a remembered turn."""
    emox = tmp_path_factory.mktemp("bin") / "emox"
    emox.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.agent.light_emox 0 "$@"\n')
    emox.chmod(0o755)
    env = os.environ | {"EMOX_HOME": str(emox.parent / "home"), "PYTHONPATH": str(REPO)}
    subprocess.run([emox, *TURN], env=env, check=True, capture_output=True)
    return emox


@pytest.fixture
def sandbox(tmp_path, emox):
    """A place to work in, and an environment with that `emox` and a copy of its home."""
    shutil.copytree(emox.parent / "home", tmp_path / "home")
    (tmp_path / "work").mkdir()
    env = os.environ | {
        "EMOX_HOME": str(tmp_path / "home"), "PATH": f"{emox.parent}:{os.environ['PATH']}", "PYTHONPATH": str(REPO),
    }  # fmt: skip
    return tmp_path / "work", env


@pytest.fixture
def port(sandbox, request):
    """The port of a server of the sandbox, where the block asks one."""
    text = request.node.funcargs["text"]
    if PORT not in text or "emox talk" in text:
        yield PORT
        return
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        chosen = str(free.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.agent.server.light_serve", chosen, "0.01"],
        cwd=REPO, env=sandbox[1], stdout=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        try:
            if httpx.get(f"http://127.0.0.1:{chosen}/ready").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    yield chosen
    process.terminate()
    process.wait(30)


@pytest.mark.parametrize(("file", "text"), blocks("sh"))
def test_commands_run(file, text, sandbox, port):
    folder, env = sandbox
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        if line in (
            "emox serve",
            "emox serve-model",
            "emox doctor",
        ):  # the servers run; whether anything is missing is the machine's matter
            continue
        line = line.replace(PORT, port).replace("curl ", "curl --fail-with-body ", 1)
        done = subprocess.run(["sh", "-c", line], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{file.name}: {line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(("file", "text"), blocks("python"))
def test_programs_run(file, text, sandbox, port):
    folder, env = sandbox
    (folder / "snippet.py").write_text(text.replace(PORT, port))
    done = subprocess.run(
        [sys.executable, "-m", "tests.light_program", "snippet.py"],
        cwd=folder, env=env, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{file.name}:\n{text}\n{done.stderr}"


@pytest.mark.parametrize(("file", "text"), blocks("toml"))
def test_settings_are_such(file, text):
    given = tomllib.loads(text)
    assert given.keys() <= Settings.model_fields.keys()
    Settings(**given)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_links_lead_somewhere(file):
    for target in re.findall(r"\]\(([^)#]+)", file.read_text()):
        assert target.startswith("http") or (file.parent / target).exists(), target


def test_extras_that_are_named_exist():
    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for file in [*FILES, DEPLOY / "Containerfile"]:
        for named in re.findall(r"(?:emox|\.)\[([\w,]+)\]", file.read_text()):
            assert set(named.split(",")) <= project.keys(), f"{file.name}: {named}"


def test_proxies_let_through_what_the_server_takes():
    app = pytest.importorskip("agent.server.app")
    assert app.BODY_BYTES == 34 * 2**20
    assert "client_max_body_size 34m;" in (DEPLOY / "nginx.conf").read_text()
    assert "max_size 34MB" in (DEPLOY / "Caddyfile").read_text()


def test_the_unit_is_one_that_systemd_takes(tmp_path):
    from agent.server.run import STOP_S

    unit = (DEPLOY / "emox.service").read_text()
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > STOP_S
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / "emox.service").write_text(unit.replace("/opt/emox/.venv/bin/emox", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", tmp_path / "emox.service"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_container_has_what_the_project_has():
    text = (DEPLOY / "Containerfile").read_text()
    assert (REPO / "weights.txt").is_file()
    assert "model.weights" in text
    assert '["serve", "--host", "0.0.0.0"]' in text
