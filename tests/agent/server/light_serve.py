"""`emox serve` with a scripted model that takes its time, on the real memory and checkpoints, without live voice.

python -m tests.agent.server.light_serve PORT SECONDS    EMOX_HOME says where
"""

from __future__ import annotations

import sys
import time
from unittest import mock

from agent import cli, opening
from agent.nodes import Ears
from agent.server import run
from tests.agent.light_emox import light_store
from tests.fakes import FakeAsr, FakeFaceFinder, FakeModel, FakeSpeaker


class SlowModel(FakeModel):
    """Answers with how many lines of dialogue it was given, each word after a while."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    def attend(self, turn, history=(), ahead=None):
        self._n = len(history)
        return super().attend(turn, history, ahead)

    def empathize(self, prefix, brief):
        for word in f"I know {self._n} lines.".split():
            time.sleep(self._seconds / 4)
            yield f" {word}"


def main() -> None:
    port, seconds = sys.argv[1:]
    slow = mock.patch.multiple(
        opening,
        load_model=lambda _: SlowModel(float(seconds)),
        open_store=light_store,
        open_ears=lambda _: Ears(FakeAsr, FakeFaceFinder),
        open_speaker=lambda _: FakeSpeaker(),
    )
    with slow, mock.patch.object(run, "_voice", return_value=None):
        cli.main(["serve", "--port", port])


if __name__ == "__main__":
    main()
