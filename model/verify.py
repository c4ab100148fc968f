"""Whether a checkpoint is what it says: every listed file by its hash, every tensor by its variant's name and shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from .build import BRANCHES, BRANCHES_FILE, check_adapters, compose, trained_state, variant_of
from .cache import MANIFEST, sha256
from .config import NanoEmoxConfig
from .manifest import CheckpointError, Manifest, open_manifest

ADAPTERS = "lora/adapter_model.safetensors"
LANGUAGE_MODEL = "model.safetensors"

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class FileCheck:
    """A row of `emox model verify`; `problem` is empty where all is well, `n_tensors` is 0 for other files."""

    name: str
    size_bytes: int
    sha256: str
    n_tensors: int
    problem: str


def verify(folder: Path) -> Manifest:
    """A checkpoint's manifest, if the checkpoint is whole and fits its variant.

    Raises:
        CheckpointError: what the first of its problems is.
    """
    for check in examine(folder):
        if check.problem:
            raise CheckpointError(f"{folder / check.name} {check.problem}")
    return open_manifest(folder)


def examine(folder: Path) -> list[FileCheck]:
    """Check every file of a checkpoint; no tensor is loaded.

    Raises:
        CheckpointError: as `open_manifest`, an unknown variant, or no weights at all.
    """
    manifest = open_manifest(folder)
    config = variant_of(manifest, folder)
    whole = LANGUAGE_MODEL if manifest.merged else ADAPTERS
    if not {BRANCHES_FILE, whole} & set(manifest.files) or (manifest.merged and whole not in manifest.files):
        raise CheckpointError(f"{folder} is no checkpoint: its manifest lists no {whole}")
    there = {name for name, digest in manifest.files.items() if _intact(folder / name, digest)}
    shapes = {name: _shapes(folder / name) for name in there if name.endswith(".safetensors")}
    expected = _expected(config, manifest.merged, set(shapes.get(BRANCHES_FILE) or {}))
    checks = []
    for name in manifest.files:
        if name not in there:
            problem = "is missing or differs from its manifest: fetch the checkpoint again"
        elif name.endswith(".safetensors"):
            problem = _difference(shapes[name], expected.get(name), config.variant)
        else:
            problem = _misfit(folder, name, config, expected)
        size = (folder / name).stat().st_size if (folder / name).is_file() else 0
        checks.append(FileCheck(name, size, manifest.files[name], len(shapes.get(name) or {}), problem))
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix in {".safetensors", ".json"} and name not in {MANIFEST, *manifest.files} and name[0] != ".":
            checks.append(FileCheck(name, path.stat().st_size, "", 0, "is not listed in the manifest: remove it"))
    return checks


def _expected(config: NanoEmoxConfig, merged: bool, branch_tensors: set[str]) -> dict[str, Shapes]:
    """Shapes by file; of the branches, those of which there are tensors."""
    with torch.device("meta"):
        branches = {name.split(".")[0] for name in branch_tensors} & set(BRANCHES)
        model = compose(config, branches=branches, lora=not merged)
    found: dict[str, Mapping[str, Tensor]] = {BRANCHES_FILE: trained_state(model)}
    if merged:
        found[LANGUAGE_MODEL] = dict(model.lm.named_parameters())  # tied ones once, as transformers writes them
    else:
        found[ADAPTERS] = get_peft_model_state_dict(model.lm, save_embedding_layers=False)
    return {file: {name: tuple(tensor.shape) for name, tensor in state.items()} for file, state in found.items()}


def _difference(found: Shapes | None, expected: Shapes | None, variant: str) -> str:
    if found is None:
        return "is not a safetensors file"
    if expected is None:
        return f"is no part of {variant}"
    odd = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if not odd:
        return ""
    told = f"{found.get(odd[0], 'missing')} where {variant} has {expected.get(odd[0], 'none')}"
    return f"does not fit its variant: {odd[0]} is {told}; {len(odd)} tensors differ"


def _misfit(folder: Path, name: str, config: NanoEmoxConfig, expected: Mapping[str, Shapes]) -> str:
    """Why a file of configuration does not go with the variant."""
    if name == "lora/adapter_config.json":
        try:
            check_adapters(folder / "lora", config)
        except CheckpointError as error:
            return f"does not fit its variant: {error}"
    if name == "config.json":
        try:
            settings = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            with torch.device("meta"):
                lm = AutoModelForCausalLM.from_config(settings, trust_remote_code=False)
        except (ValueError, OSError, KeyError, RuntimeError) as error:
            return f"is no configuration of a language model: {str(error).splitlines()[0]}"
        shapes = {name: tuple(parameter.shape) for name, parameter in lm.named_parameters()}
        return _difference(shapes, expected.get(LANGUAGE_MODEL), config.variant)
    return ""


def _intact(file: Path, digest: str) -> bool:
    return file.is_file() and sha256(file) == digest


def _shapes(file: Path) -> Shapes | None:
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    except SafetensorError:
        return None
