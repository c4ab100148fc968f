"""A memory folder belongs to one process at a time, and to the versions and the key that can read it.

store.lock     held while a process has the folder open; embedded Chroma would let two in and lose writes
store.json     what the folder was written with: schema, widths of the parts of a vector, and a sealed word if encrypted
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock

from .cipher import Cipher
from .document import SCHEMA
from .errors import MemoryStoreError

REMEDY = "check that the folder belongs to you and that the disk is not full, or use another EMOX_HOME"

SEALED_WORD = "emox"
"""Encrypted into `store.json`, so that a wrong key is noticed at once."""

SINCE = {"marks": 2}
"""Parts of a vector that earlier schemas did not have, and the schema that brought them."""


class Folder:
    """A folder that this process holds until `release`; `schema` is the version that wrote it last."""

    def __init__(self, path: Path, widths: Mapping[str, int], cipher: Cipher | None = None) -> None:
        """Make the folder if there is none, readable by its owner only, and take its lock.

        Args:
            path: where the memory is kept.
            widths: names and widths of what a stored vector consists of; a folder is read with those it was made with.
            cipher: seals the texts, if they are sealed.

        Raises:
            MemoryStoreError: another process holds it, it cannot be written, or it was made by a newer version, with
                other widths or another key.
        """
        self.path = path
        self._file = path / "store.json"
        self._told = described(widths, cipher)
        # Not per thread: the thread that closes a store need not be the one that opened it.
        self._lock = filelock.FileLock(path / "store.lock", timeout=0, thread_local=False)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock.acquire()
            if not self._file.exists():
                self._write(self._told)
            made_with = self._read()
            self.schema = int(made_with["schema"])
            differences(made_with, widths, cipher, f"the memory at {path}")
        except filelock.Timeout as error:
            raise MemoryStoreError(
                f"the memory at {path} is in use by another process: close that one, or use another EMOX_HOME"
            ) from error
        except (OSError, MemoryStoreError) as error:
            self._lock.release()
            if isinstance(error, MemoryStoreError):
                raise
            raise MemoryStoreError(f"the memory at {path} cannot be written ({error.strerror}): {REMEDY}") from error

    def upgraded(self) -> None:
        """Note that everything in the folder has this version's schema now."""
        self._write(self._told)
        self.schema = SCHEMA

    @property
    def lock_file(self) -> int:
        """The descriptor of the lock: a process that inherits it holds the folder, too."""
        descriptor = self._lock._context.lock_file_fd
        assert descriptor is not None, "the folder is released"
        return descriptor

    def release(self) -> None:
        """Let another process have the folder."""
        self._lock.release()

    def _read(self) -> dict[str, Any]:
        try:
            made_with = json.loads(self._file.read_text())
            int(made_with["schema"])
        except (ValueError, KeyError, TypeError) as error:
            raise MemoryStoreError(f"{self._file} is damaged: restore the memory from a backup") from error
        return dict(made_with)

    def _write(self, told: dict[str, Any]) -> None:
        partial = self._file.with_suffix(".partial")
        partial.write_text(json.dumps(told))
        os.replace(partial, self._file)


def described(widths: Mapping[str, int], cipher: Cipher | None) -> dict[str, Any]:
    """What a memory is written with, to be noted beside it."""
    sealed = {} if cipher is None else {"sealed": cipher.seal(SEALED_WORD)}
    return {"schema": SCHEMA, **widths, **sealed}


def differences(made_with: Mapping[str, Any], widths: Mapping[str, int], cipher: Cipher | None, what: str) -> None:
    """Refuse a memory that this version, embedder or key cannot read.

    Raises:
        MemoryStoreError: one sentence says why.
    """
    try:
        schema = int(made_with["schema"])
        known = {name: made_with[name] for name in widths if schema >= SINCE.get(name, 1)}
    except (KeyError, TypeError, ValueError) as error:
        raise MemoryStoreError(f"{what} does not say what it was made with: restore it from a backup") from error
    if schema > SCHEMA:
        raise MemoryStoreError(f"{what} has schema {schema}, this version reads up to {SCHEMA}: upgrade emox")
    if known != {name: widths[name] for name in known}:
        raise MemoryStoreError(
            f"{what} was written with widths {known}, this embedder needs {dict(widths)}: "
            "use the embedder it was written with, or another EMOX_HOME"
        )
    sealed = made_with.get("sealed")
    if sealed and cipher is None:
        raise MemoryStoreError(f"{what} is encrypted: give its key in EMOX_MEMORY_KEY")
    if cipher is not None and not sealed:
        raise MemoryStoreError(
            f"{what} is not encrypted: export it without EMOX_MEMORY_KEY and import it into a new EMOX_HOME with it"
        )
    if sealed and cipher is not None:
        cipher.open(sealed)
