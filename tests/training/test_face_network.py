"""Training the face network: what it reads, how faces are changed, and that a stop costs at most an epoch."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from model.encoders.facial import CnnFacial
from model.types import EMOTIONS
from tests.training.corpora import make_faces
from training import face_network
from training.face_network import Settings, accuracy, augment, batches, one_cycle, read_faces, train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    make_faces(folder, "train", [EMOTIONS[i % 2] for i in range(25)])
    make_faces(folder, "publictest", EMOTIONS[:2])
    return folder


def test_faces_and_labels_stand_in_the_order_of_the_table(data):
    faces, labels = read_faces(data, "train")
    assert (faces.shape, faces.dtype) == ((25, 1, 48, 48), torch.uint8)
    assert faces[:, 0, 0, 0].tolist() == [10 * i for i in range(25)]
    assert labels.tolist() == [i % 2 for i in range(25)]


@pytest.mark.parametrize("missing", ["train.csv", "train.zip"])
def test_a_missing_file_is_named(tmp_path, missing):
    make_faces(tmp_path, "train", ["sad"])
    (tmp_path / missing).unlink()
    with pytest.raises(FileNotFoundError, match=f"{missing} is missing: name the folder that holds FER2013"):
        read_faces(tmp_path, "train")


def test_a_label_that_is_none_of_ours_is_named(tmp_path):
    make_faces(tmp_path, "train", ["sad", "bored"])
    with pytest.raises(ValueError, match=r"train\.csv has the label 'bored', expected one of neutral, happy"):
        read_faces(tmp_path, "train")


def test_augmented_faces_are_the_same_for_a_seed_and_stay_faces():
    faces = torch.rand(64, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    found = augment(faces, torch.Generator().manual_seed(1))
    assert torch.equal(found, augment(faces, torch.Generator().manual_seed(1)))
    assert found.shape == faces.shape
    assert found.min() >= 0
    assert found.max() <= 1
    assert ((found - faces).abs().mean(dim=(1, 2, 3)) > 0.01).all()
    assert len({face.numpy().tobytes() for face in augment(faces[:1].expand(64, -1, -1, -1), torch.Generator())}) == 64


def test_about_half_of_the_faces_are_flipped_and_half_hide_a_square():
    ramp = torch.linspace(0.2, 0.8, 48).expand(400, 1, 48, 48)
    found = augment(ramp, torch.Generator().manual_seed(0))
    flipped = found[..., -12:].mean(dim=(1, 2, 3)) < found[..., :12].mean(dim=(1, 2, 3))
    assert 0.4 < flipped.float().mean() < 0.6
    # A hidden square is as bright as the face on average, in 12 by 12 of its points.
    mean = [(face == face.flatten().mode().values).float().mean().item() for face in found]
    assert 0.4 < sum(share >= 0.06 for share in mean) / 400 < 0.6


def test_an_epoch_holds_each_face_once_in_whole_batches():
    draw = torch.Generator().manual_seed(0)
    first, second = list(batches(10, 4, draw)), list(batches(10, 4, draw))
    assert [len(each) for each in first] == [4, 4]
    assert len(set(torch.cat(first).tolist())) == 8
    assert torch.cat(first).tolist() != torch.cat(second).tolist()


def test_the_rate_rises_to_its_height_and_falls_to_nothing():
    rates = [one_cycle(i / 100, 0.1) for i in range(101)]
    assert 0 < rates[0] < 0.02
    assert max(rates) == pytest.approx(1.0, abs=0.02)
    assert rates.index(max(rates)) in (9, 10)
    assert rates[-1] == pytest.approx(0)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_accuracy_counts_the_likeliest_label():
    class Bright(torch.nn.Module):
        """Label 1 where the upper half is brighter than the lower one."""

        def forward(self, grey):
            return torch.stack([0 * grey[:, 0, 0, 0], (grey[:, 0, :24] - grey[:, 0, 24:]).mean(dim=(1, 2))], dim=1)

    faces = torch.zeros(4, 1, 48, 48, dtype=torch.uint8)
    faces[:2, :, :24] = 200
    faces[2:, :, 24:] = 200
    assert accuracy(Bright(), torch.nn.Identity(), faces, torch.tensor([1, 1, 0, 1])) == 0.75


def test_a_run_that_was_stopped_goes_on_after_its_last_epoch(tmp_path, data, monkeypatch):
    whole = Settings(data, tmp_path / "whole", epochs=2, batch=8)
    train(whole)
    curve = json.loads((whole.out / "curve.json").read_text())
    assert [entry["epoch"] for entry in curve] == [1, 2]
    state = load_file(whole.out / "face_network.safetensors")
    CnnFacial().load_state_dict(state)

    stopped = replace(whole, out=tmp_path / "stopped")
    measure = face_network.accuracy
    with monkeypatch.context() as patch:
        patch.setattr(face_network, "accuracy", fails_at(2, measure))
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    assert len(json.loads((stopped.out / "curve.json").read_text())) == 1
    train(stopped)
    assert json.loads((stopped.out / "curve.json").read_text()) == [
        {key: pytest.approx(value, rel=1e-4) for key, value in entry.items()} for entry in curve
    ]
    for key, value in load_file(stopped.out / "face_network.safetensors").items():
        torch.testing.assert_close(value, state[key], rtol=1e-4, atol=1e-5)


def fails_at(call, function):
    calls = []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return function(*arguments)

    return failing


def test_a_loss_that_is_not_finite_is_told(tmp_path, data, monkeypatch):
    monkeypatch.setattr(face_network, "augment", lambda faces, draw: faces * torch.nan)
    with pytest.raises(FloatingPointError, match="the loss became nan in epoch 1: lower --lr"):
        train(Settings(data, tmp_path, epochs=1, batch=8))
