"""Scripted stand-ins for every protocol: they answer at once and remember what they were asked."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from agent.sentences import speakable, split_sentences
from agent.speech import Audio, VoiceStyle
from agent.word_timing import SpokenWord, pair_words
from memory.types import Episode
from model.types import CIRCUMPLEX, EMOTIONS, INTENTS, Affect, CutShort, ModelCard, ReplyBrief, Understanding, Utterance
from perception.types import Faces, Frames, Modality, Speech, Transcript, UserTurn, Word

# ---- memory ----------------------------------------------------------------------------------------------------------


class FakeEmbedder:
    """Sentences that share words are alike: each word is a fixed random direction, a sentence their unit sum."""

    name = "fake-embedder"
    dim = 64

    def __init__(self) -> None:
        self.embedded: list[str] = []

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        self.embedded.extend(texts)
        rows = np.array([self._row(text) for text in texts], np.float32).reshape(len(texts), self.dim)
        return rows

    def _row(self, text: str) -> np.ndarray:
        total = np.zeros(self.dim)
        for word in text.lower().split() or [""]:
            total += np.random.default_rng(zlib.crc32(word.encode())).normal(size=self.dim)
        return total / np.linalg.norm(total)


def affect_of(emotion: str, strength: float = 1.0) -> Affect:
    """An affect between neutral (strength 0) and an emotion (1), its numbers in agreement with each other."""
    shares = {label: strength * (label == emotion) + (1 - strength) * (label == "neutral") for label in EMOTIONS}
    valence, arousal = (sum(shares[label] * CIRCUMPLEX[label][axis] for label in EMOTIONS) for axis in (0, 1))
    likeliest = max(shares, key=shares.__getitem__)
    return Affect(valence, likeliest, shares, valence, arousal, confidence=shares[likeliest])


def episode_of(id: str, text: str = "a word", emotion: str = "neutral", user: str = "ann", **fields: Any) -> Episode:
    """An episode of 2026-01-01 unless told otherwise."""
    fields = {"thread_id": "thread", "at": datetime(2026, 1, 1, tzinfo=UTC), "reply": "I hear you."} | fields
    return Episode(id=id, user=user, text=text, affect=fields.pop("affect", affect_of(emotion)), **fields)


# ---- perception ------------------------------------------------------------------------------------------------------


class FakeAsr:
    """A recogniser that hears what it is told, or nothing, and keeps what it was given."""

    def __init__(self, text: str = "I had a long day.", language: str = "en") -> None:
        self.text, self.language = text, language
        self.heard: list[Speech] = []
        self.transcribed: list[Speech] = []

    def hears_speech(self, speech: Speech) -> bool:
        self.heard.append(speech)
        return bool(self.text)

    def transcribe(self, speech: Speech, language: str | None = None, *, in_haste: bool = False) -> Transcript:
        self.transcribed.append(speech)
        words = self.text.split()
        step_s = speech.duration_s / max(len(words), 1)
        times = tuple(Word(word, i * step_s, (i + 1) * step_s, 0.9) for i, word in enumerate(words))
        return Transcript(self.text, self.language if words else "", times)


class FakeFaceFinder:
    """A face finder that takes the middle of every frame for the one face, or sees none."""

    def __init__(self, *, sees_face: bool = True) -> None:
        self.sees_face = sees_face
        self.followed: list[Frames] = []

    def follow(self, frames: Frames) -> Faces | None:
        self.followed.append(frames)
        if not self.sees_face:
            return None
        n, height, width, _ = frames.images.shape
        box = np.array([width / 4, height / 4, width * 3 / 4, height * 3 / 4], np.float32)
        return Faces(np.zeros((n, 160, 160, 3), np.uint8), frames.times_s, np.tile(box, (n, 1)))


# ---- agent -----------------------------------------------------------------------------------------------------------


class FakeSpeaker:
    """A speaker that needs 50 ms of tone per word and remembers every sentence it was given, and in which style."""

    sample_rate_hz = 16_000

    def __init__(self) -> None:
        self.said: list[tuple[str, VoiceStyle]] = []

    def speak(self, sentences: str | Iterable[str], style: VoiceStyle) -> Iterator[Audio]:
        for sentence in split_sentences([sentences]) if isinstance(sentences, str) else sentences:
            if text := speakable(sentence):
                self.said.append((text, style))
                words, at = [], 0.0
                for word, part in pair_words(sentence, text):
                    words.append(SpokenWord(word, at, at + 0.05 * len(part.split())))
                    at = words[-1].end_s
                yield Audio(
                    np.full(round(at * self.sample_rate_hz), 0.1, np.float32), self.sample_rate_hz, tuple(words)
                )


class FakeModel:
    """An `AffectModel` that feels what its words name, answers with a script and writes down its calls.

    A word is a token; the script is cut only where less than usual is asked for.
    """

    def __init__(
        self, reply: str = "I hear you. Tell me more?", modalities: Iterable[Modality] = ("text", "voice", "face")
    ):
        self.card = ModelCard("fake", "fake-1", frozenset(modalities))
        self.reply = reply
        self.calls: list[str] = []
        self.briefs: list[ReplyBrief] = []
        self.histories: list[tuple[Utterance, ...]] = []
        self.affect: Affect | None = None

    def overhear(self, turn: UserTurn, history: Sequence[Utterance]) -> None:
        self.calls.append("overhear")

    def attend(self, turn: UserTurn, history: Sequence[Utterance] = (), ahead: Any = None) -> UserTurn:
        self.calls.append("attend")
        self.histories.append(tuple(history))
        return turn

    def perceive(self, prefix: UserTurn) -> Affect:
        self.calls.append("perceive")
        named = next((emotion for emotion in EMOTIONS if emotion in prefix.text.lower()), "neutral")
        return self.affect or replace(affect_of(named, 0.9), absent=dict(prefix.absent))

    def understand(
        self, prefix: UserTurn, affect: Affect, *, in_haste: bool = False
    ) -> tuple[Understanding, tuple[str, ...]]:
        self.calls.append("understand")
        intents = {intent: float(intent == "Inform") for intent in INTENTS}
        understanding = Understanding(prefix.text, prefix.text, prefix.text, "Inform", intents)
        return understanding, () if in_haste else (affect.emotion,)

    def empathize(self, prefix: UserTurn, brief: ReplyBrief) -> Iterator[str]:
        self.calls.append("empathize")
        self.briefs.append(brief)
        words = re.findall(r"\s*\S+", self.reply)
        yield from words[: brief.max_tokens] if brief.max_tokens < ReplyBrief.max_tokens else words
        if len(words) >= brief.max_tokens < ReplyBrief.max_tokens:
            yield CutShort()
