"""Sound as the bytes of a file, while it is still being made.

WAV needs nothing. The other formats are encoded by PyAV, and `pcm` is resampled by it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .settings import SetupError
from .speech import Audio

PCM_RATE_HZ = 24_000
"""Of `pcm`, which has no header that could tell it; clients of OpenAI's API expect this one."""

_UNKNOWN = 0xFFFFFFFF
"""Size in the header of a WAV file whose end is not known yet."""


@dataclass(frozen=True)
class Format:
    """A format by its media type; `container` and `codec` are FFmpeg's names, `rate_hz` the only rate it takes."""

    media_type: str
    container: str = ""
    codec: str = ""
    rate_hz: int | None = None


FORMATS = {
    "wav": Format("audio/wav"),
    "pcm": Format("audio/pcm", "s16le", "pcm_s16le", PCM_RATE_HZ),
    "mp3": Format("audio/mpeg", "mp3", "libmp3lame"),
    "opus": Format("audio/ogg", "ogg", "libopus", 48_000),
    "aac": Format("audio/aac", "adts", "aac"),
    "flac": Format("audio/flac", "flac", "flac"),
}


def encoded(sounds: Iterable[Audio], name: str) -> Iterator[bytes]:
    """A file of one of `FORMATS`, mono, in pieces as the sounds come; they are of one rate.

    Raises:
        ValueError: there is no sound.
        SetupError: PyAV is not installed.
    """
    form = FORMATS[name]
    pieces = _written_by_pyav(sounds, form) if form.codec else _wav(sounds)
    first = next(pieces, None)
    if first is None:
        raise ValueError("there is nothing in the text that can be spoken")
    yield first
    yield from pieces


def _wav(sounds: Iterable[Audio]) -> Iterator[bytes]:
    for number, sound in enumerate(sounds):
        rate = sound.sample_rate_hz
        if not number:
            form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
            yield struct.pack("<4sI4s", b"RIFF", _UNKNOWN, b"WAVE") + form + struct.pack("<4sI", b"data", _UNKNOWN)
        yield _int16(sound).astype("<i2").tobytes()


def _written_by_pyav(sounds: Iterable[Audio], form: Format) -> Iterator[bytes]:
    try:
        import av
    except ImportError:
        raise SetupError("this format is encoded by PyAV: pip install 'emox[embedded]', or ask for wav") from None
    file = _Taken()
    container: Any = None
    for sound in sounds:
        if container is None:
            container = av.open(file, "w", format=form.container)
            stream = container.add_stream(form.codec, rate=form.rate_hz or sound.sample_rate_hz, layout="mono")
            stream.codec_context.open()  # then it knows how many samples it takes at a time
            resampler = av.AudioResampler(stream.format, "mono", stream.rate, stream.codec_context.frame_size or None)
        frame = av.AudioFrame.from_ndarray(_int16(sound)[None], "s16", "mono")
        frame.sample_rate = sound.sample_rate_hz
        for ready in resampler.resample(frame):
            container.mux(stream.encode(ready))
        if piece := file.take():
            yield piece
    if container is not None:
        for ready in resampler.resample(None):
            container.mux(stream.encode(ready))
        container.mux(stream.encode(None))
        container.close()
        yield file.take()


class _Taken:
    """A file whose content is taken away while it is written."""

    def __init__(self) -> None:
        self._written = bytearray()

    def write(self, data: bytes) -> int:
        self._written += data
        return len(data)

    def take(self) -> bytes:
        taken, self._written = bytes(self._written), bytearray()
        return taken


def _int16(sound: Audio) -> np.ndarray:
    return (np.clip(sound.samples, -1, 1) * 32767).round().astype(np.int16)
