import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception.errors import PerceptionError, TextError
from perception.listen import MAX_CHARACTERS, clean_text, listen
from perception.types import MODALITIES, Absence, Modality, UserTurn
from tests.fakes import FakeAsr, FakeFaceFinder
from tests.perception.clips import REPOSITORY, make_clip, make_sparse_wav

ALL = frozenset(MODALITIES)


def never() -> Any:
    raise AssertionError("this turn must not load it")


def turn_of(
    text: str | None = None,
    clip: Any = None,
    *,
    asr: Callable[[], Any] = never,
    face_finder: Callable[[], Any] = never,
    consent: frozenset[Modality] = ALL,
) -> UserTurn:
    return listen(text, clip, asr=asr, face_finder=face_finder, consent=consent)


@pytest.fixture
def film(tmp_path):
    return make_clip(tmp_path / "film.mp4", video="libx264", audio="aac")


# ---- typed text ------------------------------------------------------------------------------------------------------


def test_typed_text_is_a_turn_that_loads_nothing():
    turn = turn_of("I miss her.\n")
    assert turn.text == "I miss her."
    assert turn.modalities == ("text",)
    assert turn.absent == {"voice": Absence.NOT_GIVEN, "face": Absence.NOT_GIVEN}
    assert turn.transcript is None


