"""Speech encoders: what is averaged, how clips are scaled, and Whisper's spectrogram against transformers'."""

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import HubertConfig, WhisperConfig, WhisperFeatureExtractor

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


def utterances(*lengths: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(2)
    return tuple(0.1 * torch.randn(n, generator=generator) for n in lengths)


def whole_states(encoder: WhisperAcoustic, speech: Tensor) -> list[Tensor]:
    """Outputs of the embedding and of every block (T, D), by transformers' own forward pass on padded speech."""
    whole = encoder.encoder
    mel = log_mel(speech[None])
    x = torch.nn.functional.gelu(whole.conv1(mel))
    x = torch.nn.functional.gelu(whole.conv2(x)).transpose(1, 2)
    states = [x + whole.embed_positions.weight[: x.shape[1]]]
    for layer in whole.layers:
        out = layer(states[-1], None)
        states.append(out[0] if isinstance(out, tuple) else out)
    return [state[0] for state in states]


@torch.no_grad()
def test_statistics_are_mean_and_deviation_of_three_blocks():
    encoder, (speech,) = tiny_whisper(), utterances(16_000)
    states = whole_states(encoder, speech)
    expected = torch.stack([torch.cat([states[k].mean(0), states[k].std(0, correction=0)]) for k in (1, 2, 3)])
    torch.testing.assert_close(encoder.statistics(speech), expected, atol=1e-5, rtol=1e-5)


def test_statistics_become_log_probabilities_of_all_blocks_then_of_each():
    encoder, (speech,) = fitted(tiny_whisper()), utterances(16_000)
    features, statistics = encoder([speech]), encoder.statistics(speech)
    whole, *single = encoder.discriminants
    assert torch.equal(features.hidden[0, 0], whole(statistics.flatten()))
    for i, discriminant in enumerate(single):
        assert torch.equal(features.hidden[0, 1 + i], discriminant(statistics[i]))
        assert torch.equal(features.scales[i][0, 0], features.hidden[0, 1 + i])
    torch.testing.assert_close(features.hidden.exp().sum(-1), torch.ones(1, 4), atol=0.01, rtol=0)


def test_speech_longer_than_whisper_can_hear_is_heard_in_pieces():
    encoder, (speech,) = tiny_whisper(), utterances(31 * 16_000)
    statistics = encoder.statistics(speech)
    assert torch.isfinite(statistics).all()
    changed = speech.clone()
    changed[-8_000:] *= 3  # only the second piece
    assert not torch.equal(statistics, encoder.statistics(changed))


def fitted(encoder: WhisperAcoustic) -> WhisperAcoustic:
    """With discriminants that say something."""
    for discriminant in encoder.discriminants:
        torch.nn.init.normal_(discriminant.weight, std=0.02)
    return encoder


def test_spectrogram_is_that_of_whispers_feature_extractor():
    speech = clips(4, steps=1)[:, 0].numpy()
    speech[3] = 0  # silence
    extractor = WhisperFeatureExtractor()
    reference = [
        extractor(row, sampling_rate=16_000, padding=False, return_tensors="np").input_features[0] for row in speech
    ]
    np.testing.assert_allclose(log_mel(torch.from_numpy(speech)).numpy(), np.stack(reference), atol=1e-5)


@pytest.mark.parametrize("config", [whisper_tiny, whisper_base])
def test_whisper_shapes(config):
    encoder = WhisperAcoustic(config())
    features = encoder(utterances(20_000, 33_000))
    assert features.hidden.shape == (2, 4, encoder.width) == (2, 4, 8)
    assert [tuple(x.shape) for x in features.scales] == [(2, 1, 8)] * 3
    assert encoder.scale_widths == (8,) * 3


def test_an_utterance_does_not_depend_on_its_batch_mates():
    encoder, speech = fitted(tiny_whisper()), utterances(20_000, 48_000, 9_000)
    together, alone = encoder(speech), encoder(speech[1:2])
    for a, b in zip((together.hidden, *together.scales), (alone.hidden, *alone.scales), strict=True):
        assert torch.equal(a[1:2], b)


@pytest.mark.parametrize("n", [1, 300, 5_000])
def test_very_short_speech_still_has_a_deviation(n):
    statistics = tiny_whisper().statistics(*utterances(n))
    assert torch.isfinite(statistics).all()
    assert (statistics[:, 16:] > 0).any()


@pytest.mark.parametrize("speech", [torch.zeros(2, 8_000), torch.zeros(8_000).int()])
def test_wrong_utterances_are_named(speech):
    with pytest.raises(ValueError, match=r"expected \(S,\) float32"):
        tiny_whisper()([speech])


@pytest.mark.parametrize("build", [tiny_hubert, lambda: tiny_hubert(audio_norm="utterance")])
def test_speech_does_not_depend_on_its_batch(build):
    encoder, speech = build(), clips(3, steps=2)
    together, alone = encoder(speech), encoder(speech[1:2])
    for a, b in zip((together.hidden, *together.scales), (alone.hidden, *alone.scales), strict=True):
        torch.testing.assert_close(a[1:2], b, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together.hidden[0], together.hidden[1], atol=1e-3)


@pytest.mark.parametrize(("build", "speech"), [(tiny_hubert, clips(1, steps=2)), (tiny_whisper, utterances(20_000))])
def test_dropout_stays_off_in_training_mode(build, speech):
    encoder = build()
    torch.nn.Sequential(encoder).train()
    assert not any(module.training for module in encoder.modules())
    assert torch.equal(encoder(speech).hidden, encoder(speech).hidden)


@pytest.mark.parametrize(
    ("build", "speech"), [(tiny_hubert, torch.zeros(1, 8, 32_000)), (tiny_whisper, [torch.zeros(32_000)])]
)
def test_silence_stays_finite(build, speech):
    assert torch.isfinite(build()(speech).hidden).all()


@pytest.mark.parametrize("speech", [torch.zeros(8, 32_000), torch.zeros(1, 8, 16_000), torch.zeros(1, 8, 32_000).int()])
def test_wrong_clips_are_named(speech):
    with pytest.raises(ValueError, match=r"expected \(B, T, 32000\) float32"):
        tiny_hubert()(speech)
