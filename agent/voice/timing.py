"""How long a person waits for an answer, and for what: marks on one clock, stages between them, spans for a trace."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opentelemetry import trace

MARKS = ("speech_end", "pause", "words", "felt", "understood", "first_text", "first_sound", "turn_end", "played")
"""In their usual order: the last word ended; the silence was noticed; the words were written down; level 1 and level 2
were answered; the reply's first word and first sentence of sound were ready; the turn counted as over; the first sample
went out. An answer thought ahead has most of them before the turn is over."""

STAGES = {
    "endpointing": ("speech_end", "pause"),
    "recogniser": ("pause", "words"),
    "perceive": ("words", "felt"),
    "understand": ("felt", "understood"),
    "word": ("understood", "first_text"),
    "speak": ("first_text", "first_sound"),
    "wait": ("speech_end", "turn_end"),
    "latency": ("speech_end", "played"),
}
"""Stage -> the marks between which it lies. `latency` is what the person waits: end of speech to first sample, as
Pipecat's `UserBotLatencyObserver` defines it."""


@dataclass
class TurnTiming:
    """Marks of one turn in seconds of `time.monotonic`."""

    marks: dict[str, float] = field(default_factory=dict)

    def mark(self, name: str, at: float | None = None) -> None:
        """Set a mark, by default now; only the first counts."""
        self.marks.setdefault(name, time.monotonic() if at is None else at)

    def stages_ms(self) -> dict[str, float]:
        """Milliseconds of each stage whose ends are both known."""
        return {
            stage: round(1000 * (self.marks[end] - self.marks[start]), 1)
            for stage, (start, end) in STAGES.items()
            if start in self.marks and end in self.marks
        }

    def trace(self, turn_id: str) -> None:
        """Tell OpenTelemetry of the turn and its stages; nothing is told where no SDK is set up.

        A turn that was not spoken, or whose answer was not, has no latency to tell of.
        """
        if not {"speech_end", "played"} <= self.marks.keys():
            return
        offset = time.time() - time.monotonic()
        tracer = trace.get_tracer("emox.voice")

        def ns(mark: str) -> int:
            return round((self.marks[mark] + offset) * 1e9)

        root = tracer.start_span("turn", start_time=ns("speech_end"), attributes={"turn_id": turn_id})
        with trace.use_span(root, end_on_exit=False):
            for stage, (start, end) in STAGES.items():
                if stage != "latency" and start in self.marks and end in self.marks:
                    tracer.start_span(stage, start_time=ns(start)).end(ns(end))
        root.end(ns("played"))


def store(path: Path, turn_id: str, timing: TurnTiming, **more: Any) -> None:
    """Append a turn's stages as a line of JSON: an id and numbers, nothing of what was said."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"turn_id": turn_id, "at": round(time.time(), 3), "stages_ms": timing.stages_ms(), **more}
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
