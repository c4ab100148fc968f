"""Speech becomes features: HuBERT on two-second clips for the paper's model, Whisper's encoder for a CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel, WhisperConfig
from transformers.audio_utils import mel_filter_bank
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from ..types import VOICE_EMOTIONS
from .discriminant import Discriminant
from .features import Encoder, Features, of_steps

SAMPLE_RATE_HZ = 16_000
CLIP_SAMPLES = 2 * SAMPLE_RATE_HZ
AudioNorm = Literal["clip", "utterance"]

# Whisper's spectrogram (arXiv:2212.04356, section 2.2): windows of 25 ms every 10 ms, 80 mel bands.
N_FFT = 400
HOP_SAMPLES = 160
N_MELS = 80


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

    reads = "clips"

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
    """What three of Whisper's blocks say of the emotions of a voice, over a whole utterance.

    How something is said lies in the shallow blocks, and in how much they vary: a block becomes its mean and standard
    deviation over time, and these become log-probabilities of `classes` by discriminants that
    `training.voice_network` fits. Whatever else is in a few thousand values, of a thousand utterances by a few actors,
    is who speaks and what is said: trained branches that could read it did so, and heard new people worse
    (docs/LOG.md).

    The main feature has four steps: all blocks together, then each by itself. Multi-scale features are the latter.
    Whisper pads speech to 30 s; here an utterance keeps its own length, in pieces of at most 30 s.
    """

    reads = "speech"

    classes = VOICE_EMOTIONS

    def __init__(self, config: WhisperConfig, blocks: tuple[int, int, int] = (1, 2, 3)) -> None:
        super().__init__()
        self.encoder = WhisperEncoder(config)
        self.blocks = blocks
        n_classes = len(self.classes)
        widths = [2 * config.d_model * n for n in (len(blocks), *(1 for _ in blocks))]
        self.discriminants = nn.ModuleList(Discriminant(width, n_classes) for width in widths)
        self.width = n_classes
        self.scale_widths = (n_classes,) * len(blocks)
        self.eval()

    @torch.no_grad()
    def forward(self, speech: Sequence[Tensor]) -> Features:
        """Encode utterances, each float32 (S,) in [-1, 1] at 16 kHz, one after the other: no padding, no batch mates.

        Returns:
            hidden (B, 4, n_classes), scales three times (B, 1, n_classes).
        """
        hidden = torch.cat([self.discriminate(self.statistics(utterance)[None]) for utterance in speech])
        hidden = hidden.to(self.dtype)
        scales = tuple(hidden[:, i : i + 1] for i in range(1, hidden.shape[1]))
        return Features(hidden, scales, torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device))

    def discriminate(self, statistics: Tensor) -> Tensor:
        """Statistics (B, n_blocks, 2 D) -> log-probabilities (B, 1 + n_blocks, n_classes)."""
        read = zip(self.discriminants, self.parts(statistics), strict=True)
        return torch.stack([discriminant(part) for discriminant, part in read], 1)

    @staticmethod
    def parts(statistics: Tensor) -> list[Tensor]:
        """What each discriminant reads of statistics (B, n_blocks, 2 D): all blocks, then each by itself."""
        return [statistics.flatten(1), *statistics.unbind(1)]

    @torch.no_grad()
    def statistics(self, utterance: Tensor) -> Tensor:
        """Mean and standard deviation over time of each block: float32 (n_blocks, 2 D) of an utterance (S,)."""
        if utterance.dim() != 1 or not utterance.is_floating_point():
            raise ValueError(f"an utterance is {tuple(utterance.shape)} {utterance.dtype}, expected (S,) float32")
        shortest = 2 * HOP_SAMPLES * 2  # two positions, as one has no deviation
        utterance = F.pad(utterance, (0, max(0, shortest - len(utterance))))
        longest = 2 * HOP_SAMPLES * self.encoder.config.max_source_positions
        pieces = [piece for piece in utterance.split(longest) if len(piece) >= shortest]
        states = torch.cat([self._states(piece) for piece in pieces], dim=1).float()  # (n_blocks, T, D)
        return torch.cat([states.mean(1), states.std(1, correction=0)], dim=1)

    def _states(self, piece: Tensor) -> Tensor:
        mel = log_mel(piece[None, : len(piece) // (2 * HOP_SAMPLES) * 2 * HOP_SAMPLES]).to(self.dtype)
        encoder = self.encoder
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(mel)))).transpose(1, 2)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        states = [x]
        for layer in encoder.layers[: max(self.blocks)]:  # what lies above is not read
            out = layer(states[-1], None)
            states.append(out[0] if isinstance(out, tuple) else out)
        return torch.cat([states[k] for k in self.blocks])

    def load_encoder(self, state: Mapping[str, Tensor]) -> None:
        """Load a whole Whisper encoder strictly."""
        self.encoder.load_state_dict(state)


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
