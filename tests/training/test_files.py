"""Files appear whole or not at all."""

import errno
import os

import pytest
import torch
from safetensors.torch import load_file

from training.files import save_tensors, write_bytes


def test_what_is_written_is_there_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_bytes(b"one", path)
    write_bytes(b"two", path)
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("old", [b"before", None])
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch, old, failure):
    path = tmp_path / "a.bin"
    if old is not None:
        path.write_bytes(old)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(failure))
        with pytest.raises(type(failure)):
            write_bytes(b"after", path)
    assert [each.name for each in tmp_path.iterdir()] == (["a.bin"] if old is not None else [])
    assert old is None or path.read_bytes() == old


def test_tensors_of_any_layout_come_back(tmp_path):
    tensors = {"turned": torch.arange(6.0).view(2, 3).T, "one": torch.tensor(3)}
    save_tensors(tensors, tmp_path / "a.safetensors")
    found = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(found[key], value) for key, value in tensors.items())
