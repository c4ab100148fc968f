"""The picture of a log."""

import json

import matplotlib.figure
import numpy as np
import pytest
from PIL import Image

from training.curves import draw_curves


def write_log(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return path


def step(n, loss=1.0):
    return {"step": n, "loss": loss, "lr": 1e-3, "norm": 1.0, "tokens_per_s": 10.0}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure, "savefig", lambda figure, *a, **k: (figures.append(figure), save(figure, *a, **k))
    )
    return figures


def test_losses_and_rates_are_drawn_over_the_steps(tmp_path, drawn):
    entries = [step(1, 3.0), {"step": 1, "valid/loss": 4.0}, step(2, 2.0), {"step": 2, "valid/loss": 3.5}]
    draw_curves(write_log(tmp_path / "log.jsonl", entries), tmp_path / "curves.png")
    assert np.asarray(Image.open(tmp_path / "curves.png").convert("L")).std() > 1
    (losses, rates), *_ = [figure.axes for figure in drawn]
    assert [line.get_xydata().tolist() for line in losses.lines] == [[[1, 3], [2, 2]], [[1, 4], [2, 3.5]]]
    assert rates.lines[0].get_ydata().tolist() == [1e-3, 1e-3]


def test_a_run_without_validation_has_a_picture_too(tmp_path):
    draw_curves(write_log(tmp_path / "log.jsonl", [step(1)]), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").is_file()
