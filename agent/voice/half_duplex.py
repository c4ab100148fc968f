"""For a microphone beside a loudspeaker, without echo cancellation: deaf while the agent speaks."""

from __future__ import annotations

import time
from typing import Any

from pipecat.frames.frames import BotStartedSpeakingFrame, BotStoppedSpeakingFrame, Frame, InputAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

ECHO_S = 0.3
"""After the last sample went out, the room still sounds for so long."""


class HalfDuplex(FrameProcessor):
    """Puts silence in the place of what the microphone hears while the agent speaks."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._deaf_until = 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """See `FrameProcessor.process_frame`."""
        await super().process_frame(frame, direction)
        if isinstance(frame, BotStartedSpeakingFrame):
            self._deaf_until = float("inf")
        elif isinstance(frame, BotStoppedSpeakingFrame):
            self._deaf_until = time.monotonic() + ECHO_S
        elif isinstance(frame, InputAudioRawFrame) and time.monotonic() < self._deaf_until:
            frame.audio = bytes(len(frame.audio))
        await self.push_frame(frame, direction)
