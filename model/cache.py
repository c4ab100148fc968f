"""Folders that are made once: whole and verified, or not there at all.

A folder is filled under a temporary name beside its place, written through to the disk and renamed, under a lock
that other processes wait for. Its manifest lists what it was made from and the SHA-256 of every file, so that one
made by other versions, cut short or damaged is made again.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from filelock import FileLock

MANIFEST = "manifest.json"
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR)


class WeightsError(RuntimeError):
    """Weights cannot be used; `str(error)` is one sentence that says what is wrong and what to do."""


def cache_dir() -> Path:
    """Folder of everything that can be made again: EMOX_CACHE, or the platform's cache folder."""
    named = os.environ.get("EMOX_CACHE")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("emox")


def sha256(*paths: Path) -> str:
    """Hash of the files as if joined, in hexadecimal."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def is_intact(folder: Path, made_from: Mapping[str, str], *, deep: bool) -> bool:
    """Whether `folder` was made from these versions and its files are all there.

    Sizes are compared always, hashes (about half a second for 500 MB) only when `deep`.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["made_from"] != dict(made_from):
            return False
        for name, entry in manifest["files"].items():
            path = folder / name
            if path.stat().st_size != entry["bytes"] or (deep and sha256(path) != entry["sha256"]):
                return False
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def make_folder(folder: Path, made_from: Mapping[str, str], fill: Callable[[Path], None], *, size_mb: int) -> bool:
    """Make `folder` by calling `fill` with an empty one, unless it is there and intact.

    Args:
        folder: where it shall be; its parent is created.
        made_from: what decides the content (sources and their versions); a difference makes it again.
        fill: writes the files into the folder it is given.
        size_mb: about what it takes on the disk, to refuse early.

    Returns:
        Whether it was made now.

    Raises:
        WeightsError: the disk is full or cannot be written. Nothing is left behind.
    """
    parent = folder.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(parent / f".{folder.name}.lock"):
            if is_intact(folder, made_from, deep=True):
                return False
            for abandoned in parent.glob(f".{folder.name}-*"):  # of a process that was killed; we hold the lock
                shutil.rmtree(abandoned, ignore_errors=True)
            if shutil.disk_usage(parent).free < size_mb * 1_000_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            _fill_and_rename(folder, made_from, fill)
            return True
    except Exception as error:
        if _is_disk_full(error):
            raise WeightsError(
                f"The disk of {parent} is full: {folder.name} needs about {size_mb} MB. "
                "Free some space, or set EMOX_CACHE to a folder on another disk."
            ) from error
        if isinstance(error, OSError) and error.errno in _NOT_OURS:
            raise WeightsError(
                f"{parent} cannot be written ({error.strerror}): set EMOX_CACHE to a folder of your own."
            ) from error
        raise


def _fill_and_rename(folder: Path, made_from: Mapping[str, str], fill: Callable[[Path], None]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        new = scratch / "new"
        new.mkdir()
        fill(new)
        paths = sorted(path for path in new.rglob("*") if path.is_file())
        files = {
            path.relative_to(new).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in paths
        }
        manifest = new / MANIFEST
        manifest.write_text(json.dumps({"made_from": dict(made_from), "files": files}, indent=1))
        settle(new, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A place to fill that gets its name, whole, when the block ends; if the block fails, nothing is left.

    Raises:
        FileExistsError: the folder is there already.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: name a new folder, or remove it first")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield partial
        for path in (partial, *partial.rglob("*")):  # mkdtemp and safetensors write for their owner only
            path.chmod(0o755 if path.is_dir() else 0o644)
        settle(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def settle(new: Path, folder: Path) -> None:
    """Give a filled folder its name: written through to the disk, then renamed in place of what is there."""
    for path in (*sorted(new.rglob("*")), new):
        _flush(path)
    old = new.with_name(f"{new.name}.old")
    shutil.rmtree(old, ignore_errors=True)  # of a process that was killed
    if folder.exists():
        folder.rename(old)  # a folder cannot be renamed over one that has files in it
    new.rename(folder)
    _flush(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open a folder
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_disk_full(error: Exception) -> bool:
    # safetensors reports a full disk in an error of its own, with the system's words in it.
    return getattr(error, "errno", None) in _FULL or any(os.strerror(code) in str(error) for code in _FULL)
