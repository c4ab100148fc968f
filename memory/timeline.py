"""Feelings over time, drawn: rows in a terminal, a figure in a file."""

from __future__ import annotations

import os
import tempfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from itertools import groupby
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.table import Table
from rich.text import Text

from model.types import EMOTIONS

from .mood import Z95, MoodState, retrace
from .scoring import intensity
from .types import Episode

COLOURS = {
    "neutral": "#8c8c8c",
    "happy": "#e69f00",
    "sad": "#0072b2",
    "angry": "#d55e00",
    "fear": "#cc79a7",
    "disgust": "#009e73",
    "surprise": "#56b4e9",
}
"""After Okabe & Ito (2008), "Color universal design": they can be told apart with any colour vision."""

MARKERS = {"neutral": "o", "happy": "^", "sad": "v", "angry": "s", "fear": "D", "disgust": "P", "surprise": "X"}
"""Shapes that say the same as the colours, for a print in grey."""

SUFFIXES = (".png", ".svg")

GRID = 600
"""Points of the line of a figure."""

INK, PALE = "#30343b", "#c9ccd1"

STYLE: Any = {
    "font.size": 10,
    "axes.edgecolor": PALE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "emox",  # equal figures are equal files
}


@dataclass(frozen=True)
class _Row:
    """A line of the terminal: a turn, or the turns of a day."""

    at: datetime
    when: str
    emotions: tuple[str, ...]
    valence: float
    arousal: float
    words: str


# ---- in a terminal ---------------------------------------------------------------------------------------------------


