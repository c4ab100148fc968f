"""Who may reach the agent from elsewhere, by which token, and what each of them lets it read.

Kept in `EMOX_HOME/people.sqlite`. A token is shown once, when it is made; what is kept is its SHA-256: it holds 256
random bits, so that a slow hash would add nothing.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from memory.store import check_name
from model.tokens import hash_of
from perception.types import MODALITIES

from .care import Consent
from .settings import SetupError

TOKEN_PREFIX = "emox-"

_TABLES = """
create table if not exists tokens (hash text primary key, user text not null, made_at text not null);
create table if not exists consents (user text primary key, text int, voice int, face int, at text not null);
"""


@dataclass(frozen=True)
class Token:
    """A token as it is listed: `id` is the beginning of its hash."""

    id: str
    user: str
    made_at: datetime


def make_token() -> str:
    """A new token, which nobody has yet."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


class People:
    """Tokens and consents. Safe to call from several threads.

    Raises:
        SetupError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.executescript(_TABLES)
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SetupError(f"{path} cannot be opened ({reason}): is the folder writable?") from None
        self._lock = threading.Lock()

    def new_token(self, user: str) -> str:
        """Make a token by which its holder is this person.

        Raises:
            ValueError: nobody can be called so.
        """
        check_name("user", user)
        token = make_token()
        self._do("insert into tokens values (?, ?, ?)", hash_of(token), user, _now())
        return token

    def user_of(self, token: str) -> str | None:
        """Whose token it is; None for a token that nobody has."""
        rows = self._do("select user from tokens where hash = ?", hash_of(token))
        return rows[0][0] if rows else None

    def has_tokens(self) -> bool:
        """Whether there is any token."""
        return bool(self._do("select 1 from tokens limit 1"))

    def tokens(self) -> list[Token]:
        """All tokens, oldest first."""
        rows = self._do("select hash, user, made_at from tokens order by made_at")
        return [Token(hash[:12], user, datetime.fromisoformat(at)) for hash, user, at in rows]

    def revoke(self, id: str) -> Token:
        """Make a token worthless.

        Raises:
            ValueError: there is none with this id.
        """
        known = [token for token in self.tokens() if token.id == id]
        if not known:
            raise ValueError(f"there is no token {id!r}; `emox token list` shows those there are")
        self._do("delete from tokens where substr(hash, 1, 12) = ?", id)
        return known[0]

    def consent_of(self, user: str) -> Consent | None:
        """What a person agreed to; None before they were asked."""
        rows = self._do("select text, voice, face from consents where user = ?", user)
        return Consent(*map(bool, rows[0])) if rows else None

    def agree(self, user: str, consent: Consent) -> None:
        """Keep what a person agrees to from now on.

        Raises:
            ValueError: nobody can be called so.
        """
        check_name("user", user)
        chosen = [int(modality in consent.allowed()) for modality in MODALITIES]
        self._do("insert or replace into consents values (?, ?, ?, ?, ?)", user, *chosen, _now())

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _do(self, sql: str, *values: object) -> Sequence[tuple]:  # type: ignore[type-arg]
        with self._lock:
            return self._db.execute(sql, values).fetchall()


def _now() -> str:
    return datetime.now(UTC).isoformat()
