"""Nano-EmoX at work on one device: a turn is read once, and every question branches from it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from perception.types import Absence, Modality, UserTurn

from . import processor as p
from .branches import BranchCache
from .device import on_device, stream_on_device
from .heads import Choice, Rules, decode, score
from .nano_emox import NanoEmoX, SoftTokens
from .processor import Processor
from .types import (
    CIRCUMPLEX,
    EMOTIONS,
    INTENTS,
    SENTIMENTS,
    Affect,
    Evidence,
    ModelCard,
    ReplyBrief,
    Understanding,
    Utterance,
)

_READS: Mapping[Modality, tuple[str, ...]] = {"text": (), "voice": ("audio",), "face": ("face", "frame")}
"""Slots that read one modality; `multi` needs voice and frames and belongs to the whole."""

_OPEN_TOKENS = 8
_QUOTE_TOKENS = 16
_QUOTE_STARTS = 200
"""Words, counted from the latest, at which a quotation may begin."""


@dataclass(frozen=True)
class Scaling:
    """Vector scaling of a label task's scores: softmax(weight · score + bias) (Guo et al. 2017, arXiv:1706.04599)."""

    weight: tuple[float, ...]
    bias: tuple[float, ...]


@dataclass(frozen=True)
class Prefix:
    """A turn that has been read.

    `whole` is the branch with everything; `now` the one without the dialogue before, so that an earlier sadness is not
    read into a happy line; `single` one branch for each modality alone.
    """

    cache: BranchCache
    turn: UserTurn
    history: tuple[Utterance, ...]
    whole: int
    now: int
    single: dict[Modality, int]
    absent: dict[Modality, Absence]
    gates: tuple[float, ...] | None


