import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from model.few_bits import Adapted, EightBits, FourBits, Shortlist, came_in_four_bits, few_bits, folded


def q4_1(n, k):
    """A weight as llama.cpp's Q4_1 gives it back, in bf16."""
    step, least = torch.rand(n, k // 32, 1) / 50, -torch.rand(n, k // 32, 1) / 5
    codes = torch.randint(0, 16, (n, k // 32, 32))
    codes[..., 0], codes[..., 1] = 0, 15  # the least and the greatest, from which it is made, occur
    return (least + step * codes).view(n, k).bfloat16()


def layer(weight):
    made = nn.Linear(*reversed(weight.shape), bias=False).bfloat16()
    made.weight.data = weight
    return made


def inside_adapters(*layers):
    """The layers inside of adapters that do something."""
    module = nn.Module()
    names = [f"layer{number}" for number in range(len(layers))]
    for name, one in zip(names, layers, strict=True):
        setattr(module, name, one)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=names)
    wrapped = get_peft_model(module, config).base_model.model
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.02)
    return [getattr(wrapped, name) for name in names]


def distance(found, expected):
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    with torch.no_grad():
        yield


def test_what_came_in_four_bits_is_kept_as_it_came():
    weight, x = q4_1(48, 96), torch.randn(3, 96).bfloat16()
    assert came_in_four_bits([layer(weight), layer(q4_1(16, 96))])
    assert distance(FourBits(weight)(x), x.double() @ weight.double().T) < 0.005
    other = torch.randn(48, 96).bfloat16() / 10
    assert not came_in_four_bits([layer(weight), layer(other)])
    assert distance(FourBits(other)(x), x.double() @ other.double().T) > 0.05


def test_eight_bits_are_nearly_exact():
    weight, x = torch.randn(48, 96).bfloat16() / 10, torch.randn(3, 96).bfloat16()
    assert distance(EightBits(weight)(x), x.double() @ weight.double().T) < 0.01


def test_odd_sizes_have_no_groups():
    for n, k in ((16, 40), (100, 32)):
        assert not came_in_four_bits([layer(torch.zeros(n, k).bfloat16())])
    with pytest.raises(ValueError, match="no groups"):
        FourBits(torch.zeros(15, 32).bfloat16())


@pytest.mark.parametrize("n_adapted", [0, 1, 2])
def test_adapters_stand_beside_what_came_in_four_bits(n_adapted):
    plain = [layer(q4_1(48, 96)), layer(q4_1(16, 96))]
    layers = [*(inside_adapters(*plain[:n_adapted]) if n_adapted else ()), *plain[n_adapted:]]
    x = torch.randn(2, 96).bfloat16()
    expected = torch.cat([one(x) for one in layers], -1)
    assert came_in_four_bits(layers)
    assert distance(Adapted(layers)(x), expected) < 0.01
    assert distance(x @ torch.cat([folded(one) for one in layers]).T, expected) < 0.01
    if n_adapted:
        assert distance(FourBits(torch.cat([one.weight for one in plain]))(x), expected) > 0.05
        assert distance(FourBits(torch.cat([folded(one) for one in layers]))(x), expected) > 0.02


@pytest.mark.parametrize("kind", [EightBits, FourBits, lambda weight: Adapted(inside_adapters(layer(weight)))])
def test_rows_come_to_the_same_whoever_is_beside_them(kind):
    asked, x = kind(q4_1(64, 96)), torch.randn(4, 96).bfloat16()
    assert torch.equal(asked(x), torch.cat([asked(row[None]) for row in x]))


def test_a_short_list_holds_the_likeliest_with_their_logits():
    weight, states = torch.randn(4096, 64).bfloat16(), torch.randn(3, 64).bfloat16()
    assert Shortlist.shortens(weight)
    tokens, logits = Shortlist(weight)(states, 64)
    assert 64 <= len(tokens) < 1024
    exact = states.float() @ weight.float().T
    for row in range(3):
        mine = logits[row].isfinite()
        assert mine.sum() >= 64
        torch.testing.assert_close(logits[row][mine], exact[row][tokens[mine]], atol=0.2, rtol=0.02)
        assert set(exact[row].topk(16).indices.tolist()) <= set(tokens[mine].tolist())


def test_short_lists_are_the_same_whoever_is_beside_them():
    asked, states = Shortlist(torch.randn(4096, 64).bfloat16()), torch.randn(3, 64).bfloat16()
    tokens, logits = asked(states, 64)
    for row in range(3):
        alone, own = asked(states[row : row + 1], 64)
        mine = logits[row].isfinite()
        assert torch.equal(tokens[mine], alone)
        torch.testing.assert_close(logits[row][mine], own[0], atol=0.2, rtol=0.02)


def test_other_heads_are_not_shortened():
    for weight in (torch.zeros(4096, 64), torch.zeros(4000, 64).bfloat16(), torch.zeros(4096, 40).bfloat16()):
        assert not Shortlist.shortens(weight)


def test_where_four_bits_are_a_plain_loop_eight_are_taken(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert isinstance(few_bits([layer(q4_1(48, 96))]), EightBits)
    assert not Shortlist.shortens(torch.zeros(4096, 64).bfloat16())
    monkeypatch.undo()
    assert isinstance(few_bits([layer(q4_1(48, 96))]), Adapted)
    assert few_bits([layer(torch.zeros(16, 32))]) is None
