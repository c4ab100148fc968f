import random
from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.branches import BranchCache, Passes, run_together
from model.build import LANGUAGE_MODELS
from model.fused import FusedLlama


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


@torch.no_grad()
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_passes_of_fixed_sizes_equal_packed_ones(lm, seed, fused):
    """As a GPU runs them, but without a graph around the pass."""
    draw = random.Random(seed)
    passes = Passes(lm.model, FusedLlama(deepcopy(lm)) if fused else None)
    passes._graphs = passes._run
    packed, sized = BranchCache(lm.model), BranchCache(lm.model)
    branches = [0]
    for n in (40, 3, 33, 1):
        if len(branches) < 3:
            parent = draw.choice(branches)
            branches.append(packed.fork(parent))
            assert sized.fork(parent) == branches[-1]
        for branch in draw.sample(branches, 2):
            piece = embed(lm, [draw.randrange(300) for _ in range(n)])
            packed.append(branch, piece)
            sized.append(branch, piece)
        expected, [found] = packed.run(), passes.run([sized])
        assert found.keys() == expected.keys()
        for branch, states in expected.items():
            torch.testing.assert_close(found[branch], states, rtol=0, atol=1e-6)
    assert sized.n_slots == packed.n_slots
    torch.testing.assert_close(sized.row(branches[-1]), packed.row(branches[-1]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_several_caches_share_a_pass_and_see_only_themselves(lm, fused):
    asked, llama = [], FusedLlama(deepcopy(lm)) if fused else None

    def read(*given):
        asked.append(given)
        return llama(*given)

    sequences = {0: [5, 6], 2: [9, 8, 7, 6]}
    caches = [BranchCache(lm.model) for _ in range(3)]
    for _ in range(2):
        for number in (0, 2):
            caches[number].append(0, embed(lm, sequences[number]))
        together = run_together(caches, read if fused else None)
    assert together[1] == {}
    assert len(asked) == 2 * fused
    for number in (0, 2):
        expected = straight(lm, sequences[number] * 2)[-len(sequences[number]) :]
        torch.testing.assert_close(together[number][0], expected, rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_cache_outgrows_its_first_room(lm):
    draw = random.Random(0)
    ids = [draw.randrange(300) for _ in range(700)]
    cache = BranchCache(lm.model)
    stepped = [cache.extend({0: embed(lm, ids[at : at + 175])})[0] for at in range(0, 700, 175)]
    torch.testing.assert_close(torch.cat(stepped), straight(lm, ids), rtol=0, atol=1e-6)
    assert cache.row(0).shape[-2] == 700


@torch.no_grad()
def test_what_was_read_before_is_put_into_another_cache(lm):
    ids = list(range(40, 60))
    first = BranchCache(lm.model)
    first.extend({0: embed(lm, ids)})
    second = BranchCache(lm.model)
    second.append(0, embed(lm, ids[:3]))  # waits
    branch = second.fork()
    second.put(branch, first.row(0)[..., 3:15, :])
    assert second.length(branch) == 15
    states = second.extend({branch: embed(lm, ids[15:])})
    torch.testing.assert_close(states[branch], straight(lm, ids)[15:], rtol=0, atol=1e-6)
    torch.testing.assert_close(second.row(branch), first.row(0), rtol=0, atol=1e-6)
