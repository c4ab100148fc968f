"""A run of the tiny variant on made-up clips: for tests, and as a program that a test can kill or start twice."""

import argparse
import time
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import nn

from model.build import nano_emox_tiny
from model.encoders.features import Features
from model.nano_emox import EncoderOutputs
from tests.model.tiny import tiny_processor
from training.config import Phase, RunConfig
from training.data import questions as q
from training.data.mixture import Mixture
from training.data.sample import Clip
from training.loop import train_phase

LABELS = ("happy", "sad", "angry", "fear")


def placed(asked, name, corpus, *, sound=False, pictures=False):
    """A sample with a clip that is nowhere but in `fetch`."""
    clip = Clip(Path(f"{name}.wav") if sound else None, Path(f"{name}.mp4") if pictures else None)
    return replace(asked, clip=clip, corpus=corpus, name=name)


CORPORA = {
    "voices": [placed(q.emotion("", label), label, "voices", sound=True) for label in LABELS],
    "faces": [placed(q.emotion("", label), label, "faces", pictures=True) for label in LABELS],
    "scenes": [placed(q.emotion("So.", label), label, "scenes", sound=True, pictures=True) for label in LABELS],
    "lines": [placed(q.intent(f"{label}!", label), label, "lines") for label in ("Leave", "Joke")],
}
MIXTURES = {
    "1.1": {"voices": 1.0},
    "1.2": {"faces": 1.0},
    "2": {"scenes": 0.7, "voices": 0.15, "faces": 0.15},
    "3": {"scenes": 0.5, "voices": 0.2, "faces": 0.1, "lines": 0.2},
}


def features(name, n_scales=3):
    """Always the same random features for a name."""
    draw = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    hidden, *scales = (torch.randn(1, 4, 16, generator=draw) for _ in range(1 + n_scales))
    return Features(hidden, tuple(scales), torch.ones(1, 4, dtype=torch.bool))


def fetch(drawn):
    sound, pictures = drawn.sample.clip.sound, drawn.sample.clip.pictures
    return EncoderOutputs(
        visual=features(f"frames of {pictures}") if pictures else None,
        acoustic=features(f"{sound}") if sound else None,
        facial=features(f"faces of {pictures}", 0) if pictures else None,
    )


def make_model(*, dropout=True):
    """The tiny variant; its language model has large weights, or it would say the same whatever it reads."""
    torch.manual_seed(0)
    model = nano_emox_tiny()
    with torch.no_grad():
        for name, parameter in model.lm.named_parameters():
            if parameter.ndim == 2 and "lora_" not in name:
                nn.init.normal_(parameter, std=0.25)
    for module in model.modules() if not dropout else ():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def make_config(out, steps=12, mixtures=MIXTURES, **settings):
    phases = {
        name: Phase(mixture, steps, lr=1e-2, min_lr=1e-3, batch=4, warmup=2) for name, mixture in mixtures.items()
    }
    defaults = {"portion": 3, "save_every": 5, "evaluate_every": 4, "log_every": 1}
    return RunConfig("nano_emox_tiny", Path("data"), Path(out), phases, **{**defaults, **settings})


def make_accelerator():
    """A new one; those of other tests may have left another precision."""
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=True)


def train(name, config, *, model=None, fetch=fetch, validation=CORPORA["scenes"], **options):
    """Train a phase into `phase-NAME` of the run's folder; the model and what the phase came to."""
    torch.set_num_threads(1)  # sums come out in one order, here and in a process of its own
    model = model or make_model()
    mixture = Mixture(CORPORA, config.phases[name].mixture, config.seed)
    folder = config.out / f"phase-{name}"
    done = train_phase(name, config, model, tiny_processor(), mixture, validation, fetch, folder,
                       accelerator=make_accelerator(), **options)  # fmt: skip
    return model, done


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("phase")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--pause-s", type=float, default=0.0)
    parser.add_argument("--no-dropout", action="store_true")
    given = parser.parse_args()
    train(
        given.phase,
        make_config(given.out, given.steps),
        model=make_model(dropout=not given.no_dropout),
        log=lambda entry: time.sleep(given.pause_s),
    )
