"""Perception, understanding and interaction as branches of one shared prefix.

Label tasks are not generated and parsed: each candidate is scored, which gives a distribution. Open tasks are decoded
under rules that keep them short and clean.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .branches import BranchCache
from .rounds import Pass
from .rows import Candidates
from .scheduler import Request

Embed = Callable[[Sequence[int]], Tensor]
"""Token ids -> embeddings (L, D)."""


@dataclass(frozen=True)
class Head:
    """What a language model says comes next, from last hidden states (N, D): `logits` of all tokens, (N, V), and its
    `weight` (V, D), by which those of a few are told in float32. In bf16 logits are a sixteenth apart.
    """

    logits: Callable[[Tensor], Tensor]
    weight: Tensor

    def log_p(self, hidden: Tensor, rows: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Log-probabilities, float32 (C,), of tokens, each after one of the states."""
        row, token = torch.tensor([rows, tokens]).to(hidden.device, non_blocking=True)
        exact = (hidden[row].float() * self.weight[token].float()).sum(-1)
        return exact - self.logits(hidden).float().logsumexp(-1)[row]


@dataclass(frozen=True)
class Choice:
    """A label task: ask `question` on branch `root` and score each of `candidates`, all as token ids.

    A candidate that begins another (none does among ours) would need its stop token included.
    """

    root: int
    question: list[int]
    candidates: list[list[int]]


def score(
    cache: BranchCache, choices: Mapping[str, Choice], embed: Embed, head: Head
) -> Request[tuple[dict[str, Tensor], dict[int, Tensor]]]:
    """Log-probability of every candidate of every task, in one forward pass with all that waits in the cache.

    Returns:
        task -> float32 (n_candidates,), the sum over each candidate's tokens given the prefix and the question;
        branch -> last hidden state (D,) of each branch that grew in this pass, such as an open question's.
    """
    # The last token of a candidate is only predicted, so a one-token label costs nothing.
    ids = [piece for c in choices.values() for piece in (c.question, *(candidate[:-1] for candidate in c.candidates))]
    pieces = iter(embed([token for piece in ids for token in piece]).split([len(piece) for piece in ids]))
    asked: dict[str, tuple[int, list[int]]] = {}
    for task, choice in choices.items():
        question = cache.fork(choice.root)
        cache.append(question, next(pieces))
        branches = []
        for _ in choice.candidates:
            branches.append(cache.fork(question))
            cache.append(branches[-1], next(pieces))
        asked[task] = (question, branches)
    hidden: dict[int, Tensor] = yield Pass(cache)

    scores = {}
    for task, choice in choices.items():
        question, branches = asked[task]
        grown = [hidden[branch] for branch in branches if branch in hidden]
        states = torch.cat([hidden[question][-1:], *grown])  # the question's last state serves them all
        rows, next_row = [], 1
        for candidate in choice.candidates:
            rows += [0, *range(next_row, next_row + len(candidate) - 1)]
            next_row += len(candidate) - 1
        targets = [token for candidate in choice.candidates for token in candidate]
        lengths = [len(candidate) for candidate in choice.candidates]
        per_candidate = head.log_p(states, rows, targets).cpu().split(lengths)
        scores[task] = torch.stack([part.sum() for part in per_candidate])
    return scores, {branch: states[-1] for branch, states in hidden.items()}


@dataclass(frozen=True)
class Rules:
    """How an open answer is decoded.

    `stop` tokens end it and are left out; `last` tokens end it and are kept (a full stop); `banned` are never chosen.
    `min_tokens` must come before any end. `no_repeat` forbids the second use of any run of that many tokens, those of
    `said` before included, and `repetition_penalty` divides the logits of used tokens (Keskar et al. 2019,
    arXiv:1909.05858). With a `temperature` tokens are drawn, by a generator of that `seed`, from the likeliest that
    together have `top_p` of the probability (nucleus sampling, Holtzman et al. 2020, arXiv:1904.09751); without one
    the likeliest is taken.
    """

    max_tokens: int
    stop: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()
    banned: tuple[int, ...] = ()
    min_tokens: int = 1
    no_repeat: int = 4
    said: tuple[int, ...] = ()
    repetition_penalty: float = 1.0
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


class Answer:
    """An open answer as it is decoded: `tokens` so far, each chosen by the rules from candidates; `over` at its end."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.tokens: list[int] = []
        self.over = False
        self._chance = random.Random(rules.seed)
        self._run = rules.said
        self._followed: dict[tuple[int, ...], set[int]] = {}
        for end in range(len(rules.said)):
            self._remember(rules.said[: end + 1])

    def choose(self, candidates: Candidates) -> int | None:
        """The next token, or None where the answer has ended before it."""
        rules = self.rules
        banned = {*rules.banned, *self._followed.get(_tail(self._run, rules.no_repeat - 1), ())}
        if len(self.tokens) < rules.min_tokens:
            banned |= rules.stop | rules.last
        candidates = self._less_of_the_same(candidates)
        likeliest = candidates.tokens.tolist()
        allowed = [place for place, token in enumerate(likeliest) if token not in banned]
        if not allowed:  # nothing that is likely may be said
            self.over = True
            return None
        token = likeliest[allowed[_drawn(candidates.logits[allowed], rules, self._chance)]]
        if token in rules.stop:
            self.over = True
            return None
        self.tokens.append(token)
        self._run = (*_tail(self._run, rules.no_repeat), token)
        self._remember(self._run)
        self.over = token in rules.last or len(self.tokens) >= rules.max_tokens
        return token

    def _less_of_the_same(self, candidates: Candidates) -> Candidates:
        """The candidates with the repetition penalty, in their new order."""
        penalty, used = self.rules.repetition_penalty, frozenset(self.tokens)
        at = [place for place, token in enumerate(candidates.tokens.tolist()) if token in used]
        if penalty == 1 or not at:
            return candidates
        logits = candidates.logits.copy()
        logits[at] = np.where(logits[at] > 0, logits[at] / penalty, logits[at] * penalty)
        order = np.argsort(-logits, kind="stable")
        return Candidates(candidates.tokens[order], logits[order])

    def _remember(self, run: tuple[int, ...]) -> None:
        """Which token followed those before it."""
        n = self.rules.no_repeat
        if 0 < n <= len(run):
            self._followed.setdefault(run[-n:-1], set()).add(run[-1])


def _tail(run: tuple[int, ...], n: int) -> tuple[int, ...]:
    return run[-n:] if n > 0 else ()


def _drawn(logits: np.ndarray, rules: Rules, chance: random.Random) -> int:
    """Index of one of the logits (N,), which fall."""
    if rules.temperature == 0:
        return 0
    shares = np.exp((logits - logits[0]) / rules.temperature, dtype=np.float64)
    shares /= shares.sum()
    upto = shares.cumsum()
    n = 1 + int(np.searchsorted(upto[:-1], rules.top_p))  # those before which less than top_p stands; the first always
    return int(np.searchsorted(upto[: n - 1], chance.random() * upto[n - 1], side="right"))
