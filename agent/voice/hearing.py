"""Listening ahead: at every pause, what was said in the turn so far is written down, and how complete it sounds.

Nothing waits for the end of the turn; when it comes, the last pause was it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    Frame,
    InputAudioRawFrame,
    InputImageRawFrame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    UserBackchannelFrame,
    UserSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.time import time_now_iso8601

from agent.nodes import Ears
from perception.types import MODALITIES, SAMPLE_RATE_HZ, Absence, Frames, Modality, Speech, Transcript, UserTurn

from .answering import n_thinking
from .frames import Answering, HeardSoFar, HearingFailed

logger = logging.getLogger(__name__)

PREROLL_S = 0.5
"""Sound kept from before speech is noticed, so that its first consonant is not lost."""

SETTLED_S = 6.0
"""Of a turn longer than this, words before a pause are kept as they are; only later ones are heard again."""

PAUSE_S = 0.4
"""A silence as long as this may part what is settled from what follows; a shorter one may lie within a word."""

SILENCE = np.zeros(round(0.13 * SAMPLE_RATE_HZ), np.float32)
"""Completes the silence after speech to 0.2 s, with which smart-turn is asked elsewhere: with less it is less sure."""

LANGUAGE_S = 1.0
"""So much sound tells the language of the conversation; to find it out each time takes another pass of the encoder."""

LONGEST_S = 30.0
"""What the model hears of a turn at most, from its end."""

FRAME_EVERY_S = 0.25
MAX_FRAMES = 32
"""Camera pictures kept of a turn: the paper's rate, and so many of the latest."""

OVERHEARD_S = 0.6
"""After so much speech the model reads ahead; the voice it hears to here stands for that of the whole turn where the
reply is made, not where the feeling is read."""

PATIENCE_S = 15.0
"""A recogniser that needs longer is not waited for."""


