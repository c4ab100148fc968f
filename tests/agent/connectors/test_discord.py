"""Discord, with the real discord.py against a local double of its HTTP API and gateway."""

import asyncio
import contextlib
import io
import logging

import numpy as np
import pytest

pytest.importorskip("discord", reason="discord.py is not installed")
pytest.importorskip("av", reason="PyAV is not installed")
import av
import discord
import yarl

from agent.care import Consent
from agent.connectors.desk import GONE, MAX_BYTES, TOO_LARGE
from agent.connectors.discord import NO_INTENT, NO_TOKEN, DiscordConnector, waveform
from agent.connectors.inbox import Inbox
from agent.connectors.opus import ogg_opus
from agent.settings import SetupError
from agent.speech import Audio
from tests.agent.connectors.desks import REPLY, SAID, desk_of
from tests.agent.connectors.discord_double import (
    ANN,
    BEN,
    BENS,
    BOT,
    CLUB,
    HOME,
    OTHER_THREAD,
    ROLE,
    THREAD,
    TOKEN,
    double,
)
from tests.agent.connectors.test_desk import sound
from tests.agent.server.house import house
from tests.fakes import FakeModel

ANNS, BENS_NAME = f"discord:{ANN}", f"discord:{BEN}"


@pytest.fixture
async def far(monkeypatch):
    """Discord; discord.py's pauses are left out."""

    async def at_once(self, shard_id, *, initial=False):
        pass

    async with double() as far:
        monkeypatch.setattr(discord.http.Route, "BASE", f"{far.address}/api")
        monkeypatch.setattr(discord.gateway.DiscordWebSocket, "DEFAULT_GATEWAY", yarl.URL(far.gateway))
        monkeypatch.setattr(discord.Client, "before_identify_hook", at_once)
        monkeypatch.setattr("agent.connectors.discord.ExponentialBackoff.delay", lambda self: 0.02)
        yield far


@pytest.fixture
def at(tmp_path):
    with house(tmp_path) as at:
        for user in (ANNS, BENS_NAME):
            at.people.agree(user, Consent(voice=True, face=True))
        yield at


@contextlib.asynccontextmanager
async def bot(at, far, *, token=TOKEN, inbox=None):
    """The agent on Discord, connected."""
    inbox = inbox or Inbox(at.home / "inbox.sqlite")
    connector = DiscordConnector(token, lambda: inbox.latest("discord"), guild_ready_timeout=0.05)
    n = far.identified + far.resumed + 1
    async with desk_of(at, connector, inbox=inbox):
        await far.connected(n)
        yield inbox


async def test_a_direct_message_is_answered_where_it_was_said(at, far):
    async with bot(at, far):
        await far.write(SAID)
        assert await far.texts(1) == [REPLY]
    assert far.posted[0].channel == HOME
    assert far.typed == [HOME]
    assert [episode.text for episode in at.store.list(ANNS)] == [SAID]


async def test_a_message_that_is_told_twice_is_answered_once(at, far):
    async with bot(at, far):
        await far.write(SAID, times=2)
        message = await far.write("And now?")
        await far.texts(2)
        await far.tell(message)
        await asyncio.sleep(0.1)
    assert len(far.posted) == 2


async def test_messages_told_out_of_order_are_answered_in_order(at, far):
    async with bot(at, far) as inbox:
        first, second = await far.write("first", told=False), await far.write("second", told=False)
        await far.tell(second)
        await far.tell(first)
        await far.texts(2)
    assert [episode.text for episode in reversed(at.store.list(ANNS))] == ["first", "second"]
    assert inbox.latest("discord") == {str(HOME): second["id"]}


async def test_two_people_do_not_mix(at, far):
    async with bot(at, far):
        await far.write("I am Ann")
        await far.write("I am Ben", BENS, BEN)
        await far.write(f"<@{BOT}> I am Ben in the club", CLUB, BEN)
        await far.texts(3)
    assert sorted(one.channel for one in far.posted) == [HOME, BENS, CLUB]
    assert [episode.text for episode in at.store.list(ANNS)] == ["I am Ann"]
    assert {episode.text for episode in at.store.list(BENS_NAME)} == {"I am Ben", "I am Ben in the club"}
    assert at.model.histories == [(), (), ()]


