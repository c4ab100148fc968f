"""Work after turns: once their conversation pauses, together, and all of it before the end."""

import threading
import time

import pytest

from agent.afterthought import AT_MOST, Afterthoughts


@pytest.fixture
def after():
    after = Afterthoughts(pause_s=60)
    yield after
    after.close()


def test_nothing_is_thought_about_while_a_conversation_goes_on(after):
    done = []
    after.add("x", lambda: done.append(1), "t1")
    time.sleep(0.05)
    assert done == []
    after.settle()
    assert done == [1]


def test_a_conversation_that_pauses_is_thought_about():
    after, done = Afterthoughts(pause_s=0.02), threading.Event()
    after.add("x", done.set, "t1")
    assert done.wait(5)
    after.close()


def test_turns_of_one_conversation_are_thought_about_together(after):
    done = []
    for n in range(AT_MOST - 1):
        after.add("x", lambda n=n: done.append(("x", n)), "t")
    after.add("y", lambda: done.append(("y", 0)), "t")
    after.settle()
    assert sorted(done) == [("x", AT_MOST - 2), ("y", 0)]


def test_a_conversation_that_does_not_pause_is_thought_about_all_the_same(after):
    done = threading.Event()
    for n in range(AT_MOST):
        assert not done.is_set()
        after.add("x", done.set, f"t{n}")
    assert done.wait(5)


def test_a_failure_stops_nothing_and_says_no_words(after, caplog):
    done = []

    def fail():
        raise RuntimeError("secret words")

    after.add("x", fail, "t1")
    after.add("y", lambda: done.append(1), "t2")
    after.settle()
    assert done == [1]
    assert "turn t1: the afterthought failed: RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_closing_finishes_what_was_added():
    after, done = Afterthoughts(pause_s=60), []
    after.add("x", lambda: done.append(1), "t1")
    after.close()
    assert done == [1]
