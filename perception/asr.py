"""Speech becomes words, and silence or noise becomes none.

Whisper (Radford et al. 2022, arXiv:2212.04356) run by faster-whisper from a local folder. Whisper invents words
where nobody speaks, so Silero's voice activity detector, which faster-whisper brings along, is asked first, and
what Whisper itself doubts is dropped.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from .types import Speech, Transcript, Word

VAD = {"threshold": 0.5, "min_speech_duration_ms": 150, "min_silence_duration_ms": 500, "speech_pad_ms": 200}
"""Silero's options: shorter speech would be found in the onset of a buzzer, and a pause for breath ends nothing."""
MAX_TOKENS, MAX_TOKENS_PER_S = 224, 20
"""Nobody says more. Whisper falls into a loop now and then, and would go on to its limit of 224 in three seconds."""
MAX_COMPRESSION = 2.4
"""Words that compress better than this are such a loop (its paper, section 4.5), and are dropped. The paper's other
test, that a segment is likely silent and unlikely as words, faster-whisper makes itself.
"""


class Asr(Protocol):
    """Whoever can tell speech from other sound, and write down what was said."""

    def hears_speech(self, speech: Speech) -> bool:
        """Tell whether anybody speaks in it, without finding out what is said."""

    def transcribe(self, speech: Speech) -> Transcript:
        """Write down what is said; the text is empty if nothing is."""


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
        self._model = WhisperModel(
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

    def transcribe(self, speech: Speech) -> Transcript:
        """Write down what is said.

        Returns:
            Words with times on the clip's clock. Where nobody speaks, text and language are empty.
        """
        if not self.hears_speech(speech):  # asked to detect the language of nothing, Whisper invents one
            return Transcript("", "")
        segments, info = self._model.transcribe(
            speech.samples,
            language=self._language,
            beam_size=1,
            temperature=0.0,  # the same sound gives the same words, and no time goes into retries
            condition_on_previous_text=False,
            max_new_tokens=min(MAX_TOKENS, MAX_TOKENS_PER_S * (1 + round(speech.duration_s))),
            word_timestamps=True,
            vad_filter=True,
            vad_parameters=VAD,
        )
        heard = [
            word for segment in segments if segment.compression_ratio < MAX_COMPRESSION for word in segment.words or ()
        ]
        text = "".join(word.word for word in heard).strip()  # Whisper's words begin with their space, if they have one
        words = tuple(Word(w.word.strip(), float(w.start), float(w.end), float(w.probability)) for w in heard)
        return Transcript(text, info.language, words) if text else Transcript("", "")
