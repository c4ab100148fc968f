"""What goes between a model's server and who asks it: JSON in which arrays are base64; nothing is pickled.

Documents are checked on arrival, on both sides: a request that is none is refused before it reaches the model.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, NonNegativeInt, TypeAdapter, ValidationError

from perception.media import frame_indices
from perception.types import Absence, Faces, Frames, Modality, Speech, UserTurn

from .types import Affect, CutShort, ReplyBrief, Understanding, Utterance

MAX_BYTES = 40 * 2**20
"""No document is longer: as base64 eight pictures of 640 x 640 take 13 MiB, two minutes of speech 10 MiB."""

SECONDS = "emox-seconds"
"""Header: for so long its sender waits for an answer."""

T = TypeVar("T")


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Array(_Document):
    """An array: its numbers in C order, little-endian."""

    dtype: Literal["float32", "float64", "uint8"]
    shape: Annotated[tuple[NonNegativeInt, ...], Field(max_length=4)]
    data: Base64Bytes


class Turn(_Document):
    """A turn as far as the model reads it."""

    text: Annotated[str, Field(max_length=20_000)]
    speech: Array | None = None
    frames: Array | None = None
    frame_times_s: Array | None = None
    faces: Array | None = None
    face_times_s: Array | None = None
    face_boxes: Array | None = None
    n_people: NonNegativeInt = 1
    face_margin: Annotated[float, Field(ge=0, le=10)] = 0.0
    absent: dict[Modality, Absence] = {}


class Reading(_Document):
    """What a prefix is made of."""

    turn: Turn
    history: Annotated[tuple[Utterance, ...], Field(max_length=100)] = ()


class Ask(_Document):
    """A question about the prefix `id`, which its asker names; with `reading` it is read if it is not there."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    reading: Reading | None = None


class Read(Ask):
    """Read a turn, or ahead of its words; `ahead` names what was read ahead of it."""

    reading: Reading
    ahead: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None


class Understand(Ask):
    """See `AffectModel.understand`."""

    affect: Affect
    in_haste: bool = False


class Empathize(Ask):
    """See `AffectModel.empathize`."""

    brief: ReplyBrief


class Classify(Ask):
    """See `LocalModel.classify`."""

    task: str
    labels: Annotated[tuple[str, ...], Field(min_length=1, max_length=100)]


class Understood(_Document):
    """Level 2, and level 1's open words."""

    understanding: Understanding
    open: tuple[str, ...]


class Line(_Document):
    """A line of a streamed reply: a piece, its end, or why there is no more. Without an end it broke off."""

    piece: str | None = None
    cut_short: bool = False
    end: bool = False
    error: str | None = None
    detail: str = ""


class Problem(_Document):
    """What went wrong: `error` is one of `STATUSES`."""

    error: str
    detail: str


STATUSES = {
    "unusable": 422,
    "too long": 413,
    "no token": 401,
    "no page": 403,
    "gone": 410,
    "busy": 503,
    "late": 504,
    "fault": 500,
}
"""Of HTTP, by error."""

_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def _adapter(kind: Any) -> TypeAdapter[Any]:
    return _ADAPTERS.setdefault(kind, TypeAdapter(kind))


def write(value: Any, kind: Any = None) -> bytes:
    """A document or a dataclass as JSON."""
    return _adapter(kind or type(value)).dump_json(value)


