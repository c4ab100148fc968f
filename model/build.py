"""Named variants: which parts they are made of, and how they are loaded and saved.

A variant is a function that builds the whole model with random weights (under `torch.device("meta")` without any).
`load` builds only what a checkpoint (manifest.py) was trained for, fills it strictly, and gives the model ready to be
asked.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPVisionConfig,
    HubertConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from .adapters import FaceAdapter, add_lora
from .cache import new_folder
from .config import CHATML, RELEASED, FaceConfig, FusionConfig, LoraSettings, NanoEmoxConfig, QFormerConfig
from .device import keep_few_arenas, keep_few_kernels, keep_memory_whole, on_device
from .encoders.acoustic import HubertAcoustic, WhisperAcoustic, chinese_hubert_large, whisper_base
from .encoders.facial import CnnFacial, SwinFacial, swin_base
from .encoders.visual import ClipVisual, MobileNetVisual, clip_vit_large_patch14, mobilenet_state
from .engine import LocalModel
from .fused import is_fusible
from .fusion import ExpertFusion
from .manifest import CheckpointError, Manifest, embedded_checkpoint, read_manifest, write_manifest
from .nano_emox import NanoEmoX
from .processor import Processor
from .published import load_published
from .qformer import QFormer
from .readings import Scaling
from .types import ModelCard
from .weights import locate, read_state, resolve

TINY_WIDTH = 32


def _tiny_lm() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=320, hidden_size=TINY_WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=4096, tie_word_embeddings=True, pad_token_id=0,
        )
    )  # fmt: skip


def _smollm2_135m() -> nn.Module:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, max_position_embeddings=8192, rms_norm_eps=1e-5, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 100_000.0}, bos_token_id=1, eos_token_id=2,
            pad_token_id=2,
        )
    )  # fmt: skip


def _qwen2_5_1_5b() -> nn.Module:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=151_936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
            num_key_value_heads=2, max_position_embeddings=32_768, rms_norm_eps=1e-6, tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0}, bos_token_id=151_643,
            eos_token_id=151_645,
        )
    )  # fmt: skip


def _tiny_clip() -> nn.Module:
    config = CLIPVisionConfig(hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2,
                              image_size=224, patch_size=56)  # fmt: skip
    return ClipVisual(config, scales=(1, 2, 4))


def _tiny_hubert() -> nn.Module:
    config = HubertConfig(hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
                          conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2)  # fmt: skip
    return HubertAcoustic(config, scales=(1, 2, 4))


VISUALS: dict[str, Callable[[], nn.Module]] = {
    "clip-vit-l14": lambda: ClipVisual(clip_vit_large_patch14()),
    "mobilenet-v2": MobileNetVisual,
    "tiny-clip": _tiny_clip,
}
ACOUSTICS: dict[str, Callable[[], nn.Module]] = {
    "hubert-large": lambda: HubertAcoustic(chinese_hubert_large()),
    "whisper-base": lambda: WhisperAcoustic(whisper_base()),
    "tiny-hubert": _tiny_hubert,
}
FACIALS: dict[str, Callable[[], nn.Module]] = {
    "swin-b": lambda: SwinFacial(swin_base()),
    "cnn": CnnFacial,
    "tiny-cnn": lambda: CnnFacial((4, 8, 16), blocks=1),
}
LANGUAGE_MODELS: dict[str, Callable[[], nn.Module]] = {
    "qwen2.5-1.5b": _qwen2_5_1_5b,
    "smollm2-135m": _smollm2_135m,
    "tiny-llama": _tiny_lm,
}

PACKAGED = {"smollm2-135m": "smollm2"}
"""Language models that a package ships: key of `LANGUAGE_MODELS` -> name of its weights."""

NANO_EMOX_2B = NanoEmoxConfig(
    "nano_emox_2b",
    "clip-vit-l14",
    "hubert-large",
    "swin-b",
    "qwen2.5-1.5b",
    RELEASED,
    sources={
        "lm": "Qwen/Qwen2.5-1.5B-Instruct",
        "visual": "openai/clip-vit-large-patch14",
        "acoustic": "TencentGameMate/chinese-hubert-large",
        "facial": "kartiknarayan/facexformer",
    },
)
NANO_EMOX_EMBEDDED = NanoEmoxConfig(
    "nano_emox_embedded",
    "mobilenet-v2",
    "whisper-base",
    "cnn",
    "smollm2-135m",
    CHATML,
    video=QFormerConfig(n_queries=4, width=256, n_heads=4, ffn_width=512, narrow=True),
    audio=QFormerConfig(n_queries=4, width=256, n_heads=4, ffn_width=512, n_positions=4, narrow=True, dropout=0.1),
    fusion=FusionConfig(width=224, n_heads=4, dropout=0.1),
    face=FaceConfig(adapter_width=512, dropout=0.3),  # it learns from stills, which have no order of frames
    lora=LoraSettings(dropout=0.0),
    fuses="faces",
    face_px=48,
    face_margin=0.0,  # the finder's boxes are 1.06 times as wide as the pictures of FER2013 (median of 253)
)
_TINY_QFORMER = QFormerConfig(n_queries=3, width=16, n_layers=2, n_heads=2, ffn_width=32, n_positions=8)
NANO_EMOX_TINY = NanoEmoxConfig(
    "nano_emox_tiny",
    "tiny-clip",
    "tiny-hubert",
    "tiny-cnn",
    "tiny-llama",
    RELEASED,
    video=_TINY_QFORMER,
    audio=_TINY_QFORMER,
    fusion=FusionConfig(width=16, n_heads=2),
    face=FaceConfig(width=16, n_queries=2, n_heads=2, adapter_width=16, time_embed=True),
    face_px=48,
)
VARIANTS = {config.variant: config for config in (NANO_EMOX_2B, NANO_EMOX_EMBEDDED, NANO_EMOX_TINY)}

VOICE = "acoustic.discriminants."
"""Where the voice network stands in a checkpoint."""

BRANCHES = ("video", "audio", "face", "fusion")
"""Parts that are trained besides LoRA, each a module of `NanoEmoX`."""
BRANCHES_FILE = "branches.safetensors"
"""Where a checkpoint keeps them."""


def nano_emox_2b() -> NanoEmoX:
    """The paper's model: CLIP ViT-L/14, HuBERT-large, FaceXFormer's Swin-B, Qwen2.5-1.5B with LoRA 16; 2.32 B."""
    return compose(NANO_EMOX_2B)


def nano_emox_embedded() -> NanoEmoX:
    """The default: MobileNetV2, Whisper base, a small face network, SmolLM2-135M with LoRA 16; for two CPU cores."""
    return compose(NANO_EMOX_EMBEDDED)


def nano_emox_tiny() -> NanoEmoX:
    """Every part in miniature with random weights, for tests."""
    return compose(NANO_EMOX_TINY)


def compose(
    config: NanoEmoxConfig, *, lm: nn.Module | None = None, branches: Collection[str] = BRANCHES, lora: bool = True
) -> NanoEmoX:
    """Put a variant together.

    Args:
        config: the variant.
        lm: a causal language model that is already loaded; by default a new one from the config.
        branches: which of `BRANCHES` to build; an encoder is built only where a branch reads it.
        lora: add low-rank adapters.
    """
    lm = LANGUAGE_MODELS[config.lm]() if lm is None else lm
    width = lm.get_input_embeddings().embedding_dim  # type: ignore[operator]
    fusion_reads = {"frames": "video", "faces": "face"}[config.fuses] if "fusion" in branches else ""
    visual = VISUALS[config.visual]() if "video" in {*branches, fusion_reads} else None
    acoustic = ACOUSTICS[config.acoustic]() if {"audio", "fusion"} & set(branches) else None
    facial = FACIALS[config.facial]() if "face" in {*branches, fusion_reads} else None
    built: dict[str, Any] = {}
    if "video" in branches and visual is not None:
        built["video"] = QFormer(visual.width, width, **asdict(config.video))  # type: ignore[arg-type]
    if "audio" in branches and acoustic is not None:
        built["audio"] = QFormer(acoustic.width, width, **asdict(config.audio))  # type: ignore[arg-type]
    if "face" in branches and facial is not None:
        built["face"] = FaceAdapter(facial.width, width, **asdict(config.face))  # type: ignore[arg-type]
    seen = visual if config.fuses == "frames" else facial
    if "fusion" in branches and acoustic is not None and seen is not None:
        built["fusion"] = ExpertFusion(acoustic.scale_widths, seen.scale_widths, width, **asdict(config.fusion))  # type: ignore[arg-type]
    if lora:
        lm = add_lora(lm, config.lora)
    return NanoEmoX(lm, visual=visual, acoustic=acoustic, facial=facial, fuses=config.fuses, **built)


@on_device
def load(
    lm_folder: Path,
    checkpoint: Path | None = None,
    *,
    device: str = "cpu",
    sources: Mapping[str, str] | None = None,
) -> LocalModel:
    """Load a checkpoint over its language model, ready to be asked; only what it was trained for is built.

    Args:
        lm_folder: local folder of the language model the checkpoint's variant is made of; a merged checkpoint brings
            its own.
        checkpoint: folder of the checkpoint; by default the embedded one.
        device: where it runs.
        sources: where weights of encoders come from instead, see `load_encoders`.

    Raises:
        CheckpointError: as `read_manifest`, or tensors that do not fit the variant.
    """
    keep_few_kernels()
    keep_few_arenas()
    checkpoint = checkpoint or embedded_checkpoint()
    manifest, config = known(checkpoint)
    lm_folder = checkpoint if manifest.merged else lm_folder
    lm = adapted_language_model(lm_folder, checkpoint, config)
    fused = is_fusible(_inner(lm))
    lm = _inner(lm) if fused else _merged(lm)
    file = checkpoint / BRANCHES_FILE
    state = load_file(file) if file.is_file() else {}
    model = compose(config, lm=lm, branches={name.split(".")[0] for name in state} & set(BRANCHES), lora=False)
    _fill(model, state, checkpoint)
    load_encoders(model, {**config.sources, **(sources or {})})
    tokenizer = AutoTokenizer.from_pretrained(lm_folder, local_files_only=True)
    processor = make_processor(tokenizer, config, config.max_tokens)
    card = ModelCard(manifest.variant, manifest.version, frozenset(manifest.modalities))
    scaling = {
        key: Scaling(*(tuple(s[k]) for k in ("labels", "weight", "bias"))) for key, s in manifest.scaling.items()
    }
    model = model.to(device)
    local = LocalModel(model, processor, card, scaling, fused=fused)
    keep_memory_whole()
    return local


def make_processor(tokenizer: Any, config: NanoEmoxConfig, max_tokens: int) -> Processor:
    """What turns a person's words, voice and face into a variant's inputs, with prompts of up to so many tokens."""
    return Processor(
        tokenizer, config.prompt, max_tokens=max_tokens, face_px=config.face_px, face_margin=config.face_margin
    )


def save(model: NanoEmoX, folder: Path, manifest: Manifest) -> Manifest:
    """Write a checkpoint; the folder appears whole or not at all.

    Raises:
        FileExistsError: the folder is there already.
    """
    with new_folder(folder) as partial:
        if hasattr(model.lm, "peft_config"):
            for adapter in model.lm.peft_config.values():
                adapter.base_model_name_or_path = VARIANTS[manifest.variant].lm  # not the folder it was loaded from
            model.lm.save_pretrained(partial / "lora", save_embedding_layers=False)  # else it asks the hub
            (partial / "lora" / "README.md").unlink(missing_ok=True)
        state = trained_state(model)
        if state:
            save_file(state, partial / BRANCHES_FILE)
        return write_manifest(partial, manifest)


def trained_state(model: NanoEmoX) -> dict[str, Tensor]:
    """What `BRANCHES_FILE` holds: the branches, and the face and voice networks where they are ours, in bf16.

    Vectors are small and stay as they are: means of features are a hundred times their deviation, which bf16 would not
    keep apart.
    """
    parts = {name: getattr(model, name) for name in BRANCHES if getattr(model, name) is not None}
    if isinstance(model.facial, CnnFacial):
        parts["facial"] = model.facial
    state = {f"{part}.{name}": tensor for part, module in parts.items() for name, tensor in module.state_dict().items()}
    if isinstance(model.acoustic, WhisperAcoustic):
        state |= {f"{VOICE}{name}": value for name, value in model.acoustic.discriminants.state_dict().items()}
    return {
        name: tensor.to(torch.bfloat16).contiguous() if tensor.ndim > 1 else tensor for name, tensor in state.items()
    }


def _fill(model: NanoEmoX, state: dict[str, Tensor], checkpoint: Path) -> None:
    """Load branch tensors strictly: each must be expected and none may be missing."""
    expected = trained_state(model)
    odd = sorted(set(state) ^ set(expected)) + [
        name for name in set(state) & set(expected) if state[name].shape != expected[name].shape
    ]
    if odd:
        raise CheckpointError(
            f"{checkpoint} does not fit its variant: {odd[0]} and {len(odd) - 1} other tensors differ"
        )
    model.load_state_dict(state, strict=False)  # the rest is frozen and loaded from its own source


def language_model(config: NanoEmoxConfig, sources: Mapping[str, str] | None = None) -> Path:
    """Folder of a variant's language model.

    Raises:
        MissingWeights: it is not installed, or cannot be fetched.
    """
    source = {**config.sources, **(sources or {})}.get("lm")
    return locate(PACKAGED[config.lm]) if source is None else resolve(source)


def checkpoints_language_model(checkpoint: Path | None = None, sources: Mapping[str, str] | None = None) -> Path:
    """Folder of the language model that a checkpoint was made over; by default the embedded checkpoint's.

    Raises:
        CheckpointError, MissingWeights: as `read_manifest` and `language_model`.
    """
    checkpoint = checkpoint or embedded_checkpoint()
    manifest, config = known(checkpoint)
    return checkpoint if manifest.merged else language_model(config, sources)


def load_encoders(model: NanoEmoX, sources: Mapping[str, str] | None = None) -> None:
    """Fill the frozen encoders from the packages that ship their weights, or from `sources`.

    Args:
        model: whose encoders are filled; those of the tiny variant stay random without a source.
        sources: part -> folder or hub repository, see `published.load_published`.

    Raises:
        WeightsError: weights are missing or do not fit.
    """
    if isinstance(model.visual, MobileNetVisual):
        model.visual.net.load_state_dict(mobilenet_state(locate("mobilenet-v2")))
    if isinstance(model.acoustic, WhisperAcoustic):
        model.acoustic.load_encoder(read_state(locate("whisper-base-encoder")))
    for part, source in (sources or {}).items():
        if part != "lm" and (encoder := getattr(model, part)) is not None:
            load_published(encoder, source)


def known(checkpoint: Path) -> tuple[Manifest, NanoEmoxConfig]:
    """A checkpoint's manifest, and the variant it is of."""
    manifest = read_manifest(checkpoint)
    return manifest, variant_of(manifest, checkpoint)