async def test_a_voice_message_is_heard_and_answered_by_one(at, far):
    async with bot(at, far):
        await far.write(attachments=(("voice-message.ogg", "audio/ogg", ogg_opus(tone(1))),), flags=8192)
        await far.texts(2)
    written, spoken = far.posted
    assert written.text == REPLY
    assert spoken.payload["flags"] == 8192
    ((_, content),) = spoken.files.items()
    told = spoken.payload["attachments"][0]
    codec, seconds, loudest = decoded(content)
    assert codec == "opus"
    assert told["duration_secs"] == pytest.approx(seconds, abs=0.05)
    assert seconds > 0.2
    assert loudest == pytest.approx(0.1, abs=0.03)  # the tone of the fake voice
    assert len(told["waveform"]) > 1
    assert at.store.list(ANNS)[0].modalities == ("text", "voice")


async def test_a_voice_note_is_a_file_where_voice_messages_are_not_allowed(at, far):
    far.no_voice_messages = True
    async with bot(at, far):
        await far.write(attachments=(("note.wav", "audio/x-wav", sound()),))
        await far.texts(2)
    assert "flags" not in far.posted[1].payload
    assert decoded(far.posted[1].files["voice-message.ogg"])[0] == "opus"


async def test_a_picture_is_seen_with_its_caption(at, far):
    async with bot(at, far):
        await far.write("Look at me", attachments=(("notes.pdf", "application/pdf", b"-"), ("me.png", "", png())))
        assert await far.texts(1) == [REPLY]
    assert at.store.list(ANNS)[0].text == "Look at me"
    assert at.store.list(ANNS)[0].modalities == ("text", "face")


async def test_an_attachment_is_found_though_its_link_has_expired(at, far):
    async with bot(at, far) as inbox:
        message = await far.write(attachments=(("note.wav", "audio/x-wav", sound()),), told=False)
        await far.tell(message)
        far.expire_links()
        await far.texts(2)
    assert inbox.left("discord") == []
    assert at.store.list(ANNS)[0].modalities == ("text", "voice")


async def test_an_attachment_that_was_taken_back_is_asked_for_again(at, far):
    async with bot(at, far):
        message = await far.write(attachments=(("note.wav", "audio/x-wav", sound()),))
        far.history[HOME].remove(message)
        assert await far.texts(1) == [GONE]


async def test_a_large_attachment_is_refused_before_it_is_fetched(at, far):
    async with bot(at, far):
        await far.write(attachments=(("film.mp4", "video/mp4", b"-"),), size=MAX_BYTES + 1)
        assert await far.texts(1) == [TOO_LARGE]
    assert far.fetched == []


async def test_a_long_answer_is_sent_in_messages_that_discord_takes(tmp_path, far):
    long = " ".join(f"a-rather-long-word-{i}" for i in range(200))
    with house(tmp_path, model=FakeModel(long)) as at:
        at.people.agree(ANNS, Consent())
        async with bot(at, far):
            await far.write(SAID)
            texts = await far.texts(3)
    assert max(map(len, texts)) <= 2_000
    assert " ".join(texts) == long


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "x" * 10_000, "**_~~`||", "<@&1> <#2> <a:b:3>", "‮ \u0000 ​"])
async def test_no_text_stops_the_agent(at, far, text):
    async with bot(at, far):
        await far.write(text)
        await far.write("And now?")
        assert (await far.texts(2))[1] == REPLY


async def test_nobody_is_called_by_what_the_agent_says(tmp_path, far):
    with house(tmp_path, model=FakeModel("@everyone <@1002> come here")) as at:
        at.people.agree(ANNS, Consent())
        async with bot(at, far):
            await far.write(f"<@{BOT}> say @everyone", CLUB)
            await far.texts(1)
            await far.write("/export")
            await far.texts(3)
    assert [one.payload["allowed_mentions"] for one in far.posted] == [{"parse": []}] * 3
    assert b"say @everyone" in far.posted[1].files["emox-memory.jsonl"]


