"""The face of the person through a clip: found in each frame, followed over time, turned upright and cropped.

Finding is mtcnn.py's, the only file here that imports torch; it is loaded with the weights. What follows is
plain geometry: frames of a clip lie up to seconds apart, so people are followed by where they are and how big.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from .types import Faces, Frames

CROP_PX = 160
MARGIN = 0.2
"""Room around the box on each side, in box sides: the middle 114 of a crop's 160 pixels are the tight box."""
MIN_FACE_PX = 40
MIN_SCORE = 0.9
"""The network's own 0.7 lets through collars and curtains."""
BATCH = 8
"""Frames searched together; more only cost memory."""
MIN_PRESENCE = 0.1
"""A face in fewer of the frames than this is taken for a mistake or a passer-by."""


@dataclass(frozen=True)
class Face:
    """A face in one frame: `box` float32 (4,) x0, y0, x1, y1 in pixels; `score` in [0, 1]; `landmarks` (5, 2).

    Landmarks are x, y of the eyes, the nose and the corners of the mouth, the one on the image's left first.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """Middle of the box, (2,)."""
        return (self.box[:2] + self.box[2:]) / 2

    @property
    def side(self) -> float:
        """Longer side of the box."""
        return float((self.box[2:] - self.box[:2]).max())


@dataclass
class Track:
    """One person: which frames show them, and their face in each of these."""

    frames: list[int] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)

    @property
    def weight(self) -> float:
        """How much of the clip's picture is this face: present longest and largest."""
        return sum(face.side**2 for face in self.faces)


class FaceTracker(Protocol):
    """Whoever can follow the face of a person through a clip."""

    def follow(self, frames: Frames) -> Faces | None:
        """Return the face of the person the clip shows most, or None if it shows none."""


class FaceFinder:
    """MTCNN and the geometry around it.

    Args:
        weights_dir: holds pnet.pt, rnet.pt and onet.pt.
        min_face_px: smallest face looked for, in the frame's pixels.

    Raises:
        FileNotFoundError: a weight file is missing.
    """

    def __init__(self, weights_dir: Path, *, min_face_px: int = MIN_FACE_PX) -> None:
        from .mtcnn import Mtcnn

        self._mtcnn = Mtcnn(weights_dir, min_face_px=min_face_px)

    def find(self, frames: Frames) -> list[list[Face]]:
        """Find all faces in each frame, the most certain first."""
        found: list[list[Face]] = [[] for _ in frames.images]
        for start in range(0, len(frames.images), BATCH):
            batch = self._mtcnn(frames.images[start : start + BATCH])
            for image, box, score, landmarks in zip(
                batch.image, batch.boxes, batch.scores, batch.landmarks, strict=True
            ):
                if score >= MIN_SCORE:
                    found[start + image].append(Face(box, float(score), landmarks))
        return found

    def follow(self, frames: Frames) -> Faces | None:
        """Return the face of the person the clip shows most, or None if it shows none."""
        tracks = people(self.find(frames))
        if not tracks:
            return None
        person = max(tracks, key=lambda track: track.weight)
        return Faces(
            crops=np.stack(
                [upright_crop(frames.images[i], f) for i, f in zip(person.frames, person.faces, strict=True)]
            ),
            times_s=frames.times_s[person.frames],
            boxes=np.stack([face.box for face in person.faces]).astype(np.float32),
            n_people=len(tracks),
            margin=MARGIN,
        )


def people(found: Sequence[Sequence[Face]]) -> list[Track]:
    """Join the faces of successive frames into people.

    A face continues the track that last was within one face's width of it and at most twice or half its size;
    nearest pairs are joined first. A person who was out of sight continues where they left.
    """
    tracks: list[Track] = []
    for index, faces in enumerate(found):
        pairs = [
            (_distance(track.faces[-1], face), t, f) for t, track in enumerate(tracks) for f, face in enumerate(faces)
        ]
        joined: dict[int, int] = {}
        for distance, t, f in sorted(pairs):
            if distance < 1 and t not in joined.values() and f not in joined:
                joined[f] = t
        for f, face in enumerate(faces):
            if f not in joined:
                tracks.append(Track())
            track = tracks[joined.get(f, -1)]
            track.frames.append(index)
            track.faces.append(face)
    return [track for track in tracks if len(track.frames) >= MIN_PRESENCE * len(found)]


def upright_crop(image: np.ndarray, face: Face, size_px: int = CROP_PX) -> np.ndarray:
    """Cut out a face, turned until the eyes are level, with `MARGIN` around its box; outside the image is black.

    Args:
        image: uint8 (H, W, 3).
        face: its box gives place and scale, its eyes the angle: eyes alone would magnify a face seen from the side.
        size_px: side of the crop.

    Returns:
        uint8 (size_px, size_px, 3).
    """
    side = face.side * (1 + 2 * MARGIN)
    shrink = max(int(side // size_px), 1)  # averages whole pixels first, as sampling a large face would alias
    step = side / size_px / shrink
    eye_0, eye_1 = face.landmarks[:2]
    angle = np.arctan2(eye_1[1] - eye_0[1], eye_1[0] - eye_0[0])
    turn = step * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    corner = face.centre / shrink - turn @ np.full(2, size_px / 2)
    affine = (turn[0, 0], turn[0, 1], corner[0], turn[1, 0], turn[1, 1], corner[1])
    picture = Image.fromarray(image).reduce(shrink)
    return np.asarray(picture.transform((size_px, size_px), Image.Transform.AFFINE, affine, Image.Resampling.BICUBIC))


def _distance(before: Face, now: Face) -> float:
    """How far a face moved, in its mean width; infinite if it grew or shrank to more than twice or half."""
    if not 0.5 <= now.side / before.side <= 2:
        return np.inf
    return float(np.linalg.norm(now.centre - before.centre) / ((now.side + before.side) / 2))
