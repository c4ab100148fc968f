"""What needs no card: a captured graph itself does."""

from contextlib import contextmanager

import torch

from model import graphs


def test_what_is_captured_runs_side_by_side_between_what_was_before_and_what_comes_then(monkeypatch):
    told, now = [], []

    class Stream:
        def __init__(self, name=None):
            self.name = name or f"side {len(graphs._SIDES)}"

        def wait_stream(self, other):
            told.append(f"{self.name} waits for {other.name}")

    @contextmanager
    def stream(one):
        now.append(one)
        yield
        now.pop()

    main = Stream("main")
    monkeypatch.setattr(graphs, "_SIDES", [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: main)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    for _ in range(2):  # the streams are made once
        told.clear()
        found = graphs.side_by_side(lambda: (1, now[-1].name), lambda: (2, now[-1].name))
        assert found == [(1, "side 0"), (2, "side 1")]
        assert told == [
            "side 0 waits for main", "side 1 waits for main", "main waits for side 0", "main waits for side 1"
        ]  # fmt: skip


def test_elsewhere_one_runs_after_the_other():
    assert graphs.side_by_side(lambda: 1, lambda: 2) == [1, 2]
    assert graphs.side_by_side() == []
