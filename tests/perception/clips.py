"""Small media files made for a test, and where the shared recordings and weights are."""

from __future__ import annotations

import importlib.util
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY.parent / "shared" / "data"
SAMPLING = REPOSITORY.parent / "shared" / "spec" / "golden" / "sampling.json"

WIDTH, HEIGHT, FPS = 64, 48, 10
TONE_HZ = 440


def package_folder(package: str) -> Path | None:
    """Where an installed package lies, found without running its code."""
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def picture(index: int = 0) -> np.ndarray:
    """Red in the upper left quarter, blue that changes from frame to frame elsewhere."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:, :, 2] = 12 * index % 256
    image[: HEIGHT // 2, : WIDTH // 2] = (255, 0, 0)
    return image


def tone(rate_hz: int, seconds: float) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * TONE_HZ * np.arange(int(seconds * rate_hz)) / rate_hz)).astype(np.float32)


def make_clip(
    path: Path,
    *,
    video: str | None = None,
    audio: str | None = None,
    rate_hz: int = 48_000,
    layout: str = "stereo",
    seconds: float = 2.0,
    rotation: int = 0,
    sound: np.ndarray | None = None,
    sound_at_s: float = 0.0,
    image: np.ndarray | None = None,
) -> Path:
    """Write a clip with these codecs: a tone on all channels, `picture` at 10 frames a second."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(video, rate=FPS, width=WIDTH, height=HEIGHT) if video else None
        sounds = container.add_stream(audio, rate=rate_hz, layout=layout) if audio else None
        if pictures is not None:
            pictures.pix_fmt = "yuv420p"
            if rotation:
                pictures.set_display_rotation(rotation)
            for i in range(int(seconds * FPS)):
                frame = av.VideoFrame.from_ndarray(picture(i) if image is None else image, "rgb24")
                frame.pts, frame.time_base = i, Fraction(1, FPS)
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        if sounds is not None:
            wave = tone(rate_hz, seconds) if sound is None else sound
            channels = len(av.AudioLayout(layout).channels)
            frame = av.AudioFrame.from_ndarray(np.tile(wave, (channels, 1)), "fltp", layout)
            frame.sample_rate, frame.pts, frame.time_base = rate_hz, round(sound_at_s * rate_hz), Fraction(1, rate_hz)
            fit = av.AudioResampler(sounds.format.name, layout, rate_hz, sounds.codec_context.frame_size or 1024)
            for part in fit.resample(frame) + fit.resample(None):
                container.mux(sounds.encode(part))
            container.mux(sounds.encode(None))
    return path


def make_sparse_wav(path: Path, *, rate_hz: int, seconds: float, bytes_per_sample: int = 2) -> Path:
    """Write a mono WAV of silence that takes no room on the disk, however long it lasts."""
    size = int(rate_hz * seconds) * bytes_per_sample
    header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", size + 36, b"WAVE", b"fmt ", 16, 1, 1, rate_hz,
                         rate_hz * bytes_per_sample, bytes_per_sample, 8 * bytes_per_sample, b"data", size)  # fmt: skip
    path.write_bytes(header)
    os.truncate(path, len(header) + size)
    return path