def read(kind: type[T], document: bytes | str) -> T:
    """A document or a dataclass out of JSON.

    Raises:
        ValueError: it is none; the text says where, and nothing of what stands there.
    """
    try:
        return _adapter(kind).validate_json(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ValueError(f"{where} is wrong: {first['msg']}") from None


def reading_of(turn: UserTurn, history: Sequence[Utterance], modalities: Collection[Modality]) -> Reading:
    """A turn and its dialogue, without what a model of these modalities does not read: of a clip's frames it reads
    eight, and the words of a transcript are the turn's text.
    """
    absent = dict(turn.absent)
    absent |= {m: Absence.UNTRAINED for m in turn.modalities if m not in ("text", *modalities)}
    document: dict[str, Any] = {"text": turn.text, "absent": absent}
    if turn.speech is not None and "voice" in modalities:
        document["speech"] = _array(turn.speech.samples, np.float32)
    if turn.frames is not None and "face" in modalities:
        chosen = _read_frames(len(turn.frames.images))
        document["frames"] = _array(turn.frames.images[chosen], np.uint8)
        document["frame_times_s"] = _array(turn.frames.times_s[chosen], np.float64)
    if turn.faces is not None and "face" in modalities:
        chosen = _read_frames(len(turn.faces.crops))
        document["faces"] = _array(turn.faces.crops[chosen], np.uint8)
        document["face_times_s"] = _array(turn.faces.times_s[chosen], np.float64)
        document["face_boxes"] = _array(turn.faces.boxes[chosen], np.float32)
        document |= {"n_people": turn.faces.n_people, "face_margin": turn.faces.margin}
    return Reading(turn=Turn(**document), history=tuple(history))


def turn_of(turn: Turn) -> UserTurn:
    """The turn of a document.

    Raises:
        ValueError: an array is not what it should be.
    """
    speech = frames = faces = None
    if turn.speech is not None:
        speech = Speech(_numbers(turn.speech, "speech", np.float32, (None,)))
    if turn.frames is not None:
        images = _numbers(turn.frames, "frames", np.uint8, (None, None, None, 3))
        frames = Frames(images, _numbers(turn.frame_times_s, "frame_times_s", np.float64, (len(images),)))
    if turn.faces is not None:
        crops = _numbers(turn.faces, "faces", np.uint8, (None, None, None, 3))
        times_s = _numbers(turn.face_times_s, "face_times_s", np.float64, (len(crops),))
        boxes = _numbers(turn.face_boxes, "face_boxes", np.float32, (len(crops), 4))
        faces = Faces(crops, times_s, boxes, turn.n_people, turn.face_margin)
    return UserTurn(turn.text, speech, frames, faces, absent=dict(turn.absent))


def line_of(piece: str) -> bytes:
    """A piece of a reply as a line of its stream."""
    return write(Line(piece=str(piece), cut_short=isinstance(piece, CutShort))) + b"\n"


def piece_of(line: Line) -> str:
    """The piece in a line."""
    return CutShort() if line.cut_short else line.piece or ""


def _read_frames(n_frames: int) -> list[int]:
    return sorted(set(frame_indices(n_frames)))


def _array(values: np.ndarray, dtype: Any) -> Array:
    held = np.ascontiguousarray(values, dtype)
    data = base64.b64encode(held.astype(held.dtype.newbyteorder("<"), copy=False).tobytes())
    return Array.model_validate({"dtype": held.dtype.name, "shape": held.shape, "data": data})


def _numbers(array: Array | None, name: str, dtype: Any, shape: tuple[int | None, ...]) -> np.ndarray:
    """An array of this kind, a fresh one that may be written to; None in `shape` is any length but 0."""
    if array is None:
        raise ValueError(f"{name} is missing")
    expected = np.dtype(dtype)
    fits = len(array.shape) == len(shape) and all(
        n == wanted if wanted is not None else n > 0 for n, wanted in zip(array.shape, shape, strict=True)
    )
    if array.dtype != expected.name or not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {expected.name} ({wanted})")
    if len(array.data) != expected.itemsize * int(np.prod(array.shape, dtype=object)):
        raise ValueError(f"{name} holds {len(array.data)} bytes, which is not what its shape {array.shape} takes")
    numbers = np.frombuffer(array.data, expected.newbyteorder("<")).reshape(array.shape).astype(expected)
    if expected.kind == "f" and not np.isfinite(numbers).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    return numbers
