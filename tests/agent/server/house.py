"""A server over an agent of fakes: real checkpoints and people in a folder, the memory in memory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="fastapi is not installed")
pytest.importorskip("prometheus_client", reason="prometheus-client is not installed")
import uvicorn

from agent.care import Consent
from agent.conversations import open_checkpoints
from agent.host import Host
from agent.nodes import Ears
from agent.people import People
from agent.server.access import Access
from agent.server.app import make_app
from agent.session import Agent
from memory.store import InMemoryStore, MemoryStore
from tests.fakes import FakeAsr, FakeEmbedder, FakeFaceFinder, FakeModel, FakeSpeaker

SAID = "I am sad about my cat, she ran away yesterday."
EVERYTHING = Consent(voice=True, face=True)


@dataclass
class House:
    """What a test looks into."""

    host: Host
    people: People
    model: Any
    home: Path
    speaker: FakeSpeaker = field(default_factory=FakeSpeaker)
    address: str = ""

    @property
    def store(self) -> MemoryStore:
        return self.host.store


@contextlib.contextmanager
def house(home: Path, *, model: Any = None, store: MemoryStore | None = None, asr: Any = None, **options: Any):
    """An agent of fakes and its host; options of `Host`."""
    model, speaker, asr = model or FakeModel(), FakeSpeaker(), asr or FakeAsr()
    home.mkdir(parents=True, exist_ok=True)
    saver = open_checkpoints(home / "threads.sqlite")
    agent = Agent(
        model=model,
        store=store or InMemoryStore(FakeEmbedder()),
        ears=Ears(lambda: asr, FakeFaceFinder),
        speaker=lambda: speaker,
        checkpointer=saver,
        close=saver.conn.close,
    )
    with agent, contextlib.closing(People(home / "people.sqlite")) as people:
        yield House(Host(agent, people, home, **options), people, model, home, speaker)


def app_of(at: House, **options: Any):
    """Its server; options of `Access`."""
    return make_app(at.host, Access(at.people, **{"a_minute": 10_000} | options))


@contextlib.asynccontextmanager
async def client_of(at: House, token: str | None = None, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of it, without a network; requests come from this machine."""
    transport = httpx.ASGITransport(app_of(at, **options), client=("127.0.0.1", 5), raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers) as client:
        yield client


@contextlib.asynccontextmanager
async def served(at: House, app: Any = None, **options: Any) -> AsyncIterator[str]:
    """It, reached over a real port; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app or app_of(at, **options), log_level="warning"))
        running = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running
