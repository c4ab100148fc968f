"""Texts at rest, encrypted: what was said and answered is sealed; vectors, labels and times stay searchable.

The key is one of Fernet (AES-128-CBC with HMAC-SHA256, from the `cryptography` package), made by `new_key` and given in
EMOX_MEMORY_KEY, or kept in the system's keyring where that says `keyring`. Several keys, separated by commas, are all
tried when reading; the first one writes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .errors import MemoryStoreError

KEYRING = ("emox", "memory")
"""Service and name under which the system's keyring holds the key."""


class Cipher:
    """Seals texts and opens them again."""

    def __init__(self, keys: str) -> None:
        """Take one or more keys, separated by commas.

        Raises:
            MemoryStoreError: one of them is not a key, or the package is missing.
        """
        try:
            from cryptography.fernet import Fernet, MultiFernet
        except ImportError as error:
            raise MemoryStoreError("an encrypted memory needs cryptography: pip install 'emox[encryption]'") from error
        try:
            self._fernet = MultiFernet([Fernet(key.strip()) for key in keys.split(",")])
        except ValueError as error:
            raise MemoryStoreError("EMOX_MEMORY_KEY is not a key: `emox memory key` makes one") from error

    def seal(self, text: str) -> str:
        """The text, readable with the key only."""
        return self.seal_bytes(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """The text that was sealed. Raises what `open_bytes` raises."""
        return self.open_bytes(sealed.encode()).decode()

    def seal_bytes(self, content: bytes) -> bytes:
        """The bytes, readable with the key only."""
        return self._fernet.encrypt(content)

    def open_bytes(self, sealed: bytes) -> bytes:
        """The bytes that were sealed.

        Raises:
            MemoryStoreError: they were sealed with another key, or changed since.
        """
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as error:
            raise MemoryStoreError(
                "the memory was encrypted with another key: give the right one in EMOX_MEMORY_KEY"
            ) from error


def new_key() -> str:
    """A fresh key, as EMOX_MEMORY_KEY takes it."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def key_from_keyring() -> str:
    """The key in the system's keyring.

    Raises:
        MemoryStoreError: there is none, or no keyring.
    """
    with _keyring() as keyring:
        key = keyring.get_password(*KEYRING)
    if key is None:
        raise MemoryStoreError("the keyring holds no key of a memory: `emox memory key --keyring` makes one")
    return str(key)


def keep_in_keyring(key: str) -> None:
    """Keep a key in the system's keyring.

    Raises:
        MemoryStoreError: there is no keyring, it cannot be written, or it holds a key already.
    """
    with _keyring() as keyring:
        if keyring.get_password(*KEYRING) is not None:
            raise MemoryStoreError(
                "the keyring holds a key already, without which its memory could never be read again"
            )
        keyring.set_password(*KEYRING, key)


@contextmanager
def _keyring() -> Iterator[Any]:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError as error:
        raise MemoryStoreError("a keyring needs its package: pip install 'emox[encryption]'") from error
    try:
        yield keyring
    except KeyringError as error:
        raise MemoryStoreError(f"the keyring cannot be used ({error}): give the key in EMOX_MEMORY_KEY") from error
