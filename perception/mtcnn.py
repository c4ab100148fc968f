"""MTCNN: three small networks find faces and their landmarks, each checking what the one before proposed.

Zhang et al. 2016, "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks"
(arXiv:1604.02878). The weights are those of facenet-pytorch 2.6.0 (MIT), and so is the arithmetic
(models/utils/detect_face.py): inside the cascade pixels count from one and a box includes its last pixel, and a
box half a pixel elsewhere would be another box three steps on. All images go through each network together.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

CELL_PX, STRIDE_PX = 12, 2
"""What one output of the first network sees, and how far apart two neighbours look."""
PYRAMID_FACTOR = 0.709
"""Each level of the image pyramid has half the area of the one before."""
THRESHOLDS = (0.6, 0.7, 0.7)
"""Least face probability to pass each network."""


@dataclass(frozen=True, eq=False)
class Detections:
    """K faces in N images, the most certain of each image first.

    `boxes` float32 (K, 4) are x0, y0, x1, y1 in pixels; `scores` (K,) in [0, 1]; `image` (K,) is which image each is
    in; `offsets` (K, 4) is how far the last network asked wants each edge moved, in box sizes; `landmarks` (K, 5, 2)
    are x, y of the two eyes, the nose and the two corners of the mouth, the one on the image's left first: zeros
    until the last network has spoken.
    """

    boxes: np.ndarray
    scores: np.ndarray
    image: np.ndarray
    offsets: np.ndarray
    landmarks: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, chosen: np.ndarray) -> Detections:
        """Keep those chosen by a mask or by indices."""
        return Detections(*(getattr(self, field.name)[chosen] for field in fields(self)))


class Mtcnn:
    """The cascade of the three networks.

    Args:
        weights_dir: holds pnet.pt, rnet.pt and onet.pt.
        min_face_px: smallest face looked for; half of it costs four times the time.

    Raises:
        FileNotFoundError: a weight file is missing.
    """

    def __init__(self, weights_dir: Path, *, min_face_px: int) -> None:
        self.min_face_px = min_face_px
        self.propose = _loaded(ProposalNet(), weights_dir / "pnet.pt")
        self.refine = _loaded(RefineNet(), weights_dir / "rnet.pt")
        self.output = _loaded(OutputNet(), weights_dir / "onet.pt")

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> Detections:
        """Find the faces of images, uint8 (N, H, W, 3) RGB."""
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float().contiguous()
        found = _squared(_moved(self._proposals(pixels), includes_end=False))
        found = _judged(pixels, found, self.refine, 24, THRESHOLDS[1])
        found = _squared(_moved(found.take(suppress_overlaps(found, 0.7))))
        found = _judged(pixels, found, self.output, 48, THRESHOLDS[2])
        found = _moved(found)
        return found.take(suppress_overlaps(found, 0.7, of_smaller=True))

    def _proposals(self, pixels: Tensor) -> Detections:
        """Slide the first network over every level of the image pyramid."""
        height, width = pixels.shape[2:]
        scale = CELL_PX / self.min_face_px
        levels = [_detections(boxes=np.zeros((0, 4)), scores=np.zeros(0), image=np.zeros(0, int))]
        while min(height, width) * scale >= CELL_PX:
            level = interpolate(pixels, (int(height * scale + 1), int(width * scale + 1)), mode="area")
            scores, offsets = (out.numpy() for out in self.propose(_normalised(level)))
            image, row, column = np.nonzero(scores >= THRESHOLDS[0])
            corner = STRIDE_PX * np.stack([column, row], axis=1)
            boxes = np.floor(np.concatenate([corner + 1, corner + CELL_PX], axis=1) / scale)
            found = _detections(boxes, scores[image, row, column], image, offsets[image, :, row, column])
            levels.append(found.take(suppress_overlaps(found, 0.5)))
            scale *= PYRAMID_FACTOR
        found = Detections(*(np.concatenate([getattr(level, f.name) for level in levels]) for f in fields(Detections)))
        return found.take(suppress_overlaps(found, 0.7))


class ProposalNet(nn.Module):
    """P-Net, fully convolutional: (N, 3, H, W) -> face probability (N, h, w) and box offsets (N, 4, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.pool1 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return self.conv4_1(x).softmax(1)[:, 1], self.conv4_2(x)


class RefineNet(nn.Module):
    """R-Net: crops (K, 3, 24, 24) -> face probability (K,) and box offsets (K, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.prelu4(self.dense4(_flat(self.prelu3(self.conv3(x)))))
        return self.dense5_1(x).softmax(1)[:, 1], self.dense5_2(x)


class OutputNet(nn.Module):
    """O-Net: crops (K, 3, 48, 48) -> face probability (K,), box offsets (K, 4) and landmarks (K, 10), x before y."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.pool3 = nn.MaxPool2d(2, 2, ceil_mode=True)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.pool1(self.prelu1(self.conv1(x)))
        x = self.pool2(self.prelu2(self.conv2(x)))
        x = self.pool3(self.prelu3(self.conv3(x)))
        x = self.prelu5(self.dense5(_flat(self.prelu4(self.conv4(x)))))
        return self.dense6_1(x).softmax(1)[:, 1], self.dense6_2(x), self.dense6_3(x)


def suppress_overlaps(found: Detections, threshold: float, *, of_smaller: bool = False) -> np.ndarray:
    """Choose the most certain of boxes that overlap, in each image apart (non-maximum suppression).

    Args:
        found: boxes of any number of images.
        threshold: largest overlap of two boxes that both stay.
        of_smaller: measure the overlap by the smaller box instead of by the union.

    Returns:
        Indices, int (M,), by image and then by falling score.
    """
    kept: list[int] = []
    for image in np.unique(found.image):
        order = np.flatnonzero(found.image == image)
        order = order[np.argsort(-found.scores[order], kind="stable")]
        boxes = found.boxes[order]
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
        corner0 = np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        corner1 = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
        shared = np.prod(np.maximum(corner1 - corner0, 0), axis=2)
        whole = np.minimum(area[:, None], area) if of_smaller else area[:, None] + area - shared
        covers = shared > threshold * whole
        alive = np.ones(len(order), bool)
        for i in range(len(order)):
            if alive[i]:
                alive[i + 1 :] &= ~covers[i, i + 1 :]
        kept += order[alive].tolist()
    return np.array(kept, int)


def _judged(pixels: Tensor, found: Detections, net: nn.Module, size: int, threshold: float) -> Detections:
    """Ask a network about the crop of every box; keep the boxes it takes for faces."""
    left_top = np.maximum(np.trunc(found.boxes[:, :2]), 1).astype(int) - 1
    right_bottom = np.minimum(np.trunc(found.boxes[:, 2:]), [pixels.shape[3], pixels.shape[2]]).astype(int)
    inside = (left_top < right_bottom).all(axis=1)
    found, left_top, right_bottom = found.take(inside), left_top[inside], right_bottom[inside]
    if not len(found):
        return found
    crops = [
        interpolate(pixels[image : image + 1, :, y0:y1, x0:x1], (size, size), mode="area")
        for image, (x0, y0), (x1, y1) in zip(found.image, left_top, right_bottom, strict=True)
    ]
    scores, offsets, *points = (out.numpy() for out in net(_normalised(torch.cat(crops))))
    found = replace(found, scores=scores, offsets=offsets)
    if points:
        box_size = (found.boxes[:, 2:] - found.boxes[:, :2] + 1)[:, None]
        landmarks = found.boxes[:, None, :2] - 1 + box_size * points[0].reshape(-1, 2, 5).transpose(0, 2, 1)
        found = replace(found, landmarks=landmarks)
    return found.take(scores > threshold)


def _detections(
    boxes: np.ndarray, scores: np.ndarray, image: np.ndarray, offsets: np.ndarray | None = None
) -> Detections:
    """Boxes that have no landmarks yet."""
    offsets = np.zeros((len(boxes), 4)) if offsets is None else offsets
    landmarks = np.zeros((len(boxes), 5, 2), np.float32)
    return Detections(boxes.astype(np.float32), scores.astype(np.float32), image, offsets.astype(np.float32), landmarks)


def _moved(found: Detections, *, includes_end: bool = True) -> Detections:
    size = found.boxes[:, 2:] - found.boxes[:, :2] + includes_end
    return replace(found, boxes=found.boxes + found.offsets * np.tile(size, 2))


def _squared(found: Detections) -> Detections:
    """Widen the shorter side of each box about its centre."""
    centre = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    half = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return replace(found, boxes=np.concatenate([centre - half, centre + half], axis=1))


def _normalised(pixels: Tensor) -> Tensor:
    return (pixels - 127.5) / 128


def _flat(x: Tensor) -> Tensor:
    return x.permute(0, 3, 2, 1).flatten(1)  # width first: the weights come from a framework with that order


Net = TypeVar("Net", bound=nn.Module)


def _loaded(net: Net, path: Path) -> Net:
    if not path.is_file():
        raise FileNotFoundError(f"no face finder weights at {path}; `emox doctor` says how to install them")
    net.load_state_dict(torch.load(path, weights_only=True, map_location="cpu"))
    return net.eval().requires_grad_(False)
