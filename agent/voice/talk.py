"""`emox talk`: a voice conversation with recordings, in a browser, or with this machine's microphone."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from pipecat.pipeline.worker import PipelineWorker
from pipecat.transports.base_transport import BaseTransport
from pipecat.workers.runner import WorkerRunner
from rich.console import Console

from agent.events import TurnResult
from agent.nodes import Ears
from agent.opening import open_ears
from agent.session import Agent
from agent.settings import Settings, SetupError
from agent.speech import Audio, write_wav
from perception.errors import PerceptionError
from perception.media import read_clip
from perception.types import Speech

from .clips import ClipTransport
from .companion import Report
from .display import Display
from .pipeline import build_session, warm_up
from .timing import TurnTiming, store

REPLY_S = 60.0
"""A recording that has no answer after so long gets none."""

SETTLED_S = 1.0
"""After the end of a recording, its last pause has been noticed."""

Wake = Callable[[], AbstractContextManager[Agent]]


def talk_with_clips(
    paths: Sequence[Path], wake: Wake, settings: Settings, console: Console, *, speak_to: Path | None, **who: Any
) -> list[dict[str, Any]]:
    """Play recordings as if spoken, each after the reply to the one before; returns the turns.

    Raises:
        PerceptionError: a file is no recording, or nobody speaks in it.
    """
    if speak_to is not None and not speak_to.parent.is_dir():
        raise FileNotFoundError(f"The folder {speak_to.parent} does not exist; create it, or choose another place.")
    clips = [(path, _sound(path)) for path in paths]
    turns: list[dict[str, Any]] = []
    with wake() as agent:
        ears = _ready(agent, settings, **who)
        for path, speech in clips:
            if not ears.asr().hears_speech(speech):
                raise PerceptionError(f"nobody speaks in {path}: give a recording of speech")
        display, transport = Display(console), ClipTransport()
        report = _report(settings, display, turns)
        with contextlib.closing(display):
            asyncio.run(_play(agent, ears, transport, clips, settings, report, observers=[display], **who))
    if speak_to is not None:
        pcm = np.frombuffer(b"".join(piece for _, piece in transport.heard), "<i2")
        write_wav(speak_to, [Audio(pcm.astype(np.float32) / 32767, transport.out_rate_hz)])
    return turns


def talk_here(wake: Wake, settings: Settings, console: Console, *, echo_cancelled: bool, **who: Any) -> list[Any]:
    """Talk with this machine's microphone and loudspeaker until Ctrl-C; returns the turns.

    Args:
        echo_cancelled: the microphone does not hear the loudspeaker, so that the person may interrupt.

    Raises:
        SetupError: PyAudio or a microphone is missing.
    """
    transport = _local_transport()
    turns: list[dict[str, Any]] = []
    with wake() as agent:
        ears = _ready(agent, settings, **who)
        display = Display(console)
        report = _report(settings, display, turns)
        console.print("[dim]Speak whenever you like; Ctrl-C ends the conversation.[/dim]")
        options = {"half_duplex": not echo_cancelled, "observers": [display], **who}
        with contextlib.closing(display):
            asyncio.run(_converse(agent, ears, transport, settings, report, **options))
    return turns


def serve(wake: Wake, settings: Settings, console: Console, *, host: str, port: int, user: str) -> None:
    """Let people talk from a browser until Ctrl-C.

    Raises:
        SetupError: the address cannot be used.
    """
    import uvicorn  # a microphone needs no server

    from .server import MESSAGE_BYTES, make_app

    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise SetupError(f"port {port} of {host} cannot be used ({error.strerror}): choose another --port") from None
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # uvicorn passes it on; the memory is closed first
    with listener, wake() as agent:
        ears = _ready(agent, settings, user=user)
        app = make_app(
            agent,
            ears,
            consent=settings.consent.as_consent(),
            user=user,
            hosts=[host],
            origins=settings.origins,
            limit=settings.conversations,
            report=lambda result, timing: keep_timing(settings, result, timing),
            silence_s=settings.silence_s,
        )
        shown = f"[{host}]" if ":" in host else host
        console.print(f"Talk at http://{shown}:{listener.getsockname()[1]}/client/ in a browser; Ctrl-C ends it.")
        if host not in ("127.0.0.1", "localhost", "::1"):
            console.print("[yellow]Whoever reaches this address can talk, as any user: there is no password.[/yellow]")
        config = uvicorn.Config(app, log_level="warning", access_log=False, ws_max_size=MESSAGE_BYTES)
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])


def _ready(agent: Agent, settings: Settings, *, user: str, **_: Any) -> Ears:
    agent.store.count(user)  # a name that cannot be used is told before anybody speaks
    ears = open_ears(settings)
    warm_up(agent, ears)
    return ears


def _sound(path: Path) -> Speech:
    speech = read_clip(path, want_frames=False).speech
    if speech is None:
        raise PerceptionError(f"{path} has no sound: give a recording of speech")
    return speech


def _report(settings: Settings, display: Display, turns: list[dict[str, Any]]) -> Report:
    def report(result: TurnResult, timing: TurnTiming) -> None:
        keep_timing(settings, result, timing)
        display.show(result, timing)
        turns.append({"turn": result.as_json(), "stages_ms": timing.stages_ms()})

    return report


def keep_timing(settings: Settings, result: TurnResult, timing: TurnTiming) -> None:
    """Keep how long a turn took, beside the memory."""
    with contextlib.suppress(OSError):  # a full disk does not end a conversation
        store(settings.home / "voice" / "timings.jsonl", result.turn_id, timing)


@contextlib.asynccontextmanager
async def _running(worker: PipelineWorker) -> AsyncIterator[None]:
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        await worker.cancel()
        await running


async def _play(
    agent: Agent,
    ears: Ears,
    transport: ClipTransport,
    clips: Sequence[tuple[Path, Speech]],
    settings: Settings,
    report: Report,
    **options: Any,
) -> None:
    answered = 0

    def count(result: TurnResult, timing: TurnTiming) -> None:
        nonlocal answered
        answered += 1
        report(result, timing)

    consent = settings.consent.as_consent()
    session = build_session(
        agent, ears, transport, consent=consent, report=count, silence_s=0, idle_timeout_s=None, **options
    )
    async with _running(session.worker):
        for path, speech in clips:
            before = answered
            await transport.say(speech.samples)
            await asyncio.sleep(SETTLED_S)
            try:
                async with asyncio.timeout(REPLY_S):
                    while answered == before or not session.companion.quiet:
                        await asyncio.sleep(0.05)
            except TimeoutError:
                raise PerceptionError(f"{path} got no answer within {REPLY_S:.0f} s: is the speech clear?") from None


async def _converse(
    agent: Agent, ears: Ears, transport: BaseTransport, settings: Settings, report: Report, **options: Any
) -> None:
    consent = settings.consent.as_consent()
    session = build_session(
        agent,
        ears,
        transport,
        consent=consent,
        report=report,
        silence_s=settings.silence_s,
        idle_timeout_s=None,
        **options,
    )

    @session.worker.event_handler("on_pipeline_started")
    async def on_pipeline_started(*_: Any) -> None:
        await session.companion.greet()

    runner = WorkerRunner()
    await runner.add_workers(session.worker)
    await runner.run()


def _local_transport() -> BaseTransport:
    try:
        import pyaudio
    except ImportError:
        raise SetupError(
            "the microphone needs PyAudio, which is built with PortAudio's headers: pip install 'emox[local]'; "
            "`emox talk --browser` works without it"
        ) from None
    from pipecat.transports.local.audio import LocalAudioTransport, LocalAudioTransportParams

    devices = pyaudio.PyAudio()
    try:
        devices.get_default_input_device_info()
        devices.get_default_output_device_info()
    except OSError:
        raise SetupError("no microphone or no loudspeaker was found; try `emox talk --browser`") from None
    finally:
        devices.terminate()
    return LocalAudioTransport(
        LocalAudioTransportParams(audio_in_enabled=True, audio_out_enabled=True, audio_out_10ms_chunks=2)
    )
