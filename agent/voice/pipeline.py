"""One voice conversation as a Pipecat pipeline.

transport in ── voice activity ── hearing ── turn-taking ── companion ── transport out ── echo
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams
from pipecat.observers.base_observer import BaseObserver
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.audio.vad_processor import VADProcessor
from pipecat.transports.base_transport import BaseTransport
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.turns.user_turn_strategies import UserTurnStrategies

from agent.care import Consent
from agent.nodes import Ears
from agent.session import Agent
from perception.types import SAMPLE_RATE_HZ, Speech

from .companion import Companion, Report
from .echo import Echo
from .half_duplex import HalfDuplex
from .hearing import Hearing
from .turns import BargeIn, PatientStop

VAD = VADParams(confidence=0.5, start_secs=0.06, stop_secs=0.07, min_volume=0)
"""Speech is noticed within 0.06 s of sounding like speech, so that the agent falls silent in time; a false alarm costs
it a short pause. How loud it is does not matter: people who cry speak low, and Silero, asked alone, takes no noise for
speech. Its own confidence is 0.5; with Pipecat's 0.7 a soft onset is noticed late (docs/LOG.md). A pause is noticed
after 0.07 s, so that thinking begins early, and as early as before: the confidence moves it by 0.02 s; how long to wait
is decided later."""

OUT_RATE_HZ = 22_050
SILENCE_S = 25.0
"""After so long without a word of either, the person is told that there is time."""

Completeness = Callable[[np.ndarray], float]


@dataclass(frozen=True)
class Session:
    """A conversation ready to run: `worker` for a `WorkerRunner`, `companion` to greet or watch."""

    worker: PipelineWorker
    companion: Companion


def build_session(
    agent: Agent,
    ears: Ears,
    transport: BaseTransport,
    *,
    user: str,
    thread: str,
    consent: Consent,
    vad: VADAnalyzer | None = None,
    completeness: Completeness | None = None,
    report: Report = lambda result, timing: None,
    silence_s: float = SILENCE_S,
    observers: list[BaseObserver] | None = None,
    idle_timeout_s: float | None = 600.0,
    half_duplex: bool = False,
) -> Session:
    """Put a conversation together.

    Args:
        agent, ears: may be shared by many sessions.
        transport: how sound and pictures come and go.
        user, thread, consent: who speaks, in which conversation, and what may be read of them.
        vad, completeness: voice activity and end of turn; by default Silero's and smart-turn's, which Pipecat brings.
        report: told of each turn that is remembered, and what it waited for.
        silence_s: after so long without a word, say that there is time; 0 for never.
        observers: more of Pipecat's observers.
        idle_timeout_s: a session in which nobody speaks for so long is closed; None for never.
        half_duplex: do not listen while the agent speaks, where a microphone would hear it.
    """
    overhear = partial(agent.overhear, user=user, thread=thread)
    companion = Companion(agent, ears, user=user, thread=thread, consent=consent, report=report)
    turns = UserTurnProcessor(
        user_turn_strategies=UserTurnStrategies(start=[BargeIn()], stop=[PatientStop()]), user_idle_timeout=silence_s
    )

    @turns.event_handler("on_user_turn_idle")
    async def on_user_turn_idle(_: UserTurnProcessor) -> None:
        await companion.encourage()

    pipeline = Pipeline(
        [
            transport.input(),
            *([HalfDuplex()] if half_duplex else []),
            VADProcessor(vad_analyzer=vad or SileroVADAnalyzer(params=VAD)),
            Hearing(ears, completeness or smart_turn(), overhear, consent.allowed()),
            turns,
            companion,
            transport.output(),
            Echo(companion),
        ]
    )
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(audio_in_sample_rate=SAMPLE_RATE_HZ, audio_out_sample_rate=OUT_RATE_HZ),
        observers=observers or [],
        enable_turn_tracking=False,
        idle_timeout_secs=idle_timeout_s,
    )
    return Session(worker, companion)


def warm_up(agent: Agent, ears: Ears) -> None:
    """Do once what the first turn would wait for."""
    agent.warm_up()
    silence = np.zeros(2 * SAMPLE_RATE_HZ, np.float32)
    ears.asr().transcribe(Speech(silence), "en", in_haste=True)
    smart_turn()(silence)


@cache
def smart_turn() -> Completeness:
    """Probability that speech at 16 kHz is a complete turn, by smart-turn v3 (https://github.com/pipecat-ai/smart-turn).

    It takes 8 s at most, the last ones.
    """
    analyzer = LocalSmartTurnAnalyzerV3(sample_rate=SAMPLE_RATE_HZ, cpu_count=1)

    def completeness(samples: np.ndarray) -> float:
        return float(analyzer._predict_endpoint(samples)["probability"])

    return completeness
