"""What a checkpoint is: a folder with a manifest, which lists its files with their hashes. No torch at import.

    manifest.json          what it is: variant, phase, modalities, data, date, metrics, licence, hashes, calibration
    README.md              its card, for people; not listed
    branches.safetensors   Q-Formers, face adapter, fusion, and the small networks of face and voice, where trained
    lora/                  low-rank adapters of the language model, as peft writes them

Where they are merged, there are instead of them model.safetensors, the language model itself, config.json and the
tokenizer's files, as transformers writes them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from perception.types import Modality

from .cache import MANIFEST, sha256

CARD = "README.md"
_KINDS = {".safetensors", ".json", ".md"}


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, of another variant, or not in safetensors."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is, shown by `emox doctor`.

    `modalities` are those it was trained to read; `files` are SHA-256 sums by path; `scaling` holds the calibration of
    each label task as {"labels": [...], "weight": [...], "bias": [...]}; `merged` says that the folder holds its
    language model, with the adapters folded in.
    """

    variant: str
    version: str
    phase: str
    modalities: tuple[Modality, ...]
    data: tuple[str, ...]
    date: str
    licence: str
    metrics: dict[str, float] = field(default_factory=dict)
    scaling: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    merged: bool = False


def embedded_checkpoint() -> Path:
    """Folder of the checkpoint that comes with the package."""
    return Path(__file__).parent / "checkpoints" / "embedded"


def open_manifest(folder: Path) -> Manifest:
    """A checkpoint's manifest alone; its files are not looked at.

    Raises:
        CheckpointError: no manifest, another format, or one that lists a pickle or a file outside of the folder.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no checkpoint: neither a folder nor one that `emox model list` shows")
    if not path.is_file():
        raise CheckpointError(f"{folder} is not a checkpoint: it has no manifest.json")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        manifest = Manifest(**{**facts, "modalities": tuple(facts["modalities"]), "data": tuple(facts["data"])})
        names = [PurePosixPath(name) for name in manifest.files]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{path} is not a manifest of this version: {error}") from None
    for name in names:
        if name.suffix not in _KINDS:
            raise CheckpointError(f"{folder / name} is refused: weights must be safetensors, which cannot run code")
        if name.is_absolute() or ".." in name.parts or set(str(name)) & set("\\*?["):
            raise CheckpointError(f"{path} is refused: it names {name}, which is not a file of the checkpoint")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read and verify a checkpoint's manifest and the hashes of its files.

    Raises:
        CheckpointError: as `open_manifest`, or a missing or changed file.
    """
    manifest = open_manifest(folder)
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.is_file() or sha256(file) != expected:
            raise CheckpointError(f"{file} is missing or differs from its manifest: fetch the checkpoint again")
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest of a folder that is filled; returns it with the files listed, all but the card."""
    paths = sorted(path for path in folder.rglob("*.*") if path.is_file())
    files = {path.relative_to(folder).as_posix(): sha256(path) for path in paths}
    manifest = replace(manifest, files={name: digest for name, digest in files.items() if name not in (CARD, MANIFEST)})
    (folder / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1) + "\n", encoding="utf-8")
    return manifest
