"""Perplexity of replies: how expected to the model is what a person answered?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from model import processor as p
from model.device import on_device
from model.nano_emox import IGNORED, NanoEmoX
from model.processor import Processor
from model.types import Thought, Utterance


def reply_ids(
    processor: Processor, text: str, history: Sequence[Utterance], thought: Thought, reply: str
) -> tuple[list[int], list[int]]:
    """Tokens of the prompt of `LocalModel.empathize` on a turn of text alone, and of a reply with its stop."""
    prompt = [
        *processor.header_ids(),
        *processor.prefix_ids({}, text, history),
        *processor.question_ids(p.EMPATHY_QUESTION),
        *processor.plain_ids(
            p.THOUGHT.format(scenario=thought.scenario, emotion=thought.emotion, cause=thought.cause, goal=thought.goal)
        ),
    ]
    return prompt, processor.plain_ids(reply) + processor.ids(processor.style.stop)


@on_device
@torch.inference_mode()
def reply_loss(model: NanoEmoX, prompt: Sequence[int], answer: Sequence[int]) -> tuple[float, int]:
    """Negative log-likelihood in nats of a reply's tokens after those of its prompt, and how many they are."""
    table = model.lm.get_input_embeddings()
    ids = torch.tensor([[*prompt, *answer]], device=table.weight.device)
    labels = ids.clone()
    labels[:, : len(prompt)] = IGNORED
    loss = model.loss(table(ids), labels, torch.ones_like(ids, dtype=torch.bool))
    return loss.item() * len(answer), len(answer)


def perplexity(losses: Iterable[tuple[float, int]]) -> float:
    """The exponential of a token's mean loss, from losses and numbers of tokens."""
    nats, tokens = map(sum, zip(*losses, strict=True))
    return math.exp(nats / tokens)
