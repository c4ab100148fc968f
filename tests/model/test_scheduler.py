"""Requests in rounds, with a device that is a list of what it was asked."""

import gc
import threading
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.device import on_device
from model.scheduler import AHEAD, Say, Scheduler
from model.types import Busy, CutShort


@dataclass(frozen=True)
class Add:
    """A need: this number and one more."""

    number: int


class Device:
    """Serves up to `most` needs a round and keeps which; while `held`, a round does not end."""

    def __init__(self, most=99):
        self.most = most
        self.rounds = []
        self.began = threading.Event()
        self.free = threading.Event()
        self.free.set()

    def serve(self, needs):
        self.began.set()
        assert self.free.wait(10)
        self.rounds.append(list(needs[: self.most]))
        return {
            number: ValueError("no") if need.number < 0 else need.number + 1
            for number, need in enumerate(self.rounds[-1])
        }


def counting(start, n):
    for _ in range(n):
        start = yield Add(start)
    return start


def speaking(*words, closed=None):
    try:
        for word in words:
            yield Add(0)
            yield Say(word)
    finally:
        if closed is not None:
            closed.set()


def at_once(actions):
    """Results of functions that threads run together, in order."""
    results = [None] * len(actions)

    def act(number, action):
        results[number] = action()

    threads = [threading.Thread(target=act, args=one) for one in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return results


def test_a_request_is_sent_what_came_of_its_needs():
    device = Device()
    assert Scheduler(device.serve, 9).run(counting(5, 3)) == 8
    assert device.rounds == [[Add(5)], [Add(6)], [Add(7)]]


def test_requests_share_rounds_and_new_ones_join():
    device = Device()
    scheduler = Scheduler(device.serve, 9)
    device.free.clear()
    first = threading.Thread(target=lambda: scheduler.run(counting(0, 4)))
    first.start()
    assert device.began.wait(10)
    others = threading.Thread(target=lambda: at_once([lambda n=n: scheduler.run(counting(n, 2)) for n in (10, 20)]))
    others.start()
    while len(scheduler._running) < 3:
        pass
    device.free.set()
    first.join(10)
    others.join(10)
    assert device.rounds[0] == [Add(0)]
    assert set(device.rounds[1]) == {Add(1), Add(10), Add(20)}
    assert len(device.rounds) == 4


def test_nobody_starves_where_few_are_served_at_once():
    device = Device(most=1)
    scheduler = Scheduler(device.serve, 99)
    assert at_once([lambda n=n: scheduler.run(counting(100 * n, 5)) for n in range(8)]) == [
        100 * n + 5 for n in range(8)
    ]


def test_who_is_patient_goes_last():
    device = Device(most=1)
    scheduler = Scheduler(device.serve, 9)
    device.free.clear()
    actions = [
        lambda: scheduler.run(counting(0, 1)),
        lambda: scheduler.run(counting(10, 1), patience_s=60.0),
        lambda: scheduler.run(counting(20, 1)),
    ]
    threads = [threading.Thread(target=action) for action in actions]
    for number, thread in enumerate(threads):
        thread.start()
        while len(scheduler._running) <= number:
            pass
    device.free.set()
    for thread in threads:
        thread.join(10)
    assert device.rounds[-1] == [Add(10)]


def test_an_error_is_raised_in_its_own_request_alone():
    device = Device()
    scheduler = Scheduler(device.serve, 9)

    def failing():
        with pytest.raises(ValueError, match="no"):
            scheduler.run(counting(-5, 1))
        return "failed"

    assert at_once([failing, lambda: scheduler.run(counting(1, 2))]) == ["failed", 3]


def test_a_device_that_fails_fails_those_who_waited_and_goes_on():
    def serve(needs):
        if any(need.number == 13 for need in needs):
            raise RuntimeError("out of memory")
        return {number: need.number for number, need in enumerate(needs)}

    scheduler = Scheduler(serve, 9)
    with pytest.raises(RuntimeError, match="out of memory"):
        scheduler.run(counting(13, 1))
    assert scheduler.run(counting(1, 1)) == 1


def test_too_many_requests_are_told_so_at_once_and_the_others_are_answered():
    device = Device()
    scheduler = Scheduler(device.serve, 2)
    device.free.clear()
    threads = [threading.Thread(target=lambda: scheduler.run(counting(0, 1))) for _ in range(2)]
    for thread in threads:
        thread.start()
    while len(scheduler._running) < 2:
        pass
    with pytest.raises(Busy, match="2 requests already"):
        scheduler.run(counting(0, 1))
    with pytest.raises(Busy):
        next(scheduler.stream(speaking("a")))
    device.free.set()
    for thread in threads:
        thread.join(10)
    assert scheduler.run(counting(0, 1)) == 1


def test_a_stream_gives_what_is_said_in_order():
    said = list(Scheduler(Device().serve, 9).stream(speaking("a", "b", *"cdefghij", CutShort())))
    assert said == ["a", "b", *"cdefghij", ""]
    assert isinstance(said[-1], CutShort)


def test_alone_nothing_is_done_before_it_is_asked_for():
    device = Device()
    stream = Scheduler(device.serve, 9).stream(speaking(*"abc"))
    for n in range(1, 4):
        next(stream)
        on_device(lambda: None)()  # what was queued behind the piece is done
        assert len(device.rounds) == n
    assert list(stream) == []


def test_nobody_is_spoken_to_far_ahead():
    device = Device()
    scheduler = Scheduler(device.serve, 9)
    stream = scheduler.stream(speaking(*"abcdefghijklmnop"))
    assert next(stream) == "a"
    for _ in range(50):
        scheduler.run(counting(0, 1))
    n = sum(need == Add(0) for one in device.rounds for need in one) - 50
    assert n <= AHEAD + 2
    assert "".join(stream) == "bcdefghijklmnop"


def test_a_stream_given_up_is_closed_before_the_next_round():
    device, closed = Device(), threading.Event()
    scheduler = Scheduler(device.serve, 9)
    stream = scheduler.stream(speaking(*"abcdefghij", closed=closed))
    assert next(stream) == "a"
    stream.close()
    assert closed.wait(10)
    assert scheduler.run(counting(7, 1)) == 8
    assert len(scheduler._running) == 0


def test_a_stream_closed_while_its_reader_waits_ends_for_both():
    said, closed = [], threading.Event()

    def request():
        try:
            yield Say("one")
            yield Add(0)
        finally:
            closed.set()

    stream = Scheduler(lambda needs: {}, 1).stream(request())
    reader = threading.Thread(target=lambda: said.extend(stream))
    reader.start()
    while not said:
        reader.join(0.01)
    stream.close()
    reader.join(5)
    assert not reader.is_alive()
    assert closed.wait(5)
    assert said == ["one"]
    assert list(stream) == []


def test_a_stream_that_is_forgotten_is_closed():
    closed = threading.Event()
    stream = Scheduler(Device().serve, 9).stream(speaking(*"abcdefghij", closed=closed))
    assert next(stream) == "a"
    del stream
    gc.collect()
    assert closed.wait(5)


def test_work_of_the_device_may_ask():
    scheduler = Scheduler(Device().serve, 9)
    assert on_device(lambda: scheduler.run(counting(1, 2)))() == 3
    assert on_device(lambda: list(scheduler.stream(speaking(*"abcdefgh"))))() == list("abcdefgh")


@settings(max_examples=30, deadline=None)
@given(
    reads=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    most=st.integers(1, 4),
    n_questions=st.integers(0, 4),
)
def test_giving_up_at_any_moment_disturbs_nobody(reads, most, n_questions):
    """Streams that are read to some length and closed, beside questions; everybody gets exactly what is theirs."""
    device = Device(most)
    scheduler = Scheduler(device.serve, 99)
    words = [f"{n}" for n in range(10)]

    def listen(n):
        stream = scheduler.stream(speaking(*words))
        heard = [piece for piece, _ in zip(stream, range(n), strict=False)] if n else []
        stream.close()
        return heard

    actions = [lambda n=n: listen(n) for n in reads]
    actions += [lambda n=n: scheduler.run(counting(n, 3)) for n in range(n_questions)]
    found = at_once(actions)
    assert found[: len(reads)] == [words[:n] for n in reads]
    assert found[len(reads) :] == [n + 3 for n in range(n_questions)]
    while scheduler._running:  # those given up last are closed in a round of their own
        pass
