"""The published corpora by short name. Each reader takes the corpus' folder and a split and gives a `Reading`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .published_benchmarks import cmu_mosei, cmu_mosi, iemocap4, meld, mer2023, mer2024, sims, simsv2
from .published_dialogue import avamerg, mintrec, mintrec2
from .published_emotions import caer, caer_ferv39k, crema_d, ferv39k, m3ed
from .published_files import Reading
from .published_reasons import emer, mer_caption_plus, merr_fine, ov_merd

Reader = Callable[[Path, str], Reading]
"""(folder of the corpus, split) -> its samples and what was skipped.

Raises CorpusError where a folder or file is missing, there is no such split, or a label is none of the corpus'.
"""

PUBLISHED: dict[str, Reader] = {
    "crema_d": crema_d,
    "m3ed": m3ed,
    "caer": caer,
    "ferv39k": ferv39k,
    "caer_ferv39k": caer_ferv39k,
    "mintrec": mintrec,
    "mintrec2": mintrec2,
    "mer_caption_plus": mer_caption_plus,
    "merr_fine": merr_fine,
    "avamerg": avamerg,
    "emer": emer,
    "ov_merd": ov_merd,
    "mer2023": mer2023,
    "mer2024": mer2024,
    "meld": meld,
    "iemocap4": iemocap4,
    "cmu_mosi": cmu_mosi,
    "cmu_mosei": cmu_mosei,
    "sims": sims,
    "simsv2": simsv2,
}
