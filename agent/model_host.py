"""`emox serve-model`: the model alone, for agents elsewhere: in this process, or in replicas of Ray Serve."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import signal
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn
from rich.console import Console

from model import replicas as ray_replicas
from model.installed import find
from model.manifest import read_manifest
from model.replicas import Hosted, Size
from model.server import make_app, under_names

from .server.access import is_here
from .settings import Settings, SetupError, keep_private

_NAME = re.compile("[a-z0-9][a-z0-9._-]{0,63}")


def serve(
    settings: Settings,
    console: Console,
    models: Sequence[str],
    *,
    host: str,
    port: int,
    replicas: str | None,
    change: bool,
) -> None:
    """Serve until Ctrl-C or SIGTERM, or change what is served.

    Raises:
        ValueError: a model or a number of replicas is not one.
        CheckpointError: a checkpoint is none, or damaged.
        SetupError: the address would let in anybody, cannot be used, or Ray is missing or not running.
    """
    hosted = hosted_of(models, settings)
    if change and replicas is None:
        raise ValueError("--change is for what Ray serves: give --replicas, too")
    if not is_here(host) and not settings.model_tokens:
        raise SetupError(f"{host} can be reached by others, and there is no token: `emox token model` makes one")
    keep_private()
    for one in hosted.values():  # a replica that finds it damaged would be started again and again
        if one.checkpoint is not None:
            read_manifest(Path(one.checkpoint))
    if replicas is None:
        _serve_here(hosted, console, host, port)
    else:
        _serve_replicas(hosted, console, host, port, size_of(replicas), change)


def hosted_of(models: Sequence[str], settings: Settings) -> dict[str, Hosted]:
    """What is served under which name."""
    base = Hosted(
        str(settings.checkpoint.absolute()) if settings.checkpoint else None,
        settings.weights,
        tuple(settings.model_tokens),
        settings.threads,
    )
    if not models:
        return {"default": base}
    found: dict[str, Hosted] = {}
    for given in models:
        name, _, checkpoint = given.partition("=")
        if not _NAME.fullmatch(name) or not checkpoint or name in found:
            raise ValueError(f"{given} is no model: give NAME=CHECKPOINT, each name once, of small letters and digits")
        found[name] = replace(base, checkpoint=str(find(checkpoint).absolute()))
    return found


def size_of(replicas: str) -> Size:
    """`2` or `1-4` as numbers of replicas."""
    least, _, most = replicas.partition("-")
    if not least.isdigit() or not (most or least).isdigit():
        raise ValueError(f"{replicas} is no number of replicas: give N or N-MOST")
    return Size(int(least), int(most or least))


def _serve_here(hosted: dict[str, Hosted], console: Console, host: str, port: int) -> None:
    apps = {name: make_app(one.open(), one.hashes) for name, one in hosted.items()}
    _say(hosted, console, host, port)
    config = uvicorn.Config(
        under_names(apps), host=host, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=30,
        server_header=False, proxy_headers=False,
    )  # fmt: skip
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()


def _serve_replicas(
    hosted: dict[str, Hosted], console: Console, host: str, port: int, size: Size, change: bool
) -> None:
    if importlib.util.find_spec("ray") is None:
        raise SetupError("replicas need Ray: pip install 'emox[serve,cluster]'")
    if change:
        if not ray_replicas.connect():
            raise SetupError(
                "no Ray runs here whose models could be changed: start `emox serve-model` without --change"
            )
        ray_replicas.deploy(hosted, size)
        return
    started = ray_replicas.start(host, port)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # in place of Ray's, which leaves its cluster behind
        ray_replicas.deploy(hosted, size)
        _say(hosted, console, host, port)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    finally:
        ray_replicas.stop(hosted, started)


def _say(hosted: dict[str, Hosted], console: Console, host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    for name in hosted:
        console.print(f"EMOX_MODEL_URL=http://{shown}:{port}/models/{name}")
    console.print("Ctrl-C ends it.")
