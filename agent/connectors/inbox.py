"""Messages of chat platforms, kept from the moment they are acknowledged until their answer is sent.

`EMOX_HOME/inbox.sqlite`, its words sealed where the memory is encrypted. Once an answer is sent only the message's id
stays, by which a second delivery is known.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from agent.settings import SetupError
from memory.cipher import Cipher

from .connector import Attachment, Incoming

KNOWN_S = 30 * 86_400.0
"""So long a message's id is known; no platform delivers again after that."""

HELD_S = 86_400.0
"""A message of somebody who has not agreed to be read waits so long for it, and is then thrown away."""

State = Literal["waiting", "held", "answered", "done"]
"""waiting for its turn; held until the person agrees to be read; answered, and `answer` is being sent; done."""

_TABLES = """
create table if not exists messages (
    platform text, chat text, id text, user text, place real, state text, message text, answer text, n_sent int,
    at real,
    primary key (platform, chat, id)
);
create table if not exists quiet (platform text, chat text, primary key (platform, chat));
"""


@dataclass(frozen=True)
class Kept:
    """A message, and how far it is: of its `answer`, in parts, `n_sent` are sent, and one more may be."""

    message: Incoming
    state: State
    answer: tuple[str, ...] = ()
    n_sent: int = 0


class Inbox:
    """Safe to call from several threads; every change is on the disk when its call returns.

    Raises:
        SetupError: the file cannot be opened or written.
    """

    def __init__(self, path: Path, cipher: Cipher | None = None, clock: Callable[[], float] = time.time) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._db.execute("pragma secure_delete = on")  # what is taken out is overwritten
            self._db.executescript(_TABLES)
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SetupError(f"{path} cannot be opened ({reason}): is the folder writable?") from None
        self._cipher = cipher
        self._clock = clock
        self._lock = threading.Lock()

    def keep(self, platform: str, message: Incoming) -> bool:
        """Keep a message; False if it was kept before."""
        now = self._clock()
        self._do("delete from messages where at < ?", now - KNOWN_S)
        self._do("update messages set state = 'done', message = '' where state = 'held' and at < ?", now - HELD_S)
        changed = self._do(
            "insert or ignore into messages values (?, ?, ?, ?, ?, 'waiting', ?, '', 0, ?) returning 1",
            platform, message.chat, message.id, message.user, message.order, self._seal(asdict(message)), now,
        )  # fmt: skip
        return bool(changed)

    def left(self, platform: str) -> list[tuple[str, str]]:
        """Chat and id of each message that waits or whose answer is not yet sent."""
        return self._do(
            "select chat, id from messages where platform = ? and state in ('waiting', 'answered')", platform
        )

    def latest(self, platform: str) -> dict[str, str]:
        """Chat -> id of the last message that was kept of it, the liveliest chats first."""
        rows = self._do(
            "select chat, id, max(place) from messages where platform = ? group by chat order by max(place) desc",
            platform,
        )
        return {chat: id for chat, id, _ in rows}

    def first(self, platform: str, chat: str) -> Kept | None:
        """The message of a chat that is to be seen to next."""
        rows = self._do(
            "select message, state, answer, n_sent from messages where platform = ? and chat = ? and state in "
            "('waiting', 'answered') order by state, place limit 1",
            platform, chat,
        )  # fmt: skip
        if not rows:
            return None
        message, state, answer, n_sent = rows[0]
        document = self._open(message)
        attachment = Attachment(**document.pop("attachment")) if document["attachment"] else document.pop("attachment")
        parts = tuple(self._open(answer)) if answer else ()
        return Kept(Incoming(**document, attachment=attachment), state, parts, n_sent)

    def hold(self, platform: str, message: Incoming) -> None:
        """Put a message aside until its person agrees to be read."""
        self._set(platform, message, "state = 'held'")

    def release(self, platform: str, user: str) -> list[str]:
        """Let the held messages of a person wait for their turn; returns their chats."""
        rows = self._do(
            "update messages set state = 'waiting' where platform = ? and user = ? and state = 'held' returning chat",
            platform, user,
        )  # fmt: skip
        return sorted({chat for (chat,) in rows})

    def drop_held(self, platform: str, user: str) -> None:
        """Throw away what a person said who does not agree to be read."""
        self._do(
            "update messages set state = 'done', message = '' where platform = ? and user = ? and state = 'held'",
            platform, user,
        )  # fmt: skip

    def answer(self, kept: Kept, platform: str, parts: tuple[str, ...]) -> Kept:
        """Keep the answer, before any of it is sent."""
        self._set(platform, kept.message, "state = 'answered', answer = ?", self._seal(parts))
        return replace(kept, state="answered", answer=parts)

    def sent(self, platform: str, message: Incoming, n: int) -> None:
        """So many parts of the answer are sent."""
        self._set(platform, message, "n_sent = ?", n)

    def done(self, platform: str, message: Incoming) -> None:
        """All is sent: forget the words."""
        self._set(platform, message, "state = 'done', message = '', answer = ''")

    def quiet(self, platform: str, chat: str, on: bool) -> None:
        """Whether the agent is silent in a chat."""
        if on:
            self._do("insert or ignore into quiet values (?, ?)", platform, chat)
        else:
            self._do("delete from quiet where platform = ? and chat = ?", platform, chat)

    def is_quiet(self, platform: str, chat: str) -> bool:
        """Whether the agent is silent there."""
        return bool(self._do("select 1 from quiet where platform = ? and chat = ?", platform, chat))

    def close(self) -> None:
        """Close the file; a call that is under way in another thread ends first."""
        with self._lock:
            self._db.close()

    def _set(self, platform: str, message: Incoming, what: str, *values: object) -> None:
        self._do(
            f"update messages set {what} where platform = ? and chat = ? and id = ?",
            *values, platform, message.chat, message.id,
        )  # fmt: skip

    def _do(self, sql: str, *values: object) -> list[Any]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def _seal(self, document: Any) -> str:
        text = json.dumps(document)
        return self._cipher.seal(text) if self._cipher else text

    def _open(self, sealed: str) -> Any:
        return json.loads(self._cipher.open(sealed) if self._cipher else sealed)
