"""Slack, through the real Bolt, against a Slack on this machine: over Socket Mode, and by signed requests."""

import asyncio
import contextlib
import io
import json
import logging
import time
import wave

import httpx
import pytest

pytest.importorskip("slack_bolt", reason="slack-bolt is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")
pytest.importorskip("fastapi", reason="fastapi is not installed")

from fastapi import FastAPI
from slack_sdk.errors import SlackApiError

from agent.care import Consent
from agent.connectors.connector import Attachment
from agent.connectors.desk import MAX_BYTES, TOO_LARGE, UNOPENED
from agent.connectors.inbox import Inbox
from agent.connectors.slack import SlackConnector
from tests.agent.connectors.desks import REPLY, SAID, desk_of
from tests.agent.connectors.slack_double import APP_TOKEN, BOT_TOKEN, ME, SECRET, SlackDouble, post, signed
from tests.agent.server.house import house
from tests.fakes import FakeModel

MENTION = f"<@{ME['user_id']}>"


@pytest.fixture
def at(tmp_path):
    with house(tmp_path) as at:
        for user in ("slack:UANN", "slack:UBEN"):
            at.people.agree(user, Consent(voice=True))
        yield at


@pytest.fixture
async def double():
    async with SlackDouble().serving() as double:
        yield double


def connector_of(double, **options):
    tokens = {"app_token": APP_TOKEN} if "signing_secret" not in options else {}
    return SlackConnector(BOT_TOKEN, url=f"{double.url}/api/", **{"ping_s": 0.5} | tokens | options)


@contextlib.asynccontextmanager
async def served(at, double, connector=None, **options):
    """The agent on it, over Socket Mode unless told otherwise."""
    with contextlib.closing(Inbox(at.home / "inbox.sqlite")) as inbox:
        async with desk_of(at, connector or connector_of(double, **options), inbox=inbox, retries_s=(0.01,) * 3):
            yield inbox


@contextlib.asynccontextmanager
async def taken_by(double, take):
    """What the connector hands over, without an agent."""
    running = asyncio.create_task(connector_of(double).run(take))
    try:
        async with asyncio.timeout(10):
            yield
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


@contextlib.asynccontextmanager
async def requested(at, double):
    """The agent on it, reached by requests; gives a client that sends them."""
    connector = connector_of(double, signing_secret=SECRET)
    app = FastAPI()
    app.include_router(connector.router)
    transport = httpx.ASGITransport(app)
    async with served(at, double, connector), httpx.AsyncClient(transport=transport, base_url="http://bot") as client:
        while "auth.test" not in double.calls:
            await asyncio.sleep(0.005)
        while await post(client, double.callback({"type": "app_home_opened", "user": "UANN"})) == 503:
            await asyncio.sleep(0.005)
        yield client


async def emptied(inbox):
    async with asyncio.timeout(5):
        while inbox.left("slack"):
            await asyncio.sleep(0.005)


async def test_a_direct_message_is_answered(at, double):
    async with served(at, double):
        event = double.event(SAID)
        envelope = await double.emit(double.callback(event))
        assert await double.until(1) == [REPLY]
        await double.acknowledged(envelope)
    (posted,) = double.posted
    assert (posted["channel"], posted["thread_ts"]) == ("DANN", None)
    assert [episode.text for episode in at.store.list("slack:UANN")] == [SAID]
    assert "conversations.history" not in double.calls  # nobody had tried to send it
    assert double.statuses == []


async def test_an_event_is_acknowledged_only_when_its_message_is_kept(double):
    kept, began = asyncio.Event(), asyncio.Event()

    async def take(message):
        began.set()
        await kept.wait()

    async with taken_by(double, take):
        envelope = await double.emit(double.callback(double.event(SAID)))
        await began.wait()
        await asyncio.sleep(0.05)
        assert double.acks == []
        kept.set()
        await double.acknowledged(envelope)


