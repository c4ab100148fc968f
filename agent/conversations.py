"""Where conversations are kept: a SQLite file of this machine, or a PostgreSQL database that several agents share."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from langgraph.checkpoint.serde.base import CipherProtocol, SerializerProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from memory.cipher import Cipher

from .settings import Settings, SetupError
from .state import PERSISTED, checkpoint_id

if TYPE_CHECKING:
    from langgraph.checkpoint.postgres import PostgresSaver

Conversations: TypeAlias = "SqliteSaver | PostgresSaver"
"""Both have a `conn` that can be closed."""

_PATIENCE_S = 10.0
"""So long a connection to the database may take."""
_SETUP = 0x656D6F78
"""Number of the database's lock under which tables are made."""
_CONNECTIONS = 4
"""At most so many of one agent at once besides two for each turn that runs: one holds the conversation."""


def open_conversations(settings: Settings, cipher: Cipher | None = None) -> Conversations:
    """The conversations that the settings name, encrypted where there is a cipher; raises as what it opens."""
    if settings.threads_url is not None:
        return open_database(settings.threads_url.get_secret_value(), cipher, turns=settings.turns_at_once)
    return open_checkpoints(settings.home / "threads.sqlite", cipher)


def open_checkpoints(path: Path, cipher: Cipher | None = None) -> SqliteSaver:
    """The conversations kept in a SQLite file.

    Opening it makes it, readable by its owner only.

    Raises:
        SetupError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite finds out that it may not write after the reply
        connection = sqlite3.connect(path, check_same_thread=False)
        saver = SqliteSaver(connection, serde=_serde(cipher))
        saver.setup()
    except (sqlite3.Error, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SetupError(f"the conversations in {path} cannot be opened ({reason}): is the file writable?") from None
    return saver


def open_database(url: str, cipher: Cipher | None = None, *, turns: int = 4) -> PostgresSaver:
    """The conversations kept in a PostgreSQL database, "postgresql://USER:PASSWORD@HOST/NAME", for an agent that runs
    so many turns at once; makes its tables.

    Raises:
        SetupError: the extra is not installed, the database cannot be reached, or does not let us in.
    """
    try:
        import psycopg
        from langgraph.checkpoint.postgres import PostgresSaver
        from psycopg.rows import dict_row
        from psycopg_pool import ConnectionPool
    except ImportError:
        raise SetupError("conversations in PostgreSQL need its client: pip install 'emox[postgres]'") from None
    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    try:
        # By itself, as a pool would try again and tell no reason. Of agents that start together one makes the tables.
        with psycopg.connect(url, autocommit=True, connect_timeout=round(_PATIENCE_S)) as alone:
            while not alone.execute("select pg_try_advisory_lock(%s)", [_SETUP]).fetchone()[0]:  # type: ignore[index]
                time.sleep(0.1)  # to wait in the database would hold up the other, which makes indexes concurrently
            most = _CONNECTIONS + 2 * turns
            pool: Any = ConnectionPool(url, min_size=1, max_size=most, kwargs=options, timeout=_PATIENCE_S, open=True)
            saver = PostgresSaver(pool, serde=_serde(cipher))
            saver.setup()
    except psycopg.ProgrammingError:  # whose words would quote the address, password and all
        raise SetupError("EMOX_THREADS_URL is no address such as postgresql://USER:PASSWORD@HOST/NAME") from None
    except psycopg.Error as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise SetupError(f"the database of conversations cannot be used: {reason}") from None
    return saver


def forget_dialogues(conversations: Conversations, user: str, threads: Iterable[str] | None) -> None:
    """Remove conversations of a person, with None all of them; of a SQLite file nothing of them remains."""
    known = _known(conversations)
    if threads is None:
        names = [name for name in known if name.startswith(checkpoint_id(user, ""))]
    else:
        wanted = {checkpoint_id(user, thread) for thread in threads}
        names = [name for name in known if name in wanted]
    for name in names:
        conversations.delete_thread(name)
    if isinstance(conversations, SqliteSaver):
        with conversations.lock:
            conversations.conn.commit()
            conversations.conn.execute("vacuum")
            conversations.conn.execute("pragma wal_checkpoint(truncate)")
    elif names:
        pool: Any = conversations.conn
        with pool.connection() as connection:
            connection.execute("vacuum checkpoints, checkpoint_blobs, checkpoint_writes")


def shared(conversations: object) -> bool:
    """Whether other agents may answer in the same conversations."""
    return hasattr(getattr(conversations, "conn", None), "getconn")


def take(conversations: Conversations, user: str, thread: str) -> Callable[[], None] | None:
    """Hold a conversation that is shared, if no other agent does; returns what lets go of it.

    The database lets go of it, too, when the agent dies.
    """
    import psycopg

    pool: Any = conversations.conn
    connection, name = pool.getconn(), checkpoint_id(user, thread)
    try:
        found = connection.execute("select pg_try_advisory_lock(hashtextextended(%s, 0)) as got", [name]).fetchone()
    except BaseException:
        pool.putconn(connection)
        raise
    if not found["got"]:
        pool.putconn(connection)
        return None

    def let_go() -> None:
        with contextlib.suppress(psycopg.Error):  # a connection that broke has let go of it
            connection.execute("select pg_advisory_unlock(hashtextextended(%s, 0))", [name])
        pool.putconn(connection)

    return let_go


def serializer() -> JsonPlusSerializer:
    """How checkpoints are written: only our own types are read back."""
    return JsonPlusSerializer(allowed_msgpack_modules=PERSISTED)


def _known(conversations: Conversations) -> list[str]:
    asked = "select distinct thread_id from checkpoints"
    if isinstance(conversations, SqliteSaver):
        with conversations.lock:  # turns of other people may run
            return [name for (name,) in conversations.conn.execute(asked)]
    pool: Any = conversations.conn
    with pool.connection() as connection:
        return [row["thread_id"] for row in connection.execute(asked)]


def _serde(cipher: Cipher | None) -> SerializerProtocol:
    return serializer() if cipher is None else EncryptedSerializer(_Sealing(cipher), serializer())


class _Sealing(CipherProtocol):
    """LangGraph's protocol over the memory's cipher."""

    def __init__(self, cipher: Cipher) -> None:
        self._cipher = cipher

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "fernet", self._cipher.seal_bytes(plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return self._cipher.open_bytes(ciphertext)
