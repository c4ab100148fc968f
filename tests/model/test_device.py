import threading
from types import SimpleNamespace

import pytest

from model.device import (
    is_device_thread,
    keep_few_arenas,
    keep_few_kernels,
    keep_freed_memory,
    keep_memory_whole,
    on_device,
    queue_on_device,
)


def name():
    return threading.current_thread().name


def test_all_work_runs_on_one_other_thread():
    found = []
    threads = [threading.Thread(target=lambda: found.append(on_device(name)())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert found[0] != name()


def test_work_may_ask_for_more_work():
    assert on_device(lambda: on_device(name)())() == on_device(name)()


def test_an_error_arrives_where_it_was_asked_for():
    with pytest.raises(ZeroDivisionError):
        on_device(lambda: 1 / 0)()


def test_queued_work_comes_after_what_was_there_and_nobody_waits_for_it():
    done, free = [], threading.Event()
    queue_on_device(lambda: done.append((free.wait(10), is_device_thread())))
    queue_on_device(lambda: done.append("second"))
    assert done == []
    free.set()
    on_device(lambda: None)()
    assert done == [(True, True), "second"]
    assert not is_device_thread()


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_memory_is_managed_only_where_there_is_glibc(monkeypatch, platform):
    called = []
    library = SimpleNamespace(mallopt=lambda *option: called.append(option), malloc_trim=called.append)
    monkeypatch.setattr("model.device.sys.platform", platform)
    monkeypatch.setattr("model.device.ctypes.CDLL", lambda name: library)
    keep_freed_memory()
    assert bool(called) == (platform == "linux")
    assert not called or (-4, 0) in called  # M_MMAP_MAX
    called.clear()
    keep_few_arenas()
    keep_memory_whole()
    assert called == ([(-8, 2), (-3, 2**22), 0] if platform == "linux" else [])  # M_ARENA_MAX, M_MMAP_THRESHOLD


def test_few_kernels_are_kept_unless_the_environment_says_otherwise(monkeypatch):
    environment = {"LRU_CACHE_CAPACITY": "8"}
    monkeypatch.setattr("model.device.os.environ", environment)
    keep_few_kernels()
    assert environment == {"LRU_CACHE_CAPACITY": "8", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64"}
