"""Clips become cached features: the same as encoding each time, once each, whatever happens on the way."""

import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import training.prepare
from model.build import nano_emox_tiny
from tests.fakes import FakeFaceFinder
from tests.model.tiny import tiny_processor
from tests.perception.clips import REPOSITORY, make_clip
from training.data.features import FeatureCache, encoder_ids, keys, outputs
from training.data.sample import Clip, Sample
from training.prepare import prepare, read_turn


def tiny():
    torch.manual_seed(0)
    return nano_emox_tiny().eval(), tiny_processor()


@pytest.fixture(scope="module")
def parts():
    return tiny()


def sample(clip, name="one", corpus="acted"):
    return Sample("emotion", "", "?", (("sad", True),), clip=clip, corpus=corpus, name=name)


def voice(folder, i=0, seconds=1.0):
    """A clip of sound that differs from others."""
    path = folder / f"{i}.wav"
    if not path.exists():
        sound = np.random.default_rng(i).standard_normal(int(16_000 * seconds)).astype(np.float32) * 0.1
        make_clip(path, audio="pcm_s16le", rate_hz=16_000, layout="mono", seconds=seconds, sound=sound)
    return sample(Clip(sound=path), str(i))


def jpeg(i=0):
    data = BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (48, 48, 3), np.uint8)).save(data, "JPEG")
    return data.getvalue()


def faces(folder, n):
    """Samples of still faces in an archive."""
    with zipfile.ZipFile(folder / "faces.zip", "w") as archive:
        for i in range(n):
            archive.writestr(f"sad/{i}.jpg", jpeg(i))
    return [sample(Clip(pictures=folder / "faces.zip" / "sad" / f"{i}.jpg", cropped=True), str(i)) for i in range(n)]


def run(samples, parts, cache, *, views=None, encoders=("acoustic",), finder=FakeFaceFinder):
    return prepare(samples, *parts, cache, views=views or {}, parts=encoders, faces=finder)


def assert_close(found, expected, rows=slice(None)):
    for a, b in zip((found.hidden, *found.scales), (expected.hidden, *expected.scales), strict=True):
        torch.testing.assert_close(a, b[:, rows], rtol=2e-3, atol=2e-3)


def test_the_cache_gives_what_encoding_gives(tmp_path, parts):
    model, processor = parts
    video = make_clip(tmp_path / "a.mp4", video="mpeg4", audio="aac", seconds=1.0)
    clip = Clip(video, video, cropped=True)
    cache = FeatureCache(tmp_path / "cache")
    report = run([sample(clip)], parts, cache, encoders=("acoustic", "visual", "facial"))
    assert (report.encoded, report.found, report.skipped) == (3, 0, ())
    turn = read_turn(clip, ("acoustic", "visual", "facial"), FakeFaceFinder)
    expected = model.encode(processor.inputs(turn, ("audio", "frame", "face")))
    found = outputs(clip, FeatureCache(tmp_path / "cache"), encoder_ids(model, processor))
    for part in ("acoustic", "visual", "facial"):
        assert_close(getattr(found, part), getattr(expected, part))
        assert getattr(found, part).mask.all()
    assert model.soft_tokens(found).counts() == model.soft_tokens(expected).counts()


def test_a_clip_is_decoded_once_for_all_its_samples_and_never_again(tmp_path, parts, monkeypatch):
    decoded = []
    read = training.prepare.read_clip
    monkeypatch.setattr(training.prepare, "read_clip", lambda path, **o: decoded.append(path.name) or read(path, **o))
    samples = [voice(tmp_path, i) for i in (0, 1, 0)]
    same = Path(shutil.copy(tmp_path / "1.wav", tmp_path / "copy.wav"))
    more = [replace(samples[0], task="sentiment"), sample(Clip(sound=same))]
    report = run([*samples, *more], parts, FeatureCache(tmp_path / "cache"))
    assert decoded == ["0.wav", "1.wav"]
    assert (report.encoded, report.found) == (2, 1)
    report = run(samples, parts, FeatureCache(tmp_path / "cache"), views={"acted": 1})
    assert (report.encoded, report.found) == (2, 2)  # the augmented ones only
    report = run(samples, parts, FeatureCache(tmp_path / "cache"), views={"acted": 1})
    assert (report.encoded, report.found) == (0, 4)
    assert len(decoded) == 4


