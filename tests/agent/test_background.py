import asyncio
import contextvars
import threading
import time

import pytest

from agent.background import Background, in_background


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


async def test_a_generator_in_the_background_is_closed_where_it_next_yields():
    told, closed = [], asyncio.Event()
    loop = asyncio.get_running_loop()

    def count():
        try:
            for i in range(1000):
                told.append(i)
                yield i
                time.sleep(0.005)
        finally:
            loop.call_soon_threadsafe(closed.set)

    items = in_background(count())
    assert await anext(items) == 0
    await items.aclose()
    await asyncio.wait_for(closed.wait(), 5)
    assert len(told) < 100


async def test_what_a_generator_in_the_background_raises_is_raised_here():
    def count():
        yield 1
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        async for _ in in_background(count()):
            pass


async def test_many_generators_in_the_background_go_on_at_once():
    gate = threading.Barrier(50)

    def meet():
        gate.wait(10)
        yield 1

    async def first(items):
        return [item async for item in items]

    assert await asyncio.gather(*(first(in_background(meet())) for _ in range(50))) == [[1]] * 50
