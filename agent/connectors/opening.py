"""The chat platforms that the settings name. Each needs an extra of the same name, imported only where it is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from pydantic import SecretStr

from agent.opening import open_cipher
from agent.settings import Settings, SetupError

from .connector import Connector
from .inbox import Inbox
from .watch import Chats


def _telegram(settings: Settings, token: str, inbox: Inbox) -> Connector:
    from .telegram import URL, TelegramConnector

    return TelegramConnector(token, settings.telegram_url or URL)


def _slack(settings: Settings, token: str, inbox: Inbox) -> Connector:
    if problem := slack_problem(settings):
        raise SetupError(problem)
    from .slack import URL, SlackConnector

    return SlackConnector(
        token,
        app_token=_told(settings.slack_app_token),
        signing_secret=_told(settings.slack_signing_secret),
        voice=settings.slack_voice,
        url=settings.slack_url or URL,
    )


def _discord(settings: Settings, token: str, inbox: Inbox) -> Connector:
    from .discord import DiscordConnector

    return DiscordConnector(token, lambda: inbox.latest("discord"))


PLATFORMS: dict[str, Callable[[Settings, str, Inbox], Connector]] = {
    "discord": _discord,
    "slack": _slack,
    "telegram": _telegram,
}


def configured(settings: Settings) -> dict[str, str]:
    """Each platform for which there is a token, and that token."""
    tokens = {
        "discord": settings.discord_token,
        "slack": settings.slack_bot_token,
        "telegram": settings.telegram_token,
    }
    told = {name: _told(token) for name, token in tokens.items()}
    return {name: token for name, token in told.items() if token}


def slack_problem(settings: Settings) -> str | None:
    """What the settings of Slack lack, and what to do."""
    if _told(settings.slack_bot_token) and not (
        _told(settings.slack_app_token) or _told(settings.slack_signing_secret)
    ):
        return (
            "Slack needs more than EMOX_SLACK_BOT_TOKEN: set EMOX_SLACK_APP_TOKEN (Socket Mode), or "
            "EMOX_SLACK_SIGNING_SECRET if Slack can reach this server"
        )
    return None


def open_chats(settings: Settings) -> Chats | None:
    """The platforms that are configured, not yet connected; None if none is.

    Raises:
        SetupError: a library is missing, a platform needs another secret, or the inbox cannot be opened.
        MemoryStoreError: the key of the memory cannot be used.
    """
    tokens = configured(settings)
    if not tokens:
        return None
    with contextlib.ExitStack() as opened:
        inbox = Inbox(settings.home / "inbox.sqlite", open_cipher(settings))
        opened.callback(inbox.close)
        connectors = [_open(name, settings, token, inbox) for name, token in tokens.items()]
        opened.pop_all()
        return Chats(connectors, inbox)


def _open(name: str, settings: Settings, token: str, inbox: Inbox) -> Connector:
    try:
        return PLATFORMS[name](settings, token, inbox)
    except ImportError as error:
        raise SetupError(f"{name} needs more libraries ({error}): pip install 'emox[{name}]'") from None


def _told(secret: SecretStr | None) -> str | None:
    return (secret.get_secret_value().strip() or None) if secret is not None else None
