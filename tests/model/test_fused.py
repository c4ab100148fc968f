import pytest
import torch
from torch import nn

from model.adapters import add_lora
from model.build import LANGUAGE_MODELS
from model.config import LoraSettings
from model.fused import FusedLlama, Norm, Products, is_fusible


def llama(dtype):
    torch.manual_seed(0)
    return LANGUAGE_MODELS["tiny-llama"]().to(dtype).eval()


def layers(dtype=torch.bfloat16, **widths):
    torch.manual_seed(0)
    return nn.ModuleDict({name: nn.Linear(64, width, bias=False) for name, width in widths.items()}).to(dtype)


def products(module):
    """Over all of its layers, which a module of transformers has as attributes."""
    for name, layer in module.items():
        setattr(module, name, layer)
    return Products(module, *module)


@torch.no_grad()
def test_quick_products_are_close_to_bf16_and_others_are_that():
    module, x = layers(one=48, two=16), torch.randn(5, 64).bfloat16()
    exact = [layer(x) for layer in module.values()]
    asked = products(module)
    for found, quick, expected in zip(asked(x, False), asked(x, True), exact, strict=True):
        torch.testing.assert_close(found, expected)
        assert not torch.equal(quick, expected)
        assert (quick - expected).float().norm() / expected.float().norm() < 0.02


@torch.no_grad()
def test_quick_rows_come_to_the_same_whoever_is_beside_them():
    asked, x = products(layers(one=48)), torch.randn(4, 64).bfloat16()
    assert torch.equal(asked(x, True)[0], torch.cat([asked(row[None], True)[0] for row in x]))


@torch.no_grad()
def test_layers_of_other_types_stay_as_they_are():
    module, x = layers(torch.float32, one=48, two=16), torch.randn(1, 64)
    exact = [layer(x) for layer in module.values()]
    for found, expected in zip(products(module)(x, True), exact, strict=True):
        assert torch.equal(found, expected)
    assert [type(layer) for layer in module.values()] == [nn.Linear, nn.Linear]


@torch.no_grad()
def test_a_fused_model_still_reads_as_before():
    lm, ids = llama(torch.bfloat16), torch.tensor([[1, 2, 3, 40, 41]])
    before = lm(input_ids=ids).logits
    FusedLlama(lm)
    torch.testing.assert_close(lm(input_ids=ids).logits, before)


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
