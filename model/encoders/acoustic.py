"""Two-second clips of speech become features: HuBERT for the paper's model, Whisper's encoder for a CPU."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from transformers import HubertConfig, HubertModel, WhisperConfig
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from .features import Encoder, Features, of_steps

SAMPLE_RATE_HZ = 16_000
CLIP_SAMPLES = 2 * SAMPLE_RATE_HZ
AudioNorm = Literal["clip", "utterance"]

# Whisper's spectrogram (arXiv:2212.04356, section 2.2): windows of 25 ms every 10 ms, 80 mel bands.
N_FFT = 400
HOP_SAMPLES = 160
N_MELS = 80
CLIP_POSITIONS = CLIP_SAMPLES // HOP_SAMPLES // 2  # the second convolution halves the 200 mel frames


def chinese_hubert_large() -> HubertConfig:
    """TencentGameMate/chinese-hubert-large: 315,438,720 parameters."""
    return HubertConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        hidden_act="gelu",
        feat_extract_norm="layer",
        feat_extract_activation="gelu",
        feat_proj_layer_norm=True,
        conv_dim=(512,) * 7,
        conv_stride=(5, 2, 2, 2, 2, 2, 2),
        conv_kernel=(10, 3, 3, 3, 3, 2, 2),
        conv_bias=True,
        num_conv_pos_embeddings=128,
        num_conv_pos_embedding_groups=16,
        do_stable_layer_norm=True,
        layer_norm_eps=1e-5,
        mask_time_prob=0.05,  # unused in evaluation, but gives the checkpoint its `masked_spec_embed`
    )


def whisper_tiny() -> WhisperConfig:
    """Encoder of Whisper tiny and tiny.en."""
    return WhisperConfig(d_model=384, encoder_layers=4, encoder_attention_heads=6, encoder_ffn_dim=1536)


def whisper_base() -> WhisperConfig:
    """Encoder of Whisper base."""
    return WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048)


class HubertAcoustic(Encoder):
    """Mean of HuBERT's last four hidden states, averaged over each clip (spec section 2.3).

    Args:
        config: shape of the model.
        scales: hidden states of the multi-scale features; index k is the output of block k.
        audio_norm: zero mean and unit variance over each clip, as the recogniser was trained, or over all clips of a
            sample, which keeps loudness changes within it. The reference normalises over the whole batch.
    """

    def __init__(
        self, config: HubertConfig, scales: tuple[int, int, int] = (16, 18, 22), audio_norm: AudioNorm = "clip"
    ) -> None:
        super().__init__()
        if audio_norm not in ("clip", "utterance"):
            raise ValueError(f"audio_norm is {audio_norm!r}, expected 'clip' or 'utterance'")
        self.hubert = HubertModel(config)
        self.scales, self.audio_norm = scales, audio_norm
        self.width = config.hidden_size
        self.scale_widths = (config.hidden_size,) * 3
        self.eval()

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Features:
        """Encode clips float32 (B, T, 32000) at 16 kHz."""
        samples = self.normalise(_checked(clips)).flatten(0, 1).to(self.dtype)
        out = self.hubert(samples, output_hidden_states=True)
        # Recent transformers record the last block's output before the final LayerNorm; the reference saw it after.
        states = [state.mean(dim=1) for state in (*out.hidden_states[:-1], out.last_hidden_state)]
        hidden = torch.stack(states[-4:]).mean(dim=0)
        return of_steps(hidden, [states[k] for k in self.scales], len(clips))

    def normalise(self, clips: Tensor) -> Tensor:
        """(B, T, S) with zero mean and unit variance over S, or over T and S."""
        dims = (2,) if self.audio_norm == "clip" else (1, 2)
        variance, mean = torch.var_mean(clips, dim=dims, correction=0, keepdim=True)
        return (clips - mean) / torch.sqrt(variance + 1e-7)


class WhisperAcoustic(Encoder):
    """Whisper's encoder on each two-second clip by itself, averaged over its 100 positions.

    Whisper pads speech to 30 s; here a clip keeps its 200 mel frames and the first 100 positional embeddings, which
    is fifteen times less work. Multi-scale features are the three blocks before the last.
    """

    def __init__(self, config: WhisperConfig, scales: tuple[int, int, int] | None = None) -> None:
        super().__init__()
        config = copy.deepcopy(config)
        config.max_source_positions = CLIP_POSITIONS
        depth = config.encoder_layers
        self.encoder = WhisperEncoder(config)
        self.scales = scales or (depth - 3, depth - 2, depth - 1)
        self.width = config.d_model
        self.scale_widths = (config.d_model,) * 3
        self.eval()

    @torch.no_grad()
    def forward(self, clips: Tensor) -> Features:
        """Encode clips float32 (B, T, 32000) in [-1, 1] at 16 kHz."""
        mel = log_mel(_checked(clips).flatten(0, 1)).to(self.dtype)
        out = self.encoder(mel, output_hidden_states=True)
        states = [state.mean(dim=1) for state in out.hidden_states]
        return of_steps(out.last_hidden_state.mean(dim=1), [states[k] for k in self.scales], len(clips))

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Load a whole Whisper encoder strictly; of its 1500 positions the first 100 are kept."""
        positions = "embed_positions.weight"
        self.encoder.load_state_dict({**state, positions: state[positions][:CLIP_POSITIONS]})


def log_mel(samples: Tensor) -> Tensor:
    """Whisper's log-mel spectrogram: float32 (N, S) in [-1, 1] at 16 kHz -> (N, 80, S / 160).

    Each row is floored 8 below its own maximum, as `WhisperFeatureExtractor` does. The dynamic range is that of the
    clip alone, so a quiet clip keeps its detail.
    """
    window = torch.hann_window(N_FFT, device=samples.device)
    spectrum = torch.stft(samples.float(), N_FFT, HOP_SAMPLES, window=window, return_complex=True)
    power = spectrum[..., :-1].abs().square()
    mel = torch.log10((_mel_filters().to(power.device) @ power).clamp(min=1e-10))
    mel = mel.maximum(mel.amax(dim=(1, 2), keepdim=True) - 8)
    return (mel + 4) / 4


@cache
def _mel_filters() -> Tensor:
    filters = mel_filter_bank(
        num_frequency_bins=1 + N_FFT // 2,
        num_mel_filters=N_MELS,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE_HZ / 2,
        sampling_rate=SAMPLE_RATE_HZ,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(filters.T).float().contiguous()  # (80, 201)


def _checked(clips: Tensor) -> Tensor:
    if clips.dim() != 3 or clips.shape[2] != CLIP_SAMPLES or not clips.is_floating_point():
        raise ValueError(f"clips are {tuple(clips.shape)} {clips.dtype}, expected (B, T, {CLIP_SAMPLES}) float32")
    return clips
