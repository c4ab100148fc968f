"""Runs a program that opens an agent, with a scripted model in it: python -m tests.light_program FILE."""

from __future__ import annotations

import ast
import asyncio
import inspect
import sys
from pathlib import Path
from unittest import mock

from agent import opening
from tests.agent.light_emox import light_model, light_store


def main() -> None:
    """Snippets may use `async for` and `await` outside of functions."""
    source = Path(sys.argv[1]).read_text()
    code = compile(source, sys.argv[1], "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names = {"__name__": "__main__"}
    with mock.patch.multiple(opening, load_model=light_model, open_store=light_store):
        running = eval(code, names)
        if inspect.iscoroutine(running):
            asyncio.run(running)


if __name__ == "__main__":
    main()
