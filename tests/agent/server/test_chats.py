"""Chat platforms answered by the server itself: they start and stop with it, and Slack's requests come through it."""

import json

import httpx
import pytest

pytest.importorskip("telegram", reason="python-telegram-bot is not installed")
pytest.importorskip("slack_bolt", reason="slack-bolt is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")

from agent.care import Consent
from agent.connectors.opening import open_chats
from agent.server import run
from agent.settings import Settings
from tests.agent.connectors.slack_double import BOT_TOKEN, SECRET, SlackDouble, signed
from tests.agent.connectors.telegram_double import TOKEN, TelegramDouble
from tests.agent.server.house import house, served

REPLY = "I hear you. Tell me more?"


async def test_the_server_answers_on_its_platforms_as_long_as_it_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_voice", lambda *_: None)
    async with TelegramDouble().serving() as telegram, SlackDouble().serving() as slack:
        settings = Settings(
            home=tmp_path, telegram_token=TOKEN, telegram_url=telegram.url, slack_bot_token=BOT_TOKEN,
            slack_signing_secret=SECRET, slack_url=f"{slack.url}/api/",
        )  # fmt: skip
        with house(tmp_path) as at:
            for user in ("telegram:1", "slack:UANN"):
                at.people.agree(user, Consent())
            chats = open_chats(settings)
            app = run.app_of(at.host.agent, at.people, settings, hosts=[], user="me", chats=chats)
            async with served(at, app) as address, httpx.AsyncClient(base_url=address) as client:
                telegram.say("Hello, it is me.")
                assert (await telegram.until(1))[0].text == REPLY
                body = json.dumps(slack.callback(slack.event("Hello, it is me."))).encode()
                # under the name by which Slack knows the server, which no browser may use
                headers = {"Host": "emox.example.org", "Content-Type": "application/json"}
                posted = await client.post("/slack/events", content=body, headers=headers | signed(body))
                assert posted.status_code == 200
                assert await slack.until(1) == [REPLY]
                forged = headers | signed(body, secret="another")
                assert (await client.post("/slack/events", content=body, headers=forged)).status_code == 401
            polls = telegram.polls
            telegram.say("Is somebody there?")
            assert app.state.host.n_here == 0
        assert (telegram.polls, len(telegram.texts())) == (polls, 1)
