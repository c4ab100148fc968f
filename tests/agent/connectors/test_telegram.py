"""Telegram, through the real python-telegram-bot, against a Bot API on this machine."""

import asyncio
import contextlib
import io
import logging
import wave

import pytest

pytest.importorskip("telegram", reason="python-telegram-bot is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")
pytest.importorskip("fastapi", reason="fastapi is not installed")

from telegram.error import Conflict, InvalidToken

from agent.care import Consent
from agent.connectors.backoff import Backoff
from agent.connectors.connector import Attachment, Incoming
from agent.connectors.desk import SILENT, TOO_LARGE, UNOPENED
from agent.connectors.inbox import Inbox
from agent.connectors.telegram import TelegramConnector
from tests.agent.connectors.desks import REPLY, SAID, desk_of
from tests.agent.connectors.telegram_double import MAX_DOWNLOAD, ME, TOKEN, TelegramDouble
from tests.agent.server.house import house
from tests.fakes import FakeModel

GROUP = -1001


class Echo(FakeModel):
    """Says again what it was told."""

    def empathize(self, prefix, brief):
        yield f"You said: {prefix.text}"


@pytest.fixture
def at(tmp_path):
    with house(tmp_path) as at:
        for user in ("telegram:1", "telegram:2"):
            at.people.agree(user, Consent(voice=True))
        yield at


@pytest.fixture
async def double():
    async with TelegramDouble().serving() as double:
        yield double


@contextlib.asynccontextmanager
async def served(at, double, token=TOKEN):
    """The agent on it."""
    with contextlib.closing(Inbox(at.home / "inbox.sqlite")) as inbox:
        connector = TelegramConnector(token, double.url, backoff=Backoff(0.01))
        async with desk_of(at, connector, inbox=inbox, retries_s=(0.01,) * 3):
            yield inbox


class Read:
    """Keeps what the connector hands over."""

    def __init__(self, double, token=TOKEN):
        self.connector = TelegramConnector(token, double.url, backoff=Backoff(0.01))
        self.taken: list[Incoming] = []

    async def take(self, message):
        self.taken.append(message)

    async def until(self, n):
        async with asyncio.timeout(10):
            while len(self.taken) < n:
                await asyncio.sleep(0.005)
        return self.taken

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.connector.run(self.take))
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_a_message_is_answered(at, double):
    async with served(at, double):
        double.say(SAID)
        (sent,) = await double.until(1)
    assert (sent.chat, sent.text) == (1, REPLY)
    assert double.n_actions == 1
    assert [episode.text for episode in at.store.list("telegram:1")] == [SAID]


async def test_a_voice_note_is_heard_and_answered_by_one(at, double):
    import av

    double.files["note"] = sound()
    async with served(at, double):
        double.say(voice={"file_id": "note", "file_unique_id": "n", "duration": 1, "file_size": len(sound())})
        await double.until(1)
        (note,) = await double.until(1, "sendVoice")
    assert at.store.list("telegram:1")[0].modalities == ("text", "voice")
    with av.open(io.BytesIO(note.file)) as file:
        stream = file.streams.audio[0]
        assert (file.format.name, stream.codec_context.name, stream.rate) == ("ogg", "opus", 48_000)
        assert stream.layout.name == "mono"
        length_s = sum(frame.samples for frame in file.decode(stream)) / 48_000
    assert length_s == pytest.approx(0.05 * len(REPLY.split()), abs=0.05)


async def test_an_update_is_confirmed_only_when_its_message_is_kept(double):
    class Slow(Read):
        kept = asyncio.Event()

        async def take(self, message):
            await self.kept.wait()
            await super().take(message)

    reader = Slow(double)
    async with reader.running():
        id = double.say(SAID)
        await asyncio.sleep(0.1)
        assert double.confirmed == 0
        reader.kept.set()
        await reader.until(1)
        async with asyncio.timeout(5):
            while double.confirmed < id:
                await asyncio.sleep(0.005)


async def test_an_update_that_could_not_be_kept_comes_again(at, double):
    class Full(Read):
        async def take(self, message):
            raise OSError("the disk is full")

    double.say(SAID)
    full = Full(double)
    with pytest.raises(OSError, match="full"):
        await full.connector.run(full.take)
    assert double.confirmed == 0
    async with served(at, double):
        assert (await double.until(1))[0].text == REPLY


async def test_an_update_delivered_twice_is_answered_once(at, double):
    async with served(at, double):
        message = double.message(SAID)
        for _ in range(2):
            double.deliver({"message": message})
        await double.until(1)
        double.deliver({"message": message})
        double.say("And now?")
        await double.until(2)
        await asyncio.sleep(0.05)
    assert len(double.texts()) == 2
    assert at.store.count("telegram:1") == 2


async def test_messages_out_of_order_are_answered_in_order(at, double):
    first, second = double.message("first"), double.message("second")
    double.deliver({"message": second})
    double.deliver({"message": first})
    async with served(at, double):
        await double.until(2)
    assert [episode.text for episode in reversed(at.store.list("telegram:1"))] == ["first", "second"]


