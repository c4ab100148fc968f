"""Chroma in a process of its own: its library holds Python's lock while it writes, calls of fsync included, so that in
a server nobody else would go on meanwhile.

What crosses over are the calls of Chroma's own library, one at a time. The process ends with the one that started it,
holds the folder's lock as long as it lives, and ends by nothing else: who is told to stop still has episodes to keep.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

import numpy as np


class Apart:
    """Takes the place of `chromadb_rust_bindings.Bindings`: a call of any method is done over there.

    Args:
        lock_file: descriptor of the folder's lock, which stays held until the process has ended.
    """

    def __init__(self, lock_file: int) -> None:
        here, there = socket.socketpair()
        with there:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", "from memory.apart import work; work()"],
                stdin=there.fileno(),
                pass_fds=[lock_file],
                env=dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)),
            )
        self._line = Connection(here.detach())
        self._one_at_a_time = threading.Lock()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._ask, name)

    @property
    def pid(self) -> int:
        """Which process it is."""
        return self._process.pid

    def ended(self) -> bool:
        """Whether it can do nothing any more."""
        return self._process.poll() is not None

    def end(self) -> None:
        """End it."""
        self._line.close()
        self._process.wait()

    def _ask(self, name: str, *arguments: Any) -> Any:
        with self._one_at_a_time:
            try:
                self._line.send((name, arguments))
                answer, error = self._line.recv()
            except (EOFError, OSError) as broken:
                self._process.kill()
                self._process.wait()
                raise OSError("the process that keeps the memory has ended") from broken
        if error is not None:
            raise error
        return answer


def work() -> None:
    """What the process does until the other one ends."""
    from .collections import return_freed_memory, system_on

    for asked_to_end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(asked_to_end, signal.SIG_IGN)
    line = Connection(os.dup(0))
    system: Any = None
    api: Any = None
    bindings: Any = None
    while True:
        try:
            name, arguments = line.recv()
        except (EOFError, OSError):
            os._exit(0)
        answer = error = None
        try:
            if name == "open_folder":
                system, api = system_on(*arguments)
                system.start()
                bindings = api.bindings
            elif name == "close_folder":
                if system is not None:
                    system.stop()
                system = api = bindings = None
                return_freed_memory()
            else:
                answer = _plain(getattr(bindings, name)(*arguments))
        except Exception as raised:
            error = raised
        line.send((answer, error))


def _plain(answer: Any) -> Any:
    """The library's own objects as ones that can be sent; vectors as an array, as numbers are slow to send."""
    if isinstance(answer, list):
        return [_plain(one) for one in answer]
    if answer is None or isinstance(answer, bool | int | str):
        return answer
    fields = {name: getattr(answer, name) for name in dir(answer) if not name.startswith("_")}
    if fields.get("embeddings"):
        fields["embeddings"] = np.array(fields["embeddings"], np.float32)
    return SimpleNamespace(**fields)
