"""One run of the curriculum as a YAML file, which mirrors these dataclasses; unknown keys are refused."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from .freeze import TRAINED


class ConfigError(ValueError):
    """A configuration that cannot be used, said in one sentence."""


@dataclass(frozen=True)
class Phase:
    """One phase of the curriculum (section 3.1); what it trains is in freeze.py."""

    mixture: dict[str, float]
    """Ingredient -> weight; see data/mixture.py."""
    steps: int
    lr: float
    min_lr: float
    start: tuple[str, ...] = ()
    """Phases whose results it starts from; a later one wins where both trained a part."""
    batch: int = 32
    """Samples a step, over all processes."""
    warmup: int = 50
    """Steps in which the learning rate rises."""
    warm_up: int = 0
    """Steps in which new branches first learn to tell labels apart, without the language model; see warm_up.py."""
    flatten: float = 0.5
    """Labels are drawn by their frequency to this power."""
    keep: dict[str, float] = field(default_factory=dict)
    """Corpus -> fraction kept, for `mixture_rule: reference`."""
    mixture_rule: Literal["weights", "reference"] = "weights"
    schedule: Literal["cosine", "reference"] = "cosine"
    steps_per_epoch: int = 5000
    """Used by the reference's schedule alone, whose cosine is one epoch ahead (section 3.3)."""


@dataclass(frozen=True)
class RunConfig:
    """A whole run."""

    variant: str
    data: Path
    """Folder of the corpora."""
    out: Path
    """Folder of the run: a folder a phase, and the feature cache."""
    phases: dict[str, Phase]
    cache: Path | None = None
    """Folder of the feature cache; by default `features` in `out`."""
    face_network: Path | None = None
    """Weights from `training.face_network`, for variants with the small face network."""
    voice_network: Path | None = None
    """Weights from `training.voice_network`, for variants that hear by Whisper."""
    weights: dict[str, str] = field(default_factory=dict)
    """Part (`lm`, `visual`, `acoustic`, `facial`) -> folder or hub repository of its weights, instead of the variant's
    own; see model/published.py."""
    views: dict[str, int] = field(default_factory=dict)
    """Corpus -> augmented views of its sounds in the cache."""
    seed: int = 42
    portion: int = 8
    """Samples that go through the model together."""
    weight_decay: float = 0.05
    clip: float = 1.0
    """Largest norm of the gradient."""
    save_every: int = 50
    evaluate_every: int = 200
    evaluate_on: int = 160
    """Validation samples of each corpus."""
    log_every: int = 10


def load_config(path: Path, **overrides: Path | None) -> RunConfig:
    """Read a run's YAML; `overrides` that are not None replace its values.

    Raises:
        ConfigError: not readable, an unknown key, a missing one, or a phase that does not exist.
    """
    try:
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: name a run's YAML with --config") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(given, dict):
        raise ConfigError(f"{path} is not a table of settings")
    given |= {key: value for key, value in overrides.items() if value is not None}
    phases = given.get("phases") or {}
    if not isinstance(phases, dict):
        raise ConfigError(f"{path}: `phases` is not a table of phases")
    for name in map(str, phases):
        if name not in TRAINED:
            raise ConfigError(f"{path} names the phase {name!r}, expected some of {', '.join(TRAINED)}")
    given["phases"] = {str(name): _made(Phase, settings, f"{path}, phase {name}") for name, settings in phases.items()}
    config: RunConfig = _made(RunConfig, given, str(path))
    odd = set(config.weights) - {"lm", "visual", "acoustic", "facial"}
    if odd:
        raise ConfigError(f"{path}: `weights` names {min(odd)!r}, expected some of lm, visual, acoustic, facial")
    for name, phase in config.phases.items():
        for start in phase.start:
            if start not in config.phases:
                raise ConfigError(f"{path}: phase {name} starts from {start!r}, which is not one of its phases")
    return config


def as_table(config: RunConfig) -> dict[str, Any]:
    """The resolved configuration as plain values."""
    return {key: _plain(value) for key, value in asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value


def _made(kind: Any, given: Any, where: str) -> Any:
    """A dataclass from plain values, each checked against its annotation."""
    from pydantic import TypeAdapter, ValidationError  # a run that is made in code needs no checks

    if not isinstance(given, dict):
        raise ConfigError(f"{where} is not a table of settings")
    known = [each.name for each in fields(kind)]
    odd = [key for key in given if key not in known]
    if odd:
        raise ConfigError(f"{where}: {odd[0]!r} is not a setting; these are: {', '.join(known)}")
    try:
        return TypeAdapter(kind).validate_python({key: _expanded(value) for key, value in given.items()})
    except ValidationError as error:
        wrong = error.errors()[0]
        at, message = ".".join(map(str, wrong["loc"])), wrong["msg"]
        raise ConfigError(f"{where}: `{at}`: {message[0].lower()}{message[1:]}") from None


def _expanded(value: Any) -> Any:
    return os.path.expanduser(value) if isinstance(value, str) else value
