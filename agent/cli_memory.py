"""`emox memory`: look into what the agent remembers of a person, understand it, correct it, take it away."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from .edge import AsJson, User, clean_stdout, fail
from .memory_views import episode_table, fact_table, mood_line, proof, why_tree
from .settings import load_settings

if TYPE_CHECKING:
    from memory.store import MemoryStore
    from memory.types import Episode

app = typer.Typer(no_args_is_help=True, help=__doc__.partition(": ")[2].capitalize())

Since = Annotated[str | None, typer.Option(help='From then on: 2026-03-01, or words such as "last week".')]
Until = Annotated[str | None, typer.Option(help="Up to then, not included.")]


@app.command("list")
def list_(
    user: User = "me",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    thread: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    since: Since = None,
    until: Until = None,
    as_json: AsJson = False,
) -> None:
    """Episodes, newest first."""
    from . import inspection

    options: dict[str, Any] = {"limit": limit, "offset": offset, "thread_id": thread, **_times(since, until)}
    with _store() as (store, out):
        if as_json:
            _print(inspection.list_episodes(store, user, **options), out)
        else:
            title = f"{store.count(user)} episodes of {user}"
            Console(file=out).print(episode_table(store.list(user, **options), title))


@app.command()
def show(id: str, user: User = "me", as_json: AsJson = False) -> None:
    """One episode, whole, and where each part of it comes from."""
    from . import inspection

    with _store() as (store, out):
        document = inspection.show(store, user, id)
        print(json.dumps(document, ensure_ascii=False, indent=None if as_json else 2), file=out)


@app.command()
def search(
    query: str, user: User = "me", limit: Annotated[int, typer.Option(min=1, max=100)] = 5, as_json: AsJson = False
) -> None:
    """Episodes and facts about something, best first; a time in the words ("last week") narrows the search to it."""
    from . import inspection

    with _store() as (store, out):
        if as_json:
            _print(inspection.search(store, user, query, limit), out)
        else:
            console = Console(file=out)
            asked, episodes, facts = inspection.found_about(store, user, query, limit)
            about = f", {asked.words}" if asked else ""
            console.print(episode_table([r.episode for r in episodes], f"about “{query}”{about}"))
            for one in facts:
                console.print(f"[dim]{one.score:.2f}[/dim] {escape(one.fact.text)}")


@app.command()
def facts(
    user: User = "me",
    history: Annotated[bool, typer.Option(help="Also what held before and was superseded.")] = False,
    as_json: AsJson = False,
) -> None:
    """What follows from the episodes: people, events, likes, what brings a feeling and what helped."""
    from . import inspection

    with _store() as (store, out):
        if as_json:
            _print(inspection.facts(store, user, history=history), out)
        else:
            known = store.facts(user, history=history)
            Console(file=out).print(fact_table(known, f"{len(known)} facts about {user}"))


@app.command()
def timeline(
    user: User = "me",
    since: Since = None,
    until: Until = None,
    thread: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="So many of the newest episodes.")] = 500,
    out: Annotated[Path | None, typer.Option(help="Draw it to this PNG or SVG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Valence and arousal over time with the emotions read, the mood they add up to, and its trend."""
    from memory.mood import mood, track
    from memory.timeline import figure, terminal

    from . import inspection

    options: dict[str, Any] = {"limit": limit, "thread_id": thread, **_times(since, until)}
    with _store() as (store, stream):
        episodes = inspection.oldest_first(store.list(user, **options))
        triggers = inspection.triggers(store, user)
        if out is not None:
            figure(episodes, out)
        if as_json:
            drawn = {"drawn": str(out) if out else None}
            _print(inspection.timeline_of(user, episodes, triggers) | drawn, stream)
            return
        console = Console(file=stream)
        if not episodes:
            console.print(f"nothing is remembered of {user} in that time")
            return
        console.print(terminal(episodes, track(episodes), console.width))
        if (now := mood(episodes, datetime.now().astimezone())) is not None:
            console.print(mood_line(now))
        for fact in triggers:
            console.print(f"[dim]{fact.kind}[/dim]  {escape(fact.text)}")
        if out is not None:
            console.print(f"drawn to {escape(str(out))}")


@app.command()
def why(turn: str, user: User = "me", as_json: AsJson = False) -> None:
    """Why the agent said that: reply, plan, what was recalled and why, what was read from what, and the cause."""
    from memory.why import explain

    from . import inspection

    with _store() as (store, out):
        found = explain(store, user, turn)
        if as_json:
            _print(inspection.explained(found), out)
        else:
            Console(file=out).print(why_tree(found))


