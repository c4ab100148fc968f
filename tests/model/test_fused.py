from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from model.adapters import add_lora
from model.branches import BranchCache, run_together
from model.build import LANGUAGE_MODELS
from model.config import LoraSettings
from model.fused import FusedLlama, Norm, Product, is_fusible


def llama(dtype):
    torch.manual_seed(0)
    return LANGUAGE_MODELS["tiny-llama"]().to(dtype).eval()


def adapted(dtype, rank=4):
    """A tiny Llama inside of adapters that do something."""
    lm = add_lora(llama(dtype), LoraSettings(rank=rank)).get_base_model()
    for name, parameter in lm.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    return lm.eval()


def qwen(dtype):
    """A tiny Qwen2, whose queries, keys and values have biases."""
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=320, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)  # fmt: skip
    lm = Qwen2ForCausalLM(config).to(dtype).eval()
    for name, parameter in lm.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return lm


def layers(dtype=torch.bfloat16, **widths):
    torch.manual_seed(0)
    module = nn.Module()
    for name, width in widths.items():
        setattr(module, name, nn.Linear(64, width, bias=False).to(dtype))
    return module


@torch.no_grad()
def test_quick_products_are_close_to_bf16_and_others_are_that():
    module, x = layers(one=48, two=16), torch.randn(5, 64).bfloat16()
    expected = torch.cat([module.one(x), module.two(x)], -1)
    asked = Product(module, "one", "two")
    torch.testing.assert_close(asked(x, False), expected)
    quick = asked(x, True)
    assert not torch.equal(quick, expected)
    assert (quick - expected).float().norm() / expected.float().norm() < 0.02


@torch.no_grad()
def test_layers_of_other_types_are_never_of_few_bits():
    module, x = layers(torch.float32, one=48, two=16), torch.randn(1, 64)
    expected = torch.cat([module.one(x), module.two(x)], -1)
    asked = Product(module, "one", "two")
    for quick in (False, True):
        torch.testing.assert_close(asked(x, quick), expected)


@pytest.mark.parametrize("make", [llama, adapted, qwen])
@torch.no_grad()
def test_a_fused_model_reads_as_transformers_do_adapters_included(make):
    lm, ids = make(torch.float64), torch.tensor([[1, 2, 3, 40, 41, 300]])
    cache, embeddings = BranchCache(lm.model), lm.get_input_embeddings()(ids)[0]
    expected = lm(input_ids=ids).logits[0]
    own = deepcopy(lm)
    fused = FusedLlama(own)
    cache.append(0, embeddings)
    found = own.lm_head(run_together([cache], fused)[0][0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(RuntimeError, match="taken by its fused form"):  # and not nonsense
        own(input_ids=ids)


@torch.no_grad()
def test_passes_in_bf16_are_nearer_to_full_precision_than_transformers_are():
    """As they add up in float32."""
    config = LlamaConfig(vocab_size=320, hidden_size=128, intermediate_size=256, num_hidden_layers=12,
                         num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True)  # fmt: skip
    torch.manual_seed(0)
    lm, ids = LlamaForCausalLM(config).bfloat16().eval(), torch.randint(0, 320, (1, 60))
    exact = deepcopy(lm).double().model(input_ids=ids).last_hidden_state[0]
    plain = lm.model(input_ids=ids).last_hidden_state[0]
    cache = BranchCache(lm.model)
    cache.append(0, lm.get_input_embeddings()(ids)[0])
    found = run_together([cache], FusedLlama(lm))[0][0]
    assert found.dtype == torch.bfloat16
    assert (found - exact).norm() < 0.8 * (plain - exact).norm()


@pytest.mark.parametrize("size", [1e-3, 1.0, 100.0])
@torch.no_grad()
def test_a_norm_is_the_one_of_transformers(size):
    lm = llama(torch.float64)
    lm.model.norm.weight.copy_(torch.rand_like(lm.model.norm.weight))
    x = size * torch.randn(3, len(lm.model.norm.weight), dtype=torch.float64) + size
    torch.testing.assert_close(Norm(lm.model.norm)(x), lm.model.norm(x), atol=1e-5, rtol=1e-5)


def test_only_plain_llamas_and_qwens_are_fused():
    assert is_fusible(llama(torch.bfloat16))
    assert is_fusible(adapted(torch.float32))
    assert is_fusible(qwen(torch.bfloat16))
    biased = llama(torch.float32)
    biased.model.layers[0].self_attn.q_proj = nn.Linear(32, 32)
    for other in (add_lora(llama(torch.float32), LoraSettings(rank=2)), biased, nn.Linear(2, 2)):
        assert not is_fusible(other)
        with pytest.raises(ValueError, match="steps stay with transformers"):
            FusedLlama(other)


@torch.no_grad()
def test_biases_stay_where_steps_are_quick_and_bf16_is_packed():
    lm = qwen(torch.bfloat16)
    module, x = lm.model.layers[0].self_attn, torch.randn(3, 32).bfloat16()
    expected = torch.cat([module.q_proj(x), module.k_proj(x), module.v_proj(x)], -1)
    asked = Product(module, "q_proj", "k_proj", "v_proj")
    for quick in (False, True):
        torch.testing.assert_close(asked(x, quick), expected, atol=2e-2, rtol=2e-2)
