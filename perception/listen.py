"""What a person gives, typed or recorded, becomes one turn; what they did not consent to is not even decoded.

Importing this file loads nothing heavy: media libraries are imported when there is a clip, and the recogniser
and the face finder are built when they are first needed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .errors import TextError, TextTooLong
from .types import MODALITIES, Absence, Modality, UserTurn

if TYPE_CHECKING:
    from .asr import Asr
    from .face import FaceTracker

MAX_CHARACTERS = 8_000
"""About 2,000 tokens: a long letter, and a quarter of the smallest language model's context."""


def listen(
    text: str | None = None,
    clip: Path | None = None,
    *,
    asr: Callable[[], Asr],
    face_finder: Callable[[], FaceTracker],
    consent: frozenset[Modality],
) -> UserTurn:
    """Make one turn of typed text, a clip, or both.

    Typed text goes before the clip's words, which are then not transcribed; voice and face come from the clip.
    Consent to text lets words be read, typed or spoken; to voice, how they are spoken; to face, the pictures.
    Sound in which nobody speaks is no voice. Frames without a face stay, as the place still says something.

    Args:
        text: what was typed.
        clip: a sound, video or picture file.
        asr: returns the recogniser; called only when there is sound to read.
        face_finder: returns the face finder; called only when there are frames to read.
        consent: modalities the person lets the agent read.

    Returns:
        The turn; `absent` names every modality it lacks, and why.

    Raises:
        PerceptionError: text or clip cannot be used, or there is neither (see errors.py).
    """
    words = clean_text(text or "")
    if not words and clip is None:
        raise TextError("there is nothing to listen to; give --text or --clip")
    if "text" not in consent:
        words = ""
    wants_words = "text" in consent and not words

    sound, frames = None, None
    absent: dict[Modality, Absence] = {"voice": Absence.NOT_GIVEN, "face": Absence.NOT_GIVEN}
    if clip is not None:
        from .media import read_clip

        given = read_clip(clip, want_speech=wants_words or "voice" in consent, want_frames="face" in consent)
        sound, frames, absent = given.speech, given.frames, dict(given.absent)

    transcript = None
    if sound is not None:
        recogniser = asr()
        if not recogniser.hears_speech(sound):
            sound, absent["voice"] = None, Absence.NO_SPEECH
        elif wants_words:
            transcript = recogniser.transcribe(sound)
            words = transcript.text
    if not words:
        absent["text"] = absent.get("voice", Absence.NO_SPEECH)

    faces = None
    if frames is not None:
        faces = face_finder().follow(frames)
        if faces is None:
            absent["face"] = Absence.NO_FACE

    speech = sound if "voice" in consent else None
    absent |= {modality: Absence.NO_CONSENT for modality in MODALITIES if modality not in consent}
    return UserTurn(words, speech, frames, faces, transcript, absent)


def clean_text(text: str) -> str:
    """Return typed text without control characters (tabs and line ends stay) and without blanks around it.

    Raises:
        TextError: it is too long, or holds what is left of bytes that were not UTF-8.
    """
    if len(text) > MAX_CHARACTERS:
        raise TextTooLong(f"the text has {len(text):,} characters, the limit is {MAX_CHARACTERS:,}; shorten it")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:  # undecodable bytes of a command line arrive as lone surrogates
        raise TextError("the text is not valid UTF-8; write it in that encoding") from error
    text = text.replace("\r\n", "\n")
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc").strip()
