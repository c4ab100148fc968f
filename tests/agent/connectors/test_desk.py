"""What every chat platform has in common: kept, asked for consent, answered once and in order, and forgotten."""

import asyncio
import contextlib
import io
import json
import wave

import pytest

from agent.care import Consent
from agent.connectors.connector import Attachment, Incoming, Undeliverable
from agent.connectors.desk import APOLOGY, GONE, MAX_BYTES, SILENT, TOO_LARGE, UNOPENED, UNSENT, Desk, chunks
from agent.connectors.inbox import Inbox
from memory.cipher import Cipher, new_key
from tests.agent.connectors.desks import REPLY, SAID, desk_of
from tests.agent.connectors.paper import Paper
from tests.agent.server.house import house
from tests.fakes import FakeModel


def message(id="1", text=SAID, user="ann", chat="home", order=None, **more):
    return Incoming(id, chat, user, float(id) if order is None else order, text, **more)


async def emptied(inbox, platform="paper"):
    """Once all is answered."""
    async with asyncio.timeout(5):
        while inbox.left(platform):
            await asyncio.sleep(0.01)


@pytest.fixture
def at(tmp_path):
    with house(tmp_path) as at:
        for user in ("paper:ann", "paper:ben"):
            at.people.agree(user, Consent(voice=True))
        yield at


@pytest.fixture
async def paper():
    return Paper()


async def test_a_message_is_answered_and_remembered_as_its_senders(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message())
        assert await paper.until(1) == [REPLY]
    assert paper.typed == ["home"]
    assert [episode.text for episode in at.store.list("paper:ann")] == [SAID]


async def test_the_same_message_is_answered_once(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message(), message())
        await paper.until(1)
        await paper.deliver(message())
        await asyncio.sleep(0.1)
    assert len(paper.sent) == 1


async def test_messages_that_arrive_out_of_order_are_answered_in_order(at, paper):
    async with desk_of(at, paper, settle_s=0.2):
        await paper.deliver(message("1", "second", order=2))
        await asyncio.sleep(0.05)
        await paper.deliver(message("2", "first", order=1), message("3", "third", order=3))
        await paper.until(3)
    assert [episode.text for episode in reversed(at.store.list("paper:ann"))] == ["first", "second", "third"]


async def test_two_people_in_one_chat_do_not_mix(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message("1", "I am Ann", "ann"), message("2", "I am Ben", "ben"))
        await paper.until(2)
    assert [episode.text for episode in at.store.list("paper:ann")] == ["I am Ann"]
    assert [episode.text for episode in at.store.list("paper:ben")] == ["I am Ben"]
    assert at.model.histories == [(), ()]


async def test_nothing_is_read_before_the_person_agrees_and_nothing_is_lost(tmp_path, paper):
    with house(tmp_path) as at:
        async with desk_of(at, paper):
            await paper.deliver(message())
            told = (await paper.until(1))[0]
            assert "I am a program" in told
            assert "/agree" in told
            assert at.model.calls == []
            await paper.deliver(message("2", "/agree voice"))
            texts = await paper.until(3)
            assert "I read your words and your voice." in texts[1]
            assert texts[2] == REPLY
        assert at.host.consent_of("paper:ann") == Consent(voice=True)
        assert [episode.text for episode in at.store.list("paper:ann")] == [SAID]


async def test_an_emergency_is_answered_before_any_consent(tmp_path, paper):
    with house(tmp_path) as at:
        async with desk_of(at, paper):
            await paper.deliver(message(text="I want to kill myself tonight."))
            told = (await paper.until(1))[0]
        assert told.index("help") < told.index("I am a program")
        assert at.model.calls == []
        assert at.store.count("paper:ann") == 0


async def test_who_disagrees_is_not_read_any_more(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message("1", "/disagree"), message("2"))
        assert "may not read" in (await paper.until(2))[1]
    assert at.model.calls == []


async def test_a_platform_of_text_alone_reads_no_voice_whatever_was_agreed(at, paper):
    paper.most = Consent()
    paper.attachments["note"] = sound()
    async with desk_of(at, paper):
        await paper.deliver(message(text="", attachment=Attachment("voice", "note")))
        await paper.until(1)
    assert at.store.list("paper:ann")[0].modalities == ("text",)


async def test_who_is_spoken_to_answers_aloud(at, paper):
    paper.attachments["note"] = sound()
    async with desk_of(at, paper):
        await paper.deliver(message(text="", attachment=Attachment("voice", "note")))
        assert await paper.until(1) == [REPLY]
    assert at.store.list("paper:ann")[0].modalities == ("text", "voice")
    assert paper.played[0][1].duration_s > 0.2


async def test_an_attachment_that_is_too_large_is_refused_before_it_is_fetched(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message(text="", attachment=Attachment("video", "film", MAX_BYTES + 1)))
        assert await paper.until(1) == [TOO_LARGE]