def test_a_text_turn_touches_no_media_library():
    program = (
        "import sys; from perception.listen import listen\n"
        "listen('hello', asr=None, face_finder=None, consent=frozenset({'text'}))\n"
        "print({'av', 'soxr', 'torch', 'faster_whisper', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_nothing_to_listen_to_says_what_to_give():
    for text in (None, "", " \n\t", "\x00"):
        with pytest.raises(TextError, match="give --text or --clip"):
            turn_of(text)


def test_text_that_is_too_long_names_both_numbers():
    with pytest.raises(PerceptionError, match="has 100,000 characters, the limit is 8,000"):
        turn_of("a" * 100_000)
    assert len(turn_of("a" * MAX_CHARACTERS).text) == MAX_CHARACTERS


def test_bytes_that_are_no_utf_8_are_refused():
    with pytest.raises(PerceptionError, match="not valid UTF-8"):
        turn_of(b"caf\xe9".decode("utf-8", errors="surrogateescape"))


def test_control_characters_are_dropped_and_words_of_any_script_stay():
    assert clean_text("\x1b[31mred\x07\x00 \u0645\u0631\u062d\u0628\u0627\r\n\tfine \U0001f9d1\u200d\U0001f680 ") == (
        "[31mred \u0645\u0631\u062d\u0628\u0627\n\tfine \U0001f9d1\u200d\U0001f680"
    )


@given(st.text(max_size=200))
def test_cleaning_text_twice_changes_nothing_more(text):
    once = clean_text(text)
    assert clean_text(once) == once


# ---- clips -----------------------------------------------------------------------------------------------------------


def test_a_film_gives_words_voice_and_face(film):
    turn = turn_of(clip=film, asr=FakeAsr, face_finder=FakeFaceFinder)
    assert turn.text == "I had a long day."
    assert turn.modalities == MODALITIES
    assert turn.absent == {}
    assert turn.transcript is not None
    assert turn.transcript.words[-1].end_s == pytest.approx(turn.speech.duration_s)
    assert len(turn.faces.crops) == len(turn.frames.images)


def test_typed_text_goes_before_the_words_of_the_clip(film):
    asr = FakeAsr()
    turn = turn_of("I am fine.", film, asr=lambda: asr, face_finder=FakeFaceFinder)
    assert turn.text == "I am fine."
    assert turn.modalities == MODALITIES
    assert asr.transcribed == []


def test_blank_text_with_a_clip_lets_the_clip_speak(film):
    assert turn_of("  ", film, asr=FakeAsr, face_finder=FakeFaceFinder).text == "I had a long day."


def test_sound_without_speech_is_neither_words_nor_voice(tmp_path):
    asr = FakeAsr(text="")
    turn = turn_of(clip=make_sparse_wav(tmp_path / "silence.wav", rate_hz=16_000, seconds=1), asr=lambda: asr)
    assert turn.modalities == ()
    assert turn.speech is None
    assert turn.absent == {
        "text": Absence.NO_SPEECH,
        "voice": Absence.NO_SPEECH,
        "face": Absence.NO_VIDEO_TRACK,
    }
    assert asr.transcribed == []


def test_a_voice_without_words_is_still_a_voice(tmp_path):
    class HearsSobbing(FakeAsr):
        def hears_speech(self, speech):
            return True

    clip = make_clip(tmp_path / "sob.wav", audio="pcm_s16le")
    turn = turn_of(clip=clip, asr=lambda: HearsSobbing(text=""))
    assert turn.modalities == ("voice",)
    assert turn.absent["text"] == Absence.NO_SPEECH


def test_a_film_without_sound_or_face_says_so_and_keeps_its_pictures(tmp_path):
    film = make_clip(tmp_path / "silent.mp4", video="libx264")
    turn = turn_of(clip=film, face_finder=lambda: FakeFaceFinder(sees_face=False))
    assert turn.faces is None
    assert turn.frames is not None
    assert turn.absent == {
        "text": Absence.NO_AUDIO_TRACK,
        "voice": Absence.NO_AUDIO_TRACK,
        "face": Absence.NO_FACE,
    }


def test_a_clip_that_cannot_be_read_is_the_persons_error(tmp_path):
    with pytest.raises(PerceptionError, match="there is no file"):
        turn_of("hello", tmp_path / "no.wav")


# ---- consent ---------------------------------------------------------------------------------------------------------


def test_without_consent_to_voice_words_are_written_down_but_the_voice_is_dropped(film):
    turn = turn_of(clip=film, asr=FakeAsr, consent=frozenset({"text"}))
    assert turn.text == "I had a long day."
    assert turn.speech is None
    assert turn.absent == {"voice": Absence.NO_CONSENT, "face": Absence.NO_CONSENT}


def test_without_consent_to_text_nothing_is_transcribed_but_the_voice_is_kept(film):
    asr = FakeAsr()
    turn = turn_of("typed", film, asr=lambda: asr, consent=frozenset({"voice"}))
    assert turn.text == ""
    assert turn.transcript is None
    assert asr.transcribed == []
    assert turn.modalities == ("voice",)
    assert turn.absent["text"] == Absence.NO_CONSENT


def test_without_consent_to_face_no_picture_is_decoded(film, monkeypatch):
    monkeypatch.setattr("perception.media._read_frames", never)
    turn = turn_of(clip=film, asr=FakeAsr, consent=frozenset({"text", "voice"}))
    assert turn.frames is None
    assert turn.absent == {"face": Absence.NO_CONSENT}


def test_with_consent_to_face_alone_no_sound_is_decoded(film, monkeypatch):
    monkeypatch.setattr("perception.media._read_speech", never)
    turn = turn_of(clip=film, face_finder=FakeFaceFinder, consent=frozenset({"face"}))
    assert turn.modalities == ("face",)
    assert turn.absent == {"text": Absence.NO_CONSENT, "voice": Absence.NO_CONSENT}


def test_typed_text_needs_no_sound_when_voice_is_not_consented(film):
    turn = turn_of("typed", film, consent=frozenset({"text"}))
    assert turn.text == "typed"
    assert turn.modalities == ("text",)


@pytest.mark.parametrize(
    "consent", [frozenset(c) for c in ((), ("text",), ("voice",), ("face",), ("voice", "face"), MODALITIES)]
)
@pytest.mark.parametrize("text", [None, "typed"])
def test_every_modality_is_either_there_or_absent_for_a_reason(film, consent, text):
    turn = turn_of(text, film, asr=FakeAsr, face_finder=FakeFaceFinder, consent=consent)
    assert set(turn.modalities) | set(turn.absent) == set(MODALITIES)
    assert not set(turn.modalities) & set(turn.absent)
    assert set(turn.modalities) <= consent
    assert (turn.frames is not None) == ("face" in consent)
    assert turn.speech is None or np.isfinite(turn.speech.samples).all()
