"""`emox` with a scripted model and embedder; its command line, memory and checkpoints are the real ones.

python -m tests.agent.light_emox UID ARGUMENTS...    runs as the user UID; 0 changes nothing
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from unittest import mock

from agent import cli, opening
from agent.session import Agent
from agent.settings import Settings, load_settings
from memory.chroma import ChromaStore
from tests.fakes import FakeEmbedder, FakeModel


def light_model(settings: Settings) -> FakeModel:
    return FakeModel()


def light_store(settings: Settings) -> ChromaStore:
    return ChromaStore(settings.home / "memory", FakeEmbedder(), apart=settings.memory_apart)


def open_light(home: Path) -> Agent:
    """The agent of a home, with the scripted model."""
    with mock.patch.multiple(opening, load_model=light_model, open_store=light_store):
        return opening.open_agent(load_settings().model_copy(update={"home": home}))


def become(uid: int) -> None:
    """Give up root's rights, after a turn that imports what is imported late: the user may not reach the libraries."""
    with tempfile.TemporaryDirectory() as home, open_light(Path(home)) as agent:
        agent.ask("I am sad about my cat, she ran away.")
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)


def main() -> None:
    uid, *arguments = sys.argv[1:]
    if int(uid):
        become(int(uid))
    with mock.patch.multiple(opening, load_model=light_model, open_store=light_store):
        cli.main(arguments)


if __name__ == "__main__":
    main()