async def test_what_cannot_be_used_is_told_in_a_sentence(at, paper):
    paper.attachments["note"] = b"no sound at all"
    async with desk_of(at, paper):
        await paper.deliver(message(text="", attachment=Attachment("voice", "note")), message("2", "x" * 9_000))
        first, second = await paper.until(2)
    assert first.startswith("I could not use that")
    assert "9,000 characters" in second


async def test_a_fault_is_excused_and_the_next_message_is_answered(tmp_path, paper):
    class Failing(FakeModel):
        def perceive(self, prefix):
            if "fail" in prefix.text:
                raise RuntimeError("secret words")
            return super().perceive(prefix)

    with house(tmp_path, model=Failing()) as at:
        at.people.agree("paper:ann", Consent())
        async with desk_of(at, paper):
            await paper.deliver(message("1", "fail"), message("2"))
            assert await paper.until(2) == [APOLOGY, REPLY]


async def test_an_answer_that_is_not_sent_is_tried_again(at, paper):
    paper.failing = [ConnectionError(), ConnectionError()]
    async with desk_of(at, paper):
        await paper.deliver(message())
        assert await paper.until(1) == [REPLY]
    assert at.model.calls.count("attend") == 1


async def test_an_answer_that_cannot_be_delivered_blocks_nothing(at, paper):
    paper.failing = [Undeliverable()]
    async with desk_of(at, paper):
        await paper.deliver(message("1"), message("2", "And now?"))
        assert await paper.until(1) == [REPLY]


async def test_what_was_left_is_answered_after_a_restart(at, paper):
    paper.failing = [ConnectionError()] * 3
    async with desk_of(at, paper) as inbox:
        await paper.deliver(message())
        async with asyncio.timeout(5):
            while paper.failing:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
    assert paper.sent == []
    again = Paper()
    async with desk_of(at, again, inbox=inbox):
        assert await again.until(1) == [REPLY]
    assert at.model.calls.count("attend") == 1  # it was answered before, and only had to be sent


async def test_an_answer_that_got_through_though_sending_it_failed_is_not_sent_again(at, paper):
    paper.losing = [ConnectionError()]
    async with desk_of(at, paper) as inbox:
        await paper.deliver(message())
        await emptied(inbox)
    assert [text for _, text in paper.sent] == [REPLY]
    assert paper.asked == [("home", "1:0")]


async def test_an_answer_that_got_through_before_a_restart_is_not_sent_again(at, paper):
    paper.max_chars = 14
    paper.losing = [ConnectionError()]
    async with desk_of(at, paper, retries_s=(60,)) as inbox:
        await paper.deliver(message())
        await paper.until(1)
    again = Paper(max_chars=14)
    again.keys = paper.keys
    async with desk_of(at, again, inbox=inbox):
        await emptied(inbox)
    assert [text for _, text in paper.sent + again.sent] == ["I hear you.", "Tell me more?"]
    assert again.asked == [("home", "1:0")]


async def test_a_platform_is_not_asked_what_nobody_tried_to_send(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message("1"), message("2"), message("3", "/memory"))
        await paper.until(3)
    assert paper.asked == []


async def test_a_desk_that_is_run_again_goes_on(at, paper, monkeypatch):
    async def fails(take):
        raise ConnectionError

    inbox = Inbox(at.home / "inbox.sqlite")
    inbox.keep("paper", message())
    desk = Desk(at.host, paper, inbox, settle_s=0.02)
    with monkeypatch.context() as broken:
        broken.setattr(paper, "run", fails)
        with pytest.raises(ConnectionError):
            await desk.run()
    running = asyncio.create_task(desk.run())
    assert await paper.until(1) == [REPLY]
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_message_that_comes_while_none_is_found_is_answered(at, paper):
    class Late(Inbox):
        """Another message is kept between looking for one and hearing that there was none."""

        def first(self, platform, chat):
            found = super().first(platform, chat)
            if found is None and "2" not in sent:
                sent.append("2")
                asyncio.run_coroutine_threadsafe(paper.deliver(message("2")), loop).result()
            return found

    sent, loop = [], asyncio.get_running_loop()
    async with desk_of(at, paper, inbox=Late(at.home / "inbox.sqlite")):
        await paper.deliver(message("1"))
        assert await paper.until(2) == [REPLY, REPLY]


async def test_a_start_is_answered_by_what_the_agent_is(tmp_path, paper):
    with house(tmp_path) as at:
        async with desk_of(at, paper):
            await paper.deliver(message("1", "/start"), message("2", "/agree"))
            texts = await paper.until(3)
    assert "I am a program" in texts[0]
    assert "/memory" in texts[2]


async def test_an_attachment_that_cannot_be_fetched_yet_is_fetched_again(at, paper):
    paper.attachments["note"] = sound()
    paper.refusing = [ConnectionError()]
    async with desk_of(at, paper):
        await paper.deliver(message(text="", attachment=Attachment("voice", "note")))
        assert await paper.until(1) == [REPLY]


@pytest.mark.parametrize("errors", [[Undeliverable()], [ConnectionError()] * 3])
async def test_an_attachment_that_is_gone_blocks_nothing(at, paper, errors):
    paper.refusing = errors.copy()
    async with desk_of(at, paper):
        await paper.deliver(message("1", "", attachment=Attachment("voice", "note")), message("2"))
        assert await paper.until(2) == [GONE, REPLY]


