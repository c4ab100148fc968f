"""The command line, also as `python -m agent`.

`emox turn | chat | talk | serve | serve-model | token | perceive | memory | model | train | evaluate | consent |
doctor`

Every command takes `--json`: one JSON document on standard output, everything else on standard error. It exits 0 on
success, 2 with one clear line on wrong use or bad input, 1 on a fault.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from . import cli_memory, cli_model, cli_token
from .edge import AsJson, User, clean_stdout, fail, loading, main_guard
from .settings import Settings, load_settings

if TYPE_CHECKING:
    from .events import TurnResult
    from .session import Agent

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(cli_memory.app, name="memory")
app.add_typer(cli_model.app, name="model")
app.add_typer(cli_token.app, name="token")

err = Console(stderr=True)

TASKS = ("sentiment", "emotion", "open", "reason", "intent", "empathy")

Thread = Annotated[str, typer.Option("--thread", help="Which conversation.")]


@app.command()
def turn(
    text: Annotated[str | None, typer.Option(help="What is said; goes before the words of the clip.")] = None,
    clip: Annotated[Path | None, typer.Option(help="A recording or a picture.")] = None,
    user: User = "me",
    thread: Thread = "main",
    speak: Annotated[Path | None, typer.Option(help="Write the spoken reply to this WAV file.")] = None,
    as_json: AsJson = False,
) -> None:
    """One whole turn: perceive, recall, understand, answer, remember."""
    _require_input(text, clip)
    from .events import Finished, Heard, Started

    result: TurnResult | None = None
    disclosure = None
    with clean_stdout() as out, _agent() as agent:
        for event in agent.events(text, clip=clip, user=user, thread=thread, speak_to=speak):
            if isinstance(event, Started):
                disclosure = event.disclosure
            elif isinstance(event, Heard) and disclosure:
                err.print(f"[dim]{escape(disclosure)}[/dim]")
            elif isinstance(event, Finished):
                result = event.result
        assert result is not None
        if as_json:
            print(json.dumps(result.as_json(), ensure_ascii=False), file=out)
        else:
            _show_turn(Console(file=out), result)


@app.command()
def chat(user: User = "me", thread: Thread = "main", as_json: AsJson = False) -> None:
    """Talk in a terminal, a line a turn; an empty line or Ctrl-D ends it. With --json, a list of all turns."""
    from .events import Finished, Perceived, Planned, ReplyText, Started

    turns: list[dict[str, Any]] = []
    with clean_stdout() as out, _agent() as agent:
        console = Console(file=sys.stderr if as_json else out, highlight=False)
        while line := _ask():
            try:
                for event in agent.events(line, user=user, thread=thread):
                    match event:
                        case Started(disclosure=str(told)):
                            console.print(f"[dim]{escape(told)}[/dim]")
                        case Perceived(affect=affect):
                            console.print(f"[dim]{affect.emotion} {affect.confidence:.0%}[/dim]")
                        case Planned(thought=thought) if thought is not None:
                            console.print(f"[dim]{escape(thought.cause)} -> {escape(thought.goal)}[/dim]")
                        case ReplyText(text=piece):
                            console.print(piece, end="", markup=False, soft_wrap=True)
                        case Finished(result=result):
                            turns.append(result.as_json())
                console.print()
            except ValueError as error:  # a line that cannot be used; the conversation goes on
                err.print(f"[yellow]{escape(str(error))}[/yellow]")
        if as_json:
            print(json.dumps(turns, ensure_ascii=False), file=out)


@app.command()
def talk(
    clip: Annotated[list[Path] | None, typer.Option(help="A recording to play as if spoken; give any number.")] = None,
    browser: Annotated[bool, typer.Option("--browser", help="Serve a page to talk from.")] = False,
    host: Annotated[str, typer.Option(help="With --browser: address to serve on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --browser: port to serve on; 0 for any.")] = 7860,
    user: User = "me",
    thread: Thread = "main",
    speak: Annotated[Path | None, typer.Option(help="With --clip: write the spoken replies to this WAV file.")] = None,
    echo_cancelled: Annotated[
        bool, typer.Option("--echo-cancelled", help="The microphone does not hear the loudspeaker: listen always.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Talk aloud, with microphone and loudspeaker, in a browser, or with recordings. With --json, a list of turns."""
    if clip and browser:
        fail(2, "recordings are not played into a browser: give --clip FILE or --browser")
    if speak and not clip:
        fail(2, "--speak writes the replies to recordings: give --clip FILE too")
    with clean_stdout() as out:
        try:
            from .voice import talk as voice
        except ImportError as error:
            fail(1, f"a voice conversation needs Pipecat ({error}): pip install 'emox[embedded,voice]'")
        settings = load_settings()
        console = Console(file=sys.stderr if as_json else out, highlight=False)
        turns: list[dict[str, Any]] = []
        if browser:
            voice.serve(_agent, settings, console, host=host, port=port, user=user)
        elif clip:
            turns = voice.talk_with_clips(clip, _agent, settings, console, speak_to=speak, user=user, thread=thread)
        else:
            turns = voice.talk_here(_agent, settings, console, echo_cancelled=echo_cancelled, user=user, thread=thread)
        if as_json:
            print(json.dumps(turns, ensure_ascii=False), file=out)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to serve on; one that others reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to serve on; 0 for any.")] = 7860,
    user: Annotated[str, typer.Option(help="Who sits at this machine, while there are no tokens.")] = "me",
    as_json: AsJson = False,
) -> None:
    """Serve the page, the APIs, live voice, and the chat platforms whose tokens are set, until Ctrl-C."""
    with clean_stdout() as out:
        try:
            from .server.run import serve as run
        except ImportError as error:
            fail(1, f"the server needs more libraries ({error}): pip install 'emox[serve]'")
        console = Console(file=sys.stderr if as_json else out, highlight=False)
        settings = load_settings().model_copy(update={"memory_apart": os.name == "posix"})
        run(partial(_agent, settings), settings, console, host=host, port=port, user=user)
        if as_json:
            print(json.dumps({"stopped": True}), file=out)


