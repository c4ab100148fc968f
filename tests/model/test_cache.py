"""A folder of the cache is whole and verified, or not there at all."""

import errno
import json
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from model.cache import MANIFEST, WeightsError, cache_dir, is_intact, make_folder, sha256

FROM = {"recipe": "1", "package": "1.0"}


def fill(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    (folder / "part").mkdir()
    (folder / "part" / "weights.bin").write_bytes(bytes(range(256)) * 64)


def never(folder: Path) -> None:
    raise AssertionError("made although it was there")


def make(folder: Path, made_from: dict[str, str] = FROM, fill=fill) -> bool:
    return make_folder(folder, made_from, fill, size_mb=1)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_folder_is_made_once(tmp_path):
    assert make(tmp_path / "model")
    assert not make(tmp_path / "model", fill=never)
    assert names(tmp_path) == {"model"}
    assert sha256(tmp_path / "model" / "config.json") == (
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )


def test_other_versions_make_it_again(tmp_path):
    make(tmp_path / "model")
    assert not is_intact(tmp_path / "model", {**FROM, "package": "1.1"}, deep=False)
    assert make(tmp_path / "model", {**FROM, "package": "1.1"})
    assert is_intact(tmp_path / "model", {**FROM, "package": "1.1"}, deep=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text("{"),
        lambda folder: (folder / MANIFEST).write_text("[1]"),
        lambda folder: (folder / "part" / "weights.bin").unlink(),
        lambda folder: (folder / "part" / "weights.bin").write_bytes(b"half"),
        lambda folder: (folder / "part" / "weights.bin").write_bytes(bytes(256 * 64)),
    ],
)
def test_a_damaged_folder_is_made_again(tmp_path, damage):
    make(tmp_path / "model")
    damage(tmp_path / "model")
    assert not is_intact(tmp_path / "model", FROM, deep=True)
    assert make(tmp_path / "model")
    assert is_intact(tmp_path / "model", FROM, deep=True)
    assert names(tmp_path) == {"model"}


def test_sizes_alone_are_compared_when_not_deep(tmp_path):
    make(tmp_path / "model")
    (tmp_path / "model" / "part" / "weights.bin").write_bytes(bytes(256 * 64))
    assert is_intact(tmp_path / "model", FROM, deep=False)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError(f"Error while serializing: I/O error: {os.strerror(errno.ENOSPC)} (os error 28)"),
    ],
)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, error):
    def half(folder: Path) -> None:
        fill(folder)
        raise error

    with pytest.raises(WeightsError, match=r"is full: model needs about 1 MB.*EMOX_CACHE") as raised:
        make(tmp_path / "model", fill=half)
    assert "\n" not in str(raised.value)
    assert names(tmp_path) == set()


def test_too_little_space_is_refused_before_any_work(tmp_path):
    with pytest.raises(WeightsError, match="is full"):
        make_folder(tmp_path / "model", FROM, never, size_mb=10**9)


def test_a_failed_attempt_keeps_what_was_there(tmp_path):
    make(tmp_path / "model")

    def broken(folder: Path) -> None:
        raise ValueError("no such tensor")

    with pytest.raises(ValueError, match="no such tensor"):
        make(tmp_path / "model", {"recipe": "2"}, broken)
    assert is_intact(tmp_path / "model", FROM, deep=True)
    assert names(tmp_path) == {"model"}


def test_what_a_killed_process_left_is_removed(tmp_path):
    abandoned = tmp_path / ".model-x1y2"
    abandoned.mkdir()
    fill(abandoned)
    make(tmp_path / "model")
    assert names(tmp_path) == {"model"}


def test_a_place_that_cannot_be_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match="cannot be written"):
        make(tmp_path / "file" / "model")


def count_and_fill(folder: Path) -> None:
    (folder.parent.parent / f"made-{os.getpid()}").touch()
    time.sleep(0.2)
    fill(folder)


def make_with_others(place: str) -> None:
    make_folder(Path(place) / "model", FROM, count_and_fill, size_mb=1)


def test_processes_at_once_make_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=make_with_others, args=(str(tmp_path),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(list(tmp_path.glob("made-*"))) == 1
    assert is_intact(tmp_path / "model", FROM, deep=True)


def test_the_manifest_lists_every_file(tmp_path):
    make(tmp_path / "model")
    manifest = json.loads((tmp_path / "model" / MANIFEST).read_text())
    assert set(manifest["files"]) == {"config.json", "part/weights.bin"}
    assert manifest["files"]["part/weights.bin"]["bytes"] == 256 * 64


def test_the_cache_is_where_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("EMOX_CACHE", str(tmp_path / "elsewhere"))
    assert cache_dir() == tmp_path / "elsewhere"
    monkeypatch.delenv("EMOX_CACHE")
    assert "emox" in cache_dir().parts
