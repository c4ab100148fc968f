import numpy as np
import pytest

from agent.speech import Audio
from agent.voice.answering import words_of
from agent.word_timing import SpokenWord

RATE_HZ = 16_000


def audio_of(*ends_s, seconds):
    """A sentence whose samples count up, its words ending at these times."""
    samples = np.arange(round(seconds * RATE_HZ), dtype=np.float32) / 32767
    words = (SpokenWord(f"w{i}", 0.0, end) for i, end in enumerate(ends_s))
    return Audio(samples, RATE_HZ, tuple(words))


def samples_of(word):
    return np.frombuffer(word.sound, "<i2")


def test_a_sentence_is_cut_at_the_ends_of_its_words():
    words = words_of(audio_of(0.1, 0.25, 0.4, seconds=0.4))
    assert [word.text for word in words] == ["w0", "w1", "w2"]
    assert [len(samples_of(word)) for word in words] == [1600, 2400, 2400]


def test_no_sample_is_lost_or_repeated():
    audio = audio_of(0.1, 0.2, 0.3, seconds=0.5)  # what sounds after the last word belongs to it
    joined = np.concatenate([samples_of(word) for word in words_of(audio)])
    assert np.array_equal(joined, np.arange(len(audio.samples)))


def test_a_word_that_ends_before_the_one_before_it_has_no_sound_of_its_own():
    words = words_of(audio_of(0.2, 0.1, 0.3, seconds=0.3))
    assert [len(samples_of(word)) for word in words] == [3200, 0, 1600]


def test_loud_samples_are_clipped():
    audio = Audio(np.array([2.0, -2.0, 0.5], np.float32), RATE_HZ, (SpokenWord("w", 0, 1),))
    (word,) = words_of(audio)
    assert samples_of(word).tolist() == [32767, -32767, 16384]
    assert word.sample_rate_hz == RATE_HZ


def test_a_voice_that_times_no_words_is_heard_all_the_same():
    audio = audio_of(seconds=0.2)
    (word,) = words_of(audio)
    assert np.array_equal(samples_of(word), np.arange(len(audio.samples)))


@pytest.mark.parametrize("ends_s", [(), (0.1,)])
def test_no_samples_are_no_words(ends_s):
    assert words_of(audio_of(*ends_s, seconds=0)) == []
