"""`emox serve`: everything opened, put together and run until it is told to stop."""

from __future__ import annotations

import contextlib
import gc
import importlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import uvicorn
from fastapi import FastAPI
from rich.console import Console
from starlette.requests import HTTPConnection

from agent.connectors.opening import open_chats
from agent.connectors.watch import Chats
from agent.host import Host
from agent.opening import open_ears
from agent.people import People
from agent.session import Agent
from agent.settings import Settings, SetupError

from .access import Access, Refused, is_here
from .app import make_app

STOP_S = 90
"""Turns that have begun are finished when the server is told to stop, within this."""


def serve(
    wake: Callable[[], AbstractContextManager[Agent]],
    settings: Settings,
    console: Console,
    *,
    host: str,
    port: int,
    user: str,
) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Args:
        user: who sits at this machine, while there are no tokens.

    Raises:
        SetupError: the address cannot be used, or would let in anybody, or a chat platform cannot be set up.
    """
    with ExitStack() as opened:
        chats = open_chats(settings)
        if chats is not None:
            opened.callback(chats.inbox.close)
        people = opened.enter_context(contextlib.closing(People(settings.home / "people.sqlite")))
        if not is_here(host) and not people.has_tokens():
            raise SetupError(
                f"{host} can be reached by others, and there is no token: make one with `emox token new --user NAME`"
            )
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listener = opened.enter_context(socket.create_server((host, port), family=family, backlog=1024))
        except OSError as error:
            raise SetupError(
                f"port {port} of {host} cannot be used ({error.strerror}): choose another --port"
            ) from None
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn passes it on; the memory is closed first
        agent = opened.enter_context(wake())
        app = app_of(agent, people, settings, hosts=[host], user=user, chats=chats)
        shown = f"[{host}]" if ":" in host else host
        console.print(f"Open http://{shown}:{listener.getsockname()[1]}/ in a browser; Ctrl-C ends it.")
        if chats is not None:
            console.print(f"It answers on {chats.names}, too.")
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, ws_max_size=2**20, timeout_graceful_shutdown=STOP_S,
            server_header=False, proxy_headers=False,
        )  # fmt: skip
        importlib.import_module("memory.derive")  # compiles its patterns in 0.2 s, in which nobody else goes on
        gc.collect()
        gc.freeze()  # what is loaded by now stays; to look through it for garbage takes 0.2 s, in which nobody goes on
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def app_of(
    agent: Agent,
    people: People,
    settings: Settings,
    *,
    hosts: list[str],
    user: str,
    chats: Chats | None = None,
) -> FastAPI:
    """The server of an agent, with live voice where Pipecat is installed, and on chat platforms."""
    house = Host(
        agent,
        people,
        settings.home,
        most=settings.consent.as_consent(),
        at_once=settings.turns_at_once,
        waiting=settings.turns_waiting,
        elsewhere=settings.elsewhere,
    )
    access = Access(
        people, alone=user, hosts=[*hosts, *settings.hosts], origins=settings.origins, a_minute=settings.turns_a_minute
    )
    voice = _voice(agent, house, access, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with chats.answered_by(house, settings.locale) if chats is not None else contextlib.nullcontext():
            yield
        if voice is not None:
            await voice.close()

    chat_routes = chats.routers if chats is not None else ()
    return make_app(house, access, lifespan=lifespan, voice=voice, chats=chat_routes)


def _voice(agent: Agent, house: Host, access: Access, settings: Settings) -> Any:
    try:
        from agent.voice import server, talk
        from agent.voice.pipeline import warm_up
    except ImportError:
        return None  # the page says what is missing

    ears = open_ears(settings)
    warm_up(agent, ears)
    return server.VoiceRoutes(
        agent,
        ears,
        who_talks(house, access),
        limit=settings.conversations,
        report=lambda result, timing: talk.keep_timing(settings, result, timing),
        silence_s=settings.silence_s,
    )


def who_talks(house: Host, access: Access) -> Any:
    """As whom somebody talks aloud: the person of their token, who has been asked what may be read."""
    from agent.voice import server

    def who(connection: HTTPConnection, caller: server.Caller) -> server.Talker:
        try:
            user = getattr(connection.state, "user", None) or access.user_of(connection)
            if house.people.consent_of(user) is None:
                raise Refused(403, "you have not been asked yet what may be read of you: PUT /api/consent first")
        except Refused as error:
            if connection.scope["type"] == "websocket":
                raise server.Forbidden(str(error)) from None
            raise
        return server.Talker(user, caller.thread, server.both(house.consent_of(user), caller.consent))

    return who
