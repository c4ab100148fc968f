"""The peer of the voice loop: a plain Pipecat pipeline as its documentation builds one.

The same recogniser, language model and voice as ours, and Pipecat's own turn-taking (Silero, smart-turn); no feeling is
read, nothing is recalled, and nothing is thought ahead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import numpy as np
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.observers.base_observer import BaseObserver
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_transport import BaseTransport
from pipecat.utils.time import time_now_iso8601

from agent.reply import guarded
from agent.speech import STYLES, Speaker
from model.types import AffectModel, ReplyBrief, Utterance
from perception.asr import Asr
from perception.types import SAMPLE_RATE_HZ, Absence, Speech, UserTurn

ABSENT: Any = {"voice": Absence.NOT_GIVEN, "face": Absence.NOT_GIVEN}


def plain_pipeline(
    asr: Asr, model: AffectModel, speaker: Speaker, transport: BaseTransport, observers: list[BaseObserver]
) -> PipelineWorker:
    """A worker ready to run."""
    context = LLMContext()
    aggregators = LLMContextAggregatorPair(context)
    pipeline = Pipeline(
        [
            transport.input(),
            VADProcessor(vad_analyzer=SileroVADAnalyzer()),
            _Recogniser(asr),
            aggregators.user(),
            _LanguageModel(model),
            _Voice(speaker),
            transport.output(),
            aggregators.assistant(),
        ]
    )
    return PipelineWorker(
        pipeline,
        params=PipelineParams(audio_in_sample_rate=SAMPLE_RATE_HZ, audio_out_sample_rate=22_050, enable_metrics=True),
        observers=observers,
        idle_timeout_secs=None,
    )


class _Recogniser(SegmentedSTTService):
    def __init__(self, asr: Asr) -> None:
        super().__init__(settings=STTSettings(model=None, language=None), sample_rate=SAMPLE_RATE_HZ)
        self._asr = asr

    @property
    def wants_wav_segments(self) -> bool:
        return False

    def can_generate_metrics(self) -> bool:
        return True

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame, None]:
        await self.start_processing_metrics()
        speech = Speech(np.frombuffer(audio, np.int16).astype(np.float32) / 32768)
        transcript = await asyncio.to_thread(self._asr.transcribe, speech, "en", in_haste=True)
        await self.stop_processing_metrics()
        if transcript.text:
            yield TranscriptionFrame(transcript.text, "", time_now_iso8601(), finalized=True)


class _LanguageModel(LLMService):
    def __init__(self, model: AffectModel) -> None:
        super().__init__(settings=LLMSettings(model=None))
        self._model = model

    def can_generate_metrics(self) -> bool:
        return True

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        lines = [
            Utterance("user" if message["role"] == "user" else "assistant", str(message["content"]))
            for message in frame.context.messages
            if isinstance(message, dict) and message.get("role") in ("user", "assistant")
        ]
        await self.push_frame(LLMFullResponseStartFrame())
        await self.start_ttfb_metrics()
        pieces = self._reply(lines)
        while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
            await self.stop_ttfb_metrics()
            await self.push_frame(LLMTextFrame(piece))
        await self.push_frame(LLMFullResponseEndFrame())

    def _reply(self, lines: list[Utterance]) -> Iterator[str]:
        prefix = self._model.attend(UserTurn(lines[-1].text, absent=ABSENT), lines[-9:-1])
        yield from guarded(self._model.empathize(prefix, ReplyBrief(None)))


class _Voice(TTSService):
    def __init__(self, speaker: Speaker) -> None:
        super().__init__(
            settings=TTSSettings(model=None, voice=None, language=None),
            sample_rate=22_050,
            push_start_frame=True,
            push_stop_frames=True,
            stop_frame_timeout_s=0.3,
        )
        self._speaker = speaker

    def can_generate_metrics(self) -> bool:
        return True

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        sounds = await asyncio.to_thread(lambda: list(self._speaker.speak(text, STYLES["plain"])))
        await self.stop_ttfb_metrics()
        for sound in sounds:
            pcm = (np.clip(sound.samples, -1, 1) * 32767).round().astype("<i2").tobytes()
            yield TTSAudioRawFrame(pcm, sound.sample_rate_hz, 1, context_id=context_id)
