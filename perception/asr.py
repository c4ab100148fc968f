"""Speech becomes words, and silence or noise becomes none.

Whisper (Radford et al. 2022, arXiv:2212.04356) run by faster-whisper from a local folder. Whisper invents words
where nobody speaks, so Silero's voice activity detector, which faster-whisper brings along, is asked first, and
what Whisper itself doubts is dropped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .types import Speech, Transcript, Word

VAD = {"threshold": 0.5, "min_speech_duration_ms": 150, "min_silence_duration_ms": 500, "speech_pad_ms": 200}
"""Silero's options: shorter speech would be found in the onset of a buzzer, and a pause for breath ends nothing."""
MAX_TOKENS, MAX_TOKENS_PER_S = 224, 20
"""Nobody says more. Whisper falls into a loop now and then, and would go on to its limit of 224 in three seconds."""
MAX_COMPRESSION = 2.4
"""Words that compress better than this are such a loop (its paper, section 4.5), and are dropped. The paper's other
test, that a segment is likely silent and unlikely as words, faster-whisper makes itself.
"""


SHORTEST_FRAMES, MARGIN_FRAMES = 1_000, 600
"""Of 10 ms. Whisper was trained on windows of 30 s, filled up with silence; it takes shorter ones, at a third of the
time for a short turn, as long as some silence follows the words. With less than this it falls into loops
(docs/LOG.md)."""


class Asr(Protocol):
    """Whoever can tell speech from other sound, and write down what was said."""

    def hears_speech(self, speech: Speech) -> bool:
        """Tell whether anybody speaks in it, without finding out what is said."""

    def transcribe(self, speech: Speech, language: str | None = None, *, in_haste: bool = False) -> Transcript:
        """Write down what is said, in this language if it is known (ISO 639-1); the text is empty if nothing is.

        In haste, it is known that somebody speaks, and no word needs its time.
        """


class WhisperAsr:
    """Whisper in a folder in CTranslate2's format, on the CPU with 8-bit weights.

    Args:
        model_dir: holds model.bin, config.json and the tokenizer.
        language: ISO 639-1 code to expect; None lets a multilingual model find out.
        cpu_threads: 0 takes all cores.

    Raises:
        FileNotFoundError: the folder holds no model.
        ValueError: an English-only model was asked for another language.
        ImportError: faster-whisper is not installed.
    """

    def __init__(self, model_dir: Path, *, language: str | None = None, cpu_threads: int = 0) -> None:
        if not (model_dir / "model.bin").is_file():
            raise FileNotFoundError(f"no speech recogniser in {model_dir}; `emox doctor` says how to install one")
        try:
            from faster_whisper import WhisperModel
        except ImportError as error:
            raise ImportError("hearing speech needs faster-whisper; install emox[embedded]") from error
        self._model = _short_of_window(WhisperModel)(
            str(model_dir),
            device="cpu",
            compute_type="int8",
            cpu_threads=cpu_threads or os.cpu_count() or 1,
            local_files_only=True,
        )
        if language not in (None, *self._model.supported_languages):
            raise ValueError(
                f"the speech recogniser in {model_dir} does not know the language {language!r}, "
                f"only {', '.join(self._model.supported_languages)}"
            )
        self._language = language

    def hears_speech(self, speech: Speech) -> bool:
        """Tell whether anybody speaks in it, without finding out what is said."""
        from faster_whisper.vad import get_speech_timestamps

        return bool(get_speech_timestamps(speech.samples, **VAD))

    def transcribe(self, speech: Speech, language: str | None = None, *, in_haste: bool = False) -> Transcript:
        """Write down what is said.

        Args:
            speech: the sound.
            language: ISO 639-1 code, where it is known; finding out costs a second pass of the encoder.
            in_haste: leave out the look for speech and the times of words, a third of the time, unless that ends in a
                loop.

        Returns:
            Words with times on the clip's clock, seldom in haste. Where nobody speaks, text and language are empty.
        """
        # Asked to detect the language of nothing, Whisper invents one.
        if not in_haste and not self.hears_speech(speech):
            return Transcript("", "")
        found, detected = self._write_down(speech, language, in_haste)
        if in_haste and any(_is_loop(segment) for segment in found):
            found, detected = self._write_down(speech, language, False)  # times keep Whisper out of most loops
        kept = [segment for segment in found if not _is_loop(segment)]
        text = "".join(segment.text for segment in kept).strip()  # Whisper's segments begin with a space
        heard = [word for segment in kept for word in segment.words or ()]
        words = tuple(Word(w.word.strip(), float(w.start), float(w.end), float(w.probability)) for w in heard)
        return Transcript(text, detected, words) if text else Transcript("", "")

    def _write_down(self, speech: Speech, language: str | None, in_haste: bool) -> tuple[list[Any], str]:
        segments, info = self._model.transcribe(
            speech.samples,
            language=self._language or language,
            beam_size=1,
            temperature=0.0,  # the same sound gives the same words, and no time goes into retries
            condition_on_previous_text=False,
            max_new_tokens=min(MAX_TOKENS, MAX_TOKENS_PER_S * (1 + round(speech.duration_s))),
            word_timestamps=not in_haste,
            without_timestamps=in_haste,
            vad_filter=not in_haste,
            vad_parameters=VAD,
        )
        return list(segments), info.language


def _is_loop(segment: Any) -> bool:
    return bool(segment.compression_ratio >= MAX_COMPRESSION)


def _short_of_window(whisper: Any) -> Any:
    """faster-whisper's class, encoding no more of the window of 30 s than the speech needs."""

    class ShortWindow(whisper):  # type: ignore[misc]
        def encode(self, features: np.ndarray) -> Any:
            said = np.flatnonzero(np.any(features != 0, axis=-2))  # faster-whisper fills up with zeros
            n = int(said[-1]) + 1 if len(said) else 0
            cut = features[..., : max(SHORTEST_FRAMES, n + MARGIN_FRAMES)].copy()
            cut[..., n:] = cut.min()  # zero is no silence on this scale
            return super().encode(cut)

    return ShortWindow
