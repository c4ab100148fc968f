"""A memory folder belongs to one process at a time, and to the versions that can read it.

store.lock     held while a process has the folder open; embedded Chroma would let two in and lose writes
store.json     what the folder was written with: schema, width of the text embedding and of the affect vector
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import filelock

from .document import SCHEMA
from .errors import MemoryStoreError

REMEDY = "check that the folder belongs to you and that the disk is not full, or use another EMOX_HOME"


def claim(folder: Path, widths: dict[str, int]) -> filelock.BaseFileLock:
    """Make the folder if there is none, readable by its owner only, and take its lock. Release the lock to let go.

    Args:
        folder: where the memory is kept.
        widths: names and widths of what the stored vectors consist of; a folder is read with those it was made with.

    Raises:
        MemoryStoreError: another process holds it, it cannot be written, a newer version or other widths made it.
    """
    # Not per thread: the thread that closes a store need not be the one that opened it.
    lock = filelock.FileLock(folder / "store.lock", timeout=0, thread_local=False)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock.acquire()
        _check(folder / "store.json", widths)
    except filelock.Timeout as error:
        raise MemoryStoreError(
            f"the memory at {folder} is in use by another process: close that one, or use another EMOX_HOME"
        ) from error
    except (OSError, MemoryStoreError) as error:
        lock.release()
        if isinstance(error, MemoryStoreError):
            raise
        raise MemoryStoreError(f"the memory at {folder} cannot be written ({error.strerror}): {REMEDY}") from error
    return lock


def _check(file: Path, widths: dict[str, int]) -> None:
    """Read what the folder was made with, or note it in a new one."""
    if not file.exists():
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps({"schema": SCHEMA, **widths}))
        os.replace(partial, file)
        return
    try:
        made_with = json.loads(file.read_text())
        newer = made_with["schema"] > SCHEMA
        known = {name: made_with[name] for name in widths}
    except (ValueError, KeyError, TypeError) as error:
        raise MemoryStoreError(f"{file} is damaged: restore the memory from a backup") from error
    if newer:
        raise MemoryStoreError(
            f"the memory at {file.parent} has schema {made_with['schema']}, this version reads up to {SCHEMA}: "
            "upgrade emox"
        )
    if known != widths:
        raise MemoryStoreError(
            f"the memory at {file.parent} was written with widths {known}, this embedder needs {widths}: "
            "use the embedder it was written with, or another EMOX_HOME"
        )
