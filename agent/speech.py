"""The agent's voice: sentences become audio, one at a time, in a chosen manner.

Backends load their library where they load weights: piper-tts is GPL and coqui-tts heavy, so both are optional.
"""

from __future__ import annotations

import inspect
import json
import os
import wave
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .piper_durations import with_durations
from .sentences import speakable, split_sentences
from .word_timing import Rendering, Spell, SpokenWord, is_sound, letters, time_words

NORMAL_RMS = 0.06
"""Root mean square of a sentence at loudness 0: 24 dB below full scale, which leaves a bright style room for peaks."""

PEAK = 0.97
"""No sample is louder than this, whatever the style asks for."""

_PIPER_RATES = (0.5, 0.7, 0.9, 1.0, 1.1, 1.5, 2.0)
_PIPER_SCALES = (2.37, 1.61, 1.21, 1.0, 0.825, 0.545, 0.25)
"""The length scale at which Piper really speaks at a rate.

It rounds each sound, of which most last about one frame, up to whole ones: at 1 / 0.85 its en_US joe voice is 0.94 as
fast, not 0.85. Found from that voice's durations before they are rounded, of 1,200 sounds.
"""


@dataclass(frozen=True, eq=False)
class Audio:
    """Mono audio: `samples` float32 (T,) in [-1, 1].

    `words` are those of the sentence as it was given, which they join to by single spaces, and when each is heard.
    """

    samples: np.ndarray
    sample_rate_hz: int
    words: tuple[SpokenWord, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate_hz


@dataclass(frozen=True)
class VoiceStyle:
    """A manner of speaking.

    `rate` is the speed relative to the voice's own, in [0.5, 2]. `loudness` is the level in dB relative to normal, in
    [-20, 6]. `variability` scales the voice's own liveliness of pitch and timing, in [0, 1.5]. `pause_s` is the silence
    between sentences in seconds, in [0, 3].

    Raises:
        ValueError: a value is outside its range.
    """

    name: str = "plain"
    rate: float = 1.0
    loudness: float = 0.0
    variability: float = 1.0
    pause_s: float = 0.25

    def __post_init__(self) -> None:
        """Check the ranges."""
        for field, low, high in (("rate", 0.5, 2), ("loudness", -20, 6), ("variability", 0, 1.5), ("pause_s", 0, 3)):
            value = getattr(self, field)
            if not low <= value <= high:
                raise ValueError(f"The voice style's {field} is {value}; give a value from {low} to {high}.")


STYLES = {
    style.name: style
    for style in (
        VoiceStyle("plain"),
        VoiceStyle("warm", rate=0.92, loudness=-1.0, variability=1.1, pause_s=0.35),
        VoiceStyle("calm", rate=0.85, loudness=-3.0, variability=0.8, pause_s=0.5),
        VoiceStyle("bright", rate=1.08, loudness=1.5, variability=1.25, pause_s=0.2),
    )
}


class Speaker(Protocol):
    """Something that can say sentences aloud."""

    def speak(self, sentences: str | Iterable[str], style: VoiceStyle) -> Iterator[Audio]:
        """Say a text, or sentences as they arrive: one `Audio` per sentence, the pause before it included.

        Lazy: a sentence is taken and synthesised when its audio is asked for. Nothing to say gives nothing.
        """


class PiperSpeaker:
    """A Piper voice (https://github.com/OHF-Voice/piper1-gpl), run by ONNX Runtime on the CPU.

    Args:
        onnx_path: the voice, with its "<onnx_path>.json" beside it.

    Raises:
        ImportError: piper-tts is not installed.
        FileNotFoundError: the voice or its configuration is not there.
    """

    def __init__(self, onnx_path: str | Path) -> None:
        try:
            from onnxruntime import InferenceSession
            from piper import PiperConfig, PiperVoice, SynthesisConfig
        except ImportError as error:
            raise ImportError("Speaking with Piper needs piper-tts: pip install 'emox[embedded]'") from error
        network, config = Path(onnx_path), Path(f"{onnx_path}.json")
        for path in (network, config):
            if not path.is_file():
                raise FileNotFoundError(f"There is no file {path}; a Piper voice is an .onnx and its .onnx.json file.")
        session = InferenceSession(with_durations(network.read_bytes()), providers=["CPUExecutionProvider"])
        self._voice = PiperVoice(session, PiperConfig.from_dict(json.loads(config.read_text(encoding="utf-8"))))
        self._config = SynthesisConfig

    def speak(self, sentences: str | Iterable[str], style: VoiceStyle) -> Iterator[Audio]:
        """See `Speaker.speak`."""
        voice = self._voice.config
        config = self._config(
            length_scale=voice.length_scale * float(np.interp(style.rate, _PIPER_RATES, _PIPER_SCALES)),
            noise_scale=voice.noise_scale * style.variability,
            noise_w_scale=voice.noise_w_scale * style.variability,
            normalize_audio=False,
        )

        def synthesise(text: str) -> Rendering:
            chunks = list(self._voice.synthesize(text, config, include_alignments=True))
            samples = np.concatenate([np.zeros(0, np.float32), *(chunk.audio_float_array for chunk in chunks)])
            told = [chunk.phoneme_alignments or [] for chunk in chunks]
            if not all(told):
                return Rendering(samples)
            return Rendering(samples, [(sound.phoneme, int(sound.num_samples)) for part in told for sound in part])

        return _say(sentences, style, voice.sample_rate, synthesise, self._spell)

    def _spell(self, text: str) -> list[str]:
        return [phoneme for part in self._voice.phonemize(text) for phoneme in part if is_sound(phoneme)]


@dataclass(frozen=True)
class CoquiVoice:
    """Which voice a Coqui model speaks in.

    `speaker` is one of a model with several. `reference_wav` is a recording whose voice to take on, for models that
    clone; use it only with that person's consent.
    """

    speaker: str | None = None
    reference_wav: Path | None = None


class CoquiSpeaker:
    """A Coqui TTS voice (https://github.com/idiap/coqui-ai-TTS), through `TTS.api.TTS`.

    Args:
        model: a released model's name, downloaded on first use, or a local folder with config.json and one checkpoint
            (model.pth, best_model.pth, or the only .pth).
        voice: which of the model's voices, where it has several or clones.
        style_voices: name of a style -> another voice for it.
        language: needed by multilingual models, such as "en".

    Style: the rate needs a model with a length scale (VITS, Glow-TTS, FastPitch, ...) or a speed (XTTS), and the
    variability one with an inference noise scale (VITS, Glow-TTS); other models keep their own.

    Raises:
        ImportError: coqui-tts is not installed.
        FileNotFoundError: the folder holds no model, or a reference is not there.
        ValueError: the model has no speaker of that name.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        voice: CoquiVoice | None = None,
        style_voices: Mapping[str, CoquiVoice] | None = None,
        language: str | None = None,
    ) -> None:
        try:
            from TTS.api import TTS
            from TTS.utils.synthesizer import PAD_SILENCE_SAMPLES
        except ImportError as error:
            raise ImportError("Speaking with Coqui needs coqui-tts: pip install 'emox[coqui]'") from error
        if Path(model).is_dir():
            checkpoint, config = _coqui_files(Path(model))
            self._tts = TTS(model_path=str(checkpoint), config_path=str(config), progress_bar=False)
        else:
            self._tts = TTS(str(model), progress_bar=False)
        self._voice, self._style_voices, self._language = voice or CoquiVoice(), dict(style_voices or {}), language
        speakers = self._tts.speakers or []
        for one in (self._voice, *self._style_voices.values()):
            if one.reference_wav is not None and not one.reference_wav.is_file():
                raise FileNotFoundError(f"There is no recording {one.reference_wav} to take a voice from.")
            if one.speaker is not None and one.speaker not in speakers:
                has = f"it has {', '.join(speakers)}" if speakers else "it has one voice only"
                raise ValueError(f'The model {model} has no speaker "{one.speaker}"; {has}.')
        self._padding: int = PAD_SILENCE_SAMPLES
        network = self._tts.synthesizer.tts_model
        self._scales = {
            name: float(getattr(network, name))
            for name in ("length_scale", "inference_noise_scale", "inference_noise_scale_dp")
            if isinstance(getattr(network, name, None), int | float)
        }
        self._has_speed = "speed" in inspect.signature(network.inference).parameters

    def speak(self, sentences: str | Iterable[str], style: VoiceStyle) -> Iterator[Audio]:
        """See `Speaker.speak`."""
        voice = self._style_voices.get(style.name, self._voice)
        reference = voice.reference_wav and str(voice.reference_wav)
        said_by: dict[str, Any] = {"speaker": voice.speaker, "speaker_wav": reference, "language": self._language}

        def synthesise(text: str) -> Rendering:
            # Set again for every sentence: two streams of different style may take turns on one model.
            for name, own in self._scales.items():
                scale = 1 / style.rate if name == "length_scale" else style.variability
                setattr(self._tts.synthesizer.tts_model, name, own * scale)
            speed = {"speed": style.rate} if self._has_speed else {}
            samples = self._tts.tts(text, split_sentences=False, **said_by, **speed)
            return Rendering(np.asarray(samples, np.float32)[: -self._padding])  # it ends each sentence with silence

        return _say(sentences, style, self._tts.synthesizer.output_sample_rate, synthesise)


def write_wav(path: str | Path, chunks: Iterable[Audio]) -> float:
    """Write audio as a 16-bit mono WAV file and return its length in seconds.

    The file appears whole or not at all: it is written beside its place and then renamed.

    Raises:
        OSError: the folder is missing or cannot be written to.
        ValueError: there is no audio, or the chunks differ in sample rate.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {path.parent} does not exist; create it, or choose another place.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file such as {path / 'reply.wav'}.")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            seconds = _write_wav(file, chunks)
        part.replace(path)
    except PermissionError as error:
        raise PermissionError(f"The folder {path.parent} cannot be written to; choose another place.") from error
    finally:
        part.unlink(missing_ok=True)
    return seconds


def _write_wav(file: Any, chunks: Iterable[Audio]) -> float:
    rate = n_samples = 0
    with wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(1)  # so that an empty file can be closed; it is then thrown away
        for chunk in chunks:
            if rate not in (0, chunk.sample_rate_hz):
                raise ValueError(
                    f"The audio changes from {rate} to {chunk.sample_rate_hz} Hz; use one voice for a file."
                )
            if not rate:
                rate = chunk.sample_rate_hz
                wav.setframerate(rate)
            wav.writeframes((np.clip(chunk.samples, -1, 1) * 32767).round().astype("<i2").tobytes())
            n_samples += len(chunk.samples)
    if not n_samples:
        raise ValueError("There is no audio to write; the text has nothing that can be spoken.")
    return n_samples / rate


def _say(
    sentences: str | Iterable[str],
    style: VoiceStyle,
    sample_rate_hz: int,
    synthesise: Callable[[str], Rendering],
    spell: Spell = letters,
) -> Iterator[Audio]:
    """Clean and synthesise each sentence, bring it to the style's loudness, put a pause before all but the first."""
    pause = np.zeros(0, np.float32)
    for sentence in split_sentences([sentences]) if isinstance(sentences, str) else sentences:
        text = speakable(sentence)
        rendering = synthesise(text) if text else Rendering(pause[:0])
        samples = rendering.samples
        loudest = float(np.abs(samples).max(initial=0))
        if loudest == 0:
            continue
        level = float(np.sqrt(np.mean(np.square(samples))))
        gain = min(NORMAL_RMS * 10 ** (style.loudness / 20) / level, PEAK / loudest)
        words = time_words(sentence, text, rendering, sample_rate_hz, spell=spell, delay=len(pause))
        yield Audio(np.concatenate([pause, samples * np.float32(gain)]), sample_rate_hz, words)
        pause = np.zeros(round(style.pause_s * sample_rate_hz), np.float32)


def _coqui_files(folder: Path) -> tuple[Path, Path]:
    """A local model's checkpoint and configuration."""
    checkpoints = sorted(folder.glob("*.pth"))
    named = [path for name in ("model.pth", "best_model.pth") for path in checkpoints if path.name == name]
    config = folder / "config.json"
    if not config.is_file() or not (named or len(checkpoints) == 1):
        raise FileNotFoundError(
            f"{folder} is no Coqui model; it needs config.json and model.pth, or one other .pth file."
        )
    return (named or checkpoints)[0], config
