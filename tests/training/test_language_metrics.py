"""Perplexity of replies, and named causes."""

import math

import pytest
import torch

from model import processor as p
from model.types import Thought, Utterance
from tests.model.tiny import tiny_model, tiny_processor
from training.metrics.causes import line_scores, span_f1
from training.metrics.language import perplexity, reply_ids, reply_loss

THOUGHT = Thought("a cat ran away", "sad", "she ran away", "comfort them")


def test_perplexity_weighs_tokens_not_replies():
    assert perplexity([(2.0, 1), (0.0, 3)]) == pytest.approx(math.exp(0.5))


def test_the_loss_of_a_reply_is_that_of_its_tokens_after_the_prompt():
    """Against the log-probabilities of one plain forward pass."""
    model, processor = tiny_model(), tiny_processor()
    history = (Utterance("user", "hi"), Utterance("assistant", "hello"))
    nats, n_tokens = reply_loss(model.model.lm, *reply_ids(processor, "my cat", history, THOUGHT, "oh no"))

    thought = p.THOUGHT.format(scenario="a cat ran away", emotion="sad", cause="she ran away", goal="comfort them")
    prompt = processor.header_ids() + processor.prefix_ids({}, "my cat", history)
    prompt += processor.question_ids(p.EMPATHY_QUESTION) + processor.ids(thought)
    answer = processor.ids("oh no" + processor.style.stop)
    with torch.no_grad():
        log_p = model.model.lm(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
    expected = -sum(log_p[len(prompt) - 1 + i, token].item() for i, token in enumerate(answer))
    assert n_tokens == len(answer)
    assert nats == pytest.approx(expected, rel=1e-4)


def test_an_untrained_model_finds_every_token_equally_likely():
    model = tiny_model()
    with torch.no_grad():
        model.model.lm.lm_head.weight.zero_()
    nats, n_tokens = reply_loss(model.model.lm, *reply_ids(model.processor, "my cat", (), THOUGHT, "oh no"))
    vocabulary = model.model.lm.lm_head.weight.shape[0]
    assert perplexity([(nats, n_tokens)]) == pytest.approx(vocabulary, rel=1e-3)


def test_cause_lines_are_counted_over_all_cases():
    scores = line_scores([[1], [0], []], [{1, 2}, {3}, {0}])
    assert scores == {
        "cause_precision": pytest.approx(1 / 2),
        "cause_recall": pytest.approx(1 / 4),
        "cause_f1": pytest.approx(2 / 6),
    }
    assert line_scores([[]], [{0}])["cause_f1"] == 0


def test_a_span_is_compared_with_the_annotation_that_fits_best():
    assert span_f1("see a movie tomorrow?", ["a movie", "See a movie tomorrow ?"]) == 1
    assert span_f1("a movie", ["see a movie tomorrow"]) == pytest.approx(2 * 2 / 6)
    assert span_f1("the the", ["the"]) == pytest.approx(2 / 3)
    assert span_f1("", ["x"]) == 0
