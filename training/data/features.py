"""What the frozen encoders read from each clip, kept on disk: training never decodes or encodes a clip twice.

    content  sha256 of the file's bytes, or of the member's bytes in an archive
    part     acoustic, visual or facial
    encoder  its class, a hash of its weights and settings, and the version of what happens before it
    view     0 the clip as it is, k > 0 its k-th augmentation

A key names all that decides the features, so nothing is ever out of date: what changed has another key (section 7.1).
Features are held in half precision in shards, files that are named for the hash of what they hold. A shard appears
whole or not at all and never changes; a damaged one is found when the cache is opened, and counts as not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from model.cache import sha256
from model.encoders.features import Features
from model.nano_emox import EncoderOutputs, NanoEmoX
from model.processor import Processor

from ..files import write_bytes
from .contents import content_hash
from .sample import Clip

Part = Literal["acoustic", "visual", "facial"]
PARTS: tuple[Part, ...] = ("acoustic", "visual", "facial")

VERSION = 1
"""Of what happens to a clip before an encoder: decoding, finding faces, sampling, augmenting. Raise it with them."""


class MissingFeatures(KeyError):
    """A clip that was not prepared, or whose shard is damaged."""

    def __str__(self) -> str:
        """The sentence itself; a KeyError would put quotes around it."""
        return str(self.args[0])


@dataclass(frozen=True)
class Key:
    """What a clip's features are kept under; see the top of the file.

    `cropped`, of facial features only: the pictures are faces already, so that none was looked for.
    """

    content: str
    part: Part
    encoder: str
    view: int = 0
    cropped: bool = False

    def __str__(self) -> str:
        """Its name in a shard."""
        part = f"{self.part}-cropped" if self.cropped else self.part
        return f"{self.content}/{part}/{self.encoder}/{self.view}"


class FeatureCache:
    """Features by key in a folder. One process writes at a time, any number read.

    Opening reads and checks every shard; features are then read from memory maps. `damaged` are the shards that do
    not hold what their name says: nothing is read from them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.damaged: list[Path] = []
        self._shards: dict[Path, Any] = {}
        self._where: dict[str, Path] = {}
        self._open_new()

    def __contains__(self, key: Key) -> bool:
        return f"{key}:hidden" in self._where

    def __len__(self) -> int:
        return sum(name.endswith(":hidden") for name in self._where)

    def get(self, key: Key) -> Features:
        """Features of one clip (B = 1) in float32, as the encoder gave them up to half precision.

        T is 0 where the clip has nothing to encode: no sound, or no face in its pictures.

        Raises:
            MissingFeatures: not in the cache, even now that other processes may have added to it.
        """
        if key not in self:
            self._open_new()
        if key not in self:
            damage = f"; {self.damaged[0]} is damaged, it may have been there" if self.damaged else ""
            raise MissingFeatures(f"no features of {key} in {self.folder}{damage}: prepare the corpus again")
        hidden = self._tensor(f"{key}:hidden")
        scales: list[Tensor] = []
        while f"{key}:{len(scales)}" in self._where:
            scales.append(self._tensor(f"{key}:{len(scales)}"))
        if f"{key}:mask" in self._where:
            mask = self._shards[self._where[f"{key}:mask"]].get_tensor(f"{key}:mask")[None]
        else:
            mask = torch.ones(hidden.shape[:2], dtype=torch.bool)
        return Features(hidden, tuple(scales), mask)

    def is_empty(self, key: Key) -> bool:
        """Whether the clip, which is in the cache, has nothing to encode."""
        name = f"{key}:hidden"
        return self._shards[self._where[name]].get_slice(name).get_shape()[0] == 0

    def put(self, features: Mapping[Key, Features]) -> None:
        """Write a shard of clips' features (B = 1 each); only inside `writing`.

        Raises:
            ValueError: a value is not finite in half precision, which no sound encoder gives.
        """
        tensors = {}
        for key, one in features.items():
            named = {"hidden": one.hidden, **{str(i): scale for i, scale in enumerate(one.scales)}}
            for name, tensor in named.items():
                half = tensor[0].to("cpu", torch.float16)
                if not half.isfinite().all():
                    raise ValueError(f"{name} of {key} is not finite in half precision: its encoder is broken")
                tensors[f"{key}:{name}"] = half.contiguous()
            if not one.mask.all():
                tensors[f"{key}:mask"] = one.mask[0].cpu().contiguous()
        if tensors:
            data = tensor_bytes(tensors)
            path = self.folder / f"{hashlib.sha256(data).hexdigest()}.safetensors"
            write_bytes(data, path)
            self._open(path)

    @contextmanager
    def writing(self) -> Iterator[tuple[Path, ...]]:
        """Be the only process that writes, after waiting for another one.

        Removes unfinished files and damaged shards; gives the latter's names.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".lock"):
            for left in self.folder.glob(".*.partial"):
                left.unlink()
            self._open_new()
            damaged, self.damaged = tuple(self.damaged), []
            for path in damaged:
                path.unlink()
            yield damaged

    def _tensor(self, name: str) -> Tensor:
        return self._shards[self._where[name]].get_tensor(name)[None].float()

    def _open_new(self) -> None:
        self.damaged = []
        for path in sorted(set(self.folder.glob("*.safetensors")) - set(self._shards)):
            try:
                if sha256(path) == path.stem:
                    self._open(path)
                else:
                    self.damaged.append(path)
            except FileNotFoundError:  # damaged, and removed by the process that writes
                continue

    def _open(self, path: Path) -> None:
        shard = safe_open(path, "pt")  # type: ignore[no-untyped-call]
        self._shards[path] = shard
        self._where.update(dict.fromkeys(shard.keys(), path))


def encoder_ids(model: NanoEmoX, processor: Processor) -> dict[Part, str]:
    """What names each encoder of a model in keys: its class, what is done before it, its weights and its settings."""
    ids: dict[Part, str] = {}
    for part in PARTS:
        encoder = getattr(model, part)
        if encoder is not None:
            faces = f"-{processor.face_px}px-{processor.face_margin}" if part == "facial" else ""
            ids[part] = f"{type(encoder).__name__}{faces}-v{VERSION}-{_hash(encoder)[:16]}"
    return ids


def keys(clip: Clip, encoders: Mapping[Part, str], view: int = 0) -> dict[Part, Key]:
    """Keys of a clip for the encoders named; only sound has augmented views, so pictures keep view 0.

    Raises:
        FileNotFoundError: a file of the clip is not there.
    """
    found: dict[Part, Key] = {}
    for part, encoder in encoders.items():
        path = clip.sound if part == "acoustic" else clip.pictures
        if path is not None:
            found[part] = Key(
                content_hash(path), part, encoder, view if part == "acoustic" else 0, clip.cropped and part == "facial"
            )
    return found


def outputs(clip: Clip, cache: FeatureCache, encoders: Mapping[Part, str], view: int = 0) -> EncoderOutputs:
    """What `NanoEmoX.encode` gave for a clip (B = 1), from the cache; a modality that it lacks is None.

    Raises:
        FileNotFoundError: a file of the clip is not there.
        MissingFeatures: the clip was not prepared.
    """
    parts = {part: cache.get(key) for part, key in keys(clip, encoders, view).items()}
    return EncoderOutputs(**{part: features for part, features in parts.items() if features.hidden.shape[1]})


def stack(rows: Sequence[Features]) -> Features:
    """Features of several clips as one batch; shorter ones are filled up with zeros, which the mask leaves out."""
    steps = max(row.hidden.shape[1] for row in rows)

    def joined(tensors: Sequence[Tensor]) -> Tensor:
        if all(tensor.shape[1] == steps for tensor in tensors):
            return torch.cat(list(tensors))
        whole = tensors[0].new_zeros(len(tensors), steps, *tensors[0].shape[2:])
        for i, tensor in enumerate(tensors):
            whole[i, : tensor.shape[1]] = tensor[0]
        return whole

    scales = zip(*(row.scales for row in rows), strict=True)
    return Features(
        joined([row.hidden for row in rows]), tuple(map(joined, scales)), joined([row.mask for row in rows])
    )


def _hash(encoder: nn.Module) -> str:
    """Hash of an encoder's tensors and of its plain attributes, such as the layers it takes."""
    plain = {name: value for name, value in vars(encoder).items() if not name.startswith("_") and name != "training"}
    digest = hashlib.sha256(repr(sorted(plain.items())).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