@pytest.mark.parametrize("failure", [500, 502, 429, "drop"])
async def test_it_connects_again_when_telegram_fails(at, double, failure):
    double.failing["getUpdates"] = [failure] * 4
    async with served(at, double):
        double.say(SAID)
        assert (await double.until(1))[0].text == REPLY
    assert double.polls < 5  # none of them in a hurry


async def test_what_waiting_does_not_mend_is_told(double):
    with pytest.raises(InvalidToken):
        await Read(double, token="123456:wrong").connector.run(None)
    double.failing["getUpdates"] = [409]
    with pytest.raises(Conflict):
        await Read(double).connector.run(None)


async def test_a_rate_limit_is_waited_for(at, double):
    double.failing["sendMessage"] = [("wait", 1)]
    async with served(at, double):
        loop = asyncio.get_running_loop()
        double.say(SAID)
        began = loop.time()
        await double.until(1)
        assert loop.time() - began > 1


async def test_a_group_that_moved_is_answered_where_it_is_now(at, double):
    double.failing["sendMessage"] = [("moved", -100777)]
    async with served(at, double):
        double.say("@emox_bot hello", chat=-5)
        assert (await double.until(1))[0].chat == -100777


@pytest.mark.parametrize("failure", [403, 400])
async def test_who_has_turned_the_agent_away_holds_up_nobody(at, double, failure):
    double.failing["sendMessage"] = [failure]
    async with served(at, double) as inbox:
        double.say("go away", user=1)
        async with asyncio.timeout(5):
            while double.failing["sendMessage"]:
                await asyncio.sleep(0.005)
        double.say(SAID, user=2)
        assert [(sent.chat, sent.text) for sent in await double.until(1)] == [(2, REPLY)]
        async with asyncio.timeout(5):
            while inbox.left("telegram"):
                await asyncio.sleep(0.005)


async def test_two_people_do_not_mix(at, double):
    async with served(at, double):
        double.say("I am Ann", user=1)
        double.say("I am Ben", user=2)
        double.say("@emox_bot I am Ann in a group", user=1, chat=GROUP)
        await double.until(3)
    assert {sent.chat for sent in double.sent} == {1, 2, GROUP}
    assert sorted(e.text for e in at.store.list("telegram:1")) == ["I am Ann", "I am Ann in a group"]
    assert [e.text for e in at.store.list("telegram:2")] == ["I am Ben"]
    assert at.model.histories == [()] * 3


BOT_SAID = {"message_id": 5, "date": 1, "chat": {"id": GROUP, "type": "supergroup"}, "from": ME, "text": "Yes?"}
BEN_SAID = BOT_SAID | {"from": {"id": 2, "is_bot": False, "first_name": "Ben"}}
TOPIC = BOT_SAID | {"forum_topic_created": {"name": "cats", "icon_color": 1}}


@pytest.mark.parametrize(
    ("text", "more", "read"),
    [
        ("hello everybody", {}, None),
        ("write to emox_bot", {}, None),
        ("mail me at ann@emox_bot.example", {}, None),
        ("@emox_bot2 hello", {}, None),
        ("/memory@other_bot", {}, None),
        ("/weather", {}, None),
        ("no", {"reply_to_message": BEN_SAID}, None),
        ("in a topic of the bot", {"reply_to_message": TOPIC}, None),
        ("@Emox_Bot  hello", {}, "hello"),
        ("what do you say, @emox_bot?", {}, "what do you say, ?"),
        ("yes", {"reply_to_message": BOT_SAID}, "yes"),
        ("/memory@emox_bot cat", {}, "/memory@emox_bot cat"),
        ("!quiet", {}, "!quiet"),
        ("@emox_bot", {}, "/help"),
    ],
)
async def test_of_a_group_only_what_is_meant_for_it_is_read(double, text, more, read):
    reader = Read(double)
    async with reader.running():
        double.say(text, chat=GROUP, **more)
        double.say("last")
        taken = await reader.until(1 if read is None else 2)
    assert [message.text for message in taken] == [*([] if read is None else [read]), "last"]
    assert [message.private for message in taken] == [*([] if read is None else [False]), True]


async def test_other_bots_edits_channels_and_events_are_ignored(double):
    reader = Read(double)
    async with reader.running():
        double.deliver({"message": double.message("me") | {"from": ME}})
        double.deliver({"edited_message": double.message("edited", edit_date=5)})
        double.deliver({"channel_post": {k: v for k, v in double.message("post").items() if k != "from"}})
        double.say(location={"latitude": 1, "longitude": 2})
        double.say(new_chat_members=[ME], chat=GROUP)
        double.say("last")
        assert [message.text for message in await reader.until(1)] == ["last"]


async def test_a_topic_is_a_conversation_of_its_own(at, double):
    async with served(at, double):
        for topic in (7, 8):
            double.say("@emox_bot hello", chat=GROUP, message_thread_id=topic, is_topic_message=True)
        await double.until(2)
    assert {(sent.chat, sent.topic) for sent in double.sent} == {(GROUP, 7), (GROUP, 8)}
    assert at.model.histories == [(), ()]


def file(id="f", n=10, **more):
    return {"file_id": id, "file_unique_id": id, "file_size": n} | more


