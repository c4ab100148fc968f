"""SwinFacial against the head as FaceXFormer computes it, its checkpoint names, and the small CNN."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from transformers import SwinConfig

from model.encoders.facexformer import from_facexformer, to_facexformer
from model.encoders.facial import CnnFacial, SwinFacial, grey_faces, swin_base
from model.encoders.features import IMAGENET_MEAN, IMAGENET_STD, to_pixels

DEPTHS = (2, 2, 2, 2)


def tiny_swin(**changes: object) -> SwinFacial:
    # With windows of 2 the stages are 16, 8, 4 and 2 wide: the first three shift windows, the last one must not.
    config = SwinConfig(
        image_size=64, embed_dim=8, depths=DEPTHS, num_heads=(1, 1, 2, 2), window_size=2, drop_path_rate=0.5
    )
    return SwinFacial(config, width=16, **changes)


def formula(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Weights made by a formula, so that the numbers recorded from torchvision can be met without it."""
    state = {}
    for i, (name, shape) in enumerate(sorted(shapes.items())):
        count = torch.arange(shape.numel(), dtype=torch.float64)
        noise = ((count.square() * 7 + count * 113 + 31 * i) % 1009 / 1009 - 0.5).reshape(shape)
        fan_in = shape.numel() / shape[0] if len(shape) > 1 else 4
        state[name] = (1 + noise if "norm" in name else 3 * noise / fan_in**0.5).float()
    return state


def pictures(batch: int, steps: int = 8, size: int = 64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, steps, 3, size, size), dtype=torch.uint8, generator=generator)


