"""A person made of recordings: what they say is fed in as if spoken, and what they hear is kept."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

import numpy as np
from pipecat.frames.frames import InputAudioRawFrame, OutputAudioRawFrame, StartFrame
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from perception.types import SAMPLE_RATE_HZ

TICK_S = 0.02


class ClipTransport(BaseTransport):
    """A microphone and a loudspeaker that are not there, in real time or `speed` times as fast.

    `heard` holds what was played: `time.monotonic` and 16-bit PCM at `out_rate_hz`.
    """

    def __init__(self, *, speed: float = 1.0) -> None:
        super().__init__()
        params = TransportParams(audio_in_enabled=True, audio_out_enabled=True, audio_out_10ms_chunks=2)
        self.heard: list[tuple[float, bytes]] = []
        self._microphone = _Microphone(params, speed)
        self._loudspeaker = _Loudspeaker(params, speed, self.heard)

    def input(self) -> FrameProcessor:
        """The microphone."""
        return self._microphone

    def output(self) -> FrameProcessor:
        """The loudspeaker."""
        return self._loudspeaker

    @property
    def out_rate_hz(self) -> int:
        """Rate of what is heard."""
        return self._loudspeaker.sample_rate

    async def say(self, samples: np.ndarray) -> float:
        """Speak, float32 (T,) at 16 kHz; returns when the last sample is spoken: `time.monotonic`."""
        return await self._microphone.say(samples)


class _Microphone(BaseInputTransport):
    def __init__(self, params: TransportParams, speed: float, **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self._tick_s = TICK_S / speed
        self._speech: deque[tuple[bytes, asyncio.Future[float] | None]] = deque()
        self._ticking: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)
        self._ticking = self.create_task(self._tick())

    async def cleanup(self) -> None:
        await super().cleanup()
        if self._ticking is not None:
            await self.cancel_task(self._ticking)
            self._ticking = None

    async def say(self, samples: np.ndarray) -> float:
        n = round(TICK_S * SAMPLE_RATE_HZ)
        pcm = (np.clip(samples, -1, 1) * 32767).round().astype("<i2")
        pcm = np.pad(pcm, (0, -len(pcm) % n))
        done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        pieces = [pcm[i : i + n].tobytes() for i in range(0, len(pcm), n)]
        self._speech.extend((piece, done if i == len(pieces) - 1 else None) for i, piece in enumerate(pieces))
        return await done

    async def _tick(self) -> None:
        silence = bytes(2 * round(TICK_S * SAMPLE_RATE_HZ))
        due = time.monotonic()
        while True:
            piece, done = self._speech.popleft() if self._speech else (silence, None)
            await self.push_audio_frame(InputAudioRawFrame(piece, SAMPLE_RATE_HZ, 1))
            due += self._tick_s
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if done is not None and not done.done():
                done.set_result(time.monotonic())


class _Loudspeaker(BaseOutputTransport):
    def __init__(self, params: TransportParams, speed: float, heard: list[tuple[float, bytes]], **kwargs: Any) -> None:
        super().__init__(params, **kwargs)
        self._speed = speed
        self._heard = heard
        self._free_at = 0.0

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        now = time.monotonic()
        begins = max(now, self._free_at)
        self._heard.append((begins, frame.audio))
        self._free_at = begins + len(frame.audio) / 2 / frame.sample_rate / self._speed
        await asyncio.sleep(self._free_at - now)
        return True
