"""What `emox memory` shows people: tables, trees and sentences. The documents of `--json` are in inspection.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

if TYPE_CHECKING:
    from memory.mood import Mood
    from memory.types import Episode, Fact
    from memory.why import Explanation

    from .forgetting import Forgotten


def episode_table(episodes: Sequence[Episode], title: str) -> Table:
    """Episodes as rows of time, feeling, words and reply."""
    table = Table(title=title, title_justify="left", show_edge=False)
    for name in ("when", "felt", "valence", "said", "answered", "id"):
        table.add_column(name, no_wrap=name in {"when", "id"}, max_width=44)
    for episode in episodes:
        affect = episode.affect
        table.add_row(
            f"{episode.at.astimezone():%Y-%m-%d %H:%M}",
            f"{affect.emotion} {affect.confidence:.0%}",
            f"{affect.valence:+.2f}",
            escape(episode.text),
            escape(episode.reply),
            episode.id,
        )
    return table


def fact_table(facts: Sequence[Fact], title: str) -> Table:
    """Facts as rows of when they hold, kind, sentence and how many episodes they follow from."""
    table = Table(title=title, title_justify="left", show_edge=False)
    for name in ("since", "until", "kind", "fact", "from"):
        table.add_column(name)
    for fact in facts:
        until = f"{fact.valid_to.astimezone():%Y-%m-%d}" if fact.valid_to else ""
        since, n = f"{fact.valid_from.astimezone():%Y-%m-%d}", len(fact.episodes)
        sources = f"{n} episode{'s' if n != 1 else ''}"
        table.add_row(since, until, fact.kind, escape(fact.text), sources, style="dim" if until else "")
    return table


def mood_line(now: Mood) -> str:
    """The mood now, where it usually is and where it goes, in a line."""
    told = (
        f"mood now: valence {now.valence:+.2f} ± {1.96 * now.valence_sd:.2f}, arousal {now.arousal:+.2f} ± "
        f"{1.96 * now.arousal_sd:.2f}, usually {now.baseline_valence:+.2f}"
    )
    if now.trend is not None:
        told += f"; valence changes by {now.trend.per_week:+.2f} a week ({now.trend.low:+.2f} to {now.trend.high:+.2f})"
    if now.volatility is not None:
        told += f"; volatility {now.volatility:.2f}"
    return told


def why_tree(found: Explanation) -> Tree:
    """A reply, and under it what it came from."""
    episode = found.episode
    affect = episode.affect
    tree = Tree(f"[bold]“{escape(episode.reply)}”[/bold]  [dim]{episode.at.astimezone():%Y-%m-%d %H:%M}[/dim]")
    planned = tree.add(f"because the plan was to [bold]{episode.strategy or 'answer'}[/bold] ({episode.route})")
    if episode.thought is not None:
        planned.add(f"aim: {escape(episode.thought.goal)}")
    recalled = planned.add(f"recalled, {episode.recall_policy}: {len(found.recalled) or 'nothing'}")
    for one, memory in found.recalled:
        parts = "  ".join(f"{name} {value:+.2f}" for name, value in one.parts.items() if value)
        words = f"“{escape(memory.text)}”" if memory else "[dim]forgotten since[/dim]"
        recalled.add(f"{words} [dim]{one.score:.2f} = {parts}[/dim]")
    finer = [word for word in affect.open if word != affect.emotion]
    felt = ", ".join((f"{affect.emotion} {affect.confidence:.0%}", *finer))
    read = tree.add(f"because “{escape(episode.text)}” was felt as [bold]{escape(felt)}[/bold]")
    for modality, shares in asdict(affect.evidence).items():
        if shares:
            likeliest = sorted(shares.items(), key=lambda pair: -pair[1])[:3]
            read.add(f"{modality}: " + ", ".join(f"{label} {share:.0%}" for label, share in likeliest))
    if episode.understanding is not None:
        read.add(f"cause: “{escape(episode.understanding.cause)}”, intent: {episode.understanding.intent}")
    if episode.after:
        then = ", ".join(f"{felt.emotion} {felt.valence:+.2f}" for felt in episode.after)
        tree.add(f"afterwards they felt {then} (change {episode.lift:+.2f})")
    return tree


def proof(user: str, result: Forgotten, server: str | None) -> Group:
    """What was forgotten and how that was looked after, in sentences."""
    search = result.search
    lines = [f"{result.n_episodes} episodes of {user} are forgotten."]
    if result.threads:
        lines.append(f"The dialogue of {', '.join(result.threads)} starts afresh.")
    n = len(search.traces)
    lines.append(f"{search.n_files} files with {search.n_bytes:,} bytes were searched: {n or 'none'} hold a trace.")
    lines.append(f"{result.looked_for} sentences were looked for.")
    if result.not_looked_for:
        lines.append(f"{result.not_looked_for} were not: too short, said in episodes that were kept, or too many.")
    if server is not None:
        lines.append(f"The files of {server} were not searched: their operator has to clean them.")
    return Group(*map(Text, lines))
