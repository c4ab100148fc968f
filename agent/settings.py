"""Settings of this machine: a file in the state folder, overridden by the environment.

`EMOX_HOME/settings.toml` holds consent, voice and language; `EMOX_HOME` and `EMOX_CACHE` say where state and
caches lie; secrets come from the environment only.
"""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from platformdirs import user_data_path
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from model.installed import find

from .care import Consent


class SetupError(RuntimeError):
    """Something the agent needs is missing or cannot be used; the text says what and what to do."""


class ConsentSettings(BaseModel):
    """What may be read of a person who uses the agent on this machine.

    All is on: who names a recording on the command line asks for it to be read, and the disclosure at first contact
    says what is read and how to turn it off. Servers and chat platforms decide for themselves.
    """

    model_config = ConfigDict(extra="forbid")

    text: bool = True
    voice: bool = True
    face: bool = True

    def as_consent(self) -> Consent:
        """The agent's own type."""
        return Consent(text=self.text, voice=self.voice, face=self.face)


class VoiceSettings(BaseModel):
    """A voice of a Coqui model."""

    model_config = ConfigDict(extra="forbid")

    speaker: str | None = None
    """Name of one, of a model with several."""

    reference: Path | None = None
    """Recording whose voice to take on, for models that clone; use it only with that person's consent."""


