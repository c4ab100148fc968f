import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.branches import BranchCache
from model.build import LANGUAGE_MODELS


@pytest.fixture(scope="module")
def lm():
    torch.manual_seed(0)
    return LANGUAGE_MODELS["tiny-llama"]().double().eval()


def embed(lm, ids):
    return lm.get_input_embeddings()(torch.tensor(ids))


def straight(lm, ids):
    """Last hidden states of a whole sequence in one pass, without any cache."""
    return lm.model(input_ids=torch.tensor([ids])).last_hidden_state[0]


@torch.no_grad()
def test_step_by_step_equals_teacher_forcing(lm):
    ids = [5, 9, 3, 200, 17, 42]
    cache = BranchCache(lm.model)
    stepped = torch.cat([cache.extend({0: embed(lm, [token])})[0] for token in ids])
    torch.testing.assert_close(stepped, straight(lm, ids), rtol=0, atol=1e-6)


@torch.no_grad()
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_branch_equals_its_own_straight_sequence(lm, data):
    """Whatever is forked and in whatever portions it grows, a branch is the sequence of its ancestors and itself."""
    cache, sequences = BranchCache(lm.model), {0: []}
    tokens = st.lists(st.integers(0, 300), min_size=0, max_size=4)
    for _ in range(data.draw(st.integers(1, 8))):
        if data.draw(st.booleans()):
            parent = data.draw(st.sampled_from(sorted(sequences)))
            sequences[cache.fork(parent)] = list(sequences[parent])
        chosen = data.draw(st.sets(st.sampled_from(sorted(sequences)), min_size=1))
        pieces = {branch: data.draw(tokens) for branch in sorted(chosen)}
        hidden = cache.extend({branch: embed(lm, ids) for branch, ids in pieces.items() if ids})
        for branch, ids in pieces.items():
            sequences[branch] += ids
            if ids:
                expected = straight(lm, sequences[branch])[-len(ids) :]
                torch.testing.assert_close(hidden[branch], expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_prefix_question_and_answers_share_one_pass(lm):
    cache = BranchCache(lm.model)
    cache.append(0, embed(lm, [1, 2]))
    cache.append(0, embed(lm, [3]))
    question = cache.fork()
    cache.append(question, embed(lm, [4, 5]))
    answers = [cache.fork(question) for _ in range(2)]
    cache.append(answers[0], embed(lm, [6, 7]))
    cache.append(answers[1], embed(lm, [8]))
    assert (cache.n_slots, cache.length(question)) == (0, 5)
    hidden = cache.run()
    assert cache.n_slots == 8
    torch.testing.assert_close(hidden[0], straight(lm, [1, 2, 3]), rtol=0, atol=1e-6)
    torch.testing.assert_close(hidden[answers[0]][-1], straight(lm, [1, 2, 3, 4, 5, 6, 7])[-1], rtol=0, atol=1e-6)
    torch.testing.assert_close(hidden[answers[1]][-1], straight(lm, [1, 2, 3, 4, 5, 8])[-1], rtol=0, atol=1e-6)
    assert cache.run() == {}


@torch.no_grad()
def test_a_branch_that_grows_later_is_not_seen_by_those_that_left_it(lm):
    cache = BranchCache(lm.model)
    cache.append(0, embed(lm, [1]))
    left = cache.fork()
    cache.append(0, embed(lm, [2]))
    cache.append(left, embed(lm, [9]))
    hidden = cache.run()
    torch.testing.assert_close(hidden[left][-1], straight(lm, [1, 9])[-1], rtol=0, atol=1e-6)
