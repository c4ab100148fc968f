"""A run of the curriculum: model, data, cache and phases put together from one configuration.

out/config.yaml         the resolved configuration; a changed one is refused
out/environment.json    versions and machine
out/data.json           corpora: samples by split, what was skipped, a hash of what was read
out/features/           the feature cache
out/phase-1.1/          last and best weights, log.jsonl, curves.png, TensorBoard events
"""

from __future__ import annotations

import hashlib
import json
import platform
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.adapters import add_lora
from model.build import VARIANTS, compose, language_model, load_encoders, make_processor
from model.config import NanoEmoxConfig
from model.device import keep_freed_memory
from model.encoders.acoustic import WhisperAcoustic
from model.encoders.facial import CnnFacial
from model.nano_emox import EncoderOutputs, NanoEmoX
from model.processor import Processor

from .config import RunConfig, as_table
from .curves import draw_curves
from .data.features import PARTS, FeatureCache, encoder_ids, outputs
from .data.mixture import PAIRED, Drawn, Mixture
from .data.sample import Sample
from .data.sources import read_corpus
from .files import write_bytes
from .freeze import TRAINED
from .loop import Progressed, TrainingError, train_phase
from .prepare import Report, prepare
from .voice_network import FITTED_ON, folds, load_voice

MAX_TOKENS = 160
"""Of a training prompt; older lines of a dialogue are dropped."""

ATTENTION = {"cuda": "sdpa", "cpu": "eager"}
"""On a CPU the backward pass of fused attention takes five times as long on short rows as that of eager attention."""


def train(names: Iterable[str], config: RunConfig, *, lm: Path | None = None) -> list[Progressed]:
    """Train phases one after the other, each from the phases it starts from.

    Raises:
        TrainingError, FloatingPointError, CorpusError, MissingFeatures: see where they are defined.
    """
    keep_freed_memory()
    # Without `cpu` processes on CPUs would not find each other, and each would train alone.
    accelerator = Accelerator(mixed_precision="bf16", cpu=not torch.cuda.is_available())
    if accelerator.is_main_process:
        open_run(config, accelerator.num_processes)
    accelerator.wait_for_everyone()
    corpora = read_corpora(config, "train")
    unseen = read_corpora(config, "valid")
    if accelerator.is_main_process:
        _write_json(config.out / "data.json", _told(corpora, unseen))
    results = []
    for name in names:
        folder = config.out / f"phase-{name}"
        model, processor = build(config, lm)
        start_from(model, name, config)
        ready(model, name, accelerator.device)
        phase = config.phases[name]
        wanted = _corpora_of(phase.mixture)
        mixture = Mixture(
            corpora, phase.mixture, config.seed, views=config.views, flatten=phase.flatten, keep=phase.keep,
            even=phase.mixture_rule == "reference",
        )  # fmt: skip
        tasks = {ingredient.partition("/")[::2] for ingredient in phase.mixture}
        validation = [
            sample
            for corpus in sorted(wanted)
            for sample in _some(unseen[corpus], tasks, corpus, config)
        ]  # fmt: skip
        fetch = fetcher(config, model, processor)
        with _Events(folder, accelerator) as log:
            done = train_phase(name, config, model, processor, mixture, validation, fetch, folder,
                               accelerator=accelerator, log=log)  # fmt: skip
        if accelerator.is_main_process:
            draw_curves(folder / "log.jsonl", folder / "curves.png")
        accelerator.wait_for_everyone()  # the next phase starts from what the main process has saved
        results.append(done)
    return results


