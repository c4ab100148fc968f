"""A phase's log as a picture."""

from __future__ import annotations

import json
from pathlib import Path


def draw_curves(log: Path, out: Path) -> None:
    """Training loss, validation loss and learning rate over the steps of a `log.jsonl`, as a PNG."""
    from matplotlib.figure import Figure

    entries = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    training = [entry for entry in entries if "lr" in entry]
    validation = [entry for entry in entries if "valid/loss" in entry]
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([e["step"] for e in training], [e["loss"] for e in training], linewidth=0.8, label="training")
    left.plot([e["step"] for e in validation], [e["valid/loss"] for e in validation], marker="o", label="validation")
    left.set(xlabel="step", ylabel="loss")
    left.legend()
    right.plot([e["step"] for e in training], [e["lr"] for e in training])
    right.set(xlabel="step", ylabel="learning rate")
    figure.savefig(out, dpi=110)