async def test_an_event_that_could_not_be_kept_is_not_acknowledged(double):
    async def take(message):
        if message.text == "first":
            raise OSError("the disk is full")

    async with taken_by(double, take):
        first = await double.emit(double.callback(double.event("first")))
        await double.acknowledged(await double.emit(double.callback(double.event("second"))))
        assert first not in double.acks


async def test_the_same_event_again_is_answered_once(at, double):
    event = double.event(f"{MENTION} hello", channel="C1")
    async with served(at, double):
        await double.emit(double.callback(event))
        await double.emit(double.callback(event | {"type": "app_mention", "client_msg_id": "x"}))  # Slack sends both
        await double.until(1)
        await double.emit(double.callback(event))
        await double.say("And now?", user="UBEN")
        await double.until(2)
    assert at.store.count("slack:UANN") == 1
    assert len(double.posted) == 2


async def test_messages_out_of_order_are_answered_in_order(at, double):
    first, second = double.event("first"), double.event("second")
    async with served(at, double):
        await double.emit(double.callback(second))
        await double.emit(double.callback(first))
        await double.until(2)
    assert [episode.text for episode in reversed(at.store.list("slack:UANN"))] == ["first", "second"]


async def test_answers_go_to_the_thread_they_came_from(at, double):
    async with served(at, double):
        asked = await double.say(f"{MENTION} I am sad", channel="C1")
        await double.until(1)
        await double.say(f"{MENTION} me too", channel="C1", thread_ts="1700000000.000001", user="UBEN")
        await double.until(2)
        await double.say("a thread with the assistant", thread_ts="1700000000.000002")
        await double.until(3)
    assert [(m["channel"], m["thread_ts"]) for m in double.posted] == [
        ("C1", asked["ts"]),
        ("C1", "1700000000.000001"),
        ("DANN", "1700000000.000002"),
    ]
    assert double.statuses == [("DANN", "1700000000.000002")]
    assert at.model.histories == [()] * 3


async def test_an_app_that_is_no_assistant_shows_no_status_and_answers(at, double):
    double.failing["assistant.threads.setStatus"] = ["not_allowed_token_type"]
    async with served(at, double):
        await double.say(SAID, thread_ts="1700000000.000002")
        await double.until(1)
        await double.say(SAID, thread_ts="1700000000.000003")
        await double.until(2)
    assert double.calls.count("assistant.threads.setStatus") == 1


def ids(case):
    return case if isinstance(case, str) else ""


@pytest.mark.parametrize(
    ("text", "more", "thread", "read"),
    [
        ("hello everybody", {}, [], None),
        ("mail emox", {}, [], None),
        ("<@UBEN> hello", {}, [], None),
        ("yes", {"thread_ts": "1.1"}, [{"user": "UBEN", "text": "hi"}], None),
        ("<@UBEN> what do you think?", {"thread_ts": "1.1"}, [{"user": ME["user_id"], "text": "I do"}], None),
        (f"{MENTION} hello", {}, [], "hello"),
        (f"{MENTION}", {}, [], "/help"),
        (f"{MENTION} !quiet", {}, [], "!quiet"),
        ("yes", {"thread_ts": "1.1"}, [{"user": ME["user_id"], "text": "I do"}], "yes"),
        ("yes", {"thread_ts": "1.1"}, [{"user": "UBEN", "text": f"{MENTION} hi"}], "yes"),
    ],
    ids=ids,
)
async def test_of_a_channel_only_what_is_meant_for_it_is_read(double, text, more, thread, read):
    double.threads["C1", "1.1"] = thread
    taken = []

    async def take(message):
        taken.append((message.text, message.private))

    async with taken_by(double, take):
        for one in (double.event(text, channel="C1", **more), double.event("last")):
            await double.acknowledged(await double.emit(double.callback(one)))
    assert taken == [*([] if read is None else [(read, False)]), ("last", True)]