class Settings(BaseSettings):
    """All settings, each with its default."""

    model_config = SettingsConfigDict(env_prefix="EMOX_", env_nested_delimiter="__", extra="ignore")

    home: Path = Field(default_factory=lambda: user_data_path("emox", appauthor=False))
    """Folder of everything that is kept."""

    locale: str = Field(default_factory=lambda: os.environ.get("LC_ALL") or os.environ.get("LANG") or "en")
    """Chooses helplines: "en-GB", "de_AT.UTF-8"."""

    consent: ConsentSettings = Field(default_factory=ConsentSettings)

    model_url: str | None = None
    """Address of a model that `emox serve-model` serves elsewhere, such as "http://10.0.0.7:7861/models/default"; by
    default the model runs in this process."""

    model_token: SecretStr | None = None
    """Token by which that server lets us in."""

    model_tokens: list[str] = Field(default_factory=list)
    """Of the tokens by which others may use the model that is served here, the hashes that `emox token model` shows."""

    recogniser: str = "whisper-base"
    """`whisper-base` (many languages) or `whisper-tiny-en` (English, half the time)."""

    checkpoint: Path | None = None
    """Folder of a Nano-EmoX checkpoint, or the name of one that `emox model pull` fetched; by default the one that
    comes with the package."""

    weights: dict[str, str] = Field(default_factory=dict)
    """Part of the model (lm, visual, acoustic, facial) -> folder or hub repository of its weights, where the
    checkpoint is of a variant whose weights no package ships."""

    speaker: str = "piper"
    """`piper`, or `coqui:MODEL`, where MODEL is a released model's name or a folder."""

    speaker_voice: VoiceSettings = Field(default_factory=VoiceSettings)
    """Which of a Coqui model's voices."""

    speaker_styles: dict[str, VoiceSettings] = Field(default_factory=dict)
    """Manner of speaking (plain, warm, calm, bright) -> another voice for it."""

    speaker_language: str | None = None
    """What a Coqui model of several languages speaks, such as `en`."""

    reply_model: str | None = None
    """Name of a model behind an OpenAI-compatible endpoint that words the replies; by default Nano-EmoX does."""

    reply_url: str | None = None
    """Base URL of that endpoint."""

    reply_key: SecretStr = SecretStr("none")
    """Its key."""

    memory_url: str | None = None
    """Address of a Chroma server (`chroma run`) that keeps the memory; by default it lies under `home`."""

    threads_url: SecretStr | None = None
    """Address of a PostgreSQL database that keeps the conversations, "postgresql://USER:PASSWORD@HOST/NAME", where
    several agents share them; by default they lie under `home`."""

    memory_apart: bool = False
    """Keep the memory under `home` open in a process of its own, so that nobody waits while it writes: for many people
    at once. `emox serve` does so anyway, except on Windows."""

    memory_key: SecretStr | None = None
    """Key that encrypts what was said, at rest; `emox memory key` makes one; `keyring` takes that of the
    system's keyring."""

    keep_days: int | None = Field(default=None, ge=1)
    """Episodes older than so many days are forgotten when the agent starts; by default nothing is."""

    threads: int = 0
    """CPU threads for the model; 0 takes all cores."""

    silence_s: float = Field(default=25.0, ge=0)
    """In a voice conversation, after so many seconds without a word the person is told that there is time; 0 for
    never."""

    conversations: int = Field(default=4, ge=1)
    """How many people may talk with the voice server at once."""

    turns_at_once: int = Field(default=4, ge=1)
    """Turns that the server runs at the same time; more wait."""

    turns_waiting: int = Field(default=16, ge=0)
    """Turns that wait in the server; who comes then is told when to come again."""

    turns_a_minute: int = Field(default=60, ge=1)
    """So many requests may one person send to the server in a minute, on average."""

    hosts: list[str] = Field(default_factory=list)
    """Names by which browsers may reach the server, such as "emox.example.org", beside localhost and numbers."""

    origins: list[str] = Field(default_factory=list)
    """Other web sites whose pages may use the server, such as "http://localhost:5173"."""

    telegram_token: SecretStr | None = None
    """Token of a bot of Telegram, from @BotFather; with it `emox serve` answers there."""

    telegram_url: str | None = None
    """Address of a Bot API server of one's own, in place of Telegram's."""

    slack_bot_token: SecretStr | None = None
    """Token of an app of Slack ("xoxb-..."); it needs one of the next two as well."""

    slack_app_token: SecretStr | None = None
    """Its app-level token ("xapp-..."): Slack is reached by Socket Mode, and need not reach this server."""

    slack_signing_secret: SecretStr | None = None
    """Its signing secret, if Slack sends its events to this server's /slack/events instead."""

    slack_voice: bool = False
    """Voice messages and videos on Slack are heard, and how they sound is read where the person agrees. Law may forbid
    that at work, as it does in the EU."""

    slack_url: str | None = None
    """Address of Slack's API, where it is another: GovSlack's is https://slack-gov.com/api/."""

    discord_token: SecretStr | None = None
    """Token of a bot of Discord."""

    @property
    def elsewhere(self) -> str | None:
        """What of all that is kept lies with servers, whose files cannot be searched from here."""
        named = [self.memory_url] if self.memory_url else []
        if self.threads_url:
            named.append("the database of conversations")
        return " and ".join(named) or None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment goes before the file."""
        home = Path(os.environ.get("EMOX_HOME") or user_data_path("emox", appauthor=False)).expanduser()
        file = TomlConfigSettingsSource(settings_cls, toml_file=home / "settings.toml")
        return init_settings, env_settings, file


def keep_private() -> None:
    """Switch off what libraries would send or print: tracing, telemetry, progress bars, advice."""
    os.environ.update(
        LANGSMITH_TRACING="false",
        LANGCHAIN_TRACING_V2="false",
        HF_HUB_DISABLE_TELEMETRY="1",
        ANONYMIZED_TELEMETRY="False",
        TOKENIZERS_PARALLELISM="false",
    )
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    os.environ.setdefault("LOGURU_LEVEL", "ERROR")  # below, Pipecat logs what is said
    os.environ.setdefault("LOGURU_DIAGNOSE", "NO")  # values of variables in a traceback
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        SetupError: the file or a variable cannot be understood.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SetupError(
            f"the setting {name} is wrong: {first['msg']}; see settings.toml and EMOX_* variables"
        ) from None
    except (SettingsError, ValueError, OSError) as error:
        raise SetupError(f"settings.toml cannot be read: {error}") from None
    checkpoint = settings.checkpoint and find(settings.checkpoint)
    return settings.model_copy(update={"home": settings.home.expanduser(), "checkpoint": checkpoint})


def write_consent(settings: Settings, changes: dict[str, bool]) -> ConsentSettings:
    """Change consent in settings.toml, leaving the rest of the file as it is; the file is whole at any moment.

    Raises:
        SetupError: the file cannot be written.
    """
    path = settings.home / "settings.toml"
    consent = settings.consent.model_copy(update=changes)
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if "[consent]" in lines:
            start = lines.index("[consent]")
            end = next((i for i in range(start + 1, len(lines)) if lines[i].startswith("[")), len(lines))
            del lines[start:end]
        lines += ["[consent]", *(f"{name} = {str(value).lower()}" for name, value in consent.model_dump().items())]
        settings.home.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise SetupError(f"{path} cannot be written ({error.strerror}): is the folder writable?") from None
    return consent