def prepare_features(config: RunConfig, *, lm: Path | None = None) -> Report:
    """Encode every clip of the run's corpora once; goes on after a stop."""
    model, processor = build(config, lm)
    samples = [s for split in ("train", "valid") for found in read_corpora(config, split).values() for s in found]
    samples = [sample for sample in samples if sample.clip.sound or sample.clip.pictures]
    parts = [part for part in PARTS if getattr(model, part) is not None]
    at = left_out(config)
    by_fold: dict[int, list[Sample]] = {}
    for sample in samples:
        by_fold.setdefault(at.get(sample.clip.sound, 0), []).append(sample)
    reports = []
    for fold, some in sorted(by_fold.items()):
        if isinstance(model.acoustic, WhisperAcoustic) and config.voice_network is not None:
            load_voice(model.acoustic, config.voice_network, fold)
        cache = FeatureCache(cache_folder(config))
        reports.append(prepare(some, model, processor, cache, views=config.views, parts=parts))
    return Report(
        sum(report.encoded for report in reports),
        sum(report.found for report in reports),
        tuple(skip for report in reports for skip in report.skipped),
        tuple(path for report in reports for path in report.damaged),
    )


def build(config: RunConfig, lm_folder: Path | None = None) -> tuple[NanoEmoX, Processor]:
    """The variant with its frozen weights; branches and adapters are new."""
    if config.variant not in VARIANTS:
        raise TrainingError(f"there is no variant {config.variant!r}: choose from {', '.join(VARIANTS)}")
    variant = VARIANTS[config.variant]
    torch.manual_seed(config.seed)
    folder = lm_folder or language_model(variant, config.weights)
    attention = ATTENTION["cuda" if torch.cuda.is_available() else "cpu"]
    lm: nn.Module = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, local_files_only=True, attn_implementation=attention
    )
    model = assemble(variant, lm)
    load_encoders(model, {**variant.sources, **config.weights})
    if isinstance(model.facial, CnnFacial):
        if config.face_network is None:
            raise TrainingError("`face_network` is missing in the configuration: train it with training.face_network")
        model.facial.load_state_dict(load_file(config.face_network))
    if isinstance(model.acoustic, WhisperAcoustic):
        if config.voice_network is None:
            raise TrainingError("`voice_network` is missing in the configuration: fit it with training.voice_network")
        load_voice(model.acoustic, config.voice_network)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return model, make_processor(tokenizer, variant, MAX_TOKENS)


def assemble(variant: NanoEmoxConfig, lm: nn.Module) -> NanoEmoX:
    """What is trained, around a language model: new branches and adapters, and encoders that are yet to be filled."""
    branches = {"audio", "face", "fusion"} | ({"video"} if variant.fuses == "frames" else set())
    return compose(variant, lm=add_lora(lm, variant.lora), branches=branches, lora=False)


def ready(model: NanoEmoX, name: str, device: torch.device) -> None:
    """Put a model where a phase trains it; adapters that the phase does not train need no passes of their own."""
    if "lora" not in TRAINED[name]:
        model.lm = model.lm.merge_and_unload()
    model.to(device)


def start_from(model: NanoEmoX, name: str, config: RunConfig) -> None:
    """Load what the phases before have trained; a later one wins.

    Raises:
        TrainingError: one of them is not there, or was not finished.
    """
    for start in config.phases[name].start:
        path = config.out / f"phase-{start}" / "last.safetensors"
        if not path.is_file():
            raise TrainingError(
                f"phase {name} starts from phase {start}, which is missing: run `emox train {start}` first"
            )
        state = load_file(path)
        if int(state["step"]) < config.phases[start].steps:
            raise TrainingError(
                f"phase {start} stopped after step {int(state['step'])}: run `emox train {start}` again"
            )
        trained = {
            key: value for key, value in state.items() if key not in {"step", "best"} and "optimiser." not in key
        }
        shapes = {key: value.shape for key, value in model.state_dict().items()}
        odd = [key for key, value in trained.items() if shapes.get(key) != value.shape]
        if odd:
            raise TrainingError(f"{path} is of another variant: its {odd[0]} has no place in {config.variant}")
        model.load_state_dict(trained, strict=False)


