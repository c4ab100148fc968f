from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM

from model.branches import BranchCache
from model.build import LANGUAGE_MODELS
from model.fused import FusedLlama, PackedLinear
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


def check(lm, sequence, candidates):
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
                check(lm, sequences[row], candidates)
    assert rows.n_free == 4 - len(sequences)


@pytest.mark.parametrize("fused", [False, True])
@torch.no_grad()
def test_the_first_candidates_come_from_the_last_state(lm, fused):
    cache = BranchCache(lm.model)
    states = cache.extend({0: lm.get_input_embeddings()(torch.tensor([5, 6, 7]))})
    check(lm, [5, 6, 7], rows_over(lm, 1, 100, fused).first(states[0][-1]))


@torch.no_grad()
def test_rows_step_as_well_where_steps_cannot_be_recorded():
    """As with the tiny variant in bf16, whose products are oneDNN's on a CPU that has them."""
    torch.manual_seed(0)
    lm = LANGUAGE_MODELS["tiny-llama"]().bfloat16().eval()
    rows = rows_over(lm, 2, 100, fused=True)
    rows.llama.layers[0].out.quick = PackedLinear(lm.model.layers[0].self_attn.o_proj.weight.data)
    assert not rows.llama.is_recordable
    rows._records = rows.llama.is_recordable
    row = rows.take(read(lm, [1, 2, 3]), 0, 9)
    logits = lm(input_ids=torch.tensor([[1, 2, 3, 4]])).logits[0, -1].float()
    found = rows.step({row: 4})[row]
    np.testing.assert_allclose(logits[found.tokens], found.logits, atol=0.05)
    assert not rows._traced


@pytest.fixture(scope="module")
def short():
    """A Llama in bf16 whose vocabulary is large enough for a short list of tokens."""
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=4096, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
                         num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True)  # fmt: skip
    return LlamaForCausalLM(config).bfloat16().eval()


@pytest.mark.parametrize("kind", ["lm", "short"])
@torch.no_grad()
def test_used_tokens_become_less_likely_in_their_row_alone(kind, request):
    lm = request.getfixturevalue(kind)
    rows = rows_over(lm, 2, 100, fused=kind == "short")
    plain, careful = rows.take(read(lm, [1, 2]), 0, 9), rows.take(read(lm, [1, 2]), 0, 9, penalty=1.5)
    found = rows.step({plain: 40, careful: 40})
    logits = [dict(zip(found[row].tokens.tolist(), found[row].logits, strict=True)) for row in (plain, careful)]
    assert 40 in logits[0]
    for token, value in logits[0].items():
        expected = value if token != 40 else value / 1.5 if value > 0 else value * 1.5
        assert logits[1].get(token, expected) == pytest.approx(expected, abs=1e-6)
    rows.give_up(plain)
    rows.give_up(careful)
    again = rows.take(read(lm, [1, 2]), 0, 9, penalty=1.5)
    assert 40 not in rows._seen[again.place].nonzero()


@torch.no_grad()
def test_what_a_row_has_used_stays_its_own_while_others_step_and_leave(lm):
    rows = Rows(lm, 3, 100)
    first, rests, last = (rows.take(read(lm, [1, 2]), 0, 9, penalty=1.5) for _ in range(3))
    rows.step({first: 40, last: 41})
    rows.step({first: 42})
    rows.give_up(first)
    used = {row: set(rows._seen[row.place].nonzero()[:, 0].tolist()) for row in (rests, last)}
    assert used == {rests: set(), last: {41}}


@torch.no_grad()
def test_a_row_has_an_end_and_rows_are_few(lm):
    rows = Rows(lm, 1, 5)
    with pytest.raises(ValueError, match="3 tokens and 3 more are too many for a row of 5"):
        rows.take(read(lm, [1, 2, 3]), 0, 3)
    row = rows.take(read(lm, [1, 2, 3]), 0, 2)
    check(lm, [1, 2, 3, 4], rows.step({row: 4})[row])
    check(lm, [1, 2, 3, 4, 5], rows.step({row: 5})[row])
    with pytest.raises(ValueError, match="all 1 rows"):
        rows.take(read(lm, [1]), 0, 1)
