"""CUDA graphs: a thousand small kernels launched as one, where the host could not launch them in time."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class _Captured(Generic[T]):
    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, ...]
    result: T


_SIDES: list[torch.cuda.Stream] = []


def side_by_side(*functions: Callable[[], T]) -> list[T]:
    """What the functions return; while a graph is captured each has a stream of its own, so that their small kernels
    run at the same time.
    """
    if not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing()):
        return [function() for function in functions]
    while len(_SIDES) < len(functions):
        _SIDES.append(torch.cuda.Stream())
    now, sides, results = torch.cuda.current_stream(), _SIDES[: len(functions)], []
    for side, function in zip(sides, functions, strict=True):
        side.wait_stream(now)
        with torch.cuda.stream(side):
            results.append(function())
    for side in sides:
        now.wait_stream(side)
    return results


class Graphs(Generic[T]):
    """A function of tensors on a GPU as graphs, one for each combination of shapes, captured when it is first met.

    The function must do the same for every content of its tensors, copy nothing from the host, and may be run several
    times over the same tensors before it counts. What it returns is overwritten by the next call.
    """

    def __init__(self, function: Callable[..., T]) -> None:
        self._function = function
        self._captured: dict[Any, _Captured[T] | None] = {}

    def __call__(self, *given: Tensor, **sizes: int) -> T:
        """`given` may lie on the host; `sizes` are numbers that the function gets as they are."""
        key = (*((one.shape, one.dtype) for one in given), *sizes.items())
        if key not in self._captured:
            self._captured[key] = self._capture(given, sizes)
        captured = self._captured[key]
        if captured is None:
            return self._function(*(one.cuda() for one in given), **sizes)
        for mine, one in zip(captured.given, given, strict=True):
            mine.copy_(one, non_blocking=True)
        captured.graph.replay()
        return captured.result

    def _capture(self, given: tuple[Tensor, ...], sizes: dict[str, int]) -> _Captured[T] | None:
        mine = tuple(one.to("cuda", copy=True) for one in given)
        aside, now = torch.cuda.Stream(), torch.cuda.current_stream()
        aside.wait_stream(now)
        with torch.cuda.stream(aside):
            for _ in range(2):
                self._function(*mine, **sizes)
        now.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                result = self._function(*mine, **sizes)
        except RuntimeError as error:
            warnings.warn(f"a part of the model runs without a CUDA graph, and slower: {error}", stacklevel=2)
            torch.cuda.synchronize()
            return None
        return _Captured(graph, mine, result)