async def test_a_thread_that_began_here_goes_on_without_mentions_or_look_ups(at, double):
    async with served(at, double):
        asked = await double.say(f"{MENTION} hello", channel="C1")
        await double.until(1)
        await double.say("and more", channel="C1", thread_ts=asked["ts"])
        await double.until(2)
    assert "conversations.replies" not in double.calls
    assert len(at.model.histories[1]) == 2


async def test_bots_edits_and_events_are_ignored(double):
    taken = []

    async def take(message):
        taken.append(message.text)

    async with taken_by(double, take):
        for event in (
            double.event("its own", user=ME["user_id"], bot_id=ME["bot_id"]),
            double.event("another bot", bot_id="BOTHER"),
            double.event("by a bot", subtype="bot_message", bot_id="BOTHER"),
            double.event(subtype="message_changed", message=double.event("edited")),
            double.event(f"{MENTION} edited", type="app_mention", edited={"user": "UANN", "ts": "1"}),
            double.event(subtype="channel_join"),
            {"type": "reaction_added", "user": "UANN"},
            double.event("last"),
        ):
            await double.acknowledged(await double.emit(double.callback(event)))
    assert taken == ["last"]


async def test_a_slash_command_is_a_command(at, double):
    command = {"command": "/memory", "text": "about &lt;cats&gt;", "user_id": "UANN", "channel_id": "DANN"}
    where = {"channel_name": "directmessage", "trigger_id": "13.37.abc", "team_id": "T1"}
    async with served(at, double):
        envelope = await double.emit(command | where, kind="slash_commands")
        await double.acknowledged(envelope)
        assert await double.until(1) == ["I remember nothing of that."]
        await double.emit(command | {"trigger_id": "13.38.abc", "channel_name": "general"}, kind="slash_commands")
        assert "private" in (await double.until(2))[1]


async def test_slash_commands_come_by_requests_too(at, double):
    async with requested(at, double) as client:
        body = (
            b"command=%2Fhelp&text=&user_id=UANN&channel_id=DANN&channel_name=directmessage&trigger_id=1.2&team_id=T1"
        )
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        assert await post(client, body, kind) == 200
        assert "/memory" in (await double.until(1))[0]