SIZED = {"width": 1, "height": 1}


@pytest.mark.parametrize(
    ("message", "attachment"),
    [
        ({"voice": file(duration=1)}, Attachment("voice", "f", 10)),
        ({"audio": file(duration=1)}, Attachment("voice", "f", 10)),
        ({"video_note": file(duration=1, length=1)}, Attachment("video", "f", 10)),
        ({"video": file(duration=1, **SIZED)}, Attachment("video", "f", 10)),
        ({"photo": [file("small", **SIZED), file("large", 99, **SIZED)]}, Attachment("picture", "large", 99)),
        ({"document": file(mime_type="image/png")}, Attachment("picture", "f", 10)),
        ({"document": file(mime_type="application/pdf")}, Attachment("file", "f", 10)),
        ({"sticker": file(type="regular", is_animated=False, is_video=False, emoji="🙂", **SIZED)}, None),
    ],
)
async def test_what_comes_with_a_message(double, message, attachment):
    reader = Read(double)
    async with reader.running():
        double.say(caption="look", **message)
        (taken,) = await reader.until(1)
    assert (taken.text, taken.attachment) == ("look", attachment)


async def test_a_file_that_is_too_large_is_refused_in_a_sentence(at, double):
    double.files["film"] = bytes(MAX_DOWNLOAD + 1)
    async with served(at, double):
        for n_bytes in (MAX_DOWNLOAD + 1, 0):  # as the update says, and as only asking for the file shows
            double.say(video=file("film", n_bytes, duration=1, **SIZED))
        double.say(document=file(mime_type="application/pdf"))
        assert [sent.text for sent in await double.until(3)] == [TOO_LARGE, TOO_LARGE, UNOPENED]
    assert at.model.calls == []


async def test_a_download_that_fails_is_tried_again(at, double):
    double.files["note"] = sound()
    double.failing = {"getFile": [500], "download": [502]}
    async with served(at, double):
        double.say(voice=file("note", duration=1))
        assert (await double.until(1))[0].text == REPLY


HOSTILE = [
    "<b>bold</b> <a href='tg://user?id=1'>x</a> &amp; *bold* _it_ [x](http://evil.example) `code`",
    "right \u202e to left \u2066 and \u200b nothing",
    "a \x00 b",
    "half \ud800 a pair",
    "\U0001f600" * 2000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=["markup", "direction", "nul", "surrogate", "wide"])
async def test_hostile_text_does_no_harm_and_is_sent_as_it_is(tmp_path, double, text):
    entities = [{"type": "mention", "offset": 10**6 * i, "length": 10**9} for i in range(500)]
    with house(tmp_path, model=Echo()) as at:
        at.people.agree("telegram:1", Consent())
        async with served(at, double):
            double.say(text, entities=entities)
            double.say("And now?")
            sent = await double.until(2)
    if "\ud800" in text:
        assert "I could not use that" in sent[0].text
    else:
        assert sent[0].text == f"You said: {text}".replace("\0", "")
    assert sent[-1].text == "You said: And now?"


async def test_long_answers_come_in_parts(tmp_path, double):
    words = "This is a sentence of some words. " * 300
    with house(tmp_path, model=FakeModel(reply=words)) as at:
        at.people.agree("telegram:1", Consent())
        async with served(at, double):
            double.say(SAID)
            parts = [sent.text for sent in await double.until(3)]
    assert max(map(len, parts)) <= 4096
    assert " ".join(parts).split() == words.split()


async def test_what_is_too_long_to_read_is_told_in_a_sentence(at, double):
    async with served(at, double):
        double.say("x" * 9_000)
        assert "9,000 characters" in (await double.until(1))[0].text


async def test_the_memory_is_handed_over_as_a_file(at, double):
    async with served(at, double):
        double.say(SAID)
        await double.until(1)
        double.say("/export")
        (file,) = await double.until(1, "sendDocument")
        await double.until(2)
    assert b"cat" in file.file


async def test_a_start_tells_what_the_agent_is(tmp_path, double):
    with house(tmp_path) as at:
        async with served(at, double):
            double.say("/start")
            assert "I am a program" in (await double.until(1))[0].text
            double.say("/agree")
            assert "/memory" in (await double.until(3))[2].text


async def test_quiet_is_of_one_chat(at, double):
    async with served(at, double):
        double.say("/quiet", chat=GROUP)
        await double.until(1)
        double.say("@emox_bot hello", chat=GROUP)
        double.say(SAID)
        await double.until(2)
    assert (double.texts(GROUP), double.texts(1)) == ([SILENT], [REPLY])


async def test_no_token_and_no_words_reach_the_log(at, double, caplog):
    caplog.set_level(logging.INFO)
    double.failing = {"getUpdates": [500, "drop"], "sendMessage": ["drop", 400]}
    async with served(at, double):
        double.say(SAID)
        async with asyncio.timeout(5):
            while double.failing["sendMessage"]:
                await asyncio.sleep(0.005)
    assert caplog.records
    assert TOKEN not in caplog.text
    assert "cat" not in caplog.text


def sound():
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\x00\x10\x00\xf0" * 8_000)
    return held.getvalue()
