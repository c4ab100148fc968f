"""Q-Formers beyond the paper's: features narrowed once, standardised."""

import torch

from model.encoders.features import Features
from model.qformer import QFormer, Standardise


def test_standardised_features_have_no_mean_and_one_deviation():
    features = torch.randn(500, 3) * torch.tensor([1.0, 200.0, 0.1]) + torch.tensor([0.0, 900.0, -2.0])
    layer = Standardise(3)
    layer.start_at(features)
    torch.testing.assert_close(layer(features).mean(0), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(layer(features).std(0), torch.ones(3), atol=2e-2, rtol=0)


def test_a_narrow_branch_learns_where_its_features_lie():
    torch.manual_seed(0)
    branch = QFormer(12, 8, n_queries=2, width=4, n_heads=2, ffn_width=8, n_positions=8, narrow=True)
    hidden = torch.randn(3, 8, 12)
    tokens = branch(Features(hidden, (), torch.ones(3, 8, dtype=torch.bool)))
    assert tokens.shape == (3, 2, 8)
    tokens.sum().backward()
    assert branch.narrow[0].shift.grad.abs().sum() > 0
    assert branch.narrow[0].scale.grad.abs().sum() > 0
