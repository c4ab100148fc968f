"""`emox token` and `emox serve` as commands."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]


def emox(home, *arguments, status=0):
    done = subprocess.run(
        [sys.executable, "-m", "tests.agent.light_emox", "0", *arguments],
        cwd=REPO, env=os.environ | {"EMOX_HOME": str(home)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr.splitlines()[-1]


def test_a_token_is_made_listed_without_showing_it_and_revoked(tmp_path):
    made = json.loads(emox(tmp_path, "token", "new", "--user", "ann", "--json"))
    plain = emox(tmp_path, "token", "new", "--user", "ben").strip()
    assert made["user"] == "ann"
    assert made["token"].startswith("emox-")
    assert plain.startswith("emox-")
    listed = json.loads(emox(tmp_path, "token", "list", "--json"))["tokens"]
    assert [token["user"] for token in listed] == ["ann", "ben"]
    assert made["token"] not in emox(tmp_path, "token", "list")
    revoked = json.loads(emox(tmp_path, "token", "revoke", listed[0]["id"], "--json"))
    assert revoked["revoked"]["user"] == "ann"
    assert [t["user"] for t in json.loads(emox(tmp_path, "token", "list", "--json"))["tokens"]] == ["ben"]
    assert "there is no token" in emox(tmp_path, "token", "revoke", listed[0]["id"], status=2)


def test_a_token_is_of_somebody(tmp_path):
    assert "1 to 512 characters" in emox(tmp_path, "token", "new", "--user", "", status=2)


def test_the_server_is_not_opened_to_others_without_tokens(tmp_path):
    pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    assert "emox token new" in emox(tmp_path, "serve", "--host", "0.0.0.0", "--port", "0", status=1)


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(tmp_path):
    pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"port {port} of 127.0.0.1 cannot be used" in emox(tmp_path, "serve", "--port", port, status=1)
    assert not (tmp_path / "memory").exists()
