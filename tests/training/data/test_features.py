"""The feature cache by itself: what is kept comes back, what changed has another key, what is damaged is named."""

import multiprocessing
import zipfile

import pytest
import torch

from model.build import nano_emox_tiny
from model.encoders.features import Features
from tests.model.tiny import tiny_processor
from training.data.contents import content_hash, read_bytes
from training.data.features import FeatureCache, Key, MissingFeatures, encoder_ids, keys, outputs, stack
from training.data.sample import Clip


def key(content="ab", part="acoustic", **fields):
    return Key(content, part, "Encoder-v1-00", **fields)


def features(seed=0, steps=8, masked=0):
    draw = torch.Generator().manual_seed(seed)
    hidden = torch.randn(1, steps, 6, generator=draw)
    scales = tuple(torch.randn(1, steps, width, generator=draw) for width in (2, 3, 4))
    return Features(hidden, scales, torch.arange(steps)[None] >= masked)


def put(cache, entries):
    with cache.writing():
        cache.put(entries)


def assert_same(found, expected):
    for a, b in zip((found.hidden, *found.scales), (expected.hidden, *expected.scales), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    assert torch.equal(found.mask, expected.mask)


def test_what_is_put_comes_back_in_this_process_and_after_opening_again(tmp_path):
    entries = {key("ab"): features(0), key("cd"): features(1, masked=2), key("cd", view=1): features(2, steps=0)}
    put(cache := FeatureCache(tmp_path), entries)
    for opened in (cache, FeatureCache(tmp_path)):
        assert len(opened) == 3
        for k, expected in entries.items():
            assert_same(opened.get(k), expected)


def test_a_reader_finds_what_another_wrote_after_it_was_opened(tmp_path):
    reader = FeatureCache(tmp_path)
    put(FeatureCache(tmp_path), {key(): features()})
    assert_same(reader.get(key()), features())


@pytest.mark.parametrize(
    "other",
    [key("cd"), key(part="facial"), key(view=1), key(cropped=True), Key("ab", "acoustic", "Encoder-v1-01")],
)
def test_each_field_of_a_key_tells_features_apart(tmp_path, other):
    put(cache := FeatureCache(tmp_path), {key(): features()})
    with pytest.raises(MissingFeatures, match="prepare the corpus again"):
        cache.get(other)


@pytest.mark.parametrize("damage", ["cut short", "a bit turned"])
def test_a_damaged_shard_is_named_and_can_be_written_again(tmp_path, damage):
    put(FeatureCache(tmp_path), {key("ab"): features(0)})
    (shard,) = tmp_path.glob("*.safetensors")
    put(FeatureCache(tmp_path), {key("cd"): features(1)})
    data = bytearray(shard.read_bytes())
    data[-5] ^= 1
    shard.write_bytes(data[:-10] if damage == "cut short" else data)

    reader = FeatureCache(tmp_path)
    assert reader.damaged == [shard]
    assert key("cd") in reader
    with pytest.raises(MissingFeatures, match=shard.name):
        reader.get(key("ab"))

    writer = FeatureCache(tmp_path)
    with writer.writing() as removed:
        assert removed == (shard,)
        assert not shard.exists()
        writer.put({key("ab"): features(0)})
    assert_same(writer.get(key("ab")), features(0))
    assert_same(reader.get(key("ab")), features(0))  # under the same name as the damaged one
    assert not reader.damaged


def test_what_is_not_finite_is_refused(tmp_path):
    big = Features(torch.full((1, 8, 6), 1e6), (), torch.ones(1, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"hidden of ab/acoustic.*not finite"):
        put(FeatureCache(tmp_path), {key(): big})


def test_an_unfinished_file_is_no_shard_and_is_cleared_away(tmp_path):
    (tmp_path / ".00.safetensors.partial").write_bytes(b"half")
    cache = FeatureCache(tmp_path)
    assert not cache.damaged
    put(cache, {})
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == []


def _read(folder, found):
    cache = FeatureCache(folder)
    found.put(sum(float(cache.get(key(str(i))).hidden.sum()) for i in range(20)))


def test_several_processes_read_at_once(tmp_path):
    put(FeatureCache(tmp_path), {key(str(i)): features(i) for i in range(20)})
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    readers = [context.Process(target=_read, args=(tmp_path, found)) for _ in range(3)]
    for reader in readers:
        reader.start()
    sums = [found.get(timeout=30) for _ in readers]
    for reader in readers:
        reader.join()
    expected = sum(float(features(i).hidden.half().float().sum()) for i in range(20))
    assert sums == pytest.approx([expected] * 3)


def test_a_changed_file_has_another_key(tmp_path):
    clip = Clip(sound=tmp_path / "a.wav")
    clip.sound.write_bytes(b"one")
    before = keys(clip, {"acoustic": "E"})
    clip.sound.write_bytes(b"another")
    assert keys(clip, {"acoustic": "E"}) != before


def test_the_same_bytes_have_the_same_key_wherever_they_lie(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"picture")
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        archive.writestr("happy/b.jpg", b"picture")
    member = tmp_path / "faces.zip" / "happy" / "b.jpg"
    assert read_bytes(member) == b"picture"
    assert content_hash(member) == content_hash(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match="has no happy/c"):
        content_hash(member.with_name("c.jpg"))


def test_only_sound_has_views_and_only_faces_are_cropped(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"clip")
    found = keys(Clip(path, path, cropped=True), {"acoustic": "A", "visual": "V", "facial": "F"}, view=2)
    assert [(k.view, k.cropped) for k in found.values()] == [(2, False), (0, False), (0, True)]


def test_other_weights_or_settings_make_another_encoder():
    torch.manual_seed(0)
    model, processor = nano_emox_tiny(), tiny_processor()
    before = encoder_ids(model, processor)
    assert encoder_ids(model, processor) == before
    with torch.no_grad():
        next(model.facial.parameters()).view(-1)[0] += 1
        model.video.queries += 1  # trained later: no encoder's
    model.acoustic.audio_norm = "utterance"
    after = encoder_ids(model, processor)
    assert after["facial"] != before["facial"]
    assert after["acoustic"] != before["acoustic"]
    assert after["visual"] == before["visual"]


def test_a_modality_without_anything_to_encode_is_none_and_an_unprepared_clip_an_error(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"clip")
    clip, encoders = Clip(path, path), {"acoustic": "A", "facial": "F"}
    cache = FeatureCache(tmp_path / "cache")
    found = keys(clip, encoders)
    put(cache, {found["acoustic"]: features(1), found["facial"]: features(steps=0)})
    read = outputs(clip, cache, encoders)
    assert_same(read.acoustic, features(1))
    assert read.facial is None
    assert read.visual is None
    with pytest.raises(MissingFeatures):
        outputs(clip, cache, encoders, view=1)


def test_clips_of_different_lengths_make_one_batch():
    rows = [features(0, steps=8), features(1, steps=1)]
    batch = stack(rows)
    assert batch.hidden.shape == (2, 8, 6)
    assert torch.equal(batch.scales[2][0], rows[0].scales[2][0])
    assert torch.equal(batch.hidden[1, :1], rows[1].hidden[0])
    assert batch.mask.sum(1).tolist() == [8, 1]