async def test_in_servers_only_what_is_meant_for_it_is_read(at, far):
    async with bot(at, far) as inbox:
        await far.write("among ourselves", CLUB)
        await far.write("in a thread", OTHER_THREAD)
        await far.write("@everyone hello", CLUB, mention_everyone=True)
        await far.write("to Ben", CLUB, reply_to=BEN)
        await far.write(f"<@{BOT}> I am a bot", CLUB, 77, bot=True)
        await far.write(f"<@{BOT}> from a hook", CLUB, 78, webhook_id="78")
        await far.write("I am a bot", HOME, 77, bot=True)
        await far.write("I am yourself", HOME, BOT, bot=True)
        await far.write("somebody joined", HOME, type=7)
        edited = await far.write("edited", HOME, told=False)
        await far.tell(edited, "MESSAGE_UPDATE")
        await far.write(f"Hello <@{BOT}> there", CLUB)
        await far.write("a reply", CLUB, reply_to=BOT)
        await far.write(f"<@&{ROLE}> by its role", CLUB)
        await far.texts(3)
    assert {one.channel for one in far.posted} == {CLUB}
    assert len(far.posted) == 3
    read = [episode.text for episode in reversed(at.store.list(ANNS))]
    assert read == [f"Hello <@{BOT}> there", "a reply", "by its role"]
    assert inbox.latest("discord").keys() == {str(CLUB)}


async def test_in_a_thread_it_stays_once_it_was_called(at, far, monkeypatch):
    async with bot(at, far) as inbox:
        await far.write("before", THREAD)
        await far.write(f"<@{BOT}> come in", THREAD)
        await far.texts(1)
        await far.write("and now", THREAD)
        await far.texts(2)
    monkeypatch.setattr("agent.connectors.discord.OVERLAP_S", 0)  # the call is not read again
    async with bot(at, far, inbox=inbox):
        await far.write("after a restart", THREAD)
        await far.texts(3)
    assert [one.channel for one in far.posted] == [THREAD] * 3
    read = [episode.text for episode in reversed(at.store.list(ANNS))]
    assert read == ["come in", "and now", "after a restart"]


async def test_memory_is_shown_in_direct_messages_only(at, far):
    async with bot(at, far):
        await far.write(f"<@{BOT}> !memory", CLUB)
        await far.texts(1)
        await far.write("!memory")
        texts = await far.texts(2)
    assert ["private" in text for text in texts] == [True, False]


async def test_nothing_is_lost_when_the_connection_drops(at, far):
    async with bot(at, far):
        await far.write("one")
        await far.texts(1)
        await far.drop()
        await far.write("two")
        assert await far.texts(2) == [REPLY, REPLY]
        await far.ask_to_reconnect()
        await far.connected(3)
        await far.write("three")
        await far.texts(3)
    assert (far.identified, far.resumed) == (1, 2)
    assert at.store.count(ANNS) == 3


async def test_nothing_is_lost_when_the_session_cannot_be_resumed(at, far):
    async with bot(at, far):
        await far.write("one")
        await far.texts(1)
        await far.forget_session()
        await far.write("two", told=False)
        await far.texts(2)
        assert far.identified == 2
    assert [episode.text for episode in reversed(at.store.list(ANNS))] == ["one", "two"]


async def test_what_was_said_while_it_was_away_is_answered_after_a_restart(at, far):
    async with bot(at, far) as inbox:
        await far.write("one")
        await far.write(f"<@{BOT}> two", CLUB, BEN)
        await far.texts(2)
    await far.write("three", told=False)
    await far.write("four", told=False)
    await far.write("among ourselves", CLUB, BEN, told=False)
    await far.write(f"<@{BOT}> five", CLUB, BEN, told=False)
    async with bot(at, far, inbox=inbox):
        await far.write("six")  # before what was missed is fetched
        await far.texts(6)
    assert {episode.text for episode in at.store.list(ANNS)} == {"one", "three", "four", "six"}
    assert [episode.text for episode in reversed(at.store.list(BENS_NAME))] == ["two", "five"]
    assert len(far.posted) == 6


async def test_a_chat_that_is_gone_does_not_keep_it_from_the_others(at, far):
    async with bot(at, far) as inbox:
        await far.write("one")
        await far.write("two", BENS, BEN)
        await far.texts(2)
    await far.write("three", told=False)
    far.not_listing = {BENS: [403] * 1000, HOME: [503]}
    async with bot(at, far, inbox=inbox):
        await far.texts(3)
    assert at.store.list(ANNS)[0].text == "three"


async def test_a_message_that_was_passed_over_before_a_crash_is_found_after_it(at, far):
    async with bot(at, far) as inbox:
        await far.write("lost", told=False)
        await far.write("kept")
        await far.texts(1)
    async with bot(at, far, inbox=inbox):
        await far.texts(2)
    assert {episode.text for episode in at.store.list(ANNS)} == {"lost", "kept"}


