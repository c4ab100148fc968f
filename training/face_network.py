"""Train the embedded variant's face network on labelled faces: `python -m training.face_network --help`.

The paper's face encoder comes trained (FaceXFormer); ours for a CPU does not, so it learns FER2013's seven emotions
here, before the curriculum, and is frozen from then on like any encoder. A ResNet recipe (arXiv:1812.01187): SGD with
momentum, one warm-up and a cosine, label smoothing, and augmentation by flips, small rotations, scales and shifts,
contrast, and a hidden square (arXiv:1708.04552).
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.facial import CnnFacial, FaceNet, grey_faces
from model.types import EMOTIONS

from .files import save_tensors


@dataclass(frozen=True)
class Settings:
    """One run over `data`, a folder with FER2013's `train.zip` and `publictest.zip`, into the folder `out`."""

    data: Path
    out: Path
    epochs: int = 32
    batch: int = 96
    lr: float = 0.06
    weight_decay: float = 5e-4
    warmup: float = 0.1
    """Share of the steps."""
    smoothing: float = 0.1
    seed: int = 42


def read_faces(folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Grey faces uint8 (N, 1, 48, 48) and labels (N,) as indices of `EMOTIONS`.

    Raises:
        FileNotFoundError: the split's csv or zip is missing.
        ValueError: a label that is none of the seven.
    """
    table, pictures = folder / f"{split}.csv", folder / f"{split}.zip"
    for path in (table, pictures):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: name the folder that holds FER2013 with --data")
    with table.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    odd = {row["label"] for row in rows} - set(EMOTIONS)
    if odd:
        raise ValueError(f"{table} has the label {sorted(odd)[0]!r}, expected one of {', '.join(EMOTIONS)}")
    with zipfile.ZipFile(pictures) as archive:
        images = [np.asarray(Image.open(BytesIO(archive.read(row["file"]))).convert("L")) for row in rows]
    labels = torch.tensor([EMOTIONS.index(row["label"]) for row in rows])
    return torch.from_numpy(np.stack(images))[:, None], labels


def augment(faces: Tensor, draw: torch.Generator) -> Tensor:
    """Faces float (N, 1, S, S) in [0, 1], each flipped, turned, scaled, shifted, contrasted and partly hidden."""
    n, _, size, _ = faces.shape

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n).uniform_(low, high, generator=draw)

    angle, scale = uniform(-0.21, 0.21), uniform(0.88, 1.12)  # radians: 12 degrees
    flip = 1 - 2 * torch.randint(0, 2, (n,), generator=draw)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    rows = torch.stack([cos * flip, -sin, uniform(-0.16, 0.16), sin * flip, cos, uniform(-0.16, 0.16)], dim=1)
    grid = F.affine_grid(rows.view(n, 2, 3), list(faces.shape), align_corners=False)
    faces = F.grid_sample(faces, grid, padding_mode="reflection", align_corners=False)
    faces = faces.clamp(1e-3, 1) ** uniform(0.7, 1.4).view(n, 1, 1, 1)
    side = size // 4
    left, top = (torch.randint(0, size - side, (n, 1, 1), generator=draw) for _ in range(2))
    at = torch.arange(size)
    inside = ((at.view(1, 1, -1) - left) % size < side) & ((at.view(1, -1, 1) - top) % size < side)
    hidden = inside & (torch.rand(n, 1, 1, generator=draw) < 0.5)
    return torch.where(hidden[:, None], faces.mean(dim=(2, 3), keepdim=True), faces)


def batches(n: int, size: int, draw: torch.Generator) -> Iterator[Tensor]:
    """Indices of whole batches in a new random order."""
    order = torch.randperm(n, generator=draw)
    yield from order[: n - n % size].view(-1, size)


@torch.inference_mode()
def accuracy(net: nn.Module, classifier: nn.Module, faces: Tensor, labels: Tensor) -> float:
    """Share of faces whose most likely label is theirs."""
    net.eval()
    found = torch.cat([classifier(net(grey_faces(part / 255))).argmax(-1) for part in faces.split(256)])
    return (found == labels).float().mean().item()


def train(settings: Settings) -> None:
    """Train from random weights, or go on after the last whole epoch in `settings.out`."""
    torch.manual_seed(settings.seed)
    faces, labels = read_faces(settings.data, "train")
    unseen, unseen_labels = read_faces(settings.data, "publictest")
    net, classifier = FaceNet(), nn.Linear(CnnFacial().width, len(EMOTIONS))
    both = nn.ModuleDict({"net": net, "classifier": classifier})
    optimiser = torch.optim.SGD(both.parameters(), settings.lr, momentum=0.9, nesterov=True,
                                weight_decay=settings.weight_decay)  # fmt: skip
    n_steps = settings.epochs * (len(faces) // settings.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: one_cycle(step / n_steps, settings.warmup))
    done, curve = 0, []
    resume = settings.out / "resume.pt"
    if resume.is_file():
        state = torch.load(resume, weights_only=True)
        both.load_state_dict(state["both"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        done, curve = state["epoch"], state["curve"]
    for epoch in range(done + 1, settings.epochs + 1):
        started = time.monotonic()
        both.train()
        draw = torch.Generator().manual_seed(settings.seed * 1000 + epoch)
        total, n = 0.0, 0
        for index in batches(len(faces), settings.batch, draw):
            pixels = grey_faces(augment(faces[index] / 255, draw))
            with torch.autocast("cpu", torch.bfloat16):
                logits = classifier(net(pixels))
            loss = F.cross_entropy(logits.float(), labels[index], label_smoothing=settings.smoothing)
            if not math.isfinite(loss.item()):
                raise FloatingPointError(f"the loss became {loss.item()} in epoch {epoch}: lower --lr")
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            schedule.step()
            total, n = total + loss.item(), n + 1
        found = accuracy(net, classifier, unseen, unseen_labels)
        curve.append({"epoch": epoch, "loss": total / n, "accuracy": found})
        print(f"epoch {epoch}/{settings.epochs} loss {total / n:.3f} accuracy {found:.4f} "
              f"{time.monotonic() - started:.0f} s", flush=True)  # fmt: skip
        settings.out.mkdir(parents=True, exist_ok=True)
        save_tensors({f"net.{k}": v for k, v in net.state_dict().items()}, settings.out / "face_network.safetensors")
        (settings.out / "curve.json").write_text(json.dumps(curve))
        partial = resume.with_suffix(".new")
        torch.save({"both": both.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch, "curve": curve,
                    "schedule": schedule.state_dict()}, partial)  # fmt: skip
        partial.replace(resume)


def one_cycle(done: float, warmup: float) -> float:
    """Share of the learning rate after a share of the steps: linear up, cosine down to nothing."""
    if done < warmup:
        return (done + 1e-3) / warmup
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup)))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with FER2013's zips and csvs")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights; an unfinished run goes on")
    parser.add_argument("--epochs", type=int, default=Settings.epochs)
    parser.add_argument("--seed", type=int, default=Settings.seed)
    try:
        train(Settings(**vars(parser.parse_args())))
    except (ValueError, OSError) as error:
        parser.exit(2, f"{parser.prog}: {error}\n")


if __name__ == "__main__":
    main()
