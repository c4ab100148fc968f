"""Nano-EmoX at work on one device: a turn is read once, and every question branches from it."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from perception.types import Absence, Modality, UserTurn

from . import processor as p
from .branches import BranchCache
from .clauses import sentences
from .encoders.features import Encoder
from .heads import Answer, Choice, Head, Rules, score
from .nano_emox import NanoEmoX, SoftTokens
from .prefixes import Ahead, Prefix, Prefixes, Untold, quotations, tell
from .processor import Processor
from .readings import (
    Cause,
    Scaling,
    calibrated,
    counted,
    fitting,
    half_by_words,
    heard,
    line_logits,
    open_words,
    with_the_ear,
)
from .rounds import Encode, Pass, Room, Rounds, Sit, Step
from .rows import Row
from .scheduler import Request, Say, Scheduler
from .types import (
    CIRCUMPLEX,
    EMOTIONS,
    INTENTS,
    SENTIMENTS,
    Affect,
    CutShort,
    Evidence,
    ModelCard,
    ReplyBrief,
    Understanding,
    Utterance,
)

_READS: Mapping[Modality, tuple[str, ...]] = {"text": (), "voice": ("audio",), "face": ("face", "frame")}
"""Slots that read one modality; `multi` needs voice and frames and belongs to the whole."""

_OPEN_TOKENS = 6
_CLAUSE_TOKENS = 6
"""So many tokens of a clause are scored: in a quotation, what follows is nearly certain."""
_PATIENCE_S = 0.5
"""So long others go before what is read ahead."""
_REST_TOKENS = 640
"""Of a row, besides a prompt's `max_tokens`: what is remembered, the thought and the reply."""
TEMPERATURE = 0.5
TOP_P = 0.9
"""Of the draw of a reply's tokens."""

LABEL_TASKS: Mapping[str, tuple[str, str, str]] = {
    "emotion": (p.EMOTION_QUESTION, p.EMOTION_LEAD, " {}"),
    "sentiment": (p.SENTIMENT_QUESTION, p.SENTIMENT_LEAD, " {}"),
    "intent": (p.INTENT_QUESTION, p.INTENT_LEAD, "{}"),
}
"""Question, how the answer begins, and how a label is written in it."""


