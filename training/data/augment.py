"""Speech as it may also have sounded: another speed, room, line, loudness, and noise.

Speakers are few in corpora of acted feelings; these changes keep what is felt and vary who says it where.
"""

from __future__ import annotations

import numpy as np

from perception.types import SAMPLE_RATE_HZ

# Chance of each change, and its range.
SPEED_P, SPEED = 0.8, (0.82, 1.22)
ROOM_P, ROOM_DECAY_S, ROOM_LEVEL_DB = 0.3, (0.15, 0.6), (-15.0, 0.0)
TELEPHONE_P, TELEPHONE_HZ = 0.15, (300.0, 3400.0)
LOW_PASS_P, LOW_PASS_HZ = 0.2, (2500.0, 7000.0)
NOISE_P, NOISE_SNR_DB = 0.6, (5.0, 30.0)
GAIN_P, GAIN_DB = 0.7, (-18.0, 6.0)


def generator(content: str, view: int) -> np.random.Generator:
    """Where the chances of a file's `view` are drawn from: always the same for the same bytes.

    Args:
        content: hash of the file's bytes, in hexadecimal.
        view: 1 or more; 0 is the file as it is.
    """
    return np.random.default_rng([int(content, 16), view])


def augment(samples: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """Speech with some of the changes, in the order in which they would happen.

    Args:
        samples: float32 (T,) in [-1, 1] at 16 kHz.
        draw: decides which changes, and how much.

    Returns:
        float32 (T',) in [-1, 1], T' within a quarter of T; made quieter as a whole where it would clip.

    Raises:
        ValueError: not one row of samples, or none at all.
    """
    if samples.ndim != 1 or not len(samples):
        raise ValueError(f"samples are {samples.shape}, expected (T,) with at least one sample")
    if draw.random() < SPEED_P:
        samples = change_speed(samples, draw.uniform(*SPEED))
    if draw.random() < ROOM_P:
        samples = reverberate(samples, draw.uniform(*ROOM_DECAY_S), draw.uniform(*ROOM_LEVEL_DB), draw)
    if draw.random() < TELEPHONE_P:
        samples = band(samples, *TELEPHONE_HZ)
    elif draw.random() < LOW_PASS_P:
        samples = band(samples, 0.0, draw.uniform(*LOW_PASS_HZ))
    if draw.random() < NOISE_P:
        samples = add_noise(samples, draw.uniform(*NOISE_SNR_DB), draw)
    if draw.random() < GAIN_P:
        samples = samples * 10 ** (draw.uniform(*GAIN_DB) / 20)
    return (samples / max(1.0, float(np.abs(samples).max()))).astype(np.float32)


def change_speed(samples: np.ndarray, factor: float) -> np.ndarray:
    """Play (T,) `factor` times as fast and as high -> (T / factor,); resampling changes both."""
    import soxr

    return soxr.resample(samples, SAMPLE_RATE_HZ * factor, SAMPLE_RATE_HZ)


def reverberate(samples: np.ndarray, decay_s: float, level_db: float, draw: np.random.Generator) -> np.ndarray:
    """Speech (T,) in a room, (T,): noise that fades by 60 dB in `decay_s` answers every sound.

    `level_db` is the energy of the room's answer, compared to what comes directly.
    """
    times_s = np.arange(int(decay_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    tail = draw.standard_normal(len(times_s)) * 10 ** (-3 * times_s / decay_s)
    tail *= 10 ** (level_db / 20) / np.sqrt(np.sum(tail**2))
    n = len(samples) + len(tail)
    answer = np.fft.irfft(np.fft.rfft(samples, n) * np.fft.rfft(tail, n), n)
    return samples + answer[: len(samples)]


def band(samples: np.ndarray, low_hz: float, high_hz: float, order: int = 4) -> np.ndarray:
    """Keep what lies between two frequencies, with the slopes of a Butterworth filter and no delay; (T,) -> (T,)."""
    hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)
    passed = 1 / np.sqrt(1 + (hz / high_hz) ** (2 * order))
    if low_hz > 0:
        ratio = (hz / low_hz) ** order
        passed *= ratio / np.sqrt(1 + ratio**2)
    return np.fft.irfft(np.fft.rfft(samples) * passed, len(samples))


def add_noise(samples: np.ndarray, snr_db: float, draw: np.random.Generator) -> np.ndarray:
    """Add noise `snr_db` below the speech, between white and brown; (T,) -> (T,). Silence stays silent."""
    hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(draw.standard_normal(len(samples))) / np.maximum(hz, 50.0) ** draw.uniform(0, 1)
    noise = np.fft.irfft(spectrum, len(samples))
    level = np.sqrt(np.mean(samples**2) / max(float(np.mean(noise**2)), 1e-20))
    return samples + noise * level * 10 ** (-snr_db / 20)
