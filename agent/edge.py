"""The edge of every program here: clean output, and errors as one line with an exit status."""

from __future__ import annotations

import contextlib
import gc
import os
import sqlite3
import sys
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, NoReturn

import typer

from .settings import SetupError, keep_private

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
User = Annotated[str, typer.Option("--user", help="Whose memory.")]


@contextlib.contextmanager
def main_guard() -> Iterator[None]:
    """The edge of every program here: an error becomes one line and an exit status."""
    keep_private()
    try:
        yield
    except (KeyboardInterrupt, EOFError):
        sys.exit(130)
    except SystemExit:
        raise
    except BaseException as error:
        fail(*_judge(error))


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """While a program loads what stays to its end, no garbage is looked for: there is little among a million objects,
    and to go through them again and again, and once more at the end, took three seconds of a turn's twelve.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def _judge(error: BaseException) -> tuple[int, str]:
    """Exit status and the one line for an error."""
    from memory.errors import MemoryStoreError
    from perception.errors import PerceptionError

    if isinstance(error, typer.Exit):
        return error.exit_code, ""
    if isinstance(error, typer.Abort):
        return 130, ""
    if hasattr(error, "format_message"):  # typer's usage errors; which click they come from depends on its version
        return 2, error.format_message()
    if isinstance(error, PerceptionError):
        return 2, str(error)
    known = (SetupError, MemoryStoreError, ImportError, FileNotFoundError, PermissionError)
    if isinstance(error, known) or type(error).__name__ in {
        "MissingWeights",
        "WeightsError",
        "CheckpointError",
        "HubError",
        "Busy",
        "Unreachable",
        "RemoteError",
    }:
        return 1, str(error)
    if isinstance(error, OSError):
        return 1, f"{error.strerror or error}: {error.filename or 'a file of the agent'}; free some space and try again"
    if isinstance(error, sqlite3.Error):
        return 1, f"the conversation could not be kept ({error}): free some space, or use another EMOX_HOME"
    if isinstance(error, ValueError):
        return 2, str(error)
    fault = uuid.uuid4().hex[:8]
    if os.environ.get("EMOX_DEBUG"):
        raise error
    return (
        1,
        f"fault {fault}: {type(error).__name__}; run the command again with EMOX_DEBUG=1 and report what it prints",
    )


def fail(status: int, message: str) -> NoReturn:
    """Say in one line what is wrong, and exit."""
    if message:
        print(f"emox: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(status)


@contextlib.contextmanager
def clean_stdout() -> Iterator[Any]:
    """Give the real standard output to the command and send what libraries print to standard error."""
    out = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        yield out
