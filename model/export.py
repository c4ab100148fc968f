"""A checkpoint with its language model in one folder, which transformers opens without us."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from transformers import AutoTokenizer

from .build import BRANCHES_FILE, known, language_model, merged_language_model
from .cache import new_folder
from .device import on_device
from .manifest import CARD, CheckpointError, Manifest, write_manifest


@on_device
def export_merged(checkpoint: Path, folder: Path, sources: Mapping[str, str] | None = None) -> Manifest:
    """Fold a checkpoint's adapters into its language model, in bf16, and write both and the branches to a new folder.

    It is what `build.load` computes when it loads the checkpoint, so the outputs are the same.

    Args:
        checkpoint: what to export.
        folder: a new folder; it appears whole or not at all.
        sources: `lm` is where the language model comes from instead.

    Raises:
        CheckpointError: as `read_manifest`, or it is merged already.
        MissingWeights: the language model is not installed, or cannot be fetched.
        FileExistsError: the folder is there already.
    """
    manifest, config = known(checkpoint)
    if manifest.merged:
        raise CheckpointError(f"{checkpoint} is merged already: export it without --merged")
    lm_folder = language_model(config, sources)
    with new_folder(folder) as partial:
        merged_language_model(lm_folder, checkpoint, config).save_pretrained(partial)  # type: ignore[operator]
        tokenizer = AutoTokenizer.from_pretrained(lm_folder, local_files_only=True)
        tokenizer.save_pretrained(partial, save_jinja_files=False)
        if (checkpoint / BRANCHES_FILE).is_file():
            shutil.copyfile(checkpoint / BRANCHES_FILE, partial / BRANCHES_FILE)
        if (checkpoint / CARD).is_file():
            card = (checkpoint / CARD).read_text(encoding="utf-8")
            note = f"**Merged**: this folder holds the language model ({config.lm}) too, with the adapters folded in."
            (partial / CARD).write_text(f"{card.rstrip()}\n\n{note}\n", encoding="utf-8")
        return write_manifest(partial, replace(manifest, merged=True))
