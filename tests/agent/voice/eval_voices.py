"""Voice and recogniser of Pipecat's evaluations: the agent's own weights, as Pipecat's services."""

from typing import Any

from pipecat.services.piper.tts import PiperTTSService
from pipecat.services.whisper.stt import WhisperSTTService

from model.weights import locate


def voice(_: dict[str, Any]) -> PiperTTSService:
    """The person's voice."""
    path = locate("piper-joe")
    return PiperTTSService(settings=PiperTTSService.Settings(voice=path.stem), download_dir=path.parent)


def recogniser(_: dict[str, Any]) -> WhisperSTTService:
    """What hears the agent; it only hears speech."""
    settings = WhisperSTTService.Settings(model=str(locate("whisper-base")), no_speech_prob=1.0)
    return WhisperSTTService(device="cpu", compute_type="int8", settings=settings)
