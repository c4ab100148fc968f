"""What a turn is made of once it has been seen and heard; NumPy only, no torch.

A modality that could not be read is `None` plus an `Absence` that says why,
never an array of zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

SAMPLE_RATE_HZ = 16_000
"""Rate of all speech inside the agent."""

Modality = Literal["text", "voice", "face"]
MODALITIES: tuple[Modality, ...] = ("text", "voice", "face")


class Absence(StrEnum):
    """Why a modality of a turn was not read."""

    NOT_GIVEN = "not given"
    NO_AUDIO_TRACK = "the clip has no audio track"
    NO_VIDEO_TRACK = "the clip has no video track"
    NO_SPEECH = "no speech was found"
    NO_FACE = "no face was found"
    NO_CONSENT = "consent was not given"
    UNTRAINED = "the loaded checkpoint was not trained for it"


@dataclass(frozen=True, eq=False)
class Speech:
    """Mono speech: `samples` float32 (T,) in [-1, 1] at 16 kHz."""

    samples: np.ndarray

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ


@dataclass(frozen=True, eq=False)
class Frames:
    """Images in time order: `images` uint8 (N, H, W, 3) RGB; `times_s` float64 (N,), clip clock."""

    images: np.ndarray
    times_s: np.ndarray


@dataclass(frozen=True, eq=False)
class Faces:
    """One person's face through the clip, aligned and cropped.

    `crops` uint8 (N, S, S, 3) RGB; `times_s` float64 (N,); `boxes` float32 (N, 4)
    as x0, y0, x1, y1 in frame pixels; `n_people` counts all faces tracked in the clip; `margin` is the room around the
    box on each side of a crop, in box sides.
    """

    crops: np.ndarray
    times_s: np.ndarray
    boxes: np.ndarray
    n_people: int = 1
    margin: float = 0.0


@dataclass(frozen=True)
class Word:
    """One recognised word with its start and end in seconds and its probability."""

    text: str
    start_s: float
    end_s: float
    probability: float


@dataclass(frozen=True)
class Transcript:
    """What was said: `text` is empty when no speech was found; `language` is an ISO 639-1 code."""

    text: str
    language: str
    words: tuple[Word, ...] = ()


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded file: speech, frames or both; `absent` says why one is missing."""

    speech: Speech | None
    frames: Frames | None
    absent: dict[Modality, Absence] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class UserTurn:
    """One contribution of the person: words, and the voice and face they came with.

    `text` is what was typed or transcribed. `frames` are the whole images, `faces` the
    tracked crops of one person. `absent` names every modality that is not there, and why.
    """

    text: str
    speech: Speech | None = None
    frames: Frames | None = None
    faces: Faces | None = None
    transcript: Transcript | None = None
    absent: dict[Modality, Absence] = field(default_factory=dict)

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities that can be read, in the order text, voice, face."""
        present = {"text": bool(self.text), "voice": self.speech is not None, "face": self.faces is not None}
        return tuple(m for m in MODALITIES if present[m])
