"""Voice notes as chat platforms play them: Opus in an Ogg file."""

from __future__ import annotations

import io

import numpy as np

from agent.speech import Audio

RATE_HZ = 48_000
"""Opus works at this rate, whatever it is given."""

BIT_RATE = 32_000
"""Of speech that cannot be told from the original."""


def ogg_opus(sound: Audio) -> bytes:
    """A sound as an .ogg file.

    Raises:
        ImportError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ImportError("sending voice notes needs av: pip install 'emox[embedded]'") from error
    held = io.BytesIO()
    samples = (np.clip(sound.samples, -1, 1) * 32767).round().astype(np.int16)
    with av.open(held, "w", format="ogg") as file:
        stream = file.add_stream("libopus", rate=RATE_HZ, layout="mono", bit_rate=BIT_RATE)
        to_rate = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate = sound.sample_rate_hz
        for part in (frame, None):  # None: what the resampler still holds
            for resampled in to_rate.resample(part):
                file.mux(stream.encode(resampled))
        file.mux(stream.encode(None))
    return held.getvalue()