class LocalModel:
    """An `AffectModel` in this process.

    `scaling` calibrates the label tasks by name (`emotion`, `sentiment`, `intent`); a task without one is a softmax
    over the candidates' log-probabilities. Turns share no state; calls from several threads queue up (device.py).
    """

    def __init__(
        self, model: NanoEmoX, processor: Processor, card: ModelCard, scaling: Mapping[str, Scaling] | None = None
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self._card = card
        self._scaling = scaling or {}
        self._newline = processor.tokens_with("\n") | processor.stop_ids
        self._quote = self._newline | processor.tokens_with('"”')
        self._full_stop = processor.tokens_with(".!?")

    @property
    def card(self) -> ModelCard:
        """Which model this is, and what it was trained to read."""
        return self._card

    @on_device
    @torch.inference_mode()
    def attend(self, turn: UserTurn, history: Sequence[Utterance] = ()) -> Prefix:
        """Encode what the turn holds and the model was trained for, and prefill it once."""
        absent = dict(turn.absent)
        read: list[Modality] = []
        for modality in turn.modalities:
            if modality == "text" or (modality in self.card.modalities and set(_READS[modality]) & self.model.slots):
                read.append(modality)
            else:
                absent[modality] = Absence.UNTRAINED
        slots = {slot for modality in read for slot in _READS[modality]}
        if {"voice", "face"} <= set(read):
            slots.add("multi")
        slots &= self.model.slots
        features = self.model.encode(self.processor.inputs(turn, slots))
        soft = self.model.soft_tokens(features)

        cache = BranchCache(self.model.lm.model)
        header = self._embed(self.processor.header_ids())
        whole = cache.fork(after=len(header))
        pieces = {0: header, whole: self._embed_prefix(soft, slots, turn.text, history)}
        now = whole
        if history:
            now = cache.fork(after=len(header))
            pieces[now] = self._embed_prefix(soft, slots, turn.text, ())
        single: dict[Modality, int] = {}
        if len(read) == 1:
            single[read[0]] = now
        else:
            for modality in read:
                branch = single[modality] = cache.fork(after=len(header))
                is_text = modality == "text"
                pieces[branch] = self._embed_prefix(soft, set(_READS[modality]), turn.text if is_text else "", ())
        cache.extend(pieces)
        gates = tuple(soft.gates[0].tolist()) if soft.gates is not None else None
        return Prefix(cache, turn, tuple(history), whole, now, single, absent, gates)

    @on_device
    @torch.inference_mode()
    def perceive(self, prefix: Prefix) -> Affect:
        """Level 1: sentiment and emotion as distributions, from everything and from each modality alone."""
        question = self.processor.question_ids(p.EMOTION_QUESTION, p.EMOTION_LEAD)
        labels = [self.processor.ids(f" {label}") for label in EMOTIONS]
        choices = {"whole": Choice(prefix.now, question, labels)}
        for modality, root in prefix.single.items():
            if root != prefix.now:
                choices[modality] = Choice(root, question, labels)
        choices["sentiment"] = Choice(
            prefix.now,
            self.processor.question_ids(p.SENTIMENT_QUESTION, p.SENTIMENT_LEAD),
            [self.processor.ids(f" {label}") for label in SENTIMENTS],
        )
        scores = self.score(prefix.cache, choices)
        sentiments = self._probabilities("sentiment", SENTIMENTS, scores.pop("sentiment"))
        read = {name: self._probabilities("emotion", EMOTIONS, values) for name, values in scores.items()}
        emotions = read["whole"]
        evidence = {modality: read[modality if root != prefix.now else "whole"]
                    for modality, root in prefix.single.items()}  # fmt: skip
        emotion = max(emotions, key=emotions.__getitem__)
        sentiment = sentiments["positive"] - sentiments["negative"]
        valence = sum(probability * CIRCUMPLEX[label][0] for label, probability in emotions.items())
        return Affect(
            sentiment=sentiment,
            emotion=emotion,
            emotions=emotions,
            valence=(valence + sentiment) / 2,
            arousal=sum(probability * CIRCUMPLEX[label][1] for label, probability in emotions.items()),
            confidence=emotions[emotion],
            evidence=Evidence(**evidence, fusion=emotions),
            absent=prefix.absent,
        )

    @on_device
    @torch.inference_mode()
    def understand(self, prefix: Prefix, affect: Affect) -> tuple[Understanding, tuple[str, ...]]:
        """Level 2, and level 1's open words: one scored question and three that are decoded together.

        Scenario and cause are quotations: a small model that may invent a scene will.
        """
        cache = prefix.cache
        quoting = Rules(_QUOTE_TOKENS, stop=self._quote, min_tokens=2, no_repeat=0, quotes=self._quotes(prefix))
        asked = {
            "scenario": (p.SCENARIO_QUESTION, p.SCENARIO_LEAD, quoting),
            "cause": (p.CAUSE_QUESTION.format(emotion=affect.emotion), p.CAUSE_LEAD, quoting),
            "open": (p.OPEN_QUESTION, p.OPEN_LEAD, Rules(_OPEN_TOKENS, stop=self._newline | self._full_stop)),
        }
        branches = {name: cache.fork(prefix.whole) for name in asked}
        intent = Choice(
            prefix.whole,
            self.processor.question_ids(p.INTENT_QUESTION, p.INTENT_LEAD),
            [self.processor.ids(label) for label in INTENTS],
        )
        beside = {
            branches[name]: self._embed(self.processor.question_ids(q, lead)) for name, (q, lead, _) in asked.items()
        }
        scores, starts = score(cache, {"intent": intent}, self._embed, self._head, beside=beside)
        rules = {branches[name]: rule for name, (_, _, rule) in asked.items()}
        tokens: dict[int, list[int]] = {branch: [] for branch in starts}
        for branch, token in decode(cache, starts, rules, self._embed, self._head):
            tokens[branch].append(token)
        said = {name: self.processor.text(tokens[branch]).strip(" .,") for name, branch in branches.items()}
        cache.prune([prefix.whole])

        intents = self._probabilities("intent", INTENTS, scores["intent"])
        cause = said["cause"] or prefix.turn.text
        understanding = Understanding(
            scenario=said["scenario"] or prefix.turn.text,
            cause=cause,
            evidence=evidence_for(cause, prefix.turn.text, prefix.history),
            intent=max(intents, key=intents.__getitem__),
            intents=intents,
        )
        return understanding, open_words(said["open"])

    @stream_on_device
    @torch.inference_mode()
    def empathize(self, prefix: Prefix, brief: ReplyBrief) -> Iterator[str]:
        """Level 3: prefill the thought, decode the reply and stream it."""
        remembered = "".join(f"You remember: {line}\n" for line in brief.memories)
        ids = self.processor.plain_ids(remembered) if remembered else []
        if brief.thought is None:
            ids += self.processor.question_ids(p.SMALL_TALK_QUESTION)
        else:
            thought = brief.thought
            ids += self.processor.question_ids(p.EMPATHY_QUESTION) + self.processor.plain_ids(
                p.THOUGHT.format(
                    scenario=thought.scenario, emotion=thought.emotion, cause=thought.cause, goal=thought.goal
                )
            )
        branch = prefix.cache.fork(prefix.whole)
        hidden = prefix.cache.extend({branch: self._embed(ids)})[branch]
        said = tuple(i for line in prefix.history if line.role == "assistant" for i in self.processor.ids(line.text))
        rules = Rules(brief.max_tokens, stop=self._newline, min_tokens=3, said=said, repetition_penalty=1.1)
        tokens: list[int] = []
        told = 0
        for _, token in decode(prefix.cache, {branch: hidden[-1]}, {branch: rules}, self._embed, self._head):
            tokens.append(token)
            text = self.processor.text(tokens)
            if not text.endswith("\ufffd"):  # half of a character: wait for the rest
                yield text[told:]
                told = len(text)

    def _quotes(self, prefix: Prefix) -> tuple[tuple[int, ...], ...]:
        """What the person said, now and in the dialogue so far, from each of its words on."""
        spoken = [line.text for line in prefix.history if line.role == "user"] + [prefix.turn.text]
        starts = [line[match.start() :] for line in spoken for match in re.finditer(r"(?<!\S)\w", line)]
        return tuple(tuple(self.processor.plain_ids(start)[:_QUOTE_TOKENS]) for start in starts[-_QUOTE_STARTS:])

    def score(self, cache: BranchCache, choices: dict[str, Choice]) -> dict[str, Tensor]:
        """Uncalibrated log-probabilities of the candidates of each task; see `heads.score`."""
        scores, _ = score(cache, choices, self._embed, self._head)
        return scores

    def _embed(self, ids: Sequence[int]) -> Tensor:
        table = self.model.lm.get_input_embeddings()
        return table(torch.tensor(ids, device=table.weight.device))

    def _embed_prefix(self, soft: SoftTokens, slots: set[str], text: str, history: Sequence[Utterance]) -> Tensor:
        chosen = SoftTokens({slot: tokens for slot, tokens in soft.tokens.items() if slot in slots})
        ids = torch.tensor([self.processor.prefix_ids(chosen.counts(), text, history)], dtype=torch.long)
        device = self.model.lm.get_input_embeddings().weight.device
        return self.model.embed(ids.to(device), chosen, self.processor.placeholders)[0]

    def _head(self, hidden: Tensor) -> Tensor:
        return self.model.lm.lm_head(hidden)

    def _probabilities(self, task: str, labels: Sequence[str], scores: Tensor) -> dict[str, float]:
        if task in self._scaling:
            scaling = self._scaling[task]
            scores = torch.tensor(scaling.weight) * scores.cpu() + torch.tensor(scaling.bias)
        return dict(zip(labels, scores.double().softmax(-1).tolist(), strict=True))


def open_words(answer: str) -> tuple[str, ...]:
    """The emotion words of an open-vocabulary answer: lower case, no repeats, in order."""
    words = (re.sub(r"[^a-z' -]", "", word.lower()).strip() for word in re.split(r"[,;]| and ", answer))
    return tuple(dict.fromkeys(word for word in words if 1 < len(word) < 25))


def evidence_for(cause: str, text: str, history: Sequence[Utterance]) -> str:
    """The person's own sentence that shares most words with the cause; the latest one where none does."""
    spoken = [line.text for line in history if line.role == "user"] + [text]
    sentences = [part.strip() for line in spoken for part in re.split(r"(?<=[.!?])\s+", line) if part.strip()]
    words = set(re.findall(r"\w+", cause.lower()))

    def shared(sentence: str) -> int:
        return len(words & set(re.findall(r"\w+", sentence.lower())))

    return max(reversed(sentences), key=shared, default="")
