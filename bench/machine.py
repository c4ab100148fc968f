"""What a bench ran on, and how long something took."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that `action` takes, and what it returns."""
    started = time.perf_counter()
    value = action()
    return time.perf_counter() - started, value


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
    }