def randomised(encoder: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def the_long_way(encoder: SwinFacial, pixels: Tensor) -> Tensor:
    """FaceXFormer's head as written: upsample every stage to the finest, concatenate coarsest first, fuse, average."""
    maps = []
    stages = encoder.stages(pixels)
    for linear, stage in zip(encoder.project, stages, strict=True):
        projected = linear(stage.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        maps.append(interpolate(projected, size=stages[0].shape[2:], mode="bilinear", align_corners=False))
    fused = torch.nn.functional.conv2d(torch.cat(maps[::-1], dim=1), encoder.fuse.weight[:, :, None, None])
    return fused.mean(dim=(2, 3))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_averaging_before_the_head_equals_averaging_after_it(dtype, tolerance):
    encoder = randomised(tiny_swin()).to(dtype)
    faces = pictures(2)
    with torch.no_grad():
        reference = the_long_way(encoder, to_pixels(faces, IMAGENET_MEAN, IMAGENET_STD, dtype)).unflatten(0, (2, 8))
    assert reference.abs().max() > 0.1
    torch.testing.assert_close(encoder(faces).hidden, reference, atol=tolerance, rtol=tolerance)


def test_numbers_are_those_of_torchvision():
    encoder = tiny_swin()
    shapes = {name: value.shape for name, value in to_facexformer(encoder.state_dict(), DEPTHS).items()}
    encoder.load_state_dict(from_facexformer(formula(shapes), DEPTHS))
    faces = (torch.arange(2 * 3 * 64 * 64).square() * 37 // 64 % 251).to(torch.uint8).reshape(1, 2, 3, 64, 64)
    assert encoder(faces).hidden[0, :, :4].flatten().tolist() == pytest.approx(TORCHVISION, abs=1e-4)


# torchvision 0.28.0, SwinTransformer((4, 4), 8, (2, 2, 2, 2), (1, 1, 2, 2), (2, 2)) with the same weights and
# pixels, followed by FaceXFormer's head the long way.
TORCHVISION = [1.46703, 1.32497, -0.84291, 0.11508, 1.32778, 1.12217, -0.7964, 0.19009]


def test_checkpoint_names_survive_the_round_trip():
    encoder = randomised(tiny_swin())
    theirs = to_facexformer(encoder.state_dict(), DEPTHS)
    back = from_facexformer(theirs, DEPTHS)
    assert back.keys() == encoder.state_dict().keys()
    assert all(torch.equal(back[name], value) for name, value in encoder.state_dict().items())
    assert theirs["backbone.0.1.0.attn.qkv.weight"].shape == (24, 8)
    assert theirs["backbone.0.2.reduction.weight"].shape == (16, 32)
    assert theirs["linear_fuse.weight"].shape == (16, 64, 1, 1)


def test_decoder_and_index_buffers_of_the_checkpoint_are_ignored():
    theirs = to_facexformer(tiny_swin().state_dict(), DEPTHS)
    index = {"backbone.0.1.0.attn.relative_position_index": torch.zeros(16, dtype=torch.long)}
    decoder = {"face_decoder.age_token.weight": torch.zeros(1, 256)}
    plain, ours = (from_facexformer(state, DEPTHS) for state in (theirs, {**theirs, **index, **decoder}))
    assert ours.keys() == plain.keys() == dict(tiny_swin().named_parameters()).keys()
    assert all(torch.equal(ours[name], plain[name]) for name in plain)


def test_an_incomplete_checkpoint_is_refused():
    theirs = to_facexformer(tiny_swin().state_dict(), DEPTHS)
    del theirs["backbone.0.3.1.mlp.3.bias"]
    with pytest.raises(RuntimeError, match=r"layers\.1\.blocks\.1\.mlp\.fc2\.bias"):
        tiny_swin().load_state_dict(from_facexformer(theirs, DEPTHS))


def test_swin_base_has_the_parameters_and_stages_of_the_paper():
    with torch.device("meta"):
        encoder = SwinFacial(swin_base())
        features = encoder(torch.zeros(2, 8, 3, 224, 224, dtype=torch.uint8))
        stages = encoder.stages(torch.zeros(16, 3, 224, 224))
    parts = [sum(p.numel() for p in part.parameters()) for part in (encoder.swin, encoder.project, encoder.fuse)]
    assert parts == [86_743_224, 492_544, 262_144]
    assert sum(p.numel() for p in encoder.parameters()) == 87_497_912
    assert features.hidden.shape == (2, 8, 256)
    sizes = ((128, 56), (256, 28), (512, 14), (1024, 7))
    assert [tuple(stage.shape) for stage in stages] == [(16, c, s, s) for c, s in sizes]


def test_stochastic_depth_stays_off_in_training_mode():
    encoder = randomised(tiny_swin())
    parent = torch.nn.Sequential(encoder).train()
    assert parent.training
    assert not any(module.training for module in encoder.modules())
    faces = pictures(1)
    assert torch.equal(encoder(faces).hidden, encoder(faces).hidden)


def test_raw_pixels_reach_the_backbone_unscaled():
    encoder, raw = tiny_swin(), tiny_swin(face_input="raw255")
    seen = []
    for each in (encoder, raw):
        each.swin.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        each(pictures(1))
    assert torch.allclose(seen[1], pictures(1)[0].float(), atol=1e-4)
    mean, std = torch.tensor(IMAGENET_MEAN).view(3, 1, 1), torch.tensor(IMAGENET_STD).view(3, 1, 1)
    assert torch.allclose(seen[0] * std + mean, pictures(1)[0] / 255, atol=1e-5)


def test_an_unknown_face_input_is_named():
    with pytest.raises(ValueError, match="face_input is 'bgr'"):
        tiny_swin(face_input="bgr")


@pytest.mark.parametrize("build", [lambda: randomised(tiny_swin()), CnnFacial])
def test_a_face_does_not_depend_on_its_batch(build):
    encoder, faces = build(), pictures(3)
    together = encoder(faces)
    alone = encoder(faces[1:2])
    assert [scale.shape[1] for scale in together.scales] == [8] * len(together.scales)
    assert together.mask.shape == (3, 8)
    assert together.mask.all()
    torch.testing.assert_close(together.hidden[1:2], alone.hidden, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(together.hidden[0], together.hidden[1], atol=1e-3)


@pytest.mark.parametrize("size", [48, 64, 160])
def test_the_cnn_takes_crops_of_any_size(size):
    features = CnnFacial()(pictures(2, size=size))
    assert features.hidden.shape == (2, 8, 256)
    assert torch.isfinite(features.hidden).all()


def test_the_cnn_is_small_and_its_network_can_be_trained_alone():
    encoder = CnnFacial()
    assert sum(p.numel() for p in encoder.parameters()) < 3e6
    encoder.net.train()
    assert encoder.net.training
    encoder.net(grey_faces(torch.rand(4, 1, 48, 48))).sum().backward()
    assert all(p.grad is not None for p in encoder.net.parameters())


def test_grey_faces_do_not_depend_on_exposure():
    face = torch.rand(1, 3, 80, 80)
    torch.testing.assert_close(grey_faces(face), grey_faces(face * 0.5 + 0.2), atol=0.02, rtol=0.02)


def test_a_black_face_stays_finite():
    features = CnnFacial()(torch.zeros(1, 8, 3, 64, 64, dtype=torch.uint8))
    assert torch.isfinite(features.hidden).all()


def test_wrong_pictures_are_named():
    with pytest.raises(ValueError, match=r"images are \(1, 8, 64, 64, 3\)"):
        CnnFacial()(torch.zeros(1, 8, 64, 64, 3, dtype=torch.uint8))