def test_views_differ_from_the_clip_and_are_the_same_in_every_run(tmp_path, parts):
    one = voice(tmp_path, seconds=2.5)
    ids = {"acoustic": encoder_ids(*parts)["acoustic"]}
    found = []
    for name in "ab":
        cache = FeatureCache(tmp_path / name)
        run([one], parts, cache, views={"acted": 2, "other": 5})
        assert len(cache) == 3
        found.append([outputs(one.clip, cache, ids, view).acoustic.hidden for view in range(3)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    clean, first, second = found[0]
    assert not torch.equal(clean, first)
    assert not torch.equal(first, second)


def test_still_pictures_are_one_step_each_and_do_not_depend_on_their_batch(tmp_path, parts, monkeypatch):
    monkeypatch.setattr(training.prepare, "STILLS", 3)
    model, processor = parts
    samples = faces(tmp_path, 7)
    cache = FeatureCache(tmp_path / "cache")
    report = run(samples, parts, cache, encoders=("facial",))
    assert report.encoded == 7
    ids = {"facial": encoder_ids(*parts)["facial"]}
    for one in samples:
        found = outputs(one.clip, cache, ids).facial
        turn = read_turn(one.clip, ("facial",), FakeFaceFinder)
        assert found.hidden.shape[:2] == (1, 1)
        assert_close(found, model.encode(processor.inputs(turn, ("face",))).facial, slice(0, 1))


def test_a_face_is_looked_for_only_in_pictures_that_are_not_cropped(tmp_path, parts):
    (tmp_path / "a.jpg").write_bytes(jpeg())
    finder = FakeFaceFinder()
    clip = Clip(pictures=tmp_path / "a.jpg")
    samples = [sample(clip), sample(replace(clip, cropped=True))]
    cache = FeatureCache(tmp_path / "cache")
    report = run(samples, parts, cache, encoders=("facial",), finder=lambda: finder)
    assert len(finder.followed) == 1
    assert report.encoded == 2
    ids = {"facial": encoder_ids(*parts)["facial"]}
    whole, cropped = (cache.get(keys(s.clip, ids)["facial"]).hidden for s in samples)
    assert not torch.equal(whole, cropped)


def test_what_cannot_be_read_or_is_not_there_is_named_and_the_rest_goes_on(tmp_path, parts):
    (tmp_path / "broken.wav").write_bytes(b"RIFF????")
    (tmp_path / "nobody.jpg").write_bytes(jpeg())
    video = make_clip(tmp_path / "silent.mp4", video="mpeg4", seconds=0.5)
    (member,) = faces(tmp_path, 1)
    gone = member.clip.pictures.with_name("gone.jpg")
    samples = [
        voice(tmp_path),
        sample(Clip(sound=tmp_path / "broken.wav"), "broken"),
        sample(Clip(sound=tmp_path / "missing.wav"), "missing"),
        sample(Clip(pictures=gone, cropped=True), "gone"),
        sample(Clip(sound=video), "silent"),
        sample(Clip(pictures=tmp_path / "nobody.jpg"), "nobody"),
    ]
    for _ in range(2):  # a second run says the same
        cache = FeatureCache(tmp_path / "cache")
        finder = lambda: FakeFaceFinder(sees_face=False)  # noqa: E731
        report = run(samples, parts, cache, encoders=("acoustic", "facial"), finder=finder)
        named = dict(report.skipped)
        assert list(named) == [f"acted {name}" for name in ("broken", "missing", "gone", "silent", "nobody")]
        assert "cannot be read" in named["acted broken"]
        assert "missing.wav" in named["acted missing"]
        assert "has no sad/gone.jpg" in named["acted gone"]
        assert named["acted silent"] == "it has no sound"
        assert named["acted nobody"] == "it shows no face"
    assert report.found == 3
    ids = {"facial": encoder_ids(*parts)["facial"]}
    assert outputs(samples[-1].clip, cache, ids).facial is None


def test_an_encoder_that_the_model_lacks_is_an_error(tmp_path, parts):
    with pytest.raises(ValueError, match="no olfactory encoder: choose parts from acoustic, visual, facial"):
        run([], parts, FeatureCache(tmp_path), encoders=("olfactory",))


def test_a_damaged_shard_is_named_and_its_clips_are_encoded_again(tmp_path, parts):
    samples = [voice(tmp_path, i) for i in range(2)]
    run(samples, parts, FeatureCache(tmp_path / "cache"))
    (shard,) = (tmp_path / "cache").glob("*.safetensors")
    before = shard.read_bytes()
    shard.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    report = run(samples, parts, FeatureCache(tmp_path / "cache"))
    assert (report.encoded, report.damaged) == (2, (shard,))
    assert shard.read_bytes() == before
    assert run(samples, parts, FeatureCache(tmp_path / "cache")).damaged == ()


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, "tests/training/data")
import test_prepare as t
import training.files
import training.prepare
training.prepare.SHARD_BYTES = 1
folder = Path(sys.argv[1])
def sync(file):
    if len(list(folder.glob("cache/*.safetensors"))) == 3:
        os.truncate(file, os.fstat(file).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)
training.files.os.fsync = sync
t.run([t.voice(folder, i) for i in range(8)], t.tiny(), t.FeatureCache(folder / "cache"))
"""


def test_after_kill_9_in_the_middle_of_a_shard_the_cache_is_whole_and_preparing_goes_on(tmp_path, parts):
    samples, folder = [voice(tmp_path, i) for i in range(8)], tmp_path / "cache"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=REPOSITORY, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(list(folder.glob(".*.partial"))) == 1
    left = FeatureCache(folder)
    assert (len(left), left.damaged) == (3, [])
    report = run(samples, parts, FeatureCache(folder))
    assert (report.encoded, report.found, report.damaged) == (5, 3, ())
    assert not list(folder.glob(".*.partial"))

    run(samples, parts, whole := FeatureCache(tmp_path / "whole"))
    resumed, ids = FeatureCache(folder), {"acoustic": encoder_ids(*parts)["acoustic"]}
    for one in samples:
        (key,) = keys(one.clip, ids).values()
        assert torch.equal(resumed.get(key).hidden, whole.get(key).hidden)
