"""The agent is killed (SIGKILL) at any moment and started again: what the platform saw acknowledged is answered.

On Slack it is answered exactly once, always: each message carries its key, and is looked for before it is sent again.

On Telegram it is answered exactly once, but for one moment: between Telegram having the answer and the inbox having
noted that. The Bot API has no way to ask what was sent, so an answer on its way at that moment is sent again and stands
there twice; it is never lost. That moment is one request long, and at most one message of each chat is in it.
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("telegram", reason="python-telegram-bot is not installed")
pytest.importorskip("slack_bolt", reason="slack-bolt is not installed")
pytest.importorskip("aiohttp", reason="aiohttp is not installed")
pytest.importorskip("fastapi", reason="fastapi is not installed")

from agent.care import Consent
from agent.people import People
from tests.agent.connectors.slack_double import APP_TOKEN, BOT_TOKEN, SlackDouble
from tests.agent.connectors.telegram_double import TOKEN, TelegramDouble
from tests.agent.light_emox import open_light

REPO = Path(__file__).parents[3]
KILLS = int(os.environ.get("EMOX_KILLS", "2"))
TURN_S = 0.2
ANN, BEN = 1, 2


class Killed:
    """The server as a process that is killed and started again, and what the platforms saw of it."""

    def __init__(self, home, telegram, slack):
        self.home, self.telegram, self.slack = home, telegram, slack
        self.killed_at = []
        self.envelopes = {}
        self.process = None
        people = People(home / "people.sqlite")
        for user in (f"telegram:{ANN}", f"telegram:{BEN}", "slack:UANN"):
            people.agree(user, Consent())
        people.close()

    async def start(self):
        """Until it listens on both; Slack delivers once more what was not acknowledged."""
        variables = {
            "EMOX_HOME": self.home, "EMOX_TELEGRAM_TOKEN": TOKEN, "EMOX_TELEGRAM_URL": self.telegram.url,
            "EMOX_SLACK_BOT_TOKEN": BOT_TOKEN, "EMOX_SLACK_APP_TOKEN": APP_TOKEN,
            "EMOX_SLACK_URL": f"{self.slack.url}/api/",
        }  # fmt: skip
        polls, connections = self.telegram.polls, self.slack.n_connections
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.agent.connectors.light_chats", str(TURN_S)],
            cwd=REPO, env=os.environ | {name: str(value) for name, value in variables.items()},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        while self.telegram.polls == polls or self.slack.n_connections == connections:
            assert self.process.poll() is None, self.process.stderr.read().decode()
            await asyncio.sleep(0.02)
        for envelope, payload in list(self.envelopes.items()):
            if envelope not in self.slack.acks:
                self.envelopes[await self.slack.emit(payload)] = payload
                del self.envelopes[envelope]

    async def kill(self):
        self.process.kill()
        await self.end()
        self.killed_at.append(time.monotonic())

    async def end(self):
        await asyncio.to_thread(self.process.wait)
        self.process.stderr.close()

    async def say_on_slack(self, text):
        payload = self.slack.callback(self.slack.event(text))
        self.envelopes[await self.slack.emit(payload)] = payload


@contextlib.asynccontextmanager
async def killed(home):
    async with TelegramDouble().serving() as telegram, SlackDouble().serving() as slack:
        at = Killed(home, telegram, slack)
        try:
            yield at
        finally:
            if at.process.poll() is None:
                at.process.kill()
                await at.end()


async def until(holds, timeout_s=20):
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.02)


async def test_kill_9_during_turns_loses_no_message(tmp_path):
    chance = random.Random(11)
    said = {ANN: [], BEN: [], "UANN": []}
    async with killed(tmp_path) as at:
        telegram, slack = at.telegram, at.slack
        for round in range(KILLS + 1):
            await at.start()
            for _ in range(2):
                for person, texts in said.items():
                    texts.append(f"message {len(texts)} of {person}")
                    if person == "UANN":
                        await at.say_on_slack(texts[-1])
                    else:
                        telegram.say(texts[-1], user=person)
                await asyncio.sleep(chance.uniform(0, TURN_S))
            if round < KILLS:
                await asyncio.sleep(chance.uniform(0, 6 * TURN_S))
                await at.kill()
        answered = {person: {f"I heard: {text}" for text in texts} for person, texts in said.items()}
        await until(lambda: all(answered[person] <= set(telegram.texts(person)) for person in (ANN, BEN)))
        await until(lambda: answered["UANN"] <= {posted["text"] for posted in slack.posted})
        at.process.terminate()
        await at.end()

    assert [posted["text"] for posted in slack.posted] == [f"I heard: {text}" for text in said["UANN"]]
    for person in (ANN, BEN):
        sent = [one for one in telegram.of("sendMessage") if one.chat == person]
        in_order = list(dict.fromkeys(one.text for one in sent))
        assert in_order == [f"I heard: {text}" for text in said[person]]
        for text, n in Counter(one.text for one in sent).items():
            if n > 1:  # only what was the last before a kill
                first, again = [i for i, one in enumerate(sent) if one.text == text]
                assert again == first + 1
                assert any(sent[first].at < at_s < sent[again].at for at_s in at.killed_at)
    with open_light(tmp_path) as agent:
        for person, texts in said.items():
            user = "slack:UANN" if person == "UANN" else f"telegram:{person}"
            kept = list(reversed(agent.store.list(user, limit=1000)))
            assert [episode.text for episode in kept] == texts


async def test_killed_between_sending_and_noting_it_slack_shows_once_and_telegram_twice(tmp_path):
    async with killed(tmp_path) as at:
        at.telegram.hold = at.slack.hold = asyncio.Event()
        await at.start()
        at.telegram.say("Hello.", user=ANN)
        await at.say_on_slack("Hello.")
        await at.telegram.until(1)
        await at.slack.until(1)
        await at.kill()
        at.telegram.hold = at.slack.hold = None
        await at.start()
        await at.telegram.until(2, timeout_s=20)
        at.telegram.say("And now?", user=ANN)
        await at.say_on_slack("And now?")
        await at.telegram.until(3)
        await at.slack.until(2)
    assert at.telegram.texts() == ["I heard: Hello."] * 2 + ["I heard: And now?"]
    assert [posted["text"] for posted in at.slack.posted] == ["I heard: Hello.", "I heard: And now?"]