@app.command("serve-model")
def serve_model(
    models: Annotated[
        list[str] | None,
        typer.Option("--model", help="NAME=CHECKPOINT, any number; by default the settings' one, as `default`."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on; one that others reach needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to serve on.")] = 7861,
    replicas: Annotated[
        str | None, typer.Option(help="With Ray Serve: so many of each model, N or, as requests queue up, N-MOST.")
    ] = None,
    change: Annotated[
        bool,
        typer.Option("--change", help="With --replicas: change what Ray serves here already, and leave."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Serve the model alone, to agents elsewhere that have its address in EMOX_MODEL_URL, until Ctrl-C."""
    with clean_stdout() as out:
        try:
            from .model_host import serve as run
        except ImportError as error:
            fail(1, f"the model's server needs more libraries ({error}): pip install 'emox[serve]'")
        console = Console(file=sys.stderr if as_json else out, highlight=False)
        run(load_settings(), console, models or [], host=host, port=port, replicas=replicas, change=change)
        if as_json:
            print(json.dumps({"changed": True} if change else {"stopped": True}), file=out)


@app.command()
def perceive(
    files: Annotated[list[Path], typer.Argument(help="Recordings or pictures.")],
    tasks: Annotated[str, typer.Option(help="Comma-separated, of: " + ", ".join(TASKS))] = ",".join(TASKS),
    as_json: AsJson = False,
) -> None:
    """The model alone on clips, without memory: all six tasks, one JSON object a line."""
    wanted = [task.strip() for task in tasks.split(",") if task.strip()]
    unknown = [task for task in wanted if task not in TASKS]
    if unknown or not wanted:
        fail(2, f"unknown task {', '.join(unknown) or '(none)'}: choose from {', '.join(TASKS)}")
    with clean_stdout() as out:
        from .perceive import Perceiver

        perceiver = Perceiver(load_settings())
        failed = 0
        for file in files:
            try:
                row = perceiver(file, wanted)
            except ValueError as error:
                if len(files) == 1:
                    raise
                row, failed = {"file": str(file), "error": str(error)}, failed + 1
            print(json.dumps(row, ensure_ascii=False), file=out, flush=True)
        if failed:
            fail(2, f"{failed} of {len(files)} files could not be read; their lines say why")


@app.command()
def evaluate(
    bench: Annotated[
        str, typer.Argument(help="A benchmark, such as ravdess, or a metric of a file; a wrong name lists them all.")
    ],
    data: Annotated[Path, typer.Option(help="Folder that holds the corpora, or the corpus' own; a metric's file.")],
    split: Annotated[str, typer.Option(help="A split found there.")] = "valid",
    checkpoint: Annotated[Path | None, typer.Option(help="Folder or name; by default the settings'.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask so many cases at most, drawn by the seed.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw and of the intervals.")] = 7,
    report: Annotated[Path | None, typer.Option(help="Write report.json, report.md, figures to this folder.")] = None,
    wheels: Annotated[Path | None, typer.Option(help="Folder of the emotion wheels; by default near the data.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a checkpoint on a benchmark, or a file of predictions (name, prediction, gold) by a metric."""
    from training.predictions import METRICS, score_predictions
    from training.report import show, write_report

    with clean_stdout() as out:
        if bench in METRICS:
            try:
                result = score_predictions(bench, data, wheels)
            except FileNotFoundError as error:
                fail(2, str(error))
        else:
            result = _ask_checkpoint(bench, data, split, checkpoint, limit, seed, wheels)
        if report is not None:
            for path in write_report(result, report):
                err.print(f"[dim]{escape(str(path))}[/dim]")
        if as_json:
            print(json.dumps(result, ensure_ascii=False), file=out)
        else:
            show(result, Console(file=out))


@app.command()
def train(
    phase: Annotated[str, typer.Argument(help="A phase (1.1, 1.2, 2 or 3), `all`, or `prepare` to encode clips once.")],
    config: Annotated[Path, typer.Option(help="The run's YAML; see training/configs.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the corpora, instead of the configuration's.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run, instead of the configuration's.")] = None,
    lm: Annotated[Path | None, typer.Option(help="Folder of the language model, by default the packaged one.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train a phase of the curriculum; what was stopped goes on where it was."""
    from training.config import ConfigError, load_config
    from training.data.features import MissingFeatures
    from training.data.sample import CorpusError
    from training.loop import TrainingError
    from training.run import prepare_features
    from training.run import train as train_phases

    with clean_stdout() as out_stream:
        try:
            run = load_config(config, data=data, out=out)
            if phase not in {*run.phases, "all", "prepare"}:
                fail(2, f"there is no phase {phase!r} in {config}: choose from {', '.join(run.phases)}, all, prepare")
            result: dict[str, Any] = {}
            if phase in {"prepare", "all"}:
                report = prepare_features(run, lm=lm)
                result |= {"encoded": report.encoded, "found": report.found, "skipped": report.skipped}
            if phase != "prepare":
                done = train_phases(run.phases if phase == "all" else [phase], run, lm=lm)
                result["phases"] = {each.folder.name: {"step": each.step, **each.figures} for each in done}
        except (ConfigError, CorpusError, MissingFeatures, TrainingError, FloatingPointError) as error:
            fail(2, str(error))
        if as_json:
            print(json.dumps(result, ensure_ascii=False), file=out_stream)
        else:
            Console(file=out_stream).print(result)


@app.command()
def consent(
    text: Annotated[bool | None, typer.Option(help="Words may be read.")] = None,
    voice: Annotated[bool | None, typer.Option(help="The voice may be read.")] = None,
    face: Annotated[bool | None, typer.Option(help="The face may be read.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show or change what the agent may read on this machine."""
    from .settings import write_consent

    settings = load_settings()
    changes = {name: value for name, value in (("text", text), ("voice", voice), ("face", face)) if value is not None}
    chosen = write_consent(settings, changes) if changes else settings.consent
    if as_json:
        print(json.dumps(chosen.model_dump()))
    else:
        Console().print("  ".join(f"{name} {'yes' if value else 'no'}" for name, value in chosen.model_dump().items()))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What is installed, which weights, what is missing and the command that fixes it."""
    with clean_stdout() as out:
        from .doctor import examine, show

        report = examine(load_settings())
        if as_json:
            print(json.dumps(report, ensure_ascii=False), file=out)
        else:
            show(report, Console(file=out))
        if report["missing"]:
            fail(1, f"{len(report['missing'])} things are missing; the report says how to get them")


def _ask_checkpoint(
    bench: str, data: Path, split: str, checkpoint: Path | None, limit: int | None, seed: int, wheels: Path | None
) -> dict[str, Any]:
    from training.benches import find

    found = find(bench, data, split, wheels)  # before the model is loaded: it is quick to say what is wrong
    from model.build import CheckpointError
    from model.installed import find as find_checkpoint
    from training.evaluate import evaluate, load_models

    try:
        model, untuned = load_models(find_checkpoint(checkpoint) if checkpoint else load_settings().checkpoint)
    except CheckpointError as error:
        fail(2, str(error))
    return evaluate(found, model, limit=limit, seed=seed, untuned=untuned)


def main(argv: list[str] | None = None) -> None:
    """Run a command and exit with its status."""
    with main_guard():
        app(args=argv, standalone_mode=False, prog_name="emox")
    sys.exit(0)


def _require_input(text: str | None, clip: Path | None) -> None:
    if text is None and clip is None:
        fail(2, "nothing was said: give --text WORDS, --clip FILE or both")


def _ask() -> str:
    try:
        return input("you: " if sys.stdin.isatty() else "").strip()
    except EOFError:
        return ""


@contextlib.contextmanager
def _agent(settings: Settings | None = None) -> Iterator[Agent]:
    with err.status("waking up ..."), loading():
        from .opening import open_agent

        agent = open_agent(settings)
    with agent:
        yield agent


def _show_turn(console: Console, result: TurnResult) -> None:
    affect = result.affect
    console.print(f"[bold]heard[/bold]     {escape(result.transcript)}")
    felt = ", ".join((f"{affect.emotion} {affect.confidence:.0%}", *affect.open))
    console.print(
        f"[bold]felt[/bold]      {escape(felt)}  (valence {affect.valence:+.2f}, arousal {affect.arousal:+.2f})"
    )
    for modality, reason in result.absent.items():
        console.print(f"          [dim]{modality} was not read: {escape(reason)}[/dim]")
    if result.understanding is not None:
        console.print(f"[bold]cause[/bold]     {escape(result.understanding.cause)}")
        console.print(f"[bold]intent[/bold]    {result.understanding.intent}")
    console.print(f"[bold]plan[/bold]      {result.plan.route}, {result.plan.strategy}, voice {result.plan.voice}")
    console.print(f"[bold]recalled[/bold]  {len(result.recalled)} episodes")
    console.print(f"[bold]reply[/bold]     {escape(result.reply)}")
    if result.audio is not None:
        console.print(f"[bold]spoken[/bold]    {escape(str(result.audio[0]))}, {result.audio[1]:.1f} s")
