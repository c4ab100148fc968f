"""Pipecat's evaluation runner holds the conversations of scenarios/ with a real server: real voice, real weights."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model.weights import MissingWeights, locate

pytest.importorskip("pipecat.evals.session", reason="pipecat-ai, which brings its evaluations, is not installed")
pytest.importorskip("questionary", reason="Pipecat's command line is not installed: pip install 'pipecat-ai[cli]'")

SCENARIOS = Path(__file__).with_name("scenarios")
ROOT = Path(__file__).parents[3]

try:
    for name in ("smollm2", "minilm", "whisper-base", "piper-joe"):
        locate(name)
    MISSING = ""
except MissingWeights as error:
    MISSING = str(error)

pytestmark = [pytest.mark.weights, pytest.mark.skipif(bool(MISSING), reason=MISSING)]


@contextlib.contextmanager
def serving(environment):
    """A server; its WebSocket for evaluations."""
    command = [sys.executable, "-m", "agent", "talk", "--browser", "--port", "0", "--user", "evals"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        try:
            address = re.search(r"http://([\d.:]+)/", process.stdout.readline())
            assert address is not None, "the server did not start"
            yield f"ws://{address[1]}/ws"
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


def run(environment, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=ROOT, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_scenario_passes_and_a_session_recalls_the_one_before(tmp_path):
    environment = os.environ | {"EMOX_HOME": str(tmp_path / "home"), "EMOX_LOCALE": "en-US", "EMOX_SILENCE_S": "6"}
    folders = ["--logs-dir", tmp_path / "logs", "--cache-dir", tmp_path / "speech"]
    with serving(environment) as address:
        run(environment, "pipecat.evals", "run", SCENARIOS, "--bot-url", address, "--verbose", *folders)
    listed = json.loads(run(environment, "agent", "memory", "list", "--user", "evals", "--json"))
    episodes = {episode["text"]: episode for episode in listed["episodes"]}
    told = next(episode for text, episode in episodes.items() if "died last night" in text)
    asked = episodes["I miss my dog so much tonight."]
    assert asked["thread_id"] != told["thread_id"]
    assert told["id"] in [recalled["id"] for recalled in asked["recalled"]]
    cut_off = [episode["reply"] for episode in listed["episodes"] if episode["cut_off"]]
    assert [reply for reply in cut_off if reply.startswith("I'm really glad") and "988" not in reply], cut_off
