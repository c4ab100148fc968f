"""What comes back from the output: which sounds and words were played."""

from __future__ import annotations

from typing import Any

from pipecat.frames.frames import Frame, TTSAudioRawFrame, TTSStartedFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from .companion import Companion
from .frames import WordFrame


class Echo(FrameProcessor):
    """Behind the output: tells the companion which of its words were played."""

    def __init__(self, companion: Companion, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._companion = companion
        self._plays: str | None = None  # the answer whose sound it is

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """See `FrameProcessor.process_frame`."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSStartedFrame):
            self._plays = frame.context_id
        elif isinstance(frame, TTSAudioRawFrame):
            await self._companion.played(self._plays)
        elif isinstance(frame, WordFrame):
            self._companion.heard(frame)
        await self.push_frame(frame, direction)
