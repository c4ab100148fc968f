"""What OpenAI's clients ask for, under /v1: chat (openai_chat.py), sound (openai_audio.py), embeddings, models."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from agent.host import Host
from memory.embedding import Embedder
from memory.scoring import n_tokens
from perception.listen import clean_text

from . import openai_audio, openai_chat
from .openai_errors import RESPONSES, Unusable, no_model
from .openai_types import (
    CHAT_MODEL,
    SPEECH_MODEL,
    Embedding,
    Embeddings,
    EmbeddingsRequest,
    EmbeddingsUsage,
    Model,
    Models,
)
from .seam import TheHost, User

AT_ONCE = 16
"""Texts embedded together; in between, turns that need the same device have theirs."""

router = APIRouter(prefix="/v1", tags=["as OpenAI"], responses=RESPONSES)
router.include_router(openai_chat.router)
router.include_router(openai_audio.router)


@router.post("/embeddings", response_model=Embeddings, summary="Texts as vectors")
async def embeddings(wish: EmbeddingsRequest, host: TheHost, user: User) -> Any:
    """By the memory's own model, whose vectors' inner product says how alike two texts are in meaning.

    It reads the beginning of a text, all-MiniLM-L6-v2 256 tokens. Lists of tokens are refused.
    """
    embedder = host.store.embedder
    if wish.model != embedder.name:
        raise no_model(wish.model, embedder.name)
    if wish.dimensions not in (None, embedder.dim):
        raise Unusable(f"dimensions: this model has {embedder.dim}", "dimensions", "unsupported_value")
    texts = [clean_text(text) for text in ([wish.input] if isinstance(wish.input, str) else wish.input)]
    if not all(texts):
        raise Unusable("input: a text is empty", "input")
    rows = await host.do(user, lambda: _embedded(embedder, texts))
    read = sum(n_tokens(text) for text in texts)
    return Embeddings(
        data=[Embedding(index=i, embedding=_told(row, wish.encoding_format)) for i, row in enumerate(rows)],
        model=embedder.name,
        usage=EmbeddingsUsage(prompt_tokens=read, total_tokens=read),
    )


def _embedded(embedder: Embedder, texts: list[str]) -> np.ndarray:
    return np.concatenate([embedder.embed(texts[at : at + AT_ONCE]) for at in range(0, len(texts), AT_ONCE)])


def _told(row: np.ndarray, form: str) -> list[float] | str:
    return base64.b64encode(row.astype("<f4").tobytes()).decode() if form == "base64" else row.tolist()


@router.get("/models", response_model=Models, summary="The models there are")
async def models(host: TheHost, user: User) -> Any:
    """For chat, speech, transcription and embeddings, in this order."""
    return Models(data=[Model(id=name) for name in _models(host)])


@router.get("/models/{model}", response_model=Model, summary="One model")
async def model(model: str, host: TheHost, user: User) -> Any:
    """By its name."""
    if model not in _models(host):
        raise no_model(model, *_models(host))
    return Model(id=model)


@router.api_route("/{rest:path}", methods=["GET", "POST", "PUT", "PATCH", "DELETE"], include_in_schema=False)
async def nothing(rest: str, request: Request) -> None:
    """What else OpenAI's API has."""
    raise Unusable(f"there is no {request.method} /v1/{rest} here: see /openapi.json", "url", "unknown_url", 404)


def _models(host: Host) -> tuple[str, ...]:
    return CHAT_MODEL, SPEECH_MODEL, host.agent.ears.recogniser, host.store.embedder.name
