import contextvars
import threading
import time

import pytest

from agent.background import Background


def test_what_is_told_is_taken_in_order():
    assert list(Background(lambda tell: [tell(i) for i in range(5)]).rest()) == [0, 1, 2, 3, 4]


def test_what_is_ready_is_taken_without_waiting():
    told, go_on = threading.Event(), threading.Event()

    def work(tell):
        tell("first")
        told.set()
        go_on.wait(10)
        tell("second")

    background = Background(work)
    told.wait(10)
    assert list(background.ready()) == ["first"]
    assert list(background.ready()) == []
    go_on.set()
    assert list(background.rest()) == ["second"]
    assert list(background.rest()) == []


def test_an_error_comes_after_what_was_told():
    def work(tell):
        tell("first")
        raise LookupError("lost")

    background = Background(work)
    background.join()
    assert list(background.ready()) == ["first"]
    with pytest.raises(LookupError, match="lost"):
        list(background.rest())


def test_work_that_was_given_up_ends_where_it_next_tells_something():
    started, told = threading.Event(), []

    def work(tell):
        for number in range(1_000):
            started.set()
            time.sleep(0.005)
            tell(number)
            told.append(number)

    background = Background(work)
    started.wait(10)
    background.give_up()
    background.join()
    assert len(told) < 1_000


def test_work_runs_in_the_context_of_whoever_started_it():
    trace = contextvars.ContextVar("trace", default="none")
    trace.set("turn 7")
    assert list(Background(lambda tell: tell(trace.get())).rest()) == ["turn 7"]