class LocalModel:
    """An `AffectModel` in this process.

    `scaling` calibrates label tasks by what was read, such as `emotion/text` or `emotion/text+voice`; one without is a
    softmax over the candidates' log-probabilities. Turns share no state; calls from several threads are served
    together (rounds.py), and what is felt is read as if each were alone.
    """

    def __init__(
        self,
        model: NanoEmoX,
        processor: Processor,
        card: ModelCard,
        scaling: Mapping[str, Scaling] | None = None,
        *,
        room: Room | None = None,
        fused: bool = False,
    ) -> None:
        self.model = model.eval()
        self.processor = processor
        self._head = Head(lambda hidden: model.lm.lm_head(hidden), model.lm.get_output_embeddings().weight.data)
        self.rounds = Rounds(model, processor.max_tokens + _REST_TOKENS, room, fused=fused)
        self._scheduler = Scheduler(self.rounds.serve, self.rounds.room.requests)
        self._prefixes = Prefixes(self.rounds.room.prefix_tokens)
        self._card = card
        self._scaling = scaling or {}
        self._newline = processor.tokens_with("\n") | processor.stop_ids
        self._full_stop = processor.tokens_with(".!?")

    @property
    def card(self) -> ModelCard:
        """Which model this is, and what it was trained to read."""
        return self._card

    def overhear(self, turn: UserTurn, history: Sequence[Utterance]) -> Ahead:
        """Read ahead what comes before the words where everything is told: the voice so far, the face, the dialogue."""
        return self._scheduler.run(self._overhear(turn, history), patience_s=_PATIENCE_S)

    def _overhear(self, turn: UserTurn, history: Sequence[Utterance]) -> Request[Ahead]:
        _, _, slots = self._readable(turn)
        soft: SoftTokens = yield Encode(self.processor.inputs(turn, slots, self.rounds.device))
        cache = BranchCache(self.model.lm.model)
        cache.append(0, self._embed(self.processor.header_ids()))
        whole = cache.fork()
        cache.append(whole, self._embed_prefix(soft, slots, "", history))
        yield Pass(cache)
        return Ahead(cache, whole, tuple(history), frozenset(slots))

    def attend(self, turn: UserTurn, history: Sequence[Utterance] = (), ahead: Ahead | None = None) -> Prefix:
        """Encode what the turn holds and the model was trained for; it is prefilled once, with the first questions.

        What was read ahead of the same dialogue is not read again: what is felt comes from the voice to its end, what
        is understood and answered from the voice as far as it was overheard.
        """
        return self._scheduler.run(self._attend(turn, history, ahead))

    def _attend(self, turn: UserTurn, history: Sequence[Utterance], ahead: Ahead | None) -> Request[Prefix]:
        read, absent, slots = self._readable(turn)
        soft: SoftTokens = yield Encode(self.processor.inputs(turn, slots, self.rounds.device))
        if ahead is not None and (not history or ahead.history != tuple(history) or ahead.slots != slots):
            ahead = None
        if ahead is not None:
            cache, whole = ahead.cache, ahead.whole
            untold = [Untold(self._embed(self.processor.prefix_ids({}, turn.text)))] if turn.text else []
        else:
            cache = BranchCache(self.model.lm.model)
            cache.append(0, self._embed(self.processor.header_ids()))
            whole = cache.fork()
            untold = [self._untold(soft, slots, turn.text, history)] if history else []
        single: dict[Modality, int] = {}
        now = cache.fork() if history else whole
        for modality in read:
            single[modality] = now if len(read) == 1 else cache.fork()
        cache.append(now, self._embed_prefix(soft, slots, turn.text, ()))
        if len(read) > 1:
            for modality, branch in single.items():
                text = turn.text if modality == "text" else ""
                cache.append(branch, self._embed_prefix(soft, set(_READS[modality]), text, ()))
        voice: dict[str, float] = {}
        if soft.voice is not None and isinstance(self.model.acoustic, Encoder):
            voice = dict(zip(self.model.acoustic.classes, soft.voice[0].tolist(), strict=True))
        return Prefix(cache, turn, tuple(history), whole, now, single, absent, voice, untold)

    def _untold(self, soft: SoftTokens, slots: set[str], text: str, history: Sequence[Utterance]) -> Untold:
        """Everything; its dialogue may have been read before, if no soft tokens stand in front of it."""
        if slots:
            return Untold(self._embed_prefix(soft, slots, text, history))
        ids = self.processor.prefix_ids({}, text, history)
        dialogue = ids[: len(ids) - len(self.processor.prefix_ids({}, text))]
        known = self._prefixes.find(dialogue)
        n_known = 0 if known is None else known.shape[-2]
        return Untold(self._embed(ids[n_known:]), known, tuple(dialogue))

    def _keep(self, prefix: Prefix) -> None:
        """Keep the dialogue that was read for the next turn."""
        if prefix.unkept:
            dialogue, start = prefix.unkept.pop(), len(self.processor.header_ids())
            self._prefixes.keep(dialogue, prefix.cache.row(prefix.whole)[..., start : start + len(dialogue), :])

    def _readable(self, turn: UserTurn) -> tuple[list[Modality], dict[Modality, Absence], set[str]]:
        """What of the turn is read, what is absent and why, and the slots it fills."""
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
        return read, absent, slots & self.model.slots

    def perceive(self, prefix: Prefix) -> Affect:
        """Level 1: sentiment and emotion as distributions, from everything and from each modality alone."""
        return self._scheduler.run(self._perceive(prefix))

    def _perceive(self, prefix: Prefix) -> Request[Affect]:
        roots: dict[str, int] = {"whole": prefix.now}
        roots |= {modality: root for modality, root in prefix.single.items() if root != prefix.now}
        read_by: dict[str, tuple[Modality, ...]] = {"whole": tuple(prefix.single)}
        read_by |= {modality: (modality,) for modality in prefix.single}
        labels = {name: heard(EMOTIONS, read_by[name]) for name in roots}
        choices = {name: self._choice("emotion", root, labels[name]) for name, root in roots.items()}
        said = prefix.single.get("text")  # words say their sentiment best; it is learnt from them above all
        choices["sentiment"] = self._choice("sentiment", prefix.now if said is None else said, SENTIMENTS)
        scores, _ = yield from score(prefix.cache, choices, self._embed, self._head)
        sentiments = self._probabilities(
            prefix, "sentiment", read_by["whole"] if said is None else ("text",), SENTIMENTS, scores.pop("sentiment")
        )
        read = {}
        for name, values in scores.items():
            read[name] = counted(self._probabilities(prefix, "emotion", read_by[name], labels[name], values), EMOTIONS)
        emotions = read["whole"] if "text" not in read else half_by_words(read["text"], read["whole"])
        evidence = {modality: read.get(modality, emotions) for modality in prefix.single}
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
            evidence=Evidence(**evidence, fusion=read["whole"]),
            absent=prefix.absent,
        )

    def understand(
        self, prefix: Prefix, affect: Affect, *, in_haste: bool = False
    ) -> tuple[Understanding, tuple[str, ...]]:
        """Level 2, and level 1's open words: cause and intent are scored while the open words are decoded.

        Scenario and cause are quotations: a small model that may invent a scene will. In haste the cause is sought in
        what is said now, which is as often right (docs/RESULTS.md, causes), and mostly nothing is left to ask.
        """
        return self._scheduler.run(self._understand(prefix, affect, in_haste))

    def _understand(
        self, prefix: Prefix, affect: Affect, in_haste: bool
    ) -> Request[tuple[Understanding, tuple[str, ...]]]:
        cache = prefix.cache
        lines = prefix.lines
        quotable = [one for one in quotations(prefix) if not in_haste or one[0] == len(lines) - 1]
        choices: dict[str, Choice] = {}
        if not in_haste or prefix.turn.text.rstrip().endswith("?"):
            choices["intent"] = self._choice("intent", tell(prefix), INTENTS)
        if len(quotable) > 1:
            choices["cause"] = self._cause_choice(prefix, affect.emotion, quotable)
        branch = None if in_haste else cache.fork(prefix.whole)
        if branch is not None:
            cache.append(branch, self._embed(self.processor.question_ids(p.OPEN_QUESTION, p.OPEN_LEAD)))
        scores: dict[str, Tensor] = {}
        open_answer = Answer(Rules(_OPEN_TOKENS, stop=self._newline | self._full_stop))
        if choices:
            scores, states = yield from score(cache, choices, self._embed, self._head)
            self._keep(prefix)
            if branch is not None:
                yield from self._decode(cache, branch, states[branch], open_answer)

        intents: dict[str, float] = {}
        if "intent" in scores:
            read: tuple[Modality, ...] = ("text",) if "text" in prefix.single else tuple(prefix.single)
            intents = self._probabilities(prefix, "intent", read, INTENTS, scores["intent"])
        line, cause = len(lines) - 1, prefix.turn.text
        if quotable:
            line, cause = quotable[int(scores["cause"].argmax()) if "cause" in scores else 0]
        understanding = Understanding(
            scenario=_shorten(lines[line]),
            cause=cause,
            evidence=next((sentence for sentence in sentences(lines[line]) if cause in sentence), lines[line]),
            intent=max(intents, key=intents.__getitem__, default=""),
            intents=intents,
        )
        return understanding, open_words(self.processor.text(open_answer.tokens))

    def classify(self, prefix: Prefix, task: str, labels: Sequence[str]) -> dict[str, float]:
        """Calibrated probabilities of any labels for one of `LABEL_TASKS`, from everything that was read now.

        A calm voice counts as neutral where `calm` is none of the labels of emotions.
        """
        read = tuple(prefix.single)
        asked = heard(labels, read) if task == "emotion" else labels
        scores = self.score(prefix, {task: self._choice(task, prefix.now, asked)})
        return counted(self._probabilities(prefix, task, read, asked, scores[task]), labels)

    def causes(self, prefix: Prefix, emotion: str) -> tuple[Cause, ...]:
        """The clauses said so far, each with the probability that it is why the person feels `emotion`; sums to 1."""
        quotable = quotations(prefix)
        if not quotable:
            return ()
        scores = self.score(prefix, {"cause": self._cause_choice(prefix, emotion, quotable)})
        shares = scores["cause"].softmax(-1).tolist()
        return tuple(Cause(text, line, share) for (line, text), share in zip(quotable, shares, strict=True))

    def cause_lines(self, prefix: Prefix, emotion: str) -> dict[int, float]:
        """Line of the dialogue -> the calibrated probability that it holds a cause of `emotion`.

        A feeling may have several causes, so these do not sum to 1. Lines are those that `causes` quotes.
        """
        scaling = self._scaling.get("cause/line")
        lines: dict[int, float] = {}
        for line, logit, ago in line_logits(self.causes(prefix, emotion), len(prefix.history)):
            if scaling is not None:
                at = scaling.labels.index(ago)
                logit = scaling.weight[at] * logit + scaling.bias[at]
            lines[line] = 1 / (1 + math.exp(-logit))
        return lines

    def empathize(self, prefix: Prefix, brief: ReplyBrief) -> Iterator[str]:
        """Level 3: prefill the thought, decode the reply and stream it."""
        return self._scheduler.stream(self._empathize(prefix, brief))

    def _empathize(self, prefix: Prefix, brief: ReplyBrief) -> Request[None]:
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
        cache = prefix.cache
        branch = cache.fork(tell(prefix))
        cache.append(branch, self._embed(ids))
        hidden = yield Pass(cache)
        self._keep(prefix)
        said = tuple(
            i for line in prefix.history if line.role == "assistant" for i in self.processor.plain_ids(line.text)
        )
        # Drawn, since the likeliest words are the same for everybody; the same turn is still answered the same.
        seed = zlib.crc32(json.dumps([prefix.turn.text, [line.text for line in prefix.history], ids]).encode())
        rules = Rules(
            brief.max_tokens, stop=self._newline, min_tokens=3, said=said, repetition_penalty=1.1,
            temperature=TEMPERATURE, top_p=TOP_P, seed=seed,
        )  # fmt: skip
        answer = Answer(rules)
        yield from self._decode(cache, branch, hidden[branch][-1], answer, aloud=True)
        if len(answer.tokens) >= brief.max_tokens:
            yield Say(CutShort())

    def _decode(
        self, cache: BranchCache, branch: int, state: Tensor, answer: Answer, *, aloud: bool = False
    ) -> Request[None]:
        """Decode an answer in a row of its own, and say its text as it becomes whole characters."""
        row: Row = yield Sit(cache, branch, answer.rules.max_tokens)
        told = 0
        try:
            token = answer.choose(self.rounds.rows.first(state))
            while token is not None:
                if aloud:
                    text = self.processor.text(answer.tokens)
                    if not text.endswith("\ufffd"):  # half of a character: wait for the rest
                        yield Say(text[told:])
                        told = len(text)
                token = None if answer.over else answer.choose((yield Step(row, token)))
        finally:
            self.rounds.rows.give_up(row)

    def score(self, prefix: Prefix, choices: dict[str, Choice]) -> dict[str, Tensor]:
        """Uncalibrated log-probabilities of the candidates of each task; see `heads.score`."""
        return self._scheduler.run(score(prefix.cache, choices, self._embed, self._head))[0]

    def _choice(self, task: str, root: int, labels: Sequence[str]) -> Choice:
        question, lead, written = LABEL_TASKS[task]
        ids = [self.processor.ids(written.format(label)) for label in labels]
        return Choice(root, self.processor.question_ids(question, lead), ids)

    def _cause_choice(self, prefix: Prefix, emotion: str, quotable: Sequence[tuple[int, str]]) -> Choice:
        question = self.processor.question_ids(p.CAUSE_QUESTION.format(emotion=emotion), p.CAUSE_LEAD)
        ended = [self.processor.plain_ids(clause) + self.processor.ids('"') for _, clause in quotable]
        return Choice(tell(prefix), question, [ids[:_CLAUSE_TOKENS] for ids in ended])

    def _embed(self, ids: Sequence[int]) -> Tensor:
        return self.model.lm.get_input_embeddings()(torch.tensor(ids).to(self.rounds.device, non_blocking=True))

    def _embed_prefix(self, soft: SoftTokens, slots: set[str], text: str, history: Sequence[Utterance]) -> Tensor:
        chosen = SoftTokens({slot: tokens for slot, tokens in soft.tokens.items() if slot in slots})
        ids = torch.tensor([self.processor.prefix_ids(chosen.counts(), text, history)], dtype=torch.long)
        return self.model.embed(ids, chosen, self.processor.placeholders)[0]

    def _probabilities(
        self, prefix: Prefix, task: str, read: Sequence[Modality], labels: Sequence[str], scores: Tensor
    ) -> dict[str, float]:
        scores = scores.cpu()
        if task == "emotion" and "voice" in read and "text" not in read and set(labels) <= prefix.voice.keys():
            scores = with_the_ear(scores, torch.tensor([prefix.voice[label] for label in labels]))
        return calibrated(scores, labels, fitting(self._scaling, f"{task}/{'+'.join(read)}", labels))


def _shorten(text: str, n_words: int = 18) -> str:
    """The first words of a line, as the scenario is worded in training."""
    return " ".join(text.replace('"', "'").split()[:n_words]).rstrip(" ,;.!?")
