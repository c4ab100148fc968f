import threading

import pytest

from model.device import on_device, stream_on_device


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


def test_a_stream_lets_other_work_in_between():
    def count():
        for i in range(3):
            yield i, name()

    stream = stream_on_device(count)()
    first = next(stream)
    assert on_device(lambda: "other")() == "other"
    assert [first, *stream] == [(i, on_device(name)()) for i in range(3)]
