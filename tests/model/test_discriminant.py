"""Discriminants: what they find, how sure they are, and what they refuse."""

import pytest
import torch

from model.encoders.discriminant import FLOOR, Discriminant


def clouds(n=300, width=12, seed=0):
    """Three classes apart in the first two values; the last value varies a thousand times more than they differ."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 3
    x = torch.randn(n, width, generator=draw)
    x[:, :2] += torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])[labels]
    x[:, -1] *= 1000
    return x, labels


def accuracy(discriminant, x, labels):
    return (discriminant(x).argmax(-1) == labels).float().mean().item()


def test_classes_are_told_apart_on_samples_that_were_not_fitted():
    discriminant = Discriminant(12, 3)
    discriminant.fit(*clouds(), shrinkage=0.1)
    assert accuracy(discriminant, *clouds(seed=1)) > 0.93


def test_with_more_values_than_samples_shrinkage_keeps_them_apart():
    x, labels = clouds(n=210, width=200)
    recalls = []
    for shrinkage in (1e-4, 0.5):
        discriminant = Discriminant(200, 3)
        discriminant.fit(x, labels, shrinkage=shrinkage)
        assert accuracy(discriminant, x, labels) > 0.95
        recalls.append(accuracy(discriminant, *clouds(n=600, width=200, seed=1)))
    assert recalls[1] > recalls[0] + 0.1


def test_a_class_counts_the_same_however_often_it_occurs():
    x, labels = clouds(n=3000)
    kept = (labels != 0) | (torch.arange(len(x)) % 30 == 0)
    discriminant = Discriminant(12, 3)
    discriminant.fit(x[kept], labels[kept], shrinkage=0.1)
    other, gold = clouds(n=3000, seed=1)
    assert accuracy(discriminant, other[gold == 0], gold[gold == 0]) > 0.9


def test_probabilities_sum_to_one_and_temperature_makes_them_less_sure():
    x, labels = clouds()
    sure, unsure = Discriminant(12, 3), Discriminant(12, 3)
    sure.fit(x, labels, shrinkage=0.1)
    unsure.fit(x, labels, shrinkage=0.1, temperature=5.0)
    assert torch.equal(sure(x).argmax(-1), unsure(x).argmax(-1))
    assert sure(x).exp().max(-1).values.mean() > unsure(x).exp().max(-1).values.mean() + 0.1
    torch.testing.assert_close(unsure(x).exp().sum(-1), torch.ones(len(x)), atol=1e-3, rtol=0)
    assert sure(x).min() >= FLOOR


def test_an_unlikely_voice_cannot_outweigh_everything():
    discriminant = Discriminant(12, 3)
    discriminant.fit(*clouds(), shrinkage=0.1)
    assert discriminant(torch.full((1, 12), 1e5)).min().item() == FLOOR


def test_a_class_without_samples_is_refused():
    x, labels = clouds()
    with pytest.raises(ValueError, match="class 3 has no sample"):
        Discriminant(12, 4).fit(x, labels, shrinkage=0.1)


def test_nothing_of_it_is_trained_by_gradients():
    assert not list(Discriminant(12, 3).parameters())
