"""What requests need of the device, and how it serves many of them in one round (scheduler.py).

Encode   a turn is encoded, on a GPU beside what the language model does; with others it would be felt otherwise
Step     all answers that are being decoded take their next token (rows.py)
Pass     what waits in several caches is read in one pass (branches.py)
Sit      an answer gets a row, once one is free
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .branches import BranchCache, Passes, run_together
from .fused import FusedLlama
from .graphs import Graphs
from .nano_emox import NanoEmoX, SoftTokens
from .processor import Inputs
from .rows import Row, Rows


@dataclass(frozen=True)
class Pass:
    """A need: send all that waits in the cache through a forward pass; branch -> last hidden states (L, D)."""

    cache: BranchCache


@dataclass(frozen=True)
class Encode:
    """A need: what the encoders and the trained branches make of inputs (B = 1), as soft tokens."""

    inputs: Inputs


@dataclass(frozen=True)
class Sit:
    """A need: a row that goes on where the branch ends for up to `n_more` tokens, once one is free."""

    cache: BranchCache
    branch: int
    n_more: int


@dataclass(frozen=True)
class Step:
    """A need: put a token behind a row; the candidates for the next."""

    row: Row
    token: int


@dataclass(frozen=True)
class Room:
    """How much is done at once."""

    requests: int = 256
    """Beyond so many the model is busy."""
    rows: int = 16
    """Answers that are decoded together."""
    pass_tokens: int = 768
    """Tokens of a pass; what is longer goes alone."""
    prefix_tokens: int = 4096
    """Tokens of dialogues that are kept for their next turn; one is 23 kB of the default model's."""


ON_GPU = Room(rows=32, pass_tokens=8192, prefix_tokens=65536)


class Rounds:
    """Serves the needs of requests to one model, on its device.

    Args:
        row_slots: tokens that a row of an answer may have, prompt included.
        room: how much is done at once; by default what suits the device.
        fused: whether passes and steps are those of `FusedLlama`.
    """

    def __init__(
        self,
        model: NanoEmoX,
        row_slots: int,
        room: Room | None = None,
        *,
        fused: bool = False,
    ) -> None:
        self.device = model.lm.get_input_embeddings().weight.device
        on_gpu = self.device.type == "cuda"
        self.room = room or (ON_GPU if on_gpu else Room())
        self.llama = FusedLlama(model.lm) if fused else None
        self.rows = Rows(model.lm, self.room.rows, row_slots, self.llama)
        self._model = model
        self._aside = torch.cuda.Stream() if on_gpu else None
        together = partial(run_together, llama=self.llama)
        self._run_passes = Passes(model.lm.model, self.llama).run if on_gpu else together
        self._encoders = Graphs(self._encoded) if on_gpu and getattr(model.acoustic, "reads", "") != "speech" else None

    def serve(self, needs: Sequence[Any]) -> dict[int, Any]:
        """Results by index, of as many needs as one round serves; what is wrong with one alone is its result."""
        wanted = [number for number, need in enumerate(needs) if isinstance(need, Encode)][:1]
        encoded = {number: self._encode(needs[number].inputs) for number in wanted}
        results = self._step(needs) | self._pass(needs)
        for number, need in enumerate(needs):  # last: whatever fails above, no row is taken for nobody
            if isinstance(need, Sit) and self.rows.n_free:
                results[number] = self._seated(need)
        if self._aside is not None:
            torch.cuda.current_stream().wait_stream(self._aside)
        return results | encoded

    def _step(self, needs: Sequence[Any]) -> dict[int, Any]:
        steps = {need.row: number for number, need in enumerate(needs) if isinstance(need, Step)}
        found = self.rows.step({row: needs[number].token for row, number in steps.items()}) if steps else {}
        return {steps[row]: candidates for row, candidates in found.items()}

    def _pass(self, needs: Sequence[Any]) -> dict[int, Any]:
        asked: dict[BranchCache, list[int]] = {}
        n_tokens = 0
        for number, need in enumerate(needs):
            if isinstance(need, Pass):
                n = 0 if need.cache in asked else need.cache.n_waiting
                if not asked or n_tokens + n <= self.room.pass_tokens:
                    asked.setdefault(need.cache, []).append(number)
                    n_tokens += n
        states = zip(asked.values(), self._run_passes(list(asked)), strict=True)
        return {number: found for numbers, found in states for number in numbers}

    def _seated(self, need: Sit) -> Row | Exception:
        try:
            return self.rows.take(need.cache, need.branch, need.n_more)
        except ValueError as error:
            return error

    def _encode(self, inputs: Inputs) -> SoftTokens | Exception:
        """Encode a turn, on a GPU beside what the language model does meanwhile."""
        try:
            if self._aside is not None:  # pictures were resized on the device
                self._aside.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._aside):
                soft = self._soft(inputs)
            if self._aside is not None:
                for tokens in (*soft.tokens.values(), *(one for one in (soft.gates, soft.voice) if one is not None)):
                    tokens.record_stream(torch.cuda.current_stream())
            return soft
        except Exception as error:
            return error

    def _soft(self, inputs: Inputs) -> SoftTokens:
        pictures_and_sound = {"frames": inputs.frames, "faces": inputs.faces, "clips": inputs.clips}
        given = {name: one for name, one in pictures_and_sound.items() if one is not None}
        if self._encoders is None or not given:
            return self._model.soft_tokens(self._model.encode(inputs.to(self.device)))
        soft = self._encoders(*given.values(), **{name: int(name in given) for name in pictures_and_sound})
        gates = None if soft.gates is None else soft.gates.clone()
        return SoftTokens({slot: tokens.clone() for slot, tokens in soft.tokens.items()}, gates)

    def _encoded(self, *given: Tensor, **there: int) -> SoftTokens:
        """`_soft` without anything that is not on the device: tensors in order of those names that are there."""
        names = (name for name, is_there in there.items() if is_there)
        inputs = replace(Inputs(), **dict(zip(names, given, strict=True)))  # type: ignore[arg-type]  # by name
        return self._model.soft_tokens(self._model.encode(inputs))
