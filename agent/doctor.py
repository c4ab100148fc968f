"""What is installed and what is missing: `emox doctor`."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import asdict
from importlib import metadata
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from model.build import CheckpointError, embedded_checkpoint, read_manifest
from model.cache import cache_dir
from model.weights import status

from .connectors.opening import configured, slack_problem
from .settings import Settings

PACKAGES = ("torch", "transformers", "peft", "langgraph", "chromadb", "sentence-transformers")
EXTRAS = {
    "embedded": ("faster_whisper", "av", "soxr", "piper"),
    "voice": ("pipecat",),
    "coqui": ("TTS",),
    "chat": ("langchain_openai",),
    "serve": ("fastapi", "uvicorn"),
    "cluster": ("ray",),
    "discord": ("discord",),
    "slack": ("slack_bolt", "aiohttp"),
    "telegram": ("telegram",),
    "train": ("accelerate",),
}
NEEDED_EXTRA = "embedded"
FREE_SPACE_MB = 600


def examine(settings: Settings) -> dict[str, Any]:
    """Everything the report shows, as plain values; `missing` lists {what, fix} for what the agent needs."""
    import torch

    missing: list[dict[str, str]] = []
    weights = status()
    for row in weights:
        if not row.ready:
            missing.append({"what": f"weights {row.name} ({row.purpose})", "fix": row.fix})
    extras = {}
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        extras[extra] = "installed" if not absent else f"pip install 'emox[{extra}]'"
        if absent and extra == NEEDED_EXTRA:
            missing.append({"what": f"extra {extra} ({', '.join(absent)})", "fix": extras[extra]})
    for module in ("torchvision", "torchaudio"):
        if importlib.util.find_spec(module) is not None and torch.version.cuda is None:
            missing.append({"what": f"a CPU torch without {module} beside it", "fix": f"pip uninstall -y {module}"})
    platforms = sorted(configured(settings))
    for name in platforms:
        if extras[name] != "installed":
            missing.append({"what": f"extra {name}, as it has a token", "fix": extras[name]})
    if problem := slack_problem(settings):
        what, _, fix = problem.partition(": ")
        missing.append({"what": what, "fix": fix})
    folder = settings.checkpoint or embedded_checkpoint()
    checkpoint: dict[str, Any]
    try:
        checkpoint = {"folder": str(folder), **asdict(read_manifest(folder))}
        checkpoint.pop("scaling")
    except CheckpointError as error:
        checkpoint = {"folder": str(folder), "error": str(error)}
        missing.append({"what": str(error), "fix": "name a checkpoint with EMOX_CHECKPOINT, or reinstall emox"})
    home = settings.home
    existing = next(path for path in (home, *home.parents) if path.exists())
    if not os.access(existing, os.W_OK):
        missing.append({"what": f"a writable home: {home} is not", "fix": "set EMOX_HOME to a folder you own"})
    free_mb = shutil.disk_usage(existing).free // 2**20
    if free_mb < FREE_SPACE_MB:
        missing.append({"what": f"disk space: {free_mb} MB are free", "fix": f"free {FREE_SPACE_MB} MB"})
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "extras": extras,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {os.cpu_count()} cores",
        "home": str(home),
        "cache": str(cache_dir()),
        "consent": settings.consent.model_dump(),
        "platforms": platforms,
        "reply_model": settings.reply_model or "Nano-EmoX",
        "checkpoint": checkpoint,
        "weights": [asdict(row) for row in weights],
        "missing": missing,
    }


def show(report: dict[str, Any], console: Console) -> None:
    """Print the report for a person."""
    versions = ", ".join(f"{name} {version}" for name, version in report["packages"].items())
    console.print(f"Python {report['python']}, {versions}", soft_wrap=True)
    for name in ("device", "home", "cache", "reply_model"):
        console.print(f"[bold]{name}[/bold]  {escape(str(report[name]))}", soft_wrap=True)
    read = ", ".join(name for name, value in report["consent"].items() if value)
    console.print(f"[bold]consent[/bold]  {read or 'nothing'}   (change with `emox consent`)")
    console.print(f"[bold]platforms[/bold]  {', '.join(report['platforms']) or 'none'}   (see docs/chat.md)")
    checkpoint = report["checkpoint"]
    if "error" not in checkpoint:
        console.print(
            f"[bold]checkpoint[/bold]  {checkpoint['variant']} {checkpoint['version']}, {checkpoint['phase']}, reads "
            f"{', '.join(checkpoint['modalities'])}; {escape(checkpoint['licence'])}",
            soft_wrap=True,
        )
    table = Table(show_edge=False)
    for column in ("weight", "for", "licence", "from", "sha256", "ready"):
        table.add_column(column)
    for row in report["weights"]:
        table.add_row(
            row["name"], row["purpose"], row["licence"], row["origin"], row["sha256"], "yes" if row["ready"] else "no"
        )
    console.print(table)
    for extra, state in report["extras"].items():
        console.print(f"extra {extra}: {escape(state)}", soft_wrap=True)
    for item in report["missing"]:
        console.print(f"[red]missing[/red] {escape(item['what'])}\n        {escape(item['fix'])}", soft_wrap=True)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
