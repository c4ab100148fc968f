"""Turn-taking as Pipecat's strategies: who has the floor, decided from words, sound and feeling.

While the agent speaks, a sound of the person's stops it at once, but begins a turn only when it proves to be more than
a sign of listening: a "mm-hm" or a cough lets the reply go on where it stopped.
"""

from __future__ import annotations

import asyncio
import time

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InterruptionFrame,
    UserBackchannelFrame,
    UserSpeakingFrame,
    VADUserStartedSpeakingFrame,
)
from pipecat.turns.types import ProcessFrameResult
from pipecat.turns.user_start import BaseUserTurnStartStrategy
from pipecat.turns.user_stop import BaseUserTurnStopStrategy
from pipecat.utils.time import time_now_iso8601

from model.types import Affect

from .endpointing import BACKCHANNEL_S, is_backchannel, wait_s
from .frames import Felt, HeardSoFar, HearingFailed


class BargeIn(BaseUserTurnStartStrategy):
    """A turn starts with speech; over the agent's own speech, once it is surely meant as one."""

    def __init__(self) -> None:
        super().__init__()
        self._agent_speaks = False
        self._held_since: float | None = None

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """See `BaseUserTurnStartStrategy.process_frame`."""
        if isinstance(frame, BotStartedSpeakingFrame):
            self._agent_speaks = True
        elif isinstance(frame, BotStoppedSpeakingFrame):
            self._agent_speaks = False
        elif isinstance(frame, VADUserStartedSpeakingFrame) and self._held_since is None:
            if self._agent_speaks:
                self._held_since = time.monotonic()
                await self.broadcast_frame(InterruptionFrame)
            else:
                await self.trigger_user_turn_started()
        elif isinstance(frame, UserSpeakingFrame) and self._held_since is not None:
            if time.monotonic() - self._held_since > BACKCHANNEL_S:
                await self._take_the_floor()
        elif isinstance(frame, HeardSoFar) and self._held_since is not None:
            text = frame.turn.text
            if frame.nothing or is_backchannel(text, frame.spoken_s):
                self._held_since = None
                await self.broadcast_frame(UserBackchannelFrame, text=text, user_id="", timestamp=time_now_iso8601())
            else:
                await self._take_the_floor()
        elif isinstance(frame, HearingFailed):
            self._held_since = None  # they will be asked to say it again
        return ProcessFrameResult.CONTINUE

    async def _take_the_floor(self) -> None:
        self._held_since = None
        await self.trigger_user_turn_started()


class PatientStop(BaseUserTurnStopStrategy):
    """A turn ends after a silence as long as `wait_s` says, which is asked again when a feeling becomes known."""

    def __init__(self) -> None:
        super().__init__()
        self._heard: HeardSoFar | None = None
        self._affect: Affect | None = None
        self._timer: asyncio.Task[None] | None = None

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """See `BaseUserTurnStopStrategy.process_frame`."""
        if isinstance(frame, VADUserStartedSpeakingFrame):
            await self._forget()
        elif isinstance(frame, HeardSoFar):
            self._heard = frame
            await self._wait()
        elif isinstance(frame, Felt):
            self._affect = frame.affect
            if self._timer is not None:
                await self._wait()
        return ProcessFrameResult.CONTINUE

    async def handle_user_turn_stopped(self) -> None:
        """What was heard belongs to the turn that is over; what was felt still counts at the start of the next."""
        await self._forget()

    async def cleanup(self) -> None:
        """Stop waiting."""
        await super().cleanup()
        await self._forget()

    async def _wait(self) -> None:
        assert self._heard is not None
        await self._cancel()
        wait = wait_s(self._heard.complete, self._heard.turn.text, self._affect)
        left = self._heard.silent_since + wait - time.monotonic()
        self._timer = self.task_manager.create_task(self._stop_after(left), f"{self}::wait")

    async def _stop_after(self, seconds: float) -> None:
        await asyncio.sleep(max(seconds, 0))
        self._timer = None
        await self.trigger_user_turn_stopped()

    async def _forget(self) -> None:
        self._heard = None
        await self._cancel()

    async def _cancel(self) -> None:
        if self._timer is not None:
            timer, self._timer = self._timer, None
            await self.task_manager.cancel_task(timer)
