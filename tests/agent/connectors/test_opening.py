"""Which chat platforms the settings name, and what is said where something is missing; desks beside the server."""

import asyncio
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from agent.connectors.backoff import Backoff
from agent.connectors.commands import command_in
from agent.connectors.opening import configured, open_chats
from agent.connectors.watch import at_work, keep_running
from agent.doctor import examine
from agent.settings import SetupError, load_settings

DOCS = Path(__file__).parents[3] / "docs" / "chat.md"


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """Of an environment with these variables."""

    def of(**variables):
        monkeypatch.setenv("EMOX_HOME", str(tmp_path))
        for name, value in variables.items():
            monkeypatch.setenv(f"EMOX_{name.upper()}", value)
        return load_settings()

    return of


def test_without_tokens_there_are_no_platforms(settings):
    assert open_chats(settings(telegram_token=" ", slack_app_token="xapp-1")) is None


def test_a_token_in_the_environment_opens_its_platform(settings):
    pytest.importorskip("telegram", reason="python-telegram-bot is not installed")
    pytest.importorskip("slack_bolt", reason="slack-bolt is not installed")
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    found = settings(telegram_token="1:a", slack_bot_token="xoxb-1", slack_signing_secret="s", slack_voice="true")
    chats = open_chats(found)
    assert chats.names == "slack, telegram"
    assert len(chats.routers) == 1
    assert chats.connectors[0].most.voice


def test_tokens_are_not_shown(settings):
    found = settings(telegram_token="1:hidden", slack_bot_token="xoxb-hidden", discord_token="hidden")
    assert "hidden" not in repr(found)
    assert set(configured(found)) == {"discord", "slack", "telegram"}


def test_slack_without_its_second_secret_is_told_in_a_sentence(settings):
    with pytest.raises(SetupError, match=r"EMOX_SLACK_APP_TOKEN .* EMOX_SLACK_SIGNING_SECRET"):
        open_chats(settings(slack_bot_token="xoxb-1"))


@pytest.mark.parametrize(
    ("name", "library", "variables"),
    [
        ("telegram", "telegram", {"telegram_token": "1:a"}),
        ("slack", "slack_bolt", {"slack_bot_token": "xoxb-1", "slack_app_token": "xapp-1"}),
        ("discord", "discord", {"discord_token": "t"}),
    ],
)
def test_a_missing_library_names_its_extra(settings, monkeypatch, name, library, variables):
    for module in [m for m in sys.modules if m == f"agent.connectors.{name}" or m.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SetupError, match=rf"pip install 'emox\[{name}\]'"):
        open_chats(settings(**variables))


def test_doctor_says_which_platforms_are_configured_and_no_token(settings, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "telegram" else object())
    report = examine(settings(telegram_token="1:hidden", slack_bot_token="xoxb-hidden"))
    assert report["platforms"] == ["slack", "telegram"]
    assert {item["fix"] for item in report["missing"]} >= {"pip install 'emox[telegram]'"}
    assert any("EMOX_SLACK_APP_TOKEN" in item["fix"] for item in report["missing"])
    assert "hidden" not in str(report)


def test_the_documented_manifest_of_slack_names_commands_that_there_are():
    manifest = yaml.safe_load(textwrap.dedent(DOCS.read_text().split("```yaml\n")[1].split("```")[0]))
    commands = manifest["features"]["slash_commands"]
    assert {command_in(one["command"]).name for one in commands} == {
        "agree", "disagree", "memory", "forget", "export", "quiet",
    }  # fmt: skip


def test_waits_double_and_begin_anew_when_all_is_well():
    backoff = Backoff(1, 5)
    assert [backoff.wait_s() for _ in range(5)] == [1, 2, 4, 5, 5]
    backoff.over()
    assert backoff.wait_s() == 1


class Failing:
    """A desk that ends so often before it goes on; each run takes some time of a clock."""

    platform = "paper"

    def __init__(self, n=0, takes_s=0.0):
        self.n, self.takes_s, self.runs, self.now = n, takes_s, 0, 0.0
        self.at_work = asyncio.Event()

    async def run(self):
        self.runs += 1
        self.now += self.takes_s
        if self.runs <= self.n:
            raise ConnectionError("words that must not be logged")
        self.at_work.set()
        await asyncio.Event().wait()


async def test_a_desk_that_fails_is_begun_again_and_the_others_do_not_notice(monkeypatch, caplog):
    monkeypatch.setattr("agent.connectors.watch.Backoff", lambda longest_s: Backoff(0.001, 0.002))
    failing, well = Failing(3), Failing()
    async with at_work([failing, well]), asyncio.timeout(5):
        await failing.at_work.wait()
    assert (failing.runs, well.runs) == (4, 1)
    assert caplog.text.count("paper does not work: ConnectionError") == 3
    assert "words" not in caplog.text


@pytest.mark.parametrize(("takes_s", "waits"), [(0.0, [1, 2, 4]), (300.0, [1, 1, 1])])
async def test_a_desk_that_worked_for_long_is_begun_again_at_once(takes_s, waits):
    class Noted(Backoff):
        def wait_s(self):
            noted.append(super().wait_s())
            return 0

    noted, desk = [], Failing(3, takes_s)
    task = asyncio.create_task(keep_running(desk, Noted(1, 300), lambda: desk.now))
    async with asyncio.timeout(5):
        await desk.at_work.wait()
    task.cancel()
    assert noted == waits
