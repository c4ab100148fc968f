"""A voice note as chat platforms take it: Opus in an OGG file, at 48 kHz."""

from __future__ import annotations

import io

import numpy as np

from agent.speech import Audio

RATE_HZ = 48_000
BIT_RATE = 32_000
"""Of one voice; Telegram's own notes have as much."""


def ogg_opus(sound: Audio) -> bytes:
    """The file of a voice note.

    Raises:
        ImportError: PyAV is not installed.
    """
    try:
        import av
        from av.audio.resampler import AudioResampler
    except ImportError as error:
        raise ImportError("Voice notes need PyAV: pip install 'emox[embedded]'") from error
    held = io.BytesIO()
    with av.open(held, "w", format="ogg") as file:
        stream = file.add_stream("libopus", rate=RATE_HZ, layout="mono")
        stream.bit_rate = BIT_RATE
        samples = np.clip(sound.samples, -1, 1).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.sample_rate = sound.sample_rate_hz
        resampler = AudioResampler(
            format="flt", layout="mono", rate=RATE_HZ, frame_size=stream.codec_context.frame_size
        )
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return held.getvalue()
