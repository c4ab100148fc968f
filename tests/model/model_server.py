"""A model's server for tests: in this process, or in one of its own that can be killed.

python -m tests.model.model_server PORT SECONDS    serves a scripted model, each word after a while
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time

import httpx
import uvicorn

from model.server import make_app
from tests.fakes import FakeModel


class SlowModel(FakeModel):
    """Takes its time for each word of a reply, and tells how many replies are being worded."""

    def __init__(self, seconds=0.0, reply="I hear you. Tell me more?", **options):
        super().__init__(reply, **options)
        self.seconds = seconds
        self.n_wording = 0

    def empathize(self, prefix, brief):
        self.n_wording += 1
        try:
            for piece in super().empathize(prefix, brief):
                time.sleep(self.seconds)
                yield piece
        finally:
            self.n_wording -= 1


@contextlib.contextmanager
def served(app):
    """The address of an app that is served by a thread."""
    config = uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(port, seconds):
    """A server in a process of its own, once it answers."""
    process = subprocess.Popen([sys.executable, "-m", "tests.model.model_server", str(port), str(seconds)])
    until = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/health")
            return process
        time.sleep(0.05)
    raise AssertionError("the server did not start")


if __name__ == "__main__":
    model = SlowModel(float(sys.argv[2]), " ".join(["word"] * 1000))
    uvicorn.run(make_app(model), port=int(sys.argv[1]), log_level="error")
