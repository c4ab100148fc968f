"""Augmented speech: always the same for a file and view, of sensible length, finite, and changed as it says."""

import numpy as np
import pytest

from training.data.augment import SPEED, add_noise, augment, band, change_speed, generator, reverberate

RATE_HZ = 16_000


def tone(hz, seconds=1.0):
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(RATE_HZ * seconds)) / RATE_HZ)).astype(np.float32)


def level(samples, hz):
    """Amplitude at a frequency, away from the edges."""
    middle = samples[2000:-2000]
    return abs(np.fft.rfft(middle * np.hanning(len(middle)))[round(hz * len(middle) / RATE_HZ)])


def test_a_file_and_view_always_give_the_same_and_others_do_not():
    speech = tone(200)
    versions = {(c, v): augment(speech, generator(c, v)) for c in ("ab12", "cd34") for v in range(1, 6)}
    for (content, view), samples in versions.items():
        assert np.array_equal(samples, augment(speech, generator(content, view)))
    different = {samples.tobytes() for samples in versions.values()}
    assert len(different) >= 9  # that nothing is changed has a chance of 1 in 30


@pytest.mark.parametrize("n", [1_600, 15_999, 48_000])
def test_any_speech_stays_finite_bounded_and_about_as_long(n):
    speech = np.random.default_rng(0).uniform(-1, 1, n).astype(np.float32)
    for view in range(1, 40):
        samples = augment(speech, generator("ab", view))
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert n / SPEED[1] - 2 <= len(samples) <= n / SPEED[0] + 2
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1
        assert samples.std() > 0.001


def test_silence_stays_silent():
    for view in range(1, 40):
        assert not augment(np.zeros(16_000, np.float32), generator("ab", view)).any()


def test_what_is_not_one_row_of_samples_is_refused():
    for wrong in (np.zeros((2, 100), np.float32), np.zeros(0, np.float32)):
        with pytest.raises(ValueError, match="expected"):
            augment(wrong, generator("ab", 1))


def test_faster_is_shorter_and_higher():
    faster = change_speed(tone(1000), 1.1)
    assert len(faster) == pytest.approx(RATE_HZ / 1.1, abs=2)
    assert level(faster, 1100) > 20 * level(faster, 1000)


def test_a_telephone_passes_the_middle_of_speech_only():
    for hz, low, high in ((100, 0, 0.05), (1000, 0.95, 1), (6000, 0, 0.15)):
        assert low <= level(band(tone(hz), 300.0, 3400.0), hz) / level(tone(hz), hz) <= high


def test_noise_is_as_loud_as_asked():
    speech = tone(300)
    for snr_db in (5, 30):
        noise = add_noise(speech, snr_db, generator("ab", 1)) - speech
        assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.1)


def test_a_room_answers_after_the_sound_and_fades():
    click = np.zeros(RATE_HZ, np.float32)
    click[4000] = 1
    heard = reverberate(click, 0.3, -3.0, generator("ab", 1))
    assert len(heard) == RATE_HZ
    assert np.abs(heard[:3999]).max() < 1e-6
    energy = [float(np.sum(heard[at : at + 800] ** 2)) for at in (4001, 5600, 7200)]
    assert energy[0] > 10 * energy[1] > 100 * energy[2] > 0
    assert np.sum(heard[4001:] ** 2) == pytest.approx(10 ** (-3 / 10), rel=0.1)
