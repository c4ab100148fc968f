"""The server is killed in the middle of turns, started again, told to stop: no turn is lost, none is answered twice."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.agent.light_emox import open_light

pytest.importorskip("fastapi", reason="fastapi is not installed")

REPO = Path(__file__).parents[3]
KILLS = int(os.environ.get("EMOX_KILLS", "4"))
USERS = ("ann", "ben")
TURN_S = 0.3


class Server:
    """A server process on a port and a home."""

    def __init__(self, home, port):
        self.address = f"http://127.0.0.1:{port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.agent.server.light_serve", str(port), str(TURN_S)],
            cwd=REPO, env=os.environ | {"EMOX_HOME": str(home)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip

    def wait(self):
        while self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.address}/ready").status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(self.process.stderr.read().decode())


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def send(address, tokens, user, n):
    """A message as a client sends it again until it is answered."""
    wish = {"text": f"This is message {n}.", "id": f"m{n}", "thread": "long", "stream": False}
    headers = {"Authorization": f"Bearer {tokens[user]}"}
    return httpx.post(f"{address}/api/turns", json=wish, headers=headers, timeout=20)


@pytest.fixture
def tokens(tmp_path):
    from agent.care import Consent
    from agent.people import People

    people = People(tmp_path / "people.sqlite")
    for user in USERS:
        people.agree(user, Consent())
    made = {user: people.new_token(user) for user in USERS}
    people.close()
    return made


def test_kill_9_during_turns_loses_none_and_answers_none_twice(tmp_path, tokens):
    port = free_port()
    chance = random.Random(7)
    answers = {user: [] for user in USERS}
    next_n = dict.fromkeys(USERS, 0)
    for round in range(KILLS + 1):
        server = Server(tmp_path, port)
        server.wait()
        dies_at = time.monotonic() + chance.uniform(0.05, 3 * TURN_S)
        with contextlib.ExitStack() as running:
            if round < KILLS:
                running.callback(server.process.wait)
                killer = subprocess.Popen(
                    [sys.executable, "-c", f"import os,time; time.sleep({dies_at - time.monotonic()}); "
                     f"os.kill({server.process.pid}, 9)"]
                )  # fmt: skip
                running.callback(killer.wait)
            alive = True
            while alive and (round < KILLS or min(next_n.values()) < KILLS + 4):
                for user in USERS:
                    try:
                        response = send(server.address, tokens, user, next_n[user])
                    except httpx.TransportError:
                        alive = False
                        break
                    assert response.status_code == 200
                    answers[user].append(response.json())
                    next_n[user] += 1
        if round == KILLS:
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 0, server.process.stderr.read().decode()
        server.process.stderr.close()
    with open_light(tmp_path) as agent:
        for user in USERS:
            kept = list(reversed(agent.store.list(user, limit=1000)))
            assert [episode.text for episode in kept] == [f"This is message {n}." for n in range(next_n[user])]
            assert [episode.reply for episode in kept] == [answer["reply"] for answer in answers[user]]
            lines = [2 * n if n < 4 else 8 + 2 * (n % 2) for n in range(next_n[user])]
            assert [episode.reply for episode in kept] == [f"I know {n} lines." for n in lines]


def test_told_to_stop_it_finishes_the_turn_that_has_begun(tmp_path, tokens):
    server = Server(tmp_path, free_port())
    server.wait()
    headers = {"Authorization": f"Bearer {tokens['ann']}"}
    with httpx.stream("POST", f"{server.address}/api/turns", json={"text": "Stay with me."}, headers=headers) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: started"
        server.process.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert "event: finished" in rest
    assert server.process.wait(20) == 0
    server.process.stderr.close()
    with open_light(tmp_path) as agent:
        assert [episode.text for episode in agent.store.list("ann")] == ["Stay with me."]
