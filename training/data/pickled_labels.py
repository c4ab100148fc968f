"""Labels in `.npz` files, where NumPy pickled a dictionary: read without running anything a pickle may ask for.

Unpickling as such calls whatever functions the file names. Here it may name NumPy's scalars and arrays only, and even
for these stand-ins are called, so that no code of NumPy is given a state that a stranger wrote.
"""

from __future__ import annotations

import io
import pickle
import re
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np

from .sample import CorpusError

Labels = dict[str, dict[str, Any]]
"""Clip name -> its fields, such as {"emo": "happy"} or {"val": -1.2}."""


def read_labels(path: Path, key: str) -> Labels:
    """One dictionary of a label file, as `np.savez(path, key=dictionary)` wrote it.

    NumPy's numbers and strings become Python's, arrays become lists.

    Raises:
        CorpusError: no such file or key, or the file holds anything but dictionaries, lists, strings and numbers.
    """
    if not path.is_file():
        raise CorpusError(f"{path} is missing: it should hold the corpus' labels")
    try:
        with ZipFile(path) as archive:
            keys = [name.removesuffix(".npy") for name in archive.namelist()]
            if key not in keys:
                raise CorpusError(f"{path} holds no {key}; it holds: {', '.join(keys)}")
            data = archive.read(f"{key}.npy")
    except BadZipFile:
        raise CorpusError(f"{path} is not an .npz file, or only a part of one") from None
    try:
        labels = _dictionary(data)
    except Exception as error:  # what a damaged pickle raises depends on where it is damaged
        raise CorpusError(f"{path}: {key} cannot be read as labels: {error}") from None
    if not isinstance(labels, dict) or not all(isinstance(f, dict) for f in labels.values()):
        raise CorpusError(f"{path}: {key} is not a dictionary from clips to their labels")
    return {
        str(name): {k: v.values if isinstance(v, _Array) else v for k, v in fields.items()}
        for name, fields in labels.items()
    }


def _dictionary(data: bytes) -> Any:
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("it is in a format of NumPy that no dictionary is written in")
    shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    if shape != () or dtype.kind != "O":
        raise ValueError(f"it is an array {shape} of {dtype}, not a dictionary")
    array = _Unpickler(stream).load()
    if not isinstance(array, _Array) or len(array.values) != 1:
        raise ValueError("it is not one dictionary")
    return array.values[0]


class _Dtype:
    """Stands in for `numpy.dtype`."""

    def __init__(self, code: str, *_: bool) -> None:
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]

    def values(self, raw: bytes) -> list[Any]:
        if not re.fullmatch(r"[biufU]\d+", self.code) or self.order not in "<>=|":
            raise ValueError(f"values of the kind {self.code} are not labels")
        if self.code == "U0":
            return [""]
        found: list[Any] = np.frombuffer(raw, self.order + self.code).tolist()
        return found


class _Array:
    """Stands in for `numpy.ndarray`; keeps the values only."""

    values: list[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, _, dtype, _, content = state
        self.values = content if isinstance(content, list) else dtype.values(content)


def _array(*_: Any) -> _Array:
    return _Array()


def _scalar(dtype: _Dtype, raw: bytes) -> Any:
    (value,) = dtype.values(raw)
    return value


_STAND_INS = {
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): _Array,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "scalar"): _scalar,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which labels do not need, so it was refused; get it from its publisher"
            )
        return _STAND_INS[module, name]