def terminal(
    episodes: Sequence[Episode],
    moods: Sequence[MoodState] = (),
    width: int = 100,
    *,
    rows: int = 40,
    zone: tzinfo | None = None,
) -> Table:
    """A row per episode, oldest first; with more than `rows` of them a row per day, of the last `rows` days.

    Bars go from -1 to +1; a diamond on them is the mood at that time (`mood.track`). A day shows its means, its most
    frequent emotions and the words of its most intense turn. Times are those of `zone`, by default this machine's.
    """
    episodes = sorted(episodes, key=lambda episode: (episode.at, episode.id))
    if len(episodes) <= rows:
        lines, hidden = [_turn(episode, zone) for episode in episodes], 0
    else:
        days = groupby(episodes, key=lambda episode: episode.at.astimezone(zone).date())
        lines = [_day(list(day), zone) for _, day in days]
        lines, hidden = lines[-rows:], len(lines[:-rows])
    moods = sorted(moods, key=lambda state: state.at)
    times = [state.at for state in moods]
    labels = [Text(" ").join(Text(f"● {name}", _colour(name)) for name in line.emotions) for line in lines]
    used = max((len(line.when) + label.cell_len + 2 for line, label in zip(lines, labels, strict=True)), default=0)
    room = width - used
    cells = max(7, min(25, room // 4)) | 1  # odd: a middle and two equal sides
    dimensions = ("valence", "arousal") if room > 32 else ("valence",)

    note = f"{hidden} earlier days are not shown" if hidden else None if lines else "there is no episode yet"
    table = Table(width=width, box=None, padding=(0, 1, 0, 0), pad_edge=False, caption=note, caption_justify="left")
    table.add_column("when", no_wrap=True)
    table.add_column("felt", no_wrap=True)
    for name in dimensions:
        table.add_column(f"-{name:^{cells - 2}}+" if cells > 8 else name, no_wrap=True, width=cells)
    table.add_column("said", no_wrap=True, overflow="ellipsis", ratio=1)
    for line, label in zip(lines, labels, strict=True):
        known = bisect_right(times, line.at)
        bars = [
            _bar(
                getattr(line, name),
                getattr(moods[known - 1], name) if known else None,
                cells,
                _colour(line.emotions[0] if name == "valence" else "neutral"),
            )
            for name in dimensions
        ]
        words = "".join(c if c.isprintable() else " " for c in line.words)
        table.add_row(Text(line.when), label, *bars, Text(" ".join(words.split())))
    return table


def _turn(episode: Episode, zone: tzinfo | None) -> _Row:
    when, affect = f"{episode.at.astimezone(zone):%Y-%m-%d %H:%M}", episode.affect
    return _Row(episode.at, when, (affect.emotion,), affect.valence, affect.arousal, episode.text)


def _day(turns: list[Episode], zone: tzinfo | None) -> _Row:
    """The turns of one day, in order."""
    affects = [turn.affect for turn in turns]
    return _Row(
        turns[-1].at,
        f"{turns[0].at.astimezone(zone):%Y-%m-%d} ×{len(turns)}",
        tuple(emotion for emotion, _ in Counter(affect.emotion for affect in affects).most_common(2)),
        fmean(affect.valence for affect in affects),
        fmean(affect.arousal for affect in affects),
        max(turns, key=lambda turn: intensity(turn.affect)).text,
    )


def _bar(value: float, mood: float | None, cells: int, colour: str) -> Text:
    """A bar from the middle, to half a cell, and a diamond where the mood is."""
    middle = cells // 2
    line = [("─", "bright_black")] * middle + [("┼", "bright_black")] + [("─", "bright_black")] * middle
    way = 1 if value > 0 else -1
    full, half = divmod(round(abs(_clamp(value)) * middle * 2), 2)
    for i in range(1, full + 1):
        line[middle + way * i] = ("━", colour)
    if half:
        line[middle + way * (full + 1)] = ("╸" if way > 0 else "╺", colour)
    if mood is not None:
        line[middle + round(_clamp(mood) * middle)] = ("◆", "bold")
    return Text.assemble(*line)


def _colour(emotion: str) -> str:
    return COLOURS.get(emotion, COLOURS["neutral"])


def _clamp(value: float) -> float:
    return max(-1.0, min(1.0, value))


# ---- in a file -------------------------------------------------------------------------------------------------------


def figure(episodes: Sequence[Episode], path: Path, *, zone: tzinfo | None = None) -> None:
    """Valence and arousal over time as a PNG or an SVG; nothing of what was said is in it.

    A point is a turn: its colour and shape are the emotion, its size the confidence. The line is the mood, looked back
    at (`mood.retrace`), the band its 95 % interval. The file appears whole or not at all.

    Args:
        episodes: in any order, at least one.
        path: its suffix, .png or .svg, says the format.
        zone: of the dates, by default this machine's.

    Raises:
        ValueError: another suffix, or no episodes.
        ImportError: matplotlib is missing.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"a figure is written as {' or '.join(SUFFIXES)}, got {path.name!r}: change its suffix")
    if not episodes:
        raise ValueError("there is nothing to draw: no episodes were given")
    try:
        import matplotlib
    except ImportError as error:
        raise ImportError("drawing a figure needs matplotlib: pip install 'emox[draw]'") from error
    with matplotlib.rc_context(STYLE):
        drawn = _draw(sorted(episodes, key=lambda episode: (episode.at, episode.id)), zone)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                drawn.savefig(file, format=suffix[1:], dpi=160, metadata={"Date": None} if suffix == ".svg" else None)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _draw(episodes: list[Episode], zone: tzinfo | None) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure

    first, last = (episode.at.astimezone(zone) for episode in (episodes[0], episodes[-1]))
    reach = max(0.52 * (last - first), timedelta(hours=3))
    start = first + (last - first) / 2 - reach
    moods = retrace(episodes, [start + 2 * reach * i / (GRID - 1) for i in range(GRID)])

    sheet: Any = Figure(figsize=(10, 6.2), layout="constrained")
    sheet.get_layout_engine().set(w_pad=0.12, h_pad=0.1)
    FigureCanvasAgg(sheet)
    panels = sheet.subplots(2, 1, sharex=True)
    for axes, dimension, low, high in zip(
        panels, ("valence", "arousal"), ("unpleasant", "calm"), ("pleasant", "excited"), strict=True
    ):
        axes.set_title(dimension.capitalize(), loc="left")
        axes.set_ylim(-1.08, 1.08)
        axes.set_yticks([-1, 0, 1], [f"{low}  −1", "0", f"{high}  +1"])
        axes.axhline(0, color=PALE, linewidth=0.8, zorder=1)
        _draw_mood(axes, moods, dimension)
        _draw_turns(axes, episodes, dimension)
    panels[0].set_xlim(moods[0].at, moods[-1].at)
    locator = AutoDateLocator(tz=first.tzinfo)
    panels[1].xaxis.set_major_locator(locator)
    panels[1].xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=first.tzinfo))
    handles, labels = panels[0].get_legend_handles_labels()
    legend = sheet.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=len(labels),
        frameon=False,
        columnspacing=1.3,
        handletextpad=0.4,
    )
    for point in legend.legend_handles[2:]:
        point.set_sizes([50])
    return sheet


def _draw_mood(axes: Any, moods: list[MoodState], dimension: str) -> None:
    times = [state.at for state in moods]
    means = [getattr(state, dimension) for state in moods]
    margins = [Z95 * getattr(state, f"{dimension}_sd") for state in moods]
    lows, highs = ([m + way * margin for m, margin in zip(means, margins, strict=True)] for way in (-1, 1))
    axes.plot(times, means, color="white", linewidth=3.2, zorder=4)
    axes.plot(times, means, color=INK, linewidth=1.6, zorder=5, label="mood")
    axes.fill_between(times, lows, highs, color=INK, alpha=0.11, linewidth=0, zorder=2, label="95 % interval")


def _draw_turns(axes: Any, episodes: list[Episode], dimension: str) -> None:
    """Many points are smaller, and lie below the line instead of above it."""
    crowd = max(1.0, len(episodes) / 150)
    for emotion in dict.fromkeys((*EMOTIONS, *sorted(episode.affect.emotion for episode in episodes))):
        turns = [episode for episode in episodes if episode.affect.emotion == emotion]
        if turns:
            axes.scatter(
                [turn.at for turn in turns],
                [getattr(turn.affect, dimension) for turn in turns],
                s=[(20 + 50 * turn.affect.confidence) / crowd**0.5 for turn in turns],
                color=_colour(emotion),
                marker=MARKERS.get(emotion, "o"),
                edgecolors="white",
                linewidths=0.6,
                zorder=6 if crowd == 1 else 3,
                label=emotion,
            )
