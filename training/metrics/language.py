"""Perplexity of replies: how expected to the model is what a person answered?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.nn import functional as F

from model import processor as p
from model.branches import BranchCache, run_together
from model.device import on_device
from model.fused import FusedLlama
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
def reply_loss(
    lm: Any, prompt: Sequence[int], answer: Sequence[int], llama: FusedLlama | None = None
) -> tuple[float, int]:
    """Negative log-likelihood in nats of a reply's tokens after those of its prompt, and how many they are.

    `lm` is a causal language model of transformers, `llama` the form in which its passes are made, if it has one.
    """
    table, cache = lm.get_input_embeddings(), BranchCache(lm.model)
    cache.append(0, table(torch.tensor([*prompt, *answer[:-1]], device=table.weight.device)))
    states = run_together([cache], llama)[0][0]
    logits = lm.lm_head(states[len(prompt) - 1 :]).float()
    loss = F.cross_entropy(logits, torch.tensor(answer, device=logits.device), reduction="sum")
    return loss.item(), len(answer)


def perplexity(losses: Iterable[tuple[float, int]]) -> float:
    """The exponential of a token's mean loss, from losses and numbers of tokens."""
    nats, tokens = map(sum, zip(*losses, strict=True))
    return math.exp(nats / tokens)
