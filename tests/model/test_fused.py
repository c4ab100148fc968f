import pytest
import torch
from torch import nn

from model.adapters import add_lora
from model.build import LANGUAGE_MODELS
from model.config import LoraSettings
from model.fused import FEW_ROWS, FusedLlama, Norm, Product, is_fusible


def llama(dtype):
    torch.manual_seed(0)
    return LANGUAGE_MODELS["tiny-llama"]().to(dtype).eval()


def layers(*widths):
    torch.manual_seed(0)
    return [nn.Linear(64, width, bias=False).bfloat16() for width in widths]


@torch.no_grad()
def test_a_product_of_few_rows_is_close_to_bf16_and_of_more_exactly_that():
    one, two = layers(48, 16)
    product, x = Product(one, two), torch.randn(FEW_ROWS + 1, 64).bfloat16()
    exact = torch.cat([one(x), two(x)], -1)
    assert torch.equal(product(x), exact)
    quick = product(x[:FEW_ROWS]).float()
    assert not torch.equal(quick, exact[:FEW_ROWS].float())
    assert (quick - exact[:FEW_ROWS].float()).norm() / exact[:FEW_ROWS].float().norm() < 0.02


@torch.no_grad()
def test_few_rows_come_to_the_same_whoever_is_beside_them():
    product, x = Product(*layers(48)), torch.randn(FEW_ROWS, 64).bfloat16()
    alone = torch.cat([product(row[None]) for row in x])
    assert torch.equal(product(x), alone)


def test_joined_weights_are_kept_once_and_unchanged():
    one, two = layers(48, 16)
    before = [one.weight.clone(), two.weight.clone()]
    product = Product(one, two)
    assert torch.equal(one.weight, before[0]) and torch.equal(two.weight, before[1])
    assert one.weight.data_ptr() == product.weight.data_ptr()
    assert two.weight.untyped_storage().data_ptr() == product.weight.untyped_storage().data_ptr()


@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
@torch.no_grad()
def test_a_norm_is_the_one_of_transformers(size):
    lm = llama(torch.float64)
    lm.model.norm.weight.copy_(torch.rand_like(lm.model.norm.weight))
    x = size * torch.randn(3, len(lm.model.norm.weight), dtype=torch.float64) + size
    torch.testing.assert_close(Norm(lm.model.norm)(x), lm.model.norm(x), atol=1e-5, rtol=1e-5)


def test_only_plain_llamas_on_a_cpu_are_fused():
    assert is_fusible(llama(torch.bfloat16))
    adapted = add_lora(llama(torch.float32), LoraSettings(rank=2))
    biased = llama(torch.float32)
    biased.model.layers[0].self_attn.q_proj = nn.Linear(32, 32)
    for other in (adapted, adapted.base_model.model, biased, nn.Linear(2, 2)):
        assert not is_fusible(other)
        with pytest.raises(ValueError, match="steps stay with transformers"):
            FusedLlama(other)