def fetcher(config: RunConfig, model: NanoEmoX, processor: Processor) -> Callable[[Drawn], EncoderOutputs]:
    """From the feature cache; a voice that the voice network was fitted on comes from a fold that has not heard it."""
    cache = FeatureCache(cache_folder(config))
    at = left_out(config)
    encoders = {}
    for fold in sorted({*at.values(), 0}, reverse=True):  # the last one, of everybody, stays
        if isinstance(model.acoustic, WhisperAcoustic) and config.voice_network is not None:
            load_voice(model.acoustic, config.voice_network, fold)
        encoders[fold] = encoder_ids(model, processor)
        encoders[fold].pop("visual", None) if model.video is None and model.fuses == "faces" else None

    def fetch(drawn: Drawn) -> EncoderOutputs:
        clip = drawn.sample.clip
        return outputs(clip, cache, encoders[at.get(clip.sound, 0)], drawn.view)

    return fetch


def left_out(config: RunConfig) -> dict[Path | None, int]:
    """Sound of a training sample -> the fold of the voice network that has not heard its speaker."""
    if config.voice_network is None:
        return {}
    heard = [s for name in FITTED_ON for s in read_corpus(name, config.data, "train").samples]
    return dict(folds(heard).items())


def cache_folder(config: RunConfig) -> Path:
    """Where the features are."""
    return config.cache or config.out / "features"


def read_corpora(config: RunConfig, split: str) -> dict[str, list[Sample]]:
    """Samples of every corpus that a phase names."""
    names = sorted({name for phase in config.phases.values() for name in _corpora_of(phase.mixture)})
    return {name: read_corpus(name, config.data, split).samples for name in names}


def open_run(config: RunConfig, n_processes: int = 1) -> None:
    """Make the run's folder, or check that it belongs to this configuration; phases not yet begun may still change.

    Raises:
        TrainingError: it belongs to another.
    """
    path = config.out / "config.yaml"
    table = as_table(config)
    if path.is_file():
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
        changed = sorted(key for key in {*before, *table} - {"phases"} if before.get(key) != table.get(key))
        for name in table["phases"]:
            if (config.out / f"phase-{name}").is_dir() and before["phases"].get(name) != table["phases"][name]:
                changed.append(f"phases, {name}")
        if changed:
            raise TrainingError(
                f"{config.out} holds a run with another `{changed[0]}`: name a new folder with --out, or take the "
                f"change back"
            )
    write_bytes(yaml.safe_dump(table, sort_keys=False).encode(), path)
    _write_json(config.out / "environment.json", {
        "python": platform.python_version(), "torch": torch.__version__, "system": platform.platform(),
        "processes": n_processes, "threads": torch.get_num_threads(), "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    })  # fmt: skip


def _corpora_of(mixture: Iterable[str]) -> set[str]:
    """Corpora that ingredients name; what is put together draws from all corpora of the run."""
    return {name.partition("/")[0] for name in mixture if not set(name.split("+")) <= set(PAIRED)}


def _some(samples: list[Sample], tasks: set[tuple[str, str]], corpus: str, config: RunConfig) -> list[Sample]:
    """A fixed choice of validation samples of the tasks that the mixture draws."""
    if (corpus, "") not in tasks:
        samples = [sample for sample in samples if (corpus, sample.task) in tasks]
    return random.Random(f"{config.seed}/{corpus}").sample(samples, min(len(samples), config.evaluate_on))


def _told(corpora: dict[str, list[Sample]], unseen: dict[str, list[Sample]]) -> dict[str, Any]:
    def told(samples: list[Sample]) -> dict[str, Any]:
        return {"samples": len(samples), "sha256": hashlib.sha256(repr(samples).encode()).hexdigest()}

    return {name: {"train": told(corpora[name]), "valid": told(unseen[name])} for name in corpora}


def _write_json(path: Path, facts: dict[str, Any]) -> None:
    write_bytes((json.dumps(facts, indent=1) + "\n").encode(), path)


class _Events:
    """TensorBoard events in the phase's folder, by the main process, where tensorboard is installed."""

    def __init__(self, folder: Path, accelerator: Accelerator) -> None:
        self._writer = None
        if accelerator.is_main_process:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self._writer = SummaryWriter(str(folder / "events"))

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        return self._log

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def _log(self, figures: dict[str, Any]) -> None:
        for key, value in figures.items():
            if self._writer is not None and key != "step":
                self._writer.add_scalar(key, value, figures["step"])
