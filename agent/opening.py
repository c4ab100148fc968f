"""An agent on this machine: what the settings name, opened and put together."""

from __future__ import annotations

from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

from memory.cipher import Cipher, key_from_keyring
from memory.store import MemoryStore
from model.types import AffectModel

from .care import Consent
from .conversations import open_conversations
from .forgetting import expire
from .nodes import Ears
from .reply import ReplyModel
from .session import Agent
from .settings import Settings, SetupError, keep_private, load_settings
from .speech import Speaker


def open_agent(settings: Settings | None = None, *, consent: Consent | None = None) -> Agent:
    """An agent on this machine: its model, memory and conversations under `settings.home` or where else they say.

    Raises:
        SetupError: weights or an extra are missing, or the home folder cannot be used.
        MemoryStoreError: the memory is open in another process or cannot be used.
    """
    keep_private()
    settings = settings or load_settings()
    with ExitStack() as opened:
        store = open_store(settings)  # first: it is quick to say that another process has the memory
        opened.callback(store.close)
        checkpointer = open_conversations(settings, open_cipher(settings))
        opened.callback(checkpointer.conn.close)
        if settings.keep_days is not None:
            expire(store, checkpointer, settings.keep_days)
        model = load_model(settings)
        return Agent(
            model=model,
            store=store,
            ears=open_ears(settings),
            reply_model=open_reply_model(settings),
            speaker=lambda: open_speaker(settings),
            checkpointer=checkpointer,
            consent=consent or settings.consent.as_consent(),
            locale=settings.locale,
            close=opened.pop_all().close,
        )


def load_model(settings: Settings) -> AffectModel:
    """The Nano-EmoX that the settings name, in this process or behind a server.

    Raises:
        Unreachable, RemoteError: that server does not answer, or does not let us in.
    """
    if settings.model_url is not None:
        from model.remote import RemoteModel

        token = settings.model_token
        return RemoteModel(settings.model_url, token.get_secret_value() if token else None)
    import torch

    from model.build import checkpoints_language_model, load

    if settings.threads:
        torch.set_num_threads(settings.threads)
    folder = checkpoints_language_model(settings.checkpoint, settings.weights)
    return load(folder, settings.checkpoint, sources=settings.weights)


def open_store(settings: Settings) -> MemoryStore:
    """The memory under the home folder, which opening makes, or on the server that the settings name."""
    from memory.chroma import ChromaStore
    from memory.embedding import MiniLmEmbedder
    from model.device import on_device
    from model.weights import locate

    embedder = MiniLmEmbedder(locate("minilm"))
    embedder.embed = on_device(embedder.embed)  # type: ignore[method-assign]  # torch computes on one thread only
    where = settings.memory_url or settings.home / "memory"
    return ChromaStore(where, embedder, cipher=open_cipher(settings), apart=settings.memory_apart)


def open_cipher(settings: Settings) -> Cipher | None:
    """What seals texts at rest, or None where the settings name no key.

    Raises:
        MemoryStoreError: it is no key, or the keyring holds none.
    """
    if settings.memory_key is None:
        return None
    key = settings.memory_key.get_secret_value()
    return Cipher(key_from_keyring() if key == "keyring" else key)


def open_ears(settings: Settings) -> Ears:
    """Recogniser and face finder, each built at its first use."""

    @cache
    def asr() -> Any:
        from model.weights import locate
        from perception.asr import WhisperAsr

        return WhisperAsr(locate(settings.recogniser), cpu_threads=1)  # a second team would slow the model (device.py)

    @cache
    def face_finder() -> Any:
        from model.weights import locate
        from perception.face import FaceFinder

        return FaceFinder(locate("mtcnn"))

    return Ears(asr, face_finder, settings.recogniser)


def open_speaker(settings: Settings) -> Speaker:
    """The voice that the settings name."""
    from model.weights import locate

    from .speech import STYLES, CoquiSpeaker, CoquiVoice, PiperSpeaker

    kind, _, name = settings.speaker.partition(":")
    if kind == "piper":
        return PiperSpeaker(Path(name) if name else locate("piper-joe"))
    if kind == "coqui" and name:
        if unknown := settings.speaker_styles.keys() - STYLES.keys():
            raise SetupError(f"speaker_styles names {', '.join(sorted(unknown))}; the styles are {', '.join(STYLES)}")
        voice, *others = (
            CoquiVoice(chosen.speaker, chosen.reference)
            for chosen in (settings.speaker_voice, *settings.speaker_styles.values())
        )
        styles = dict(zip(settings.speaker_styles, others, strict=True))
        return CoquiSpeaker(name, voice=voice, style_voices=styles, language=settings.speaker_language)
    raise SetupError(f'the speaker "{settings.speaker}" is none of piper, piper:VOICE.onnx, coqui:MODEL')


def open_reply_model(settings: Settings) -> ReplyModel | None:
    """The chat model that the settings name, or None where Nano-EmoX words the replies.

    Raises:
        SetupError: langchain-openai is not installed.
    """
    if settings.reply_model is None:
        return None
    try:
        from langchain_openai import ChatOpenAI
    except ImportError as error:
        raise SetupError("a reply model needs langchain-openai: pip install 'emox[chat]'") from error
    from .reply import ChatModelReply

    return ChatModelReply(
        ChatOpenAI(model=settings.reply_model, base_url=settings.reply_url, api_key=settings.reply_key)
    )
