"""An evaluation for people: the numbers as JSON, a page in Markdown, and its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(result: dict[str, Any], folder: Path) -> list[Path]:
    """Write `report.json`, `report.md` and the figures for which there are numbers; returns what was written.

    Args:
        result: from `evaluate.evaluate`.
        folder: made where it is not there; files of the same names are replaced.

    Raises:
        ImportError: matplotlib is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {"confusion.png": draw_confusion, "reliability.png": draw_reliability, "speakers.png": draw_speakers}
    pictures = []
    for name, draw in drawn.items():
        figure = draw(result)
        if figure is not None:
            figure.savefig(folder / name, dpi=120, bbox_inches="tight")
            pictures.append(name)
        else:
            (folder / name).unlink(missing_ok=True)  # of another benchmark, written here before
    write_bytes((json.dumps(result, ensure_ascii=False, indent=1) + "\n").encode(), folder / "report.json")
    write_bytes(page(result, pictures).encode(), folder / "report.md")
    return [folder / name for name in ("report.json", "report.md", *pictures)]


def page(result: dict[str, Any], pictures: list[str]) -> str:
    """The page: scores with their intervals, groups, what was skipped, figures."""
    lines = [
        f"# {result['bench']}, {result['split']}",
        "",
        f"Checkpoint `{result['checkpoint']}`, {result['n']} cases. Intervals are 95 % bootstrap intervals, resampled "
        f"by {result['resampled_by']}.",
    ]
    if result["note"]:
        lines += ["", f"Note: {result['note']}."]
    lines += ["", "| score | value | interval |", "|---|---:|---|"]
    for name, value in result["metrics"].items():
        lines.append(f"| {name} | {_number(value)} | {_interval(result['intervals'].get(name))} |")
    if "ece_if_calibrated" in result:
        chance = _number(result["ece_if_calibrated"])
        lines += ["", f"If every probability were right, an ece of {chance} would be measured with so many cases."]
    names = list(dict.fromkeys(name for group in result["groups"].values() for name in group if name != "intervals"))
    if names:
        lines += ["", "## Groups", "", "| | " + " | ".join(names) + " |", "|---" + "|---:" * len(names) + "|"]
        for group, values in result["groups"].items():
            lines.append(f"| {group} | " + " | ".join(_number(values.get(name)) for name in names) + " |")
    for name in pictures:
        title = Path(name).stem.capitalize()
        lines += ["", f"## {title}", "", f"![{title}]({name})"]
    if result["skipped"]:
        lines += ["", "## Skipped", "", "| why | cases | such as |", "|---|---:|---|"]
        for skip in result["skipped"]:
            lines.append(f"| {skip['why']} | {skip['n']} | {', '.join(skip['names'][:3])} |")
    return "\n".join(lines) + "\n"


def show(result: dict[str, Any], console: Console) -> None:
    """Print the scores as a table."""
    by = f", checkpoint {result['checkpoint']}" if result["checkpoint"] else ""
    console.print(f"{result['bench']} {result['split']}, {result['n']} cases{by}", markup=False, soft_wrap=True)
    table = Table(show_edge=False)
    for name in ("", "value", "95 % interval"):
        table.add_column(name, justify="right" if name else "left")
    for name, value in result["metrics"].items():
        table.add_row(name, _number(value), _interval(result["intervals"].get(name)))
    if "ece_if_calibrated" in result:
        table.add_row("ece if calibrated", _number(result["ece_if_calibrated"]), "")
    for group, values in result["groups"].items():
        for name in ("uar", "perplexity", "dist_2"):
            if name in values:
                bounds = values.get("intervals", {}).get(name)
                table.add_row(escape(f"{group}: {name}"), _number(values[name]), _interval(bounds))
    console.print(table)
    if n_skipped := sum(skip["n"] for skip in result["skipped"]):
        console.print(f"{n_skipped} skipped; --json and --report say which and why")


def draw_confusion(result: dict[str, Any]) -> Figure | None:
    """How often each class was taken for each; a row is a class as annotated, its shares sum to 1."""
    if "confusion" not in result:
        return None
    labels, counts = result["labels"], result["confusion"]
    size = 2.5 + 0.45 * len(labels)
    figure, axes = _axes(size, size)
    shares = [[count / max(1, sum(row)) for count in row] for row in counts]
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), [f"{label} ({sum(row)})" for label, row in zip(labels, counts, strict=True)])
    axes.set(xlabel="answered", ylabel="annotated")
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            if count:
                dark = shares[y][x] > 0.5
                axes.text(x, y, count, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    return figure


def draw_reliability(result: dict[str, Any]) -> Figure | None:
    """Accuracy over confidence; a calibrated model lies on the diagonal. The dots' area is the share of the cases."""
    if "reliability" not in result:
        return None
    figure, axes = _axes(4, 4)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1)
    confidence, accuracy, share = zip(*result["reliability"], strict=True)
    axes.scatter(confidence, accuracy, s=[600 * value for value in share])
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    return figure


def draw_speakers(result: dict[str, Any]) -> Figure | None:
    """Average recall of each speaker, with that of all."""
    scores = {
        name.removeprefix("speaker "): group["uar"]
        for name, group in result["groups"].items()
        if name.startswith("speaker ")
    }
    if not scores:
        return None
    figure, axes = _axes(max(4, 0.4 * len(scores) + 1.5), 3)
    axes.bar(range(len(scores)), list(scores.values()))
    axes.set_xticks(range(len(scores)), list(scores), rotation=90)
    axes.axhline(result["metrics"]["uar"], color="grey", linewidth=1)
    axes.set(ylim=(0, 1), xlabel="speaker", ylabel="average recall")
    return figure


def _axes(width_in: float, height_in: float) -> tuple[Figure, Any]:
    """A figure without a window: this is matplotlib's Agg canvas, which needs no display."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("a report needs matplotlib; install emox[train]") from None
    figure = Figure(figsize=(width_in, height_in))
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def _number(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return f"{bounds[0]:.3f} to {bounds[1]:.3f}" if bounds else ""