async def test_a_file_that_cannot_be_sent_is_told_and_blocks_nothing(at, paper):
    paper.refusing = [ConnectionError(), Undeliverable()]
    async with desk_of(at, paper):
        await paper.deliver(message("1", "/export"), message("2"))
        assert await paper.until(2) == [UNSENT, REPLY]


async def test_the_last_message_of_each_chat_is_known_after_its_answer(at, paper):
    async with desk_of(at, paper) as inbox:
        await paper.deliver(message("2"), message("1"), message("7", chat="club"))
        await paper.until(3)
    assert inbox.latest("paper") == {"club": "7", "home": "2"}
    assert inbox.latest("other") == {}


async def test_files_of_other_kinds_are_not_opened_and_their_words_are_read(at, paper):
    paper.refusing = [AssertionError()] * 5
    file = Attachment("file", "report.pdf", 10)
    async with desk_of(at, paper):
        await paper.deliver(message("1", "", attachment=file), message("2", attachment=file))
        assert await paper.until(2) == [UNOPENED, f"{REPLY}\n\n{UNOPENED}"]
    assert [episode.text for episode in at.store.list("paper:ann")] == [SAID]


async def test_a_command_that_fails_blocks_nothing(at, paper, monkeypatch):
    async def broken(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr("agent.connectors.desk.answer_to", broken)
    async with desk_of(at, paper):
        await paper.deliver(message("1", "/memory"), message("2"))
        assert await paper.until(2) == [APOLOGY, REPLY]


async def test_no_words_stay_once_an_answer_is_sent(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message())
        await paper.until(1)
    kept = (at.home / "inbox.sqlite").read_bytes()
    assert b"cat" not in kept
    assert b"hear you" not in kept


async def test_what_waits_is_sealed_where_the_memory_is(tmp_path, paper):
    with house(tmp_path) as at:
        inbox = Inbox(at.home / "inbox.sqlite", Cipher(new_key()))
        async with desk_of(at, paper, inbox=inbox):
            await paper.deliver(message())
            await paper.until(1)
            assert b"cat" not in (at.home / "inbox.sqlite").read_bytes()
            await paper.deliver(message("2", "/agree"))
            assert (await paper.until(3))[2] == REPLY


async def test_a_person_can_look_into_correct_and_take_away_what_is_remembered(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message("1"))
        await paper.until(1)
        id = at.store.list("paper:ann")[0].id[:6]
        await paper.deliver(message("2", "/memory"), message("3", "!memory cat"), message("4", f"/memory why {id}"))
        *_, listed, found, why = await paper.until(4)
        assert f"sad: “{SAID}” [{id}]" in listed
        assert SAID in found
        assert f"“{REPLY}”" in why
        await paper.deliver(message("5", f"/memory correct {id} angry"))
        assert "angry" in (await paper.until(5))[4]
        await paper.deliver(message("6", "/export"))
        await paper.until(6)
        lines = [json.loads(line) for line in paper.files[0][2].decode().splitlines()]
        assert lines[1]["episode"]["affect"]["emotion"] == "angry"
        await paper.deliver(message("7", "/forget all"))
        assert "would forget 1 turn" in (await paper.until(7))[6]
        assert at.store.count("paper:ann") == 1
        await paper.deliver(message("8", "/forget all yes"))
        assert "forgotten 1 turn" in (await paper.until(8))[7]
    assert at.store.count("paper:ann") == 0


async def test_memory_is_shown_in_private_only(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message("1", "/memory", private=False), message("2", "/export", private=False))
        assert [("private" in text) for text in await paper.until(2)] == [True, True]
    assert paper.files == []


async def test_the_agent_is_silent_where_it_was_told_to_be(at, paper):
    async with desk_of(at, paper):
        await paper.deliver(message("1", "/quiet"), message("2"), message("3", "/quiet off"), message("4"))
        texts = await paper.until(3)
    assert texts[0] == SILENT
    assert texts[2] == REPLY
    assert at.store.count("paper:ann") == 1


async def test_silence_in_a_place_is_silence_in_its_threads(at, paper):
    async with desk_of(at, paper) as inbox:
        await paper.deliver(message("1", "/quiet", chat="room"), message("2", "/quiet", chat="hall/1"))
        await paper.until(2)
        await paper.deliver(*(message(id, chat=chat) for id, chat in (("3", "room/1"), ("4", "hall/1"), ("5", "hall"))))
        await paper.until(3)
        await emptied(inbox)
    assert paper.sent[2:] == [("hall", REPLY)]


@pytest.mark.parametrize("text", ["a. b. c", "word " * 300, "x" * 500, "line\n\nline\n" * 40, ""])
def test_long_text_is_cut_without_losing_a_word(text):
    parts = chunks(text, 100)
    assert all(0 < len(part) <= 100 for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())


def sound():
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\x00\x10\x00\xf0" * 8_000)
    return held.getvalue()