class Hearing(FrameProcessor):
    """Turns audio and camera pictures into `HeardSoFar`, one at each pause.

    Args:
        ears: recogniser and face finder.
        completeness: probability that speech, float32 (T,) at 16 kHz, is a complete turn by its sound.
        overhear: lets the model read ahead from a turn that has no words yet.
        consent: what may be read of the person; sound is kept in memory, and only while it is needed.
    """

    def __init__(
        self,
        ears: Ears,
        completeness: Callable[[np.ndarray], float],
        overhear: Callable[[UserTurn], Any],
        consent: frozenset[Modality],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._ears = ears
        self._completeness = completeness
        self._consent = consent
        self._language: str | None = None
        self._overhear = overhear
        self._listening: asyncio.Task[None] | None = None
        self._overhearing: asyncio.Task[None] | None = None
        self._sound = bytearray()
        self._speaking = False
        self._speech_at = self._silent_at = 0  # in the sound: where speech last began, with what was before, and ended
        self._speaking_since = self._silent_since = time.monotonic()
        self._forget()

    def _forget(self) -> None:
        """A new turn, of which nothing is known but the sound just now; speech that goes on belongs to it."""
        del self._sound[: self._speech_at if self._speaking else max(self._silent_at, self._before_now())]
        self._pictures: list[tuple[float, np.ndarray]] = []
        self._in_turn = self._speaking
        self._speech_at = self._silent_at = 0
        self._settled, self._settled_at = "", 0
        self._last = Transcript("", "")
        self._last_at = 0
        self._ahead: Any = None

    async def cleanup(self) -> None:
        """Stop listening."""
        await super().cleanup()
        await self._stop_listening()
        if self._overhearing is not None:
            await self.cancel_task(self._overhearing)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """See `FrameProcessor.process_frame`."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):  # fifty a second, and nobody behind needs them
            self._sound += frame.audio
            if not self._in_turn:
                del self._sound[: -_bytes(PREROLL_S)]
            return
        if isinstance(frame, InputImageRawFrame):
            self._see(frame)
        elif isinstance(frame, VADUserStartedSpeakingFrame):
            await self._speech_begins(frame)
        elif isinstance(frame, UserSpeakingFrame):
            self._read_ahead()
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self._speaking = False
            self._silent_since = time.monotonic() - frame.stop_secs
            self._silent_at = max(0, len(self._sound) - _bytes(frame.stop_secs))
            await self._stop_listening()
            self._listening = self.create_task(self._listen())
        elif isinstance(frame, UserStoppedSpeakingFrame):
            await self._turn_ends()
        elif isinstance(frame, UserBackchannelFrame | Answering):
            self._forget()
        await self.push_frame(frame, direction)

    async def _speech_begins(self, frame: VADUserStartedSpeakingFrame) -> None:
        await self._stop_listening()
        now = time.monotonic()
        if not self._in_turn:
            self._in_turn = True
        elif now - self._silent_since >= PAUSE_S and self._last_at - self._settled_at > _bytes(SETTLED_S):
            self._settled = f"{self._settled} {self._last.text}".strip()
            self._settled_at = self._last_at
        self._speaking, self._speaking_since = True, now - frame.start_secs
        self._speech_at = max(self._silent_at, self._before_now())

    def _before_now(self) -> int:
        """Where in the sound that lies which is kept from before speech is noticed."""
        return max(0, len(self._sound) - _bytes(PREROLL_S))

    async def _stop_listening(self) -> None:
        if self._listening is not None:
            task, self._listening = self._listening, None
            await self.cancel_task(task)

    async def _listen(self) -> None:
        """Write down what was said since the last settled word, and tell of the turn so far."""
        noticed = time.monotonic()
        end = len(self._sound)
        speech = _speech(self._sound)
        fresh = _speech(self._sound[self._settled_at :])
        stretch = speech.samples[self._speech_at // 2 :]  # since the last pause, which tells more than the whole turn
        try:
            async with asyncio.timeout(PATIENCE_S):
                self._last, complete, turn = await asyncio.gather(
                    asyncio.to_thread(self._write_down, fresh),
                    asyncio.to_thread(self._completeness, np.concatenate([stretch, SILENCE])),
                    asyncio.to_thread(self._look),
                )
        except Exception as error:
            await self.push_frame(HearingFailed(type(error).__name__))
            return
        self._last_at = end
        if self._last.language and fresh.duration_s > LANGUAGE_S:
            self._language = self._last.language
        text = f"{self._settled} {self._last.text}".strip()
        await self.push_frame(InterimTranscriptionFrame(text, "", time_now_iso8601()))
        spoken_s = self._silent_since - self._speaking_since
        ahead, self._ahead = self._ahead, None
        sound = speech if "text" in self._consent else None
        await self.push_frame(
            HeardSoFar(self._turn(text, speech, *turn), complete, spoken_s, self._silent_since, noticed, ahead, sound)
        )

    def _read_ahead(self) -> None:
        busy = self._overhearing is not None and not self._overhearing.done()
        if busy or self._ahead is not None or time.monotonic() - self._speaking_since < OVERHEARD_S:
            return
        if n_thinking():  # somebody waits for an answer
            return
        self._overhearing = self.create_task(self._overhear_so_far())

    async def _overhear_so_far(self) -> None:
        heard_of = self._pictures  # a new turn has new ones
        try:
            frames, faces = await asyncio.to_thread(self._look)
            turn = self._turn("", _speech(self._sound), frames, faces)
            ahead = await asyncio.to_thread(self._overhear, turn)
        except Exception as error:  # the turn itself will tell, if the model fails then too
            logger.warning("the model could not read ahead: %s", type(error).__name__)
            return
        if heard_of is self._pictures:
            self._ahead = ahead

    def _write_down(self, speech: Speech) -> Transcript:
        if "text" not in self._consent:
            return Transcript("", "")
        return self._ears.asr().transcribe(speech, self._language, in_haste=True)

    def _see(self, frame: InputImageRawFrame) -> None:
        now = time.monotonic()
        if "face" not in self._consent or (self._pictures and now - self._pictures[-1][0] < FRAME_EVERY_S):
            return
        if frame.format != "RGB":
            return
        width, height = frame.size
        image = np.frombuffer(frame.image, np.uint8).reshape(height, width, 3)
        self._pictures.append((now, image))
        del self._pictures[:-MAX_FRAMES]

    def _look(self) -> tuple[Frames | None, Any]:
        same = [(at, image) for at, image in self._pictures if image.shape == self._pictures[-1][1].shape]
        if not same:
            return None, None
        began = same[0][0]
        frames = Frames(np.stack([image for _, image in same]), np.array([at - began for at, _ in same]))
        return frames, self._ears.face_finder().follow(frames)

    def _turn(self, text: str, speech: Speech, frames: Frames | None, faces: Any) -> UserTurn:
        absent: dict[Modality, Absence] = {}
        if not text:
            absent["text"] = Absence.NO_SPEECH
        if faces is None:
            absent["face"] = Absence.NO_FACE if frames is not None else Absence.NOT_GIVEN
        absent |= {modality: Absence.NO_CONSENT for modality in MODALITIES if modality not in self._consent}
        heard = Speech(speech.samples[-round(LONGEST_S * SAMPLE_RATE_HZ) :])
        return UserTurn(text, heard if "voice" in self._consent else None, frames, faces, self._last, absent)

    async def _turn_ends(self) -> None:
        text = f"{self._settled} {self._last.text}".strip()
        if text:
            await self.push_frame(TranscriptionFrame(text, "", time_now_iso8601(), finalized=True))
        elif "text" in self._consent:
            self._forget()


def _bytes(seconds: float) -> int:
    return 2 * round(seconds * SAMPLE_RATE_HZ)


def _speech(sound: bytes | bytearray) -> Speech:
    return Speech(np.frombuffer(bytes(sound), np.int16).astype(np.float32) / 32768)
