"""One thread for all of torch's work: one device, one queue.

OpenMP keeps a team of threads for every thread that computes, and stops spinning between steps as soon as all teams
together outnumber the cores; every step of decoding then waits for sleeping threads and takes twice as long (measured:
`understand` 1.8 s instead of 0.85 s on two cores). With one computing thread there is one team.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_LARGE = 2**22
"""Bytes from which on an allocation is mapped by itself."""
_NAME = "device"
_THREAD = ThreadPoolExecutor(1, _NAME)


def on_device(function: Callable[P, T]) -> Callable[P, T]:
    """Run a function on the device's thread, after what is queued there, and wait for its result."""

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        if is_device_thread():
            return function(*args, **kwargs)
        return _THREAD.submit(function, *args, **kwargs).result()

    return run


def is_device_thread() -> bool:
    """Whether the caller is work of the device itself, which must not wait for more of it."""
    return threading.current_thread().name.startswith(_NAME)


def queue_on_device(function: Callable[[], object]) -> None:
    """Run a function on the device's thread after what is queued there, and do not wait for it."""
    _THREAD.submit(function)


def keep_few_kernels() -> None:
    """Let oneDNN keep 64 kernels in place of 1,024, before it first computes; so says its environment, unless set.

    It makes one for every number of rows that a layer meets, of half a megabyte, and torch's own cache keeps it beside
    oneDNN's. Prompts are of all lengths, so a process would grow by a gigabyte; the layers of one pass have few.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    os.environ.setdefault("LRU_CACHE_CAPACITY", "64")


def keep_few_arenas() -> None:
    """Let glibc allocate from two arenas, before there are more: by default there are eight for each core, each keeps
    what its threads freed, and every turn has threads of its own. Elsewhere than on glibc nothing happens.
    """
    if libc := _glibc():
        m_arena_max = -8
        libc.mallopt(m_arena_max, 2)


def keep_memory_whole() -> None:
    """Let glibc map what is large, such as keys and values, by itself, and give back what was freed until now.

    Once something large was freed, glibc takes the next of its size from between all else, where holes then stay. While
    weights are read and packed, which frees much and soon, that is a quarter faster. Elsewhere nothing happens.
    """
    if libc := _glibc():
        m_mmap_threshold = -3
        libc.mallopt(m_mmap_threshold, _LARGE)
        libc.malloc_trim(0)


def keep_freed_memory() -> None:
    """Let glibc keep what tensors free instead of giving it back to the system after each operation.

    Otherwise every large result is mapped and zeroed anew, page by page, which costs a training step on a CPU a third
    of its time. Elsewhere than on glibc nothing happens.
    """
    if libc := _glibc():
        m_trim_threshold, m_top_pad, m_mmap_max = -1, -2, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
        libc.mallopt(m_top_pad, 2**28)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "mallopt") else None
