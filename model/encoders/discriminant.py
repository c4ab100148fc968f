"""Fisher's linear discriminants: what a feature says of some classes, as calibrated log-probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FLOOR = -8.0
"""Least log-probability: a voice unlike any that was learnt from must not drown what else is known."""


class Discriminant(nn.Module):
    """Log-probabilities of `n_classes` from a feature of `width`; `fit` fills it, gradients never do.

    A class is a Gaussian, and all share one covariance, shrunk towards a sphere (Ledoit and Wolf 2004): with a thousand
    utterances of a few people and thousands of feature values, most directions tell who speaks or what is said.
    """

    shift: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, n_classes: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.register_buffer("weight", torch.zeros(n_classes, width))
        self.register_buffer("bias", torch.zeros(n_classes))

    def forward(self, feature: Tensor) -> Tensor:
        """(..., width) -> log-probabilities (..., n_classes), at least `FLOOR`."""
        return self.scores(feature).log_softmax(-1).clamp(min=FLOOR)

    def scores(self, feature: Tensor) -> Tensor:
        """(..., width) -> unnormalised log-probabilities (..., n_classes)."""
        return ((feature.float() - self.shift) * self.scale) @ self.weight.float().T + self.bias

    @torch.no_grad()
    def fit(self, features: Tensor, labels: Tensor, *, shrinkage: float, temperature: float = 1.0) -> None:
        """Fill it from features (N, width) float32 and labels (N,), every class of which occurs.

        Args:
            features: of all classes; a class counts the same however often it occurs.
            labels: indices of the classes.
            shrinkage: 0 takes the covariance as it is, 1 a sphere.
            temperature: divides the scores, which are too sure of themselves on people they were not fitted on.

        Raises:
            ValueError: a class has no feature.
        """
        n_classes, width = self.weight.shape
        counts = torch.bincount(labels, minlength=n_classes)
        if not counts.all():
            raise ValueError(f"class {int(counts.argmin())} has no sample, so there is nothing to tell it by")
        self.shift.copy_(features.mean(0))
        self.scale.copy_(1 / (features.std(0) + 1e-3))
        x = (features - self.shift) * self.scale
        means = torch.stack([x[labels == c].mean(0) for c in range(n_classes)])
        inside = x - means[labels]
        covariance = inside.T @ inside / len(x)
        sphere = covariance.diagonal().mean() * torch.eye(width)
        weight = torch.linalg.solve((1 - shrinkage) * covariance + shrinkage * sphere, means.T).T
        self.weight.copy_(weight / temperature)
        self.bias.copy_(-0.5 * (means * weight).sum(1) / temperature)