async def test_an_answer_that_discord_has_shown_is_not_shown_again(at, far):
    connector = DiscordConnector(TOKEN, guild_ready_timeout=0.05)
    async with desk_of(at, connector):
        await far.connected()
        await connector.say(str(HOME), "Hello.", "7:0")
        await connector.say(str(HOME), "Hello.", "7:0")
        await connector.say(str(HOME), "Hello.", "7:1")
    assert len(far.posted) == 2
    assert all(len(one.payload["nonce"]) <= 25 for one in far.posted)


async def test_who_turns_the_agent_away_is_not_written_to_again(at, far):
    far.refusing = [(403, 50007)]
    async with bot(at, far) as inbox:
        await far.write("one")
        async with asyncio.timeout(5):
            while far.refusing or inbox.left("discord"):
                await asyncio.sleep(0.01)
        await far.write("two")
        await far.texts(1)
    assert len(far.posted) == 1
    assert at.store.count(ANNS) == 2


async def test_an_answer_is_sent_again_while_discord_is_in_trouble(at, far):
    far.refusing = [(503, 0), (429, 0)]
    async with bot(at, far):
        await far.write(SAID)
        assert await far.texts(1) == [REPLY]


async def test_it_stays_connected(at, far):
    far.heartbeat_ms = 50
    async with bot(at, far):
        await far.connected()
        await asyncio.sleep(0.3)
        await far.write(SAID)
        await far.texts(1)
    assert far.heartbeats > 3
    assert (far.identified, far.resumed) == (1, 0)


async def test_it_logs_in_once_there_is_a_way_to_discord(at, far, monkeypatch):
    monkeypatch.setattr(discord.http.Route, "BASE", "http://127.0.0.1:9/api")
    inbox = Inbox(at.home / "inbox.sqlite")
    connector = DiscordConnector(TOKEN, guild_ready_timeout=0.05)
    async with desk_of(at, connector, inbox=inbox):
        await asyncio.sleep(0.1)
        assert far.identified == 0
        monkeypatch.setattr(discord.http.Route, "BASE", f"{far.address}/api")
        await far.connected()
        await far.write(SAID)
        await far.texts(1)


@pytest.mark.parametrize("wrong", ["", "a.wrong.token"])
async def test_a_wrong_token_is_told_in_one_sentence(far, wrong):
    with pytest.raises(SetupError, match="token") as told:
        await DiscordConnector(wrong).run(nobody)
    assert str(told.value) == NO_TOKEN


async def test_a_token_taken_back_meanwhile_is_told_in_one_sentence(at, far):
    running = asyncio.create_task(DiscordConnector(TOKEN).run(nobody))
    await far.connected()
    await far.drop(4004)
    with pytest.raises(SetupError, match="token"):
        await asyncio.wait_for(running, 5)


async def test_a_missing_intent_is_told_in_one_sentence(far):
    far.intent_is_on = False
    with pytest.raises(SetupError, match="intent") as told:
        await DiscordConnector(TOKEN).run(nobody)
    assert str(told.value) == NO_INTENT


async def test_no_words_and_no_token_are_logged(at, far, caplog):
    with caplog.at_level(logging.INFO):
        far.refusing = [(503, 0)]
        async with bot(at, far):
            await far.write("my secret")
            await far.texts(1)
    assert "secret" not in caplog.text
    assert TOKEN not in caplog.text
    assert REPLY not in caplog.text


@pytest.mark.parametrize("seconds", [0, 0.01, 1, 100])
def test_a_waveform_follows_the_sound(seconds):
    bars = waveform(Audio(np.linspace(0, 1, round(seconds * 16_000), dtype=np.float32), 16_000))
    assert 1 <= len(bars) <= 256
    assert list(bars) == sorted(bars)
    assert not seconds or bars[-1] == 255


async def nobody(message):
    raise AssertionError("nothing was said")


def tone(seconds):
    return Audio(0.3 * np.sin(np.arange(round(seconds * 16_000)) / 8).astype(np.float32), 16_000)


def decoded(content):
    with av.open(io.BytesIO(content)) as file:
        stream = file.streams.audio[0]
        samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in file.decode(stream)])
        return stream.codec_context.name, len(samples) / stream.rate, float(np.abs(samples).max())


def png():
    from PIL import Image

    held = io.BytesIO()
    Image.new("RGB", (64, 64), "gray").save(held, "png")
    return held.getvalue()