def variant_of(manifest: Manifest, checkpoint: Path) -> NanoEmoxConfig:
    """The variant that a checkpoint is of.

    Raises:
        CheckpointError: there is none of that name.
    """
    if manifest.variant not in VARIANTS:
        raise CheckpointError(f"{checkpoint} is for {manifest.variant}, which is none of {', '.join(VARIANTS)}")
    return VARIANTS[manifest.variant]


def merged_language_model(lm_folder: Path, checkpoint: Path, config: NanoEmoxConfig) -> nn.Module:
    """The language model in bf16, with a checkpoint's adapters, if any, folded in, so that they cost nothing."""
    return _merged(adapted_language_model(lm_folder, checkpoint, config))


def adapted_language_model(lm_folder: Path, checkpoint: Path, config: NanoEmoxConfig) -> nn.Module:
    """The language model in bf16, inside of a checkpoint's adapters, if it has any."""
    lm: nn.Module = AutoModelForCausalLM.from_pretrained(
        lm_folder, dtype=torch.bfloat16, local_files_only=True, use_safetensors=True, trust_remote_code=False
    )
    if not (checkpoint / "lora").is_dir():
        return lm
    check_adapters(checkpoint / "lora", config)
    return PeftModel.from_pretrained(lm, str(checkpoint / "lora"), low_cpu_mem_usage=True)  # type: ignore[arg-type]


def _inner(lm: nn.Module) -> nn.Module:
    """The language model itself, whose layers may have adapters."""
    return lm.get_base_model() if isinstance(lm, PeftModel) else lm


def _merged(lm: nn.Module) -> nn.Module:
    return lm.merge_and_unload() if isinstance(lm, PeftModel) else lm  # type: ignore[operator]


def check_adapters(folder: Path, config: NanoEmoxConfig) -> None:
    """Refuse low-rank adapters of another shape than the variant's.

    Raises:
        CheckpointError: rank or layers differ.
    """
    adapter = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if adapter.get("r") != config.lora.rank or set(adapter.get("target_modules", ())) != set(config.lora.targets):
        raise CheckpointError(
            f"{folder} holds LoRA of rank {adapter.get('r')}, {config.variant} has {config.lora.rank}"
        )
