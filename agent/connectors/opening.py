"""The chat platforms that the settings name. Each needs an extra of the same name, imported only where it is opened."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import SecretStr

from agent.settings import Settings, SetupError

from .connector import Connector


def _telegram(settings: Settings, token: str) -> Connector:
    from .telegram import URL, TelegramConnector

    return TelegramConnector(token, settings.telegram_url or URL)


def _slack(settings: Settings, token: str) -> Connector:
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


def _discord(settings: Settings, token: str) -> Connector:
    from .discord import DiscordConnector  # type: ignore[import-not-found,unused-ignore]

    return DiscordConnector(token)


PLATFORMS: dict[str, Callable[[Settings, str], Connector]] = {
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


def open_connectors(settings: Settings) -> list[Connector]:
    """One for each platform that is configured; none of them connects yet.

    Raises:
        SetupError: a library is missing, or a platform needs another secret.
    """
    opened = []
    for name, token in configured(settings).items():
        try:
            opened.append(PLATFORMS[name](settings, token))
        except ImportError as error:
            raise SetupError(f"{name} needs more libraries ({error}): pip install 'emox[{name}]'") from None
    return opened


def _told(secret: SecretStr | None) -> str | None:
    return (secret.get_secret_value().strip() or None) if secret is not None else None
