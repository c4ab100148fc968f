"""The voice network: who it has heard, how well it hears others, and that voices are encoded once."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

import training.run
from model.nano_emox import NanoEmoX
from model.processor import Inputs
from model.types import VOICE_EMOTIONS
from tests.model.test_encoders_acoustic import tiny_whisper
from tests.model.tiny import tiny_processor
from tests.perception.clips import make_clip, tone
from tests.training.corpora import make_voices
from training import voice_network
from training.config import Phase, RunConfig
from training.data.mixture import Drawn
from training.data.sources import read_corpus
from training.voice_network import N_FOLDS, Settings, fit, folds, load_voice, temperature, train

CORPUS_WORDS = dict(zip(VOICE_EMOTIONS, VOICE_EMOTIONS, strict=True)) | {"fear": "fearful", "surprise": "surprised"}
SPEAKERS = [f"{n:02d}" for n in range(2, 10)]


def stand_in(monkeypatch, told=None):
    """Statistics that hold the label, and the speaker in other values."""

    def statistics(samples, encoder, views):
        if told is not None:
            told.append(len(samples))
        draw = torch.Generator().manual_seed(0)
        rows = 0.3 * torch.randn(len(samples), 1 + views, 3, 32, generator=draw)
        for row, sample in zip(rows, samples, strict=True):
            row[..., VOICE_EMOTIONS.index(sample.label)] += 2
            row[..., 16 + int(sample.speaker)] += 5
        return rows.half()

    monkeypatch.setattr(voice_network, "statistics", statistics)


@pytest.fixture
def corpus(tmp_path):
    rows = [
        (f"{speaker}-{label}.wav", CORPUS_WORDS[label], speaker, "train", 0.2)
        for speaker in SPEAKERS for label in VOICE_EMOTIONS
    ]  # fmt: skip
    make_voices(tmp_path / "data" / "speech" / "ravdess", rows)
    return Settings(tmp_path / "data", tmp_path / "out", views=2)


def test_unheard_speakers_are_understood_and_the_scores_are_written(corpus, monkeypatch):
    stand_in(monkeypatch)
    recalls = train(corpus, tiny_whisper())
    assert min(recalls.values()) > 0.95
    facts = json.loads((corpus.out / "scores.json").read_text())
    assert facts["n"] == len(SPEAKERS) * 8
    assert len(facts["temperatures"]) == 4


def test_no_network_has_heard_the_speakers_of_its_fold(corpus, monkeypatch):
    stand_in(monkeypatch)
    train(corpus, tiny_whisper())
    before = load_file(corpus.out / "voice_network.safetensors")
    samples = read_corpus("ravdess", corpus.data, "train").samples
    at = folds(samples)
    assert set(at.values()) == set(range(1, N_FOLDS + 1))
    for fold in at.values():
        assert len({s.speaker for s in samples if at[s.clip.sound] == fold}) == len(SPEAKERS) / N_FOLDS

    rows = load_file(corpus.out / "statistics.safetensors")["rows"]
    unheard = [at[s.clip.sound] == 2 for s in samples]
    rows[unheard] += 7  # what those speakers say now sounds otherwise
    encoder = tiny_whisper()
    labels = torch.tensor([VOICE_EMOTIONS.index(s.label) for s in samples])
    heard = ~torch.tensor(unheard)
    temperatures = json.loads((corpus.out / "scores.json").read_text())["temperatures"]
    fit(encoder, rows[heard], labels[heard], corpus.shrinkage, temperatures)
    again = encoder.discriminants.state_dict()
    load_voice(encoder, corpus.out / "voice_network.safetensors", 2)
    for name, value in encoder.discriminants.state_dict().items():
        assert torch.equal(value, before[f"2.{name}"])
        assert torch.allclose(value, again[name], atol=1e-5)


def test_voices_are_encoded_once(corpus, monkeypatch):
    told = []
    stand_in(monkeypatch, told)
    train(corpus, tiny_whisper())
    train(replace(corpus, shrinkage=0.5), tiny_whisper())
    assert told == [len(SPEAKERS) * 8]
    with pytest.raises(ValueError, match="is of other voices"):
        train(replace(corpus, views=3), tiny_whisper())


def test_real_utterances_have_as_many_rows_as_views(corpus):
    samples = read_corpus("ravdess", corpus.data, "train").samples[:2]
    rows = voice_network.statistics(samples, tiny_whisper(), views=2)
    assert rows.shape == (2, 3, 3, 32)
    assert not torch.equal(rows[0, 0], rows[0, 1])


def test_the_temperature_makes_scores_as_sure_as_they_are_right():
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(4000, 5, generator=draw)
    labels = torch.multinomial(scores.softmax(-1), 1, generator=draw)[:, 0]
    assert temperature(6 * scores, labels) == pytest.approx(6, rel=0.12)


def test_the_curriculum_hears_a_voice_by_the_network_that_has_not_heard_its_speaker(corpus, monkeypatch):
    table = corpus.data / "speech" / "ravdess" / "labels.csv"
    make_clip(table.parent / "valid.wav", audio="pcm_s16le", layout="mono", rate_hz=16_000, sound=tone(16_000, 0.5))
    table.write_text(table.read_text() + "valid.wav,sad,17,valid\n")
    model = NanoEmoX(torch.nn.Identity(), acoustic=tiny_whisper())
    networks = {}
    for fold in range(N_FOLDS + 1):  # each says its number
        for discriminant in model.acoustic.discriminants:
            discriminant.bias.zero_()
            discriminant.bias[fold] = 5.0
        networks |= {
            f"{fold}.{name}": value.clone() for name, value in model.acoustic.discriminants.state_dict().items()
        }
    save_file(networks, corpus.out.with_suffix(".safetensors"))
    phases = {"1.1": Phase({"ravdess": 1.0}, steps=1, lr=1.0, min_lr=1.0)}
    config = RunConfig("nano_emox_tiny", corpus.data, corpus.out, phases, views={"ravdess": 1},
                       voice_network=corpus.out.with_suffix(".safetensors"))  # fmt: skip
    monkeypatch.setattr(training.run, "build", lambda config, lm: (model, tiny_processor()))
    report = training.run.prepare_features(config)
    assert not report.skipped

    fetch = training.run.fetcher(config, model, tiny_processor())
    at = folds(read_corpus("ravdess", corpus.data, "train").samples)
    for split in ("train", "valid"):
        for sample in read_corpus("ravdess", corpus.data, split).samples:
            for view in (0, 1) if split == "train" else (0,):
                said = fetch(Drawn(sample, view)).acoustic.hidden.argmax(-1)
                assert (said == at.get(sample.clip.sound, 0)).all()
    assert (model.encode(Inputs(speech=(torch.randn(16_000),))).acoustic.hidden.argmax(-1) == 0).all()


def test_a_missing_corpus_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(voice_network, "read_state", lambda path: tiny_whisper().encoder.state_dict())
    monkeypatch.setattr(voice_network, "locate", lambda name: tmp_path)
    monkeypatch.setattr(voice_network, "ACOUSTICS", {"whisper-base": tiny_whisper})
    monkeypatch.setattr("sys.argv", ["voice_network", "--data", str(tmp_path / "none"), "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        voice_network.main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "name the corpus' own folder" in told
