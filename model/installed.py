"""Checkpoints that this machine has: the packaged one, those that were pulled, and the one that the settings name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .cache import cache_dir
from .manifest import CheckpointError, embedded_checkpoint, open_manifest, read_manifest

PACKAGED = "packaged"
"""Name of the checkpoint that comes with the package."""


@dataclass(frozen=True)
class Installed:
    """A row of `emox model list`; `problem` says why the checkpoint cannot be used, and is empty where it can.

    `size_bytes` is of the files its manifest lists. `used` marks the one that the agent loads.
    """

    name: str
    folder: str
    variant: str = ""
    version: str = ""
    phase: str = ""
    modalities: tuple[str, ...] = ()
    merged: bool = False
    size_bytes: int = 0
    problem: str = ""
    used: bool = False


def checkpoints_dir() -> Path:
    """Where pulled checkpoints lie, each in a folder of its name; "/" is written "--" in it, as the hub does."""
    return cache_dir() / "checkpoints"


def find(name: str | Path) -> Path:
    """A checkpoint's folder: the packaged one, a folder as it is, or one that was pulled under this name."""
    if str(name) == PACKAGED:
        return embedded_checkpoint()
    folder = Path(name).expanduser()
    pulled = checkpoints_dir() / Path(name).as_posix().replace("/", "--")
    return pulled if pulled.is_dir() and not folder.is_dir() else folder


def installed(used: Path | None = None) -> list[Installed]:
    """All checkpoints, each hashed; `used` is the folder that the settings name."""
    folders = {PACKAGED: embedded_checkpoint()}
    if checkpoints_dir().is_dir():
        pulled = sorted(path for path in checkpoints_dir().iterdir() if path.is_dir() and path.name[0] != ".")
        folders |= {path.name.replace("--", "/"): path for path in pulled}
    used = used or embedded_checkpoint()
    if not any(folder.absolute() == used.absolute() for folder in folders.values()):
        folders[str(used)] = used
    return [_row(name, folder, folder.absolute() == used.absolute()) for name, folder in folders.items()]


def _row(name: str, folder: Path, used: bool) -> Installed:
    try:
        manifest = open_manifest(folder)
    except CheckpointError as error:
        return Installed(name, str(folder), problem=str(error), used=used)
    problem = ""
    try:
        read_manifest(folder)
    except CheckpointError as error:
        problem = str(error)
    there = [folder / file for file in manifest.files if (folder / file).is_file()]
    return Installed(
        name,
        str(folder),
        manifest.variant,
        manifest.version,
        manifest.phase,
        manifest.modalities,
        manifest.merged,
        sum(file.stat().st_size for file in there),
        problem,
        used,
    )