@app.command()
def correct(
    id: str,
    emotion: Annotated[str | None, typer.Option(help="What was really felt, one of the seven basic emotions.")] = None,
    text: Annotated[str | None, typer.Option(help="What was really said.")] = None,
    user: User = "me",
    as_json: AsJson = False,
) -> None:
    """Correct the feeling or the words of an episode; what stood there stays in its history."""
    from memory import privacy

    from . import inspection

    with _store() as (store, out):
        corrected = privacy.correct(store, user, id, emotion=emotion, text=text)
        if as_json:
            _print(inspection.plain(corrected), out)
        else:
            Console(file=out).print(episode_table([corrected], "corrected"))


@app.command()
def forget(
    id: Annotated[list[str] | None, typer.Option("--id", help="One episode; may be given several times.")] = None,
    since: Since = None,
    until: Until = None,
    about: Annotated[str | None, typer.Option(help="What it was about, in words.")] = None,
    person: Annotated[str | None, typer.Option(help="Everything in which this person is named.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Everything that is remembered of the user.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    user: User = "me",
    as_json: AsJson = False,
) -> None:
    """Forget for good, and prove it: every file of the agent is searched for what was said afterwards."""
    from memory import privacy

    from . import inspection
    from .conversations import open_conversations
    from .forgetting import forget as forget_everywhere
    from .opening import open_cipher

    bounds = _times(since, until)
    wanted = bool(id) or any(bounds.values()) or about is not None or person is not None
    if all_ == wanted:
        fail(2, "say what to forget: --id ID, --since/--until TIME, --about WORDS, --person NAME, or --all alone")
    settings = load_settings()
    with _store() as (store, out):
        going: list[Episode] | None = None
        if not all_:
            going = privacy.chosen(store, user, ids=id or (), about=about, person=person, **bounds)
        n = store.count(user) if going is None else len(going)
        if not yes and n:
            if not sys.stdin.isatty():
                fail(2, f"{n} episodes of {user} would be forgotten: say --yes to forget them")
            shown = store.list(user, limit=20) if going is None else going[-20:]
            Console(stderr=True).print(episode_table(shown, f"{n} episodes of {user}"))
            typer.confirm(f"Forget {n} episodes of {user} for good?", abort=True, err=True)
        saver = open_conversations(settings, open_cipher(settings))
        with contextlib.closing(saver.conn):
            result = forget_everywhere(store, saver, settings.home, user, going)
        if as_json:
            _print(inspection.forgotten(user, result, settings.elsewhere), out)
        else:
            Console(file=out).print(proof(user, result, settings.elsewhere))
        if result.search.traces:
            fail(1, f"traces remain in {', '.join(str(t.path) for t in result.search.traces)}: report this as a fault")


@app.command()
def export(
    path: Path,
    user: User = "me",
    everybody: Annotated[bool, typer.Option("--everybody", help="All people: a backup.")] = False,
    labels: Annotated[bool, typer.Option("--labels", help="Corrected feelings only, as samples to train on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a memory to a JSONL file, in clear; works while an agent that shares a Chroma server runs."""
    from memory import privacy
    from memory.exchange import write_export, write_lines

    with _store() as (store, out):
        users = store.users() if everybody else (user,)
        if labels:
            n = write_lines(path, (row for one in users for row in privacy.labels(store, one)))
            told: dict[str, Any] = {"path": str(path), "labels": n}
        else:
            told = {"path": str(path)} | asdict(write_export(store, users, path))
        _told(told, as_json, out)


@app.command("import")
def import_(path: Annotated[Path, typer.Argument(exists=True, dir_okay=False)], as_json: AsJson = False) -> None:
    """Bring a file that `export` wrote into the memory; what is there already stays as it is."""
    from memory.exchange import read_export

    with _store() as (store, out):
        _told({"path": str(path)} | asdict(read_export(store, path)), as_json, out)


@app.command()
def key(
    keyring: Annotated[bool, typer.Option("--keyring", help="Keep it in the system's keyring.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key that encrypts a new memory: give it in EMOX_MEMORY_KEY, or keep it in the keyring."""
    from memory.cipher import keep_in_keyring, new_key

    made = new_key()
    if keyring:
        keep_in_keyring(made)
    shown = None if keyring else made
    print(json.dumps({"key": shown, "keyring": keyring}) if as_json else shown or "the key is in the keyring")


def _told(told: dict[str, Any], as_json: bool, out: Any) -> None:
    if as_json:
        _print(told, out)
    else:
        Console(file=out).print("  ".join(f"{name.removeprefix('n_')} {value}" for name, value in told.items()))


def _times(since: str | None, until: str | None) -> dict[str, datetime | None]:
    """Bounds as times; of words such as "last week" the start is meant for `since`, and for `until`."""
    from .inspection import time_of

    return {"since": time_of("--since", since), "until": time_of("--until", until)}


def _print(document: dict[str, Any], out: Any) -> None:
    print(json.dumps(document, ensure_ascii=False), file=out)


@contextlib.contextmanager
def _store() -> Iterator[tuple[MemoryStore, Any]]:
    from .opening import open_store

    with clean_stdout() as out:
        store = open_store(load_settings())
        try:
            yield store, out
        finally:
            store.close()
