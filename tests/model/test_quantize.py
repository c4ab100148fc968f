import pytest
import torch

from model.quantize import FEW_ROWS, DecodingLinear, speed_up_decoding


def layer():
    torch.manual_seed(0)
    return torch.nn.Linear(64, 48, bias=False).to(torch.bfloat16)


@torch.no_grad()
def test_a_step_of_few_rows_is_close_to_bf16():
    linear, x = layer(), torch.randn(FEW_ROWS, 1, 64).bfloat16()
    exact, quick = linear(x).float(), DecodingLinear(linear.weight.data)(x).float()
    assert quick.shape == exact.shape
    assert not torch.equal(quick, exact)
    assert (quick - exact).norm() / exact.norm() < 0.02


@torch.no_grad()
@pytest.mark.parametrize("shape", [(FEW_ROWS + 1, 1, 64), (1, 2, 64), (1, 64)])
def test_steps_of_many_rows_passes_and_scores_are_exactly_bf16(shape):
    linear, x = layer(), torch.randn(shape).bfloat16()
    assert torch.equal(DecodingLinear(linear.weight.data)(x), linear(x))


def test_every_bf16_layer_without_bias_is_replaced_and_weights_are_shared():
    net = torch.nn.Sequential(layer(), torch.nn.Linear(48, 4).bfloat16(), torch.nn.Linear(4, 4, bias=False))
    weight = net[0].weight.data
    speed_up_decoding(net)
    assert [type(module).__name__ for module in net] == ["DecodingLinear", "Linear", "Linear"]
    assert net[0].weight.data_ptr() == weight.data_ptr()
