"""Coqui needs an environment of its own, which `make test-coqui` makes; elsewhere most of this is skipped."""

import sys
from pathlib import Path

import numpy as np
import pytest

from agent.opening import open_speaker
from agent.settings import Settings, SetupError, load_settings
from agent.speech import NORMAL_RMS, STYLES, CoquiSpeaker, CoquiVoice, VoiceStyle


def test_without_coqui_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "TTS", None)
    monkeypatch.setitem(sys.modules, "TTS.api", None)
    with pytest.raises(ImportError, match=r"emox\[coqui\]"):
        CoquiSpeaker("tts_models/en/ljspeech/vits")


def test_a_voice_for_an_unknown_style_is_refused_before_anything_is_loaded():
    with pytest.raises(SetupError, match=r"gruff.*plain, warm"):
        open_speaker(Settings(speaker="coqui:folder", speaker_styles={"gruff": {"speaker": "anna"}}))


@pytest.fixture(scope="module")
def make_vits(tmp_path_factory):
    """Makes a folder with a Coqui model: VITS, a few channels wide, random weights, perhaps with several speakers."""
    pytest.importorskip("TTS", reason="coqui-tts is not installed: make test-coqui")
    import torch
    from TTS.tts.configs.vits_config import VitsArgs, VitsConfig
    from TTS.tts.models.vits import Vits

    def make(speakers: tuple[str, ...] = ()) -> Path:
        torch.manual_seed(0)
        sizes = {"hidden_channels": 16, "hidden_channels_ffn_text_encoder": 16, "upsample_initial_channel_decoder": 32}
        layers = {"num_layers_text_encoder": 1, "num_layers_flow": 1, "num_layers_posterior_encoder": 1}
        config = VitsConfig(
            model_args=VitsArgs(**sizes, **layers, use_sdp=False, use_speaker_embedding=bool(speakers)),
            text_cleaner="english_cleaners",
            use_phonemes=False,
            speakers=list(speakers),
        )
        folder = tmp_path_factory.mktemp("vits")
        config.save_json(folder / "config.json")
        torch.save({"model": Vits(config).state_dict()}, folder / "model.pth")
        return folder

    return make


@pytest.fixture(scope="module")
def vits(make_vits):
    return make_vits()


@pytest.fixture(scope="module")
def choir(make_vits):
    return make_vits(("anna", "bert"))


def loudness(samples):
    return float(np.sqrt(np.mean(np.square(samples))))


def said_by(speaker, style="plain"):
    """One sentence as this speaker says it in the style's voice, at no chance."""
    (audio,) = speaker.speak(["Hello there."], VoiceStyle(style, variability=0))
    return audio.samples


def test_a_local_model_speaks_in_the_style(vits):
    speaker = CoquiSpeaker(vits)
    fast, slow = ([*speaker.speak("Hello there. How are you?", VoiceStyle(rate=rate))] for rate in (2, 0.5))
    assert len(fast) == len(slow) == 2
    assert fast[0].sample_rate_hz == 22050
    assert slow[0].duration_s > 1.5 * fast[0].duration_s
    for style in STYLES.values():
        first, second = speaker.speak("Hello there. How are you?", style)
        pause, rest = np.split(second.samples, [round(style.pause_s * 22050)])
        assert loudness(first.samples) == pytest.approx(NORMAL_RMS * 10 ** (style.loudness / 20), rel=0.02)
        assert loudness(pause) == 0 < loudness(rest)
    # The half second of silence that the library adds after a sentence is gone.
    assert np.abs(fast[0].samples[-2000:]).max() > 0


def test_its_words_are_timed(vits):
    _, second = CoquiSpeaker(vits).speak("Hello there. How are you?", STYLES["calm"])
    assert [word.text for word in second.words] == ["How", "are", "you?"]
    assert STYLES["calm"].pause_s <= second.words[0].start_s < second.words[-1].end_s <= second.duration_s


def test_a_sentence_is_heard_before_the_next_one_is_there(vits):
    def sentences():
        yield "Hello there."
        pytest.fail("the second sentence was asked for")

    assert next(CoquiSpeaker(vits).speak(sentences(), STYLES["warm"])).duration_s > 0


def test_a_sentence_is_heard_before_the_next_one_is_synthesised(vits, monkeypatch):
    speaker, synthesised = CoquiSpeaker(vits), []
    tts = speaker._tts.tts
    monkeypatch.setattr(speaker._tts, "tts", lambda text, **options: synthesised.append(text) or tts(text, **options))
    stream = speaker.speak("Hello there. How are you?", STYLES["plain"])
    next(stream)
    assert synthesised == ["Hello there."]
    next(stream)
    assert synthesised == ["Hello there.", "How are you?"]


def test_it_is_chosen_by_the_environment_alone(choir, tmp_path, monkeypatch):
    monkeypatch.setenv("EMOX_HOME", str(tmp_path))
    monkeypatch.setenv("EMOX_SPEAKER", f"coqui:{choir}")
    monkeypatch.setenv("EMOX_SPEAKER_VOICE__SPEAKER", "anna")
    speaker = open_speaker(load_settings())
    assert isinstance(speaker, CoquiSpeaker)
    assert np.array_equal(said_by(speaker), said_by(CoquiSpeaker(choir, voice=CoquiVoice("anna"))))


def test_the_settings_file_gives_a_style_another_voice(choir, tmp_path, monkeypatch):
    monkeypatch.setenv("EMOX_HOME", str(tmp_path))
    (tmp_path / "settings.toml").write_text(
        f'speaker = "coqui:{choir}"\nspeaker_voice.speaker = "anna"\nspeaker_styles.warm.speaker = "bert"\n'
    )
    speaker = open_speaker(load_settings())
    anna, bert = (said_by(CoquiSpeaker(choir, voice=CoquiVoice(name))) for name in ("anna", "bert"))
    assert not np.array_equal(anna, bert)
    assert np.array_equal(said_by(speaker, "calm"), anna)
    assert np.array_equal(said_by(speaker, "warm"), bert)


def test_a_reference_of_a_style_goes_to_the_model(vits, tmp_path, monkeypatch):
    reference = tmp_path / "kind.wav"
    reference.write_bytes(b"")
    speaker = CoquiSpeaker(vits, style_voices={"warm": CoquiVoice(reference_wav=reference)})
    given = []

    def tts(text, *, speaker_wav, **options):
        given.append(speaker_wav)
        return np.ones(30_000, np.float32)

    monkeypatch.setattr(speaker._tts, "tts", tts)
    for style in ("warm", "plain"):
        next(speaker.speak("Hello there.", STYLES[style]))
    assert given == [str(reference), None]


def test_a_speaker_or_reference_that_is_not_there_is_named(vits, choir, tmp_path):
    with pytest.raises(ValueError, match=r'"carl"; it has anna, bert'):
        CoquiSpeaker(choir, voice=CoquiVoice("carl"))
    with pytest.raises(ValueError, match="one voice only"):
        CoquiSpeaker(vits, style_voices={"warm": CoquiVoice("anna")})
    with pytest.raises(FileNotFoundError, match=r"kind\.wav"):
        CoquiSpeaker(vits, voice=CoquiVoice(reference_wav=tmp_path / "kind.wav"))


def test_a_folder_without_a_model_is_named(tmp_path):
    pytest.importorskip("TTS", reason="coqui-tts is not installed: make test-coqui")
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        CoquiSpeaker(tmp_path)
