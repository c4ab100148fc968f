"""Who has the floor, decided frame by frame, without a pipeline."""

import asyncio

import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    InterruptionFrame,
    UserBackchannelFrame,
    UserSpeakingFrame,
    VADUserStartedSpeakingFrame,
)

from agent.voice import turns
from agent.voice.frames import Felt, HeardSoFar, HearingFailed
from agent.voice.turns import BargeIn, PatientStop
from perception.types import Absence, Speech, UserTurn
from tests.fakes import affect_of


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class Tasks:
    """A task manager of plain tasks."""

    def __init__(self):
        self.live = set()

    def create_task(self, coroutine, name):
        task = asyncio.create_task(coroutine)
        self.live.add(task)
        return task

    async def cancel_task(self, task, timeout=None):
        task.cancel()
        self.live.discard(task)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(turns, "time", clock)
    return clock


def heard(text, *, spoken_s=0.5, silent_since=100.0, turn=None):
    return HeardSoFar(turn or UserTurn(text), 1.0, spoken_s, silent_since, silent_since)


@pytest.fixture
def barge_in(clock):
    """The strategy, and what it decided: frames it sent, and "turn" where one began."""
    strategy = BargeIn()
    decided = strategy.decided = []

    @strategy.event_handler("on_broadcast_frame")
    async def on_broadcast_frame(_, frame, **fields):
        decided.append(frame)

    @strategy.event_handler("on_user_turn_started")
    async def on_user_turn_started(_, params):
        decided.append("turn")

    return strategy


async def feed(strategy, *frames):
    for frame in frames:
        await strategy.process_frame(frame)


async def test_speech_in_silence_begins_a_turn(barge_in):
    await feed(barge_in, VADUserStartedSpeakingFrame())
    assert barge_in.decided == ["turn"]


async def test_speech_after_the_agent_begins_a_turn(barge_in):
    await feed(barge_in, BotStartedSpeakingFrame(), BotStoppedSpeakingFrame(), VADUserStartedSpeakingFrame())
    assert barge_in.decided == ["turn"]


@pytest.mark.parametrize(
    ("text", "spoken_s", "then"),
    [
        ("", 0.3, UserBackchannelFrame),
        ("(coughs)", 0.3, UserBackchannelFrame),
        ("Mm-hm.", 0.5, UserBackchannelFrame),
        ("Mm-hm.", 3.0, "turn"),
        ("Wait.", 0.3, "turn"),
        ("But I got the job.", 1.0, "turn"),
    ],
)
async def test_speech_over_the_agent_is_judged_by_its_words(barge_in, text, spoken_s, then):
    await feed(barge_in, BotStartedSpeakingFrame(), VADUserStartedSpeakingFrame(), BotStoppedSpeakingFrame())
    assert barge_in.decided == [InterruptionFrame]
    await feed(barge_in, heard(text, spoken_s=spoken_s))
    assert barge_in.decided == [InterruptionFrame, then]


async def test_whoever_speaks_on_over_the_agent_has_the_floor(barge_in, clock):
    await feed(barge_in, BotStartedSpeakingFrame(), VADUserStartedSpeakingFrame(), UserSpeakingFrame())
    clock.now += turns.BACKCHANNEL_S
    await feed(barge_in, UserSpeakingFrame())
    assert barge_in.decided == [InterruptionFrame]
    clock.now += 0.1
    await feed(barge_in, UserSpeakingFrame(), UserSpeakingFrame())
    assert barge_in.decided == [InterruptionFrame, "turn"]


async def test_one_hold_is_decided_once(barge_in):
    await feed(barge_in, BotStartedSpeakingFrame(), VADUserStartedSpeakingFrame(), VADUserStartedSpeakingFrame())
    await feed(barge_in, heard("Wait."), heard("Wait, listen."))
    assert barge_in.decided == [InterruptionFrame, "turn"]


async def test_a_recogniser_that_fails_ends_the_hold(barge_in):
    await feed(barge_in, BotStartedSpeakingFrame(), VADUserStartedSpeakingFrame(), BotStoppedSpeakingFrame())
    await feed(barge_in, HearingFailed("TimeoutError"), UserSpeakingFrame())
    assert barge_in.decided == [InterruptionFrame]
    await feed(barge_in, VADUserStartedSpeakingFrame())
    assert barge_in.decided == [InterruptionFrame, "turn"]


@pytest.mark.parametrize(("speech", "then"), [(Speech([0.0]), "turn"), (None, UserBackchannelFrame)])
async def test_whoever_keeps_their_words_to_themselves_may_break_in(barge_in, speech, then):
    await feed(barge_in, BotStartedSpeakingFrame(), VADUserStartedSpeakingFrame())
    await feed(barge_in, heard("", turn=UserTurn("", speech, absent={"text": Absence.NO_CONSENT})))
    assert barge_in.decided == [InterruptionFrame, then]


@pytest.fixture
def patient(clock, monkeypatch):
    """The strategy, and how long it waits each time; `asked` keeps what the wait was asked of."""
    strategy = PatientStop()
    strategy.waits, strategy.asked, strategy.ended = [], [], []
    strategy._task_manager = Tasks()

    async def sleep(seconds):
        strategy.waits.append(round(seconds, 3))
        await asyncio.Event().wait()

    def wait_s(complete, text, affect):
        strategy.asked.append((complete, text, affect))
        return 0.6 if affect is None else 1.0

    monkeypatch.setattr(turns, "wait_s", wait_s)
    monkeypatch.setattr(turns.asyncio, "sleep", sleep)

    @strategy.event_handler("on_user_turn_stopped")
    async def on_user_turn_stopped(_, params):
        strategy.ended.append(True)

    return strategy


async def begin():
    """Let the tasks that were made run up to where they wait."""
    await asyncio.wait([asyncio.create_task(asyncio.Event().wait())], timeout=0.01)


async def test_the_wait_counts_from_the_end_of_speech(patient, clock):
    clock.now = 100.4
    await feed(patient, heard("I had a long day."))
    await begin()
    assert patient.waits == [0.2]
    assert patient.asked == [(1.0, "I had a long day.", None)]


async def test_a_feeling_changes_the_wait(patient, clock):
    await feed(patient, heard("I had a long day."))
    await begin()
    clock.now += 0.3
    await feed(patient, Felt(affect_of("sad")))
    await begin()
    assert patient.waits == [0.6, 0.7]
    assert len(patient._task_manager.live) == 1


async def test_a_feeling_after_the_turn_changes_nothing_but_the_next_wait(patient):
    await feed(patient, Felt(affect_of("sad")))
    assert patient.asked == []
    await feed(patient, heard("I had a long day."))
    await begin()
    assert patient.waits == [1.0]


async def test_whoever_goes_on_is_waited_for_anew(patient):
    await feed(patient, heard("I had a long day and"))
    await begin()
    await feed(patient, VADUserStartedSpeakingFrame())
    assert patient._task_manager.live == set()
    await feed(patient, heard("I had a long day and a worse night."))
    await begin()
    assert patient.waits == [0.6, 0.6]


async def test_nobody_waits_after_the_end(patient):
    await feed(patient, heard("I had a long day."))
    await patient.handle_user_turn_stopped()
    assert patient._task_manager.live == set()


async def test_a_wait_that_is_over_ends_the_turn_at_once(patient, clock, monkeypatch):
    async def sleep(seconds):
        patient.waits.append(seconds)

    monkeypatch.setattr(turns.asyncio, "sleep", sleep)
    clock.now += 5  # the recogniser took long
    await feed(patient, heard("I had a long day."))
    await begin()
    assert patient.waits == [0]
    assert patient.ended == [True]
