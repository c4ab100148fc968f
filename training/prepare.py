"""Encode every clip once, before training: what the frozen encoders read goes to the feature cache."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache as once
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from model.encoders.features import Features
from model.nano_emox import EncoderOutputs, NanoEmoX
from model.processor import Inputs, Processor
from model.weights import locate
from perception.errors import MediaError
from perception.face import FaceFinder, FaceTracker
from perception.media import read_clip
from perception.types import Faces, Frames, Speech, UserTurn

from .data.augment import augment, generator
from .data.contents import read_bytes, split_archive
from .data.features import PARTS, FeatureCache, Key, Part, encoder_ids, keys
from .data.sample import Clip, Sample

SHARD_BYTES = 16 * 2**20
SHARD_S = 60.0
"""A shard is written when it is this big or this old, so that a stop loses a minute of work at most."""
STILLS = 64
"""Still pictures that are encoded together."""

NOTHING: Mapping[Part, str] = {
    "acoustic": "it has no sound",
    "visual": "it has no picture",
    "facial": "it shows no face",
}


@dataclass(frozen=True)
class Report:
    """What was done: features `encoded` now, and `found` in the cache or under the same bytes, counted by key.

    `skipped` are clips that cannot be read, or lack what was asked for, by corpus and name, and why; `damaged` are the
    shards that were thrown away, whose clips were encoded again.
    """

    encoded: int
    found: int
    skipped: tuple[tuple[str, str], ...]
    damaged: tuple[Path, ...]


def prepare(
    samples: Iterable[Sample],
    model: NanoEmoX,
    processor: Processor,
    cache: FeatureCache,
    *,
    views: Mapping[str, int],
    parts: Collection[Part] = PARTS,
    faces: Callable[[], FaceTracker] | None = None,
) -> Report:
    """Encode what is missing in the cache; after a stop, go on where it was.

    Args:
        samples: whose clips are encoded; each distinct clip is decoded once.
        model: has the encoders.
        processor: makes their inputs.
        cache: where features go.
        views: corpus -> how many augmentations of its sound to add to the sound as it is; 0 where it is not named.
        parts: which encoders to run.
        faces: makes the face finder, for pictures that are not cropped; by default MTCNN.

    Raises:
        ValueError: the model lacks an encoder that was asked for, or one gives what is not finite.
    """
    there = encoder_ids(model, processor)
    for part in parts:
        if part not in there:
            raise ValueError(f"the model has no {part} encoder: choose parts from {', '.join(there)}")
    encoders = {part: there[part] for part in parts}
    clips: dict[tuple[Clip, int], str] = {}
    for sample in samples:
        clips.setdefault((sample.clip, views.get(sample.corpus, 0)), f"{sample.corpus} {sample.name}")
    finder = once(faces or (lambda: FaceFinder(locate("mtcnn"))))
    skipped: list[tuple[str, str]] = []
    n_found = 0
    with cache.writing() as damaged:
        work = _Work(model, processor, cache)
        for (clip, n_views), name in track(clips.items(), "clips", console=Console(stderr=True)):
            try:
                wanted = {key for view in range(n_views + 1) for key in keys(clip, encoders, view).values()}
                missing = {key for key in wanted if key not in cache and key not in work.queued}
                turn = read_turn(clip, {key.part for key in missing}, finder) if missing else UserTurn("")
            except (MediaError, OSError, zipfile.BadZipFile) as error:
                skipped.append((name, str(error)))
                continue
            n_found += len(wanted) - len(missing)
            work.add(turn, missing)
            empty = {key.part for key in wanted if work.is_empty(key)}
            skipped += [(name, NOTHING[part]) for part in PARTS if part in empty]
        work.finish()
    return Report(len(work.queued), n_found, tuple(skipped), damaged)


def read_turn(clip: Clip, parts: Collection[Part], finder: Callable[[], FaceTracker]) -> UserTurn:
    """Decode what some encoders read of a clip; its words are not read.

    Raises:
        MediaError: a file of it cannot be used (see perception/errors.py).
        FileNotFoundError: a member of an archive is not there.
    """
    wants_sound = "acoustic" in parts and clip.sound is not None
    wants_pictures = bool({"visual", "facial"} & set(parts)) and clip.pictures is not None
    speech: Speech | None = None
    frames: Frames | None = None
    for path in dict.fromkeys((clip.sound, clip.pictures)):
        sound, pictures = wants_sound and path == clip.sound, wants_pictures and path == clip.pictures
        if path is not None and (sound or pictures):
            with _on_disk(path) as file:
                given = read_clip(file, want_speech=sound, want_frames=pictures)
            speech, frames = given.speech or speech, given.frames or frames
    faces = None
    if frames is not None and "facial" in parts:
        faces = _whole(frames) if clip.cropped else finder().follow(frames)
    return UserTurn("", speech, frames, faces)


class _Work:
    """Clips on their way into the cache: still pictures wait for a batch, features for a shard."""

    def __init__(self, model: NanoEmoX, processor: Processor, cache: FeatureCache) -> None:
        self.model, self.processor, self.cache = model, processor, cache
        self.queued: set[Key] = set()
        self._empty: set[Key] = set()
        self._stills: dict[Part, list[tuple[Key, Inputs]]] = {"visual": [], "facial": []}
        self._shard: dict[Key, Features] = {}
        self._bytes = 0
        self._started = time.monotonic()

    def is_empty(self, key: Key) -> bool:
        """Whether the key's clip had nothing to encode, now or when it was put into the cache."""
        return key in self._empty or (key in self.cache and self.cache.is_empty(key))

    def add(self, turn: UserTurn, missing: Iterable[Key]) -> None:
        """Encode a clip for its missing keys, at once or with others."""
        for key in sorted(missing, key=str):
            self.queued.add(key)
            if key.part == "acoustic":
                self._add_sound(key, turn)
            else:
                self._add_pictures(key, turn)
        if self._bytes >= SHARD_BYTES or time.monotonic() - self._started >= SHARD_S:
            self._write()

    def finish(self) -> None:
        """Encode and write what waits."""
        for part in self._stills:
            self._encode_stills(part)
        self._write()

    def _add_sound(self, key: Key, turn: UserTurn) -> None:
        if turn.speech is None:
            self._add_nothing(key)
            return
        if key.view:
            samples = augment(turn.speech.samples, generator(key.content, key.view))
            turn = replace(turn, speech=Speech(samples))
        self._keep(key, self._encode(self.processor.inputs(turn, ("audio",))).acoustic)

    def _add_pictures(self, key: Key, turn: UserTurn) -> None:
        pictures = turn.faces if key.part == "facial" else turn.frames
        if pictures is None:
            self._add_nothing(key)
            return
        inputs = self.processor.inputs(turn, ("face",) if key.part == "facial" else ("frame",))
        if turn.frames is not None and len(turn.frames.images) == 1:
            self._stills[key.part].append((key, inputs))
            if len(self._stills[key.part]) >= STILLS:
                self._encode_stills(key.part)
        else:
            self._keep(key, getattr(self._encode(inputs), key.part))

    def _encode_stills(self, part: Part) -> None:
        """One step for each picture: the others of `Inputs` would only repeat it."""
        if not (rows := self._stills[part]):
            return
        if part == "facial":
            batch = Inputs(faces=torch.cat([inputs.faces[:, :1] for _, inputs in rows if inputs.faces is not None]))
        else:
            batch = Inputs(frames=torch.cat([inputs.frames[:, :1] for _, inputs in rows if inputs.frames is not None]))
        features = getattr(self._encode(batch), part)
        for i, (key, _) in enumerate(rows):
            self._keep(key, _row(features, i))
        rows.clear()

    def _encode(self, inputs: Inputs) -> EncoderOutputs:
        device = next(self.model.parameters()).device
        moved = {name: _on(device, value) for name, value in vars(inputs).items()}
        return self.model.encode(replace(inputs, **moved))

    def _add_nothing(self, key: Key) -> None:
        encoder = getattr(self.model, key.part)
        self._empty.add(key)
        self._keep(
            key,
            Features(
                torch.zeros(1, 0, encoder.width),
                tuple(torch.zeros(1, 0, width) for width in encoder.scale_widths),
                torch.ones(1, 0, dtype=torch.bool),
            ),
        )

    def _keep(self, key: Key, features: Features | None) -> None:
        assert features is not None  # `prepare` asks for encoders that are there
        self._shard[key] = features
        self._bytes += 2 * sum(tensor.numel() for tensor in (features.hidden, *features.scales))

    def _write(self) -> None:
        self.cache.put(self._shard)
        self._shard.clear()
        self._bytes = 0
        self._started = time.monotonic()


def _on(device: torch.device, value: Any) -> Any:
    """A tensor, some tensors or None, on a device."""
    if isinstance(value, tuple):
        return tuple(tensor.to(device) for tensor in value)
    return None if value is None else value.to(device)


def _row(features: Features, i: int) -> Features:
    """The i-th clip of a batch, as a batch of one."""
    return Features(
        features.hidden[i : i + 1],
        tuple(scale[i : i + 1] for scale in features.scales),
        features.mask[i : i + 1],
    )


def _whole(frames: Frames) -> Faces:
    """Pictures that are faces already."""
    n, height, width, _ = frames.images.shape
    return Faces(frames.images, frames.times_s, np.tile(np.array([0, 0, width, height], np.float32), (n, 1)))


@contextmanager
def _on_disk(path: Path) -> Iterator[Path]:
    """A file that can be opened: the path itself, or a copy of the archive's member."""
    if split_archive(path)[0] is None:
        yield path
        return
    with NamedTemporaryFile(suffix=f"-{path.name}") as copy:
        copy.write(read_bytes(path))
        copy.flush()
        yield Path(copy.name)
