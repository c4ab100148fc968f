from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from model.branches import BranchCache
from model.build import LANGUAGE_MODELS
from model.fused import FusedLlama
from model.rows import Rows


@pytest.fixture(scope="module")
def lm():
    torch.manual_seed(0)
    return LANGUAGE_MODELS["tiny-llama"]().double().eval()


def read(lm, ids):
    """A cache that has read tokens."""
    cache = BranchCache(lm.model)
    cache.extend({0: lm.get_input_embeddings()(torch.tensor(ids))})
    return cache


def rows_over(lm, limit, max_slots, fused):
    """Rows over the model, or over its fused form."""
    own = deepcopy(lm)
    return Rows(own, limit, max_slots, llama=FusedLlama(own) if fused else None)


def assert_likeliest(lm, sequence, candidates):
    """That they are the likeliest tokens after a whole sequence, read in one pass."""
    logits = lm(input_ids=torch.tensor([sequence])).logits[0, -1].float()
    np.testing.assert_allclose(candidates.logits, logits.topk(len(candidates.logits)).values, atol=1e-5)
    np.testing.assert_allclose(logits[candidates.tokens], candidates.logits, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_each_row_goes_on_as_its_own_sequence(lm, fused, data):
    """Whoever comes, goes and rests in between."""
    rows, sequences = rows_over(lm, 4, 400, fused), {}
    tokens = st.integers(0, 299)
    for _ in range(data.draw(st.integers(1, 12))):
        if rows.n_free and (not sequences or data.draw(st.booleans())):
            ids = data.draw(st.lists(tokens, min_size=1, max_size=300 if not sequences else 9))
            sequences[rows.take(read(lm, ids), 0, 20)] = ids
        elif data.draw(st.integers(0, 3)) == 0:
            row = data.draw(st.sampled_from(list(sequences)))
            rows.give_up(row)
            del sequences[row]
        if sequences:
            chosen = data.draw(st.sets(st.sampled_from(range(len(sequences))), min_size=1))
            fed = {row: data.draw(tokens) for n, row in enumerate(sequences) if n in chosen}
            for row, candidates in rows.step(fed).items():
                sequences[row].append(fed[row])
                assert_likeliest(lm, sequences[row], candidates)
    assert rows.n_free == 4 - len(sequences)


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_the_first_candidates_come_from_the_last_state(lm, fused):
    cache = BranchCache(lm.model)
    states = cache.extend({0: lm.get_input_embeddings()(torch.tensor([5, 6, 7]))})
    assert_likeliest(lm, [5, 6, 7], rows_over(lm, 1, 100, fused).first(states[0][-1]))


@pytest.mark.parametrize("n_rows", [1, 3, 5, 11])
@torch.no_grad()
def test_recorded_steps_of_any_number_of_rows_are_those_that_python_takes(n_rows):
    """In bf16, as its products are oneDNN's on a CPU that has them; beyond four rows attention is another."""
    torch.manual_seed(0)
    lm = LANGUAGE_MODELS["tiny-llama"]().bfloat16().eval()
    rows = rows_over(lm, 11, 100, fused=True)
    taken = [rows.take(read(lm, [1, 2, *range(number)]), 0, 9) for number in range(n_rows)]
    for token in (4, 5):
        found = rows.step(dict.fromkeys(taken, token))
    for number, row in enumerate(taken):
        logits = lm(input_ids=torch.tensor([[1, 2, *range(number), 4, 5]])).logits[0, -1].float()
        np.testing.assert_allclose(logits[found[row].tokens], found[row].logits, atol=0.05)
    assert len(rows._records) == 1


@torch.no_grad()
def test_what_a_step_tells_stays_when_the_next_is_taken(lm):
    rows = rows_over(lm, 1, 100, fused=True)
    row = rows.take(read(lm, [1, 2]), 0, 9)
    found = rows.step({row: 40})[row]
    rows.step({row: 41})
    assert_likeliest(lm, [1, 2, 40], found)


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_what_a_long_row_took_is_given_back_and_the_next_goes_on_as_it_should(lm, fused):
    rows = rows_over(lm, 2, 900, fused)
    long, short = rows.take(read(lm, [1] * 600), 0, 9), rows.take(read(lm, [1, 2]), 0, 9)
    taken = rows._kv.numel()
    rows.give_up(long)
    assert rows._kv.numel() == taken  # somebody is there
    assert_likeliest(lm, [1, 2, 3], rows.step({short: 3})[short])
    rows.give_up(short)
    assert rows._kv.numel() < taken / 8
    again = rows.take(read(lm, [4, 5]), 0, 9)
    assert_likeliest(lm, [4, 5, 6], rows.step({again: 6})[again])


@torch.no_grad()
def test_a_record_holds_however_far_the_rows_have_grown(lm):
    rows, ids = rows_over(lm, 2, 600, fused=True), [1, 2, 3]
    row = rows.take(read(lm, ids), 0, 500)
    for token in range(290):
        ids.append(token)
        found = rows.step({row: token})[row]
    assert_likeliest(lm, ids, found)
    assert len(rows._records) == 1


@pytest.fixture(scope="module")
def short():
    """A Llama in bf16 whose vocabulary is large enough for a short list of tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=4096, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True)  # fmt: skip
    return LlamaForCausalLM(config).bfloat16().eval()


@torch.no_grad()
def test_several_rows_each_have_their_own_short_list(short):
    own = deepcopy(short)
    rows = Rows(own, 2, 100, llama=FusedLlama(own))
    one, other = rows.take(read(short, [1, 2]), 0, 9), rows.take(read(short, [3, 4]), 0, 9)
    found = rows.step({one: 40, other: 41})
    for row, ids in ((one, [1, 2, 40]), (other, [3, 4, 41])):
        logits = short(input_ids=torch.tensor([ids])).logits[0, -1].float()
        np.testing.assert_allclose(logits[found[row].tokens], found[row].logits, atol=0.05)
        assert set(logits.topk(20).indices.tolist()) <= set(found[row].tokens.tolist())


@torch.no_grad()
def test_a_row_has_an_end_and_rows_are_few(lm):
    rows = Rows(lm, 1, 5)
    with pytest.raises(ValueError, match="3 tokens and 3 more are too many for a row of 5"):
        rows.take(read(lm, [1, 2, 3]), 0, 3)
    row = rows.take(read(lm, [1, 2, 3]), 0, 2)
    assert_likeliest(lm, [1, 2, 3, 4], rows.step({row: 4})[row])
    assert_likeliest(lm, [1, 2, 3, 4, 5], rows.step({row: 5})[row])
    with pytest.raises(ValueError, match="all 1 rows"):
        rows.take(read(lm, [1]), 0, 1)
