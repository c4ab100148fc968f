"""A voice conversation in the terminal: what was heard, felt, planned and replied, while it happens."""

from __future__ import annotations

from typing import Any

from pipecat.frames.frames import InterimTranscriptionFrame, LLMFullResponseStartFrame, LLMTextFrame, TranscriptionFrame
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.processors.frameworks.rtvi import RTVIServerMessageFrame
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.events import TurnResult

from .timing import TurnTiming

ROWS = ("heard", "felt", "plan", "reply", "latency")


class Display(BaseObserver):
    """Shows the turn that is under way; `show` leaves it on the screen once it is over."""

    def __init__(self, console: Console, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._console = console
        self._rows: dict[str, str] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True)

    async def on_push_frame(self, data: FramePushed) -> None:
        """See `BaseObserver.on_push_frame`."""
        if not data.first_push:
            return
        match data.frame:
            case InterimTranscriptionFrame(text=text) | TranscriptionFrame(text=text):
                self._set(heard=text)
            case RTVIServerMessageFrame(data={"type": "affect"} as affect):
                self._set(felt=felt(affect["emotion"], affect["confidence"], affect["valence"], affect["arousal"]))
            case RTVIServerMessageFrame(data={"type": "plan"} as plan):
                self._set(plan=f"{plan['route']}, {plan['strategy']}, voice {plan['voice']}")
            case LLMFullResponseStartFrame():
                self._set(reply="")
            case LLMTextFrame(text=text):
                self._set(reply=self._rows.get("reply", "") + text)

    def show(self, result: TurnResult, timing: TurnTiming) -> None:
        """Print a turn that is over."""
        affect, plan, stages = result.affect, result.plan, timing.stages_ms()
        self._live.stop()
        self._rows = {
            "heard": result.transcript,
            "felt": felt(affect.emotion, affect.confidence, affect.valence, affect.arousal),
            "plan": f"{plan.route}, {plan.strategy}, voice {plan.voice}",
            "reply": result.reply,
            "latency": ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in stages.items()),
        }
        self._console.print(self._table())
        self._console.print()
        self._rows = {}

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._live.stop()

    def _set(self, **rows: str) -> None:
        self._rows |= rows
        self._live.start()
        self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name in ROWS:
            if self._rows.get(name):
                table.add_row(Text(name, style="bold"), Text(self._rows[name].strip()))
        return table


def felt(emotion: str, confidence: float, valence: float, arousal: float) -> str:
    """A feeling in a few words."""
    return f"{emotion} {confidence:.0%} (valence {valence:+.2f}, arousal {arousal:+.2f})"
