"""Speech encoders: what is averaged, how clips are scaled, and Whisper's spectrogram against transformers'."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import HubertConfig, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from model.encoders.acoustic import (
    HubertAcoustic,
    WhisperAcoustic,
    chinese_hubert_large,
    log_mel,
    whisper_base,
    whisper_tiny,
)


def tiny_hubert(**changes: object) -> HubertAcoustic:
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=6,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        initializer_range=0.3,
    )
    return HubertAcoustic(config, scales=(2, 3, 5), **changes)


def tiny_whisper() -> WhisperAcoustic:
    torch.manual_seed(0)
    return WhisperAcoustic(WhisperConfig(**TINY_WHISPER))


TINY_WHISPER = {
    "d_model": 16,
    "encoder_layers": 4,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "dropout": 0.5,
    "init_std": 0.3,
}


def clips(batch: int, steps: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    loudness = torch.tensor([0.1, 0.01, 0.5, 0.2])[:batch].view(-1, 1, 1)
    return torch.randn(batch, steps, 32_000, generator=generator) * loudness


def test_hubert_averages_its_last_four_states_the_last_one_normed():
    encoder, speech = tiny_hubert(), clips(2)
    recorded = []
    for module in (*encoder.hubert.encoder.layers, encoder.hubert.encoder.layer_norm):
        module.register_forward_hook(
            lambda _, __, out: recorded.append(
                (out[0] if isinstance(out, tuple) else out).mean(dim=1).reshape(2, 8, 16)
            )
        )
    features = encoder(speech)
    blocks, normed = recorded[:6], recorded[6]
    torch.testing.assert_close(features.hidden, (blocks[2] + blocks[3] + blocks[4] + normed) / 4)
    for scale, k in zip(features.scales, (2, 3, 5), strict=True):
        torch.testing.assert_close(scale, blocks[k - 1])
    assert features.mask.shape == (2, 8)
    assert features.mask.all()


def test_hubert_hears_99_steps_and_has_the_parameters_of_the_paper():
    with torch.device("meta"):
        encoder = HubertAcoustic(chinese_hubert_large())
        features = encoder(torch.zeros(2, 8, 32_000))
        states = encoder.hubert(torch.zeros(16, 32_000), output_hidden_states=True).hidden_states
    assert sum(p.numel() for p in encoder.parameters()) == 315_438_720
    assert [tuple(state.shape) for state in states] == [(16, 99, 1024)] * 25
    assert features.hidden.shape == (2, 8, 1024)
    assert [tuple(scale.shape) for scale in features.scales] == [(2, 8, 1024)] * 3


def test_each_clip_has_zero_mean_and_unit_variance():
    scaled = tiny_hubert().normalise(clips(3) + 0.3)
    torch.testing.assert_close(scaled.mean(dim=2), torch.zeros(3, 8), atol=1e-5, rtol=0)
    torch.testing.assert_close(scaled.var(dim=2, correction=0), torch.ones(3, 8), atol=2e-3, rtol=0)


def test_an_utterance_keeps_loudness_changes_within_it():
    speech = clips(1) * torch.linspace(0.5, 2, 8).view(1, 8, 1)
    scaled = tiny_hubert(audio_norm="utterance").normalise(speech)
    assert scaled.var(correction=0).item() == pytest.approx(1, abs=1e-3)
    assert (scaled.std(dim=2)[0, -1] / scaled.std(dim=2)[0, 0]).item() == pytest.approx(4, rel=0.05)


def test_an_unknown_audio_norm_is_named():
    with pytest.raises(ValueError, match="audio_norm is 'batch'"):
        tiny_hubert(audio_norm="batch")


def test_whisper_averages_the_last_layer_and_the_three_blocks_before_it():
    encoder, speech = tiny_whisper(), clips(2)
    recorded = []
    for module in (*encoder.encoder.layers, encoder.encoder.layer_norm):
        module.register_forward_hook(
            lambda _, __, out: recorded.append(
                (out[0] if isinstance(out, tuple) else out).mean(dim=1).reshape(2, 8, 16)
            )
        )
    features = encoder(speech)
    torch.testing.assert_close(features.hidden, recorded[4])
    for scale, k in zip(features.scales, (1, 2, 3), strict=True):
        torch.testing.assert_close(scale, recorded[k - 1])


def test_spectrogram_is_that_of_whispers_feature_extractor():
    speech = clips(4, steps=1)[:, 0].numpy()
    speech[3] = 0  # silence
    extractor = WhisperFeatureExtractor()
    reference = [
        extractor(row, sampling_rate=16_000, padding=False, return_tensors="np").input_features[0] for row in speech
    ]
    np.testing.assert_allclose(log_mel(torch.from_numpy(speech)).numpy(), np.stack(reference), atol=1e-5)


def test_a_clip_keeps_the_first_100_positions_of_whole_weights():
    torch.manual_seed(3)
    whole = WhisperEncoder(WhisperConfig(**TINY_WHISPER))
    encoder = tiny_whisper()
    encoder.load_encoder(whole.state_dict())
    assert torch.equal(encoder.encoder.embed_positions.weight, whole.embed_positions.weight[:100])
    assert torch.equal(encoder.encoder.layers[3].fc2.weight, whole.layers[3].fc2.weight)
    mel = log_mel(clips(1, steps=1)[:, 0])
    with torch.no_grad():
        x = torch.nn.functional.gelu(whole.conv1(mel))
        x = torch.nn.functional.gelu(whole.conv2(x)).transpose(1, 2) + whole.embed_positions.weight[:100]
        for layer in whole.eval().layers:
            x = layer(x, None)
        reference = whole.layer_norm(x).mean(dim=1)
    torch.testing.assert_close(encoder(clips(1, steps=1)).hidden[0], reference, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("config", "width"), [(whisper_tiny, 384), (whisper_base, 512)])
def test_whisper_shapes(config, width):
    with torch.device("meta"):
        encoder = WhisperAcoustic(config())
    encoder = encoder.to_empty(device="cpu")
    features = encoder(torch.zeros(1, 2, 32_000))
    assert [tuple(x.shape) for x in (features.hidden, *features.scales)] == [(1, 2, width)] * 4
    assert encoder.width == width
    assert encoder.scale_widths == (width,) * 3


@pytest.mark.parametrize("build", [tiny_hubert, lambda: tiny_hubert(audio_norm="utterance"), tiny_whisper])
def test_speech_does_not_depend_on_its_batch(build):
    encoder, speech = build(), clips(3, steps=2)
    together, alone = encoder(speech), encoder(speech[1:2])
    for a, b in zip((together.hidden, *together.scales), (alone.hidden, *alone.scales), strict=True):
        torch.testing.assert_close(a[1:2], b, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together.hidden[0], together.hidden[1], atol=1e-3)


@pytest.mark.parametrize("build", [tiny_hubert, tiny_whisper])
def test_dropout_stays_off_in_training_mode(build):
    encoder = build()
    torch.nn.Sequential(encoder).train()
    assert not any(module.training for module in encoder.modules())
    assert torch.equal(encoder(clips(1, steps=2)).hidden, encoder(clips(1, steps=2)).hidden)


@pytest.mark.parametrize("build", [tiny_hubert, tiny_whisper])
def test_silence_stays_finite(build):
    assert torch.isfinite(build()(torch.zeros(1, 8, 32_000)).hidden).all()


@pytest.mark.parametrize("speech", [torch.zeros(8, 32_000), torch.zeros(1, 8, 16_000), torch.zeros(1, 8, 32_000).int()])
def test_wrong_clips_are_named(speech):
    with pytest.raises(ValueError, match=r"expected \(B, T, 32000\) float32"):
        tiny_whisper()(speech)