async def test_signed_requests_are_answered_and_retries_known(at, double):
    async with requested(at, double) as client:
        payload = double.callback(double.event(SAID))
        assert await post(client, payload) == 200
        await double.until(1)
        retry = {"X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}
        assert await post(client, payload, retry) == 200
        await post(client, double.callback(double.event("And now?")))
        await double.until(2)
    assert len(double.posted) == 2


async def test_slack_can_check_the_address(at, double):
    async with requested(at, double) as client:
        body = json.dumps({"type": "url_verification", "challenge": "abc"}).encode()
        answer = await client.post("/slack/events", content=body, headers=signed(body))
    assert "abc" in answer.text


async def test_forged_stale_broken_and_endless_requests_are_refused(at, double):
    async with requested(at, double) as client:
        payload = double.callback(double.event(SAID))
        body = json.dumps(payload).encode()
        assert await post(client, payload, secret="another") == 401
        assert await post(client, payload, secret="") == 401
        assert await post(client, payload, at=time.time() - 600) == 401
        other = json.dumps(payload | {"event_id": "EvX"}).encode()
        assert (await client.post("/slack/events", content=other, headers=signed(body))).status_code == 401
        assert (await client.post("/slack/events", content=body)).status_code == 401
        assert await post(client, b"\xff\xfe") == 400
        assert await post(client, b"x" * (2**20 + 1)) == 413
        await asyncio.sleep(0.1)
    assert double.posted == []


async def test_requests_before_the_agent_is_ready_are_to_come_again(double):
    connector = connector_of(double, signing_secret=SECRET)
    app = FastAPI()
    app.include_router(connector.router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bot") as client:
        assert await post(client, double.callback(double.event(SAID))) == 503


def test_without_socket_mode_a_secret_is_needed_and_with_it_nothing_is_reachable():
    with pytest.raises(ValueError, match="signing secret"):
        SlackConnector(BOT_TOKEN)
    assert SlackConnector(BOT_TOKEN, app_token=APP_TOKEN).router is None


@pytest.mark.parametrize("kindly", [True, False])
async def test_it_connects_again_when_the_connection_ends(at, double, kindly):
    async with served(at, double):
        await double.say("first")
        await double.until(1)
        double.failing["apps.connections.open"] = [500] if kindly else []
        await double.drop(kindly)
        async with asyncio.timeout(20):
            while double.n_connections < 2:
                await asyncio.sleep(0.01)
        await double.say("second")
        assert len(await double.until(2)) == 2


async def test_a_wrong_token_is_told(double):
    with pytest.raises(SlackApiError, match="invalid_auth"):
        await connector_of(double, app_token="xapp-wrong").run(None)
    with pytest.raises(SlackApiError, match="invalid_auth"):
        await SlackConnector("xoxb-wrong", app_token=APP_TOKEN, url=f"{double.url}/api/").run(None)


@pytest.mark.parametrize("failure", ["lose", "drop", 500])
@pytest.mark.parametrize("where", [{}, {"channel": "C1", "text": f"{MENTION} hello"}], ids=["direct", "thread"])
async def test_an_answer_arrives_exactly_once_though_sending_it_breaks_off(at, double, failure, where):
    double.failing["chat.postMessage"] = [failure]
    async with served(at, double) as inbox:
        await double.say(**{"text": SAID} | where)
        await double.until(1)
        await emptied(inbox)
    assert [posted["text"] for posted in double.posted] == [REPLY]
    assert double.calls.count("chat.postMessage") == (1 if failure == "lose" else 2)


async def test_an_answer_arrives_exactly_once_though_the_agent_ends_before_it_knows(at, double):
    double.hold = asyncio.Event()
    async with served(at, double):
        await double.say(SAID)
        await double.until(1)
    double.hold = None
    async with served(at, double) as inbox:
        await emptied(inbox)
    assert [posted["text"] for posted in double.posted] == [REPLY]


async def test_a_rate_limit_is_waited_for(at, double):
    double.failing["chat.postMessage"] = [("wait", 1)]
    async with served(at, double):
        began = time.monotonic()
        await double.say(SAID)
        await double.until(1)
        assert time.monotonic() - began > 1
    assert "conversations.history" not in double.calls


@pytest.mark.parametrize("error", ["channel_not_found", "is_archived", "account_inactive"])
async def test_a_channel_that_is_gone_holds_up_nobody(at, double, error):
    double.failing["chat.postMessage"] = [error]
    async with served(at, double) as inbox:
        await double.say(SAID)
        async with asyncio.timeout(5):
            while double.failing["chat.postMessage"]:
                await asyncio.sleep(0.005)
        await double.say(SAID, user="UBEN", channel="DBEN")
        await double.until(1)
        await emptied(inbox)
    assert [posted["channel"] for posted in double.posted] == ["DBEN"]
    assert double.calls.count("chat.postMessage") == 2


async def test_two_people_do_not_mix(at, double):
    async with served(at, double):
        asked = await double.say(f"{MENTION} I am Ann", channel="C1")
        await double.say(f"{MENTION} I am Ben", channel="C1", thread_ts=asked["ts"], user="UBEN")
        await double.until(2)
    assert [episode.text for episode in at.store.list("slack:UANN")] == ["I am Ann"]
    assert [episode.text for episode in at.store.list("slack:UBEN")] == ["I am Ben"]
    assert at.model.histories == [(), ()]


async def test_nothing_written_becomes_markup_or_a_mention(tmp_path, double):
    class Echo(FakeModel):
        def empathize(self, prefix, brief):
            yield prefix.text

    hostile = "&lt;!channel&gt; <!here> <@UBEN|ben> <https://evil.example|safe> &amp;amp; *b* \u202e \x00 <b>x</b>"
    with house(tmp_path, model=Echo()) as at:
        at.people.agree("slack:UANN", Consent())
        async with served(at, double):
            await double.say(hostile)
            await double.until(1)
    (posted,) = double.posted
    assert posted["text"] == "&lt;!channel&gt; @here @ben safe &amp;amp; *b* \u202e  bx/b"
    assert [posted[k] in (0, "0", False) for k in ("mrkdwn", "unfurl_links", "unfurl_media")] == [True] * 3
    assert at.store.list("slack:UANN")[0].text.startswith("<!channel> @here @ben safe &amp; *b*")


def attached(mimetype="audio/mp4", size=100):
    return {"subtype": "file_share", "files": [{"id": "F1", "mimetype": mimetype, "size": size}]}


async def test_recordings_are_not_opened_unless_the_operator_says_so(at, double):
    async with served(at, double):
        await double.say(**attached())
        await double.say("look", **attached("video/mp4"))
        texts = await double.until(2)
    assert texts == [UNOPENED, f"{REPLY}\n\n{UNOPENED}"]
    assert "files.info" not in double.calls
    assert at.store.list("slack:UANN")[0].modalities == ("text",)


async def test_a_recording_is_heard_and_answered_by_one_where_the_operator_says_so(at, double):
    double.files["F1"] = sound()
    async with served(at, double, voice=True):
        await double.say(**attached())
        await double.until(1)
        async with asyncio.timeout(5):
            while not double.uploads:
                await asyncio.sleep(0.005)
    assert at.store.list("slack:UANN")[0].modalities == ("text", "voice")
    channel, thread, _, content = double.uploads[0]
    assert (channel, thread, content[:4]) == ("DANN", None, b"OggS")


async def test_faces_are_never_read(double):
    assert connector_of(double, voice=True).most == Consent(voice=True)
    assert connector_of(double).most == Consent()
    assert connector_of(double, voice=True)._attachment(attached("image/png")["files"]) == Attachment("file", "F1", 100)


async def test_a_recording_that_is_too_large_is_refused_before_it_is_fetched(at, double):
    async with served(at, double, voice=True):
        await double.say(**attached(size=MAX_BYTES + 1))
        assert await double.until(1) == [TOO_LARGE]
    assert "files.info" not in double.calls


async def test_long_messages_come_in_parts(tmp_path, double):
    words = "This is a sentence of some words. " * 200
    with house(tmp_path, model=FakeModel(reply=words)) as at:
        at.people.agree("slack:UANN", Consent())
        async with served(at, double):
            await double.say("x" * 9_000)
            await double.say(SAID)
            texts = await double.until(4)
    assert "9,000 characters" in texts[0]
    assert " ".join(texts[1:]).split() == words.split()


async def test_the_memory_is_handed_over_as_a_file_in_private(at, double):
    async with served(at, double):
        await double.say(SAID)
        await double.until(1)
        await double.say("!export")
        await double.until(2)
    assert [(channel, b"cat" in content) for channel, _, _, content in double.uploads] == [("DANN", True)]


async def test_no_secret_and_no_words_reach_the_log(at, double, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.INFO)
    double.failing["chat.postMessage"] = [500, "drop", "channel_not_found"]
    async with served(at, double) as inbox:
        await double.say(SAID)
        async with asyncio.timeout(5):
            while double.failing["chat.postMessage"]:
                await asyncio.sleep(0.005)
        await emptied(inbox)
    assert caplog.records
    for secret in (BOT_TOKEN, APP_TOKEN, "cat", REPLY):
        assert secret not in caplog.text


def sound():
    held = io.BytesIO()
    with wave.open(held, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(b"\x00\x10\x00\xf0" * 8_000)
    return held.getvalue()
