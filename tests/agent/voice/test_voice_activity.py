"""What counts as speech, on the clock of the sound: nothing here waits."""

from pathlib import Path

import numpy as np
import pytest
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADState

from agent.voice.pipeline import VAD
from bench.interruption import speech_in
from perception.media import read_clip
from perception.types import SAMPLE_RATE_HZ

DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "speech" / "ravdess"
TICK = SAMPLE_RATE_HZ // 50


async def noticed_s(samples):
    """When speech is noticed in sound that follows a second of silence, on the clock of the sound; None if never."""
    analyzer = SileroVADAnalyzer(params=VAD)
    analyzer.set_sample_rate(SAMPLE_RATE_HZ)
    pcm = (np.concatenate([np.zeros(SAMPLE_RATE_HZ), samples]) * 32767).round().astype("<i2")
    try:
        for end in range(TICK, len(pcm) + 1, TICK):
            if await analyzer.analyze_audio(pcm[end - TICK : end].tobytes()) is VADState.SPEAKING:
                return end / SAMPLE_RATE_HZ - 1
    finally:
        await analyzer.cleanup()
    return None


@pytest.mark.clips
@pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not in {DATA}")
async def test_low_voices_are_noticed_in_time():
    late_s = []
    for file in sorted(DATA.glob("Actor_*/*.ogg"))[::30]:
        samples = read_clip(file, want_frames=False).speech.samples
        at = await noticed_s(0.2 * samples)
        late_s.append(np.inf if at is None else at - speech_in(samples)[0] / SAMPLE_RATE_HZ)
    assert np.percentile(late_s, 50) < 0.25
    assert np.percentile(late_s, 80) < 0.5


async def test_noise_is_no_speech():
    noise = np.random.default_rng(0).normal(0, 0.1, 10 * SAMPLE_RATE_HZ)
    noise[: 5 * SAMPLE_RATE_HZ] *= np.arange(5 * SAMPLE_RATE_HZ) % 8_000 < 3_000  # bursts
    assert await noticed_s(noise.clip(-1, 1)) is None
