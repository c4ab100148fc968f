"""How feelings over time are drawn, in a terminal and in a file."""

import os
import stat
import sys
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from memory.mood import track
from memory.timeline import COLOURS, MARKERS, figure, terminal
from memory.types import Episode
from model.types import CIRCUMPLEX, EMOTIONS, Affect

NOON = datetime(2026, 6, 18, 12, tzinfo=UTC)


def felt(hours_ago: float, emotion: str = "sad", text: str = "It rained.", valence: float | None = None) -> Episode:
    usual, arousal = CIRCUMPLEX.get(emotion, (0.0, 0.0))
    valence = usual if valence is None else valence
    affect = Affect(valence, emotion, {label: 1 / len(EMOTIONS) for label in EMOTIONS}, valence, arousal, 0.8)
    return Episode(f"{hours_ago}", "ann", "thread", NOON - timedelta(hours=hours_ago), text, "reply", affect)


def lines_of(table: Table, width: int = 100, colour: bool = False) -> list[str]:
    out = StringIO()
    Console(file=out, width=width, force_terminal=colour, color_system="truecolor" if colour else None).print(table)
    return out.getvalue().splitlines()


def test_a_turn_is_a_row_of_time_feeling_bars_and_words():
    head, older, newer = lines_of(terminal([felt(0, "happy", "We won!"), felt(25.5, "sad")], zone=UTC))
    assert [head.split()[i] for i in (0, 1, -1)] == ["when", "felt", "said"]
    assert older.startswith("2026-06-17 10:30 ● sad ")
    assert newer.startswith("2026-06-18 12:00 ● happy ")
    assert newer.rstrip().endswith("We won!")


@pytest.mark.parametrize(
    ("valence", "bar"),
    [
        (-1.0, "━━━━┼────"),
        (-0.6, "─╺━━┼────"),
        (0.0, "────┼────"),
        (0.4, "────┼━╸──"),
        (1.0, "────┼━━━━"),
        (7.0, "────┼━━━━"),
    ],
)
def test_a_bar_goes_from_the_middle_to_the_value(valence: float, bar: str):
    row = lines_of(terminal([felt(0, valence=valence)], width=60, zone=UTC))[1]
    assert row.split()[4] == bar


def test_a_diamond_shows_the_mood_of_that_time():
    episodes = [felt(48, valence=-1.0), felt(0, valence=1.0)]
    bars = [line.split()[4] for line in lines_of(terminal(episodes, track(episodes), zone=UTC))[1:]]
    middle = len(bars[0]) // 2
    assert bars[0].index("◆") < middle < bars[1].index("◆")
    assert "◆" not in "".join(lines_of(terminal(episodes, track(episodes[1:]), zone=UTC))[1])  # nothing was known yet


def test_many_turns_become_a_row_per_day():
    episodes = [felt(hour, "happy" if hour % 3 else "angry", f"turn {hour}") for hour in range(60)]
    _, *days = lines_of(terminal(episodes, rows=12, zone=UTC))
    assert [day[:14] for day in days] == ["2026-06-16 ×23", "2026-06-17 ×24", "2026-06-18 ×13"]
    assert "● happy ● angry" in days[0]


def test_the_oldest_days_give_way():
    table = terminal([felt(24 * day) for day in range(10)], rows=4, zone=UTC)
    *rows, note = lines_of(table)
    assert len(rows) == 5
    assert rows[-1].startswith("2026-06-18")
    assert "6 earlier days are not shown" in note


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_a_row_fits_the_width(width: int):
    episodes = [felt(hour, "surprise", "wörds " * 80 + "日本語" * 20) for hour in range(5)]
    rows = lines_of(terminal(episodes, track(episodes), width, zone=UTC), width=400)
    assert len(rows) == 6
    assert max(len(row) for row in rows) <= width


def test_what_was_said_cannot_change_the_terminal():
    said = "[bold]not markup[/bold]\x1b[2J\nsecond\tline\x07"
    rows = lines_of(terminal([felt(0, "happy", said)], width=120, zone=UTC), width=120)
    assert len(rows) == 2
    assert "[bold]not markup[/bold] [2J second line" in rows[1]
    assert "\x1b" not in rows[1]


def test_an_unknown_emotion_is_drawn_like_neutral():
    row = lines_of(terminal([felt(0, "wistful")], zone=UTC), colour=True)[1]
    assert "wistful" in row
    assert "140;140;140" in row  # the grey of neutral


def test_no_episodes_are_an_empty_table():
    assert "no episode yet" in lines_of(terminal([]))[-1]


def test_every_emotion_has_a_colour_and_a_shape_of_its_own():
    assert set(COLOURS) == set(MARKERS) == set(EMOTIONS)
    assert len(set(COLOURS.values())) == len(set(MARKERS.values())) == len(EMOTIONS)


def test_a_png_is_written_for_its_owner_only(tmp_path: Path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "mood.PNG"
    figure([felt(hour, EMOTIONS[hour % 7]) for hour in range(0, 90, 9)], path, zone=UTC)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["mood.PNG"]


def test_an_svg_is_the_same_each_time_and_tells_nothing_of_what_was_said(tmp_path: Path):
    pytest.importorskip("matplotlib")
    episodes = [felt(2, "sad", "My secret"), felt(1, "wistful", "My secret")]
    figure(episodes, tmp_path / "a.svg", zone=UTC)
    figure(episodes[::-1], tmp_path / "b.svg", zone=UTC)
    drawing = (tmp_path / "a.svg").read_text()
    assert drawing == (tmp_path / "b.svg").read_text()
    assert "</svg>" in drawing
    assert "secret" not in drawing


def test_a_figure_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("matplotlib")
    path = tmp_path / "mood.svg"
    path.write_text("old")

    def full(*paths: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"):
        figure([felt(0)], path)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["mood.svg"]


def test_another_format_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"written as \.png or \.svg, got 'mood\.pdf': change its suffix"):
        figure([felt(0)], tmp_path / "mood.pdf")


def test_nothing_to_draw_is_said_so(tmp_path: Path):
    with pytest.raises(ValueError, match="nothing to draw"):
        figure([], tmp_path / "mood.png")


def test_a_missing_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'emox\[draw\]'"):
        figure([felt(0)], tmp_path / "mood.png")
