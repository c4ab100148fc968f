"""`emox serve` with a scripted model that takes its time and says what it heard, for the platforms in the environment.

python -m tests.agent.connectors.light_chats SECONDS    EMOX_HOME says where
"""

from __future__ import annotations

import sys
import time
from unittest import mock

from agent import cli, opening
from agent.server import run
from tests.agent.light_emox import light_store
from tests.fakes import FakeModel


class SlowEcho(FakeModel):
    """Each word comes after a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def empathize(self, prefix, brief):
        words = f"I heard: {prefix.text}".split()
        for word in words:
            time.sleep(self._seconds / len(words))
            yield f" {word}"


def main() -> None:
    echo = SlowEcho(float(sys.argv[1]))
    slow = mock.patch.multiple(opening, load_model=mock.Mock(return_value=echo), open_store=light_store)
    with slow, mock.patch.object(run, "_voice", return_value=None):
        cli.main(["serve", "--port", "0"])


if __name__ == "__main__":
    main()
