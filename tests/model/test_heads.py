import math
import random

import numpy as np
import pytest
import torch

from model.branches import BranchCache
from model.build import LANGUAGE_MODELS
from model.heads import Answer, Choice, Head, Rules, _drawn, score
from model.rounds import Pass
from model.rows import Candidates


class Asked:
    """A tiny language model with a prefix, and what heads need of it."""

    def __init__(self):
        torch.manual_seed(1)
        self.lm = LANGUAGE_MODELS["tiny-llama"]().double().eval()
        self.cache = BranchCache(self.lm.model)
        self.cache.extend({0: self.embed([1, 2, 3])})

    def embed(self, ids):
        return self.lm.get_input_embeddings()(torch.tensor(ids))

    @property
    def head(self):
        return Head(self.lm.lm_head, self.lm.lm_head.weight)

    def log_p(self, prefix, answer):
        logits = self.lm(input_ids=torch.tensor([prefix + answer])).logits[0].float().log_softmax(-1)
        return sum(logits[len(prefix) + i - 1, token] for i, token in enumerate(answer))


def alone(request):
    """The result of a request that needs passes only."""
    try:
        need = next(request)
        while True:
            assert isinstance(need, Pass)
            need = request.send(need.cache.run())
    except StopIteration as end:
        return end.value


@torch.no_grad()
def test_candidates_of_any_length_get_their_sequence_log_probability():
    asked = Asked()
    choices = {
        "a": Choice(0, [10, 11], [[20], [21, 22, 23], [24, 25]]),
        "b": Choice(0, [12], [[30], [31, 32]]),
    }
    branch = asked.cache.fork()
    asked.cache.append(branch, asked.embed([40, 41]))
    scores, states = alone(score(asked.cache, choices, asked.embed, asked.head))
    for task, choice in choices.items():
        expected = [asked.log_p([1, 2, 3, *choice.question], c) for c in choice.candidates]
        torch.testing.assert_close(scores[task], torch.stack(expected), rtol=0, atol=1e-4)
    straight = asked.lm.model(input_ids=torch.tensor([[1, 2, 3, 40, 41]])).last_hidden_state[0, -1]
    torch.testing.assert_close(states[branch], straight, rtol=0, atol=1e-10)


@torch.no_grad()
def test_tokens_whose_logits_are_alike_in_bf16_are_told_apart():
    weight = torch.zeros(3, 32).bfloat16()
    weight[:, 0], weight[1, 1], weight[2, 1] = 16, 2**-6, 2**-5
    linear = torch.nn.Linear(32, 3, bias=False).bfloat16()
    linear.weight.copy_(weight)
    state = torch.ones(1, 32).bfloat16()
    assert len(set(linear(state)[0].tolist())) == 1
    found = Head(linear, weight).log_p(state, [0, 0, 0], [0, 1, 2])
    torch.testing.assert_close(found - found[0], torch.tensor([0, 2**-6, 2**-5]))


def run(rules, *wanted):
    """Tokens of an answer when the language model wants given ones in order, and 99 next to them."""
    answer, wanted = Answer(rules), list(wanted)
    while not answer.over:
        if answer.choose(Candidates(np.array([wanted[0], 99, 98]), np.array([2.0, 1.0, 0.0]))) is None:
            break
        wanted = wanted[1:] or wanted
    assert answer.over
    return answer.tokens


def test_stop_tokens_end_an_answer_and_are_left_out():
    assert run(Rules(9, stop=frozenset({50})), 7, 8, 50, 9) == [7, 8]


def test_last_tokens_end_an_answer_and_are_kept():
    assert run(Rules(9, last=frozenset({50})), 7, 50, 9) == [7, 50]


def test_no_end_comes_before_the_least_length():
    assert run(Rules(9, stop=frozenset({50}), min_tokens=2), 50, 50, 50) == [99, 99]


def test_banned_tokens_are_never_chosen():
    assert run(Rules(2, banned=(7,)), 7, 8) == [99, 8]


def test_an_answer_ends_where_nothing_likely_may_be_said():
    assert run(Rules(9, banned=(8, 98, 99)), 7, 8, 9) == [7]


def test_runs_are_not_repeated():
    assert run(Rules(6, no_repeat=2), 7, 8, 7, 8) == [7, 8, 7, 99, 8, 8]


def test_what_was_said_before_is_not_said_again():
    assert run(Rules(3, no_repeat=2, said=(7, 8)), 7, 8, 9) == [7, 99, 9]


def penalised(tokens, logits, used):
    """The next choices among tokens with these logits, likeliest first, after some that were used."""
    answer = Answer(Rules(9, repetition_penalty=2.0, no_repeat=0))
    for token in used:
        answer.choose(Candidates(np.array([token]), np.array([1.0], np.float32)))
    found = answer._less_of_the_same(Candidates(np.array(tokens), np.array(logits, np.float32)))
    return found.tokens.tolist(), found.logits.tolist()


def test_used_tokens_become_less_likely():
    assert penalised([7, 8, 9], [3.0, 2.0, -1.0], []) == ([7, 8, 9], [3.0, 2.0, -1.0])
    assert penalised([7, 8, 9], [3.0, 2.0, -1.0], [7]) == ([8, 7, 9], [2.0, 1.5, -1.0])
    assert penalised([7, 8, 9], [3.0, -1.0, -1.5], [8, 8]) == ([7, 9, 8], [3.0, -1.5, -2.0])
    assert run(Rules(3, repetition_penalty=2.5, no_repeat=0), 7) == [7, 99, 7]


def test_length_is_bounded():
    assert len(run(Rules(5, no_repeat=0), 7)) == 5


def drawn(seed: int, top_p: float, logits: list[float]) -> list[int]:
    rules = Rules(1, temperature=1.0, top_p=top_p)
    chance = random.Random(seed)
    return [_drawn(np.array(logits), rules, chance) for _ in range(400)]


def test_tokens_are_drawn_from_the_nucleus_as_often_as_they_are_likely():
    shares = [0.5, 0.3, 0.15, 0.05]
    logits = [math.log(share) for share in shares]
    tokens = drawn(1, 0.9, logits)
    assert set(tokens) == {0, 1, 2}  # the first three have 0.95, the first two only 0.8
    assert tokens.count(0) / 400 == pytest.approx(0.5 / 0.95, abs=0.08)
    assert set(drawn(1, 0.4, logits)) == {0}
    assert set(drawn(2, 1.0, logits)) == {0, 1, 2, 3}


def test_the_same_seed_draws_the_same_tokens():
    logits = [0.0] * 50
    assert drawn(5, 1.0, logits) == drawn(5, 1.0, logits)
    assert drawn(5, 1.0, logits) != drawn(6, 1.0, logits)
