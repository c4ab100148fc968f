"""The bytes of a clip, which may lie in a zip archive, and their hash."""

from __future__ import annotations

import hashlib
import os
import zipfile
from functools import cache, lru_cache
from pathlib import Path


def content_hash(path: Path) -> str:
    """sha256 of a file's bytes, or of a member's of an archive; computed again when the file has changed.

    Raises:
        FileNotFoundError: there is no such file or member.
    """
    stat = (split_archive(path)[0] or path).stat()
    return _content_hash(path, stat.st_mtime_ns, stat.st_size)


def read_bytes(path: Path) -> bytes:
    """All bytes of a file, which may be a member of a zip archive.

    Raises:
        FileNotFoundError: there is no such file or member.
    """
    archive, member = split_archive(path)
    if archive is None:
        return path.read_bytes()
    stat = archive.stat()
    try:
        return _archive(archive, stat.st_mtime_ns, stat.st_size, os.getpid()).read(member)
    except KeyError:
        raise FileNotFoundError(f"{archive} has no {member}") from None


def split_archive(path: Path) -> tuple[Path | None, str]:
    """A path that leads into a zip archive, as the archive and its member; (None, "") for any other."""
    for parent in path.parents:
        if parent.suffix == ".zip" and parent.is_file():
            return parent, path.relative_to(parent).as_posix()
    return None, ""


@cache
def _content_hash(path: Path, changed_ns: int, size: int) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


@lru_cache(maxsize=4)
def _archive(path: Path, changed_ns: int, size: int, process: int) -> zipfile.ZipFile:
    """An open archive; each process opens its own, as forked ones would share a place in the file."""
    return zipfile.ZipFile(path)
