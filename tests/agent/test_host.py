"""One agent for many people: order, room, consent, and messages that come twice."""

import asyncio
import threading

import pytest

from agent.care import Consent
from agent.events import Finished, Started
from agent.host import Busy, Closing, Message
from model.types import Utterance
from tests.agent.server.house import EVERYTHING, SAID, house
from tests.fakes import FakeModel


class Waiting(FakeModel):
    """A model that answers when it is let."""

    def __init__(self):
        super().__init__()
        self.go = threading.Event()
        self.read = []

    def perceive(self, prefix):
        self.read.append(prefix.text)
        assert self.go.wait(10)
        return super().perceive(prefix)


def ask(at, text=SAID, user="ann", thread="main", **more):
    return asyncio.create_task(at.host.ask(Message(user, thread, text, **more)))


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def waiting(tmp_path):
    model = Waiting()
    with house(tmp_path, model=model, at_once=2, waiting=2, each=3) as at:
        yield at
        model.go.set()


async def test_turns_of_one_conversation_are_answered_one_after_the_other(waiting):
    tasks = [ask(waiting, text) for text in ("one", "two", "three")]
    await until(lambda: waiting.model.read)
    await asyncio.sleep(0.05)
    assert waiting.model.read == ["one"]
    waiting.model.go.set()
    await asyncio.gather(*tasks)
    assert waiting.model.read == ["one", "two", "three"]
    assert [len(history) for history in waiting.model.histories] == [0, 2, 4]


async def test_so_many_run_at_once_the_next_wait_and_more_are_turned_away(waiting):
    tasks = [ask(waiting, user=user) for user in ("a", "b", "c", "d")]
    await until(lambda: len(waiting.model.read) == 2)
    await asyncio.sleep(0.05)
    assert len(waiting.model.read) == 2
    with pytest.raises(Busy) as busy:
        await ask(waiting, user="e")
    assert busy.value.retry_after_s >= 1
    assert waiting.host.n_here == 4
    waiting.model.go.set()
    assert len(await asyncio.gather(*tasks)) == 4
    assert (await ask(waiting, user="e")).reply
    assert waiting.host.n_here == 0


async def test_one_person_cannot_take_every_place(waiting):
    tasks = [ask(waiting, thread=str(i)) for i in range(3)]
    await until(lambda: waiting.model.read)
    with pytest.raises(Busy, match="of yours"):
        await ask(waiting, thread="4")
    other = ask(waiting, user="ben")
    waiting.model.go.set()
    await asyncio.gather(*tasks, other)


async def test_a_turn_is_finished_though_nobody_listens_any_more(waiting):
    events = waiting.host.turn(Message("ann", "main", SAID))
    assert isinstance(await anext(events), Started)
    await events.aclose()
    waiting.model.go.set()
    await until(lambda: waiting.store.count("ann") == 1)


async def test_turns_that_have_begun_are_finished_before_the_end_and_none_begins(waiting):
    task = ask(waiting)
    await until(lambda: waiting.model.read)
    closing = asyncio.create_task(waiting.host.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    with pytest.raises(Closing):
        await ask(waiting, user="ben")
    waiting.model.go.set()
    await closing
    assert (await task).reply


async def test_a_message_that_comes_again_while_it_is_answered_is_answered_once(waiting):
    tasks = [ask(waiting, id="m1") for _ in range(2)]
    await until(lambda: waiting.model.read)
    waiting.model.go.set()
    first, second = await asyncio.gather(*tasks)
    assert first.turn_id == second.turn_id
    assert first.reply == second.reply
    assert waiting.store.count("ann") == 1


async def test_the_same_id_of_another_person_or_conversation_is_another_message(tmp_path):
    with house(tmp_path) as at:
        who = (("ann", "x"), ("ann", "y"), ("ben", "x"))
        results = [await ask(at, user=user, thread=thread, id="m1") for user, thread in who]
    assert len({result.turn_id for result in results}) == 3


async def test_a_person_is_read_as_far_as_they_and_the_operator_allow(tmp_path):
    with house(tmp_path, most=Consent(voice=True)) as at:
        assert at.host.consent_of("ann") == Consent()
        at.people.agree("ann", EVERYTHING)
        assert at.host.consent_of("ann") == Consent(voice=True)


async def test_a_dialogue_given_takes_the_place_of_the_known_one(tmp_path):
    with house(tmp_path) as at:
        await ask(at)
        given = [Utterance("user", "Hello."), Utterance("assistant", "Hello, how are you?")]
        await ask(at, dialogue=given)
        await ask(at, dialogue=[])
    assert at.model.histories[1:] == [tuple(given), ()]


async def test_forgetting_waits_for_the_turns_that_have_begun(waiting):
    task = ask(waiting)
    await until(lambda: waiting.model.read)
    forgetting = asyncio.create_task(waiting.host.forget("ann", all=True))
    await asyncio.sleep(0.05)
    assert not forgetting.done()
    waiting.model.go.set()
    await task
    assert (await forgetting).n_episodes == 1
    assert waiting.store.count("ann") == 0


async def test_a_failure_is_told_and_leaves_room(tmp_path):
    class Failing(FakeModel):
        def perceive(self, prefix):
            raise RuntimeError("broken")

    with house(tmp_path, model=Failing(), at_once=1, waiting=0) as at:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="broken"):
                await ask(at)
        assert at.host.n_here == 0


async def test_numbers_are_counted_when_a_turn_is_over(tmp_path):
    with house(tmp_path) as at:
        seen = []
        at.host.on_finished = seen.append
        await ask(at)
    assert [type(event) for event in seen] == [Finished]


async def test_who_was_forgotten_is_told_again_what_they_talk_with(tmp_path):
    with house(tmp_path) as at:
        told = []
        for forget in (False, False, True):
            if forget:
                await at.host.forget("ann", all=True)
            async for event in at.host.turn(Message("ann", "main", SAID)):
                if isinstance(event, Started):
                    told.append(event.disclosure is not None)
    assert told == [True, False, True]


async def test_others_go_on_talking_while_somebody_is_forgotten(tmp_path):
    with house(tmp_path, at_once=8, waiting=100, each=100) as at:
        await ask(at, user="ann")
        turns = [ask(at, user="ben", thread=str(i)) for i in range(40)]
        for _ in range(5):
            await at.host.forget("ann", all=True)
            await ask(at, user="ann")
        await asyncio.gather(*turns)
        assert at.store.count("ben") == 40
