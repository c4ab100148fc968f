"""What one round does of what is needed."""

import pytest
import torch

from model.branches import BranchCache
from model.processor import Inputs
from model.rounds import Encode, Pass, Room, Rounds, Sit, Step
from tests.model.tiny import tiny_model


@pytest.fixture(scope="module")
def nano():
    return tiny_model().model


def waiting(nano, *ids):
    cache = BranchCache(nano.lm.model)
    cache.append(0, nano.lm.get_input_embeddings()(torch.tensor(ids)))
    return cache


def read(nano, *ids):
    cache = waiting(nano, *ids)
    cache.run()
    return cache


@torch.inference_mode()
def test_a_round_serves_one_of_each_kind_together(nano):
    rounds = Rounds(nano, 50)
    row = rounds.rows.take(read(nano, 1, 2), 0, 9)
    needs = [Pass(waiting(nano, 3, 4)), Step(row, 7), Encode(Inputs()), Sit(read(nano, 5), 0, 9)]
    results = rounds.serve(needs)
    assert results.keys() == {0, 1, 2, 3}
    assert results[0][0].shape == (2, nano.lm.config.hidden_size)
    assert row.n == 3
    assert results[2].tokens == {}
    assert rounds.rows.n_free == rounds.room.rows - 2


@torch.inference_mode()
def test_a_pass_takes_what_fits_and_a_longer_one_goes_alone(nano):
    rounds = Rounds(nano, 50, Room(pass_tokens=5))
    long, short, shorter = waiting(nano, *range(9)), waiting(nano, 1, 2, 3), waiting(nano, 1, 2)
    assert rounds.serve([Pass(long), Pass(short)]).keys() == {0}
    assert rounds.serve([Pass(short), Pass(shorter)]).keys() == {0, 1}


@torch.inference_mode()
def test_who_asks_of_the_same_cache_gets_the_same_states(nano):
    cache = waiting(nano, 1, 2)
    first, second = Rounds(nano, 50).serve([Pass(cache), Pass(cache)]).values()
    assert first is second


@torch.inference_mode()
def test_who_finds_no_row_waits_and_who_is_too_long_is_told(nano):
    rounds = Rounds(nano, 10, Room(rows=1))
    found = rounds.serve([Sit(read(nano, 1, 2), 0, 9), Sit(read(nano, 1, 2), 0, 8), Sit(read(nano, 3), 0, 1)])
    assert found.keys() == {0, 1}
    assert isinstance(found[0], ValueError)
    rounds.rows.give_up(found[1])
    assert rounds.serve([Sit(read(nano, 3), 0, 1)]).keys() == {0}


@torch.inference_mode()
def test_a_pass_that_fails_leaves_no_row_taken(nano, monkeypatch):
    rounds = Rounds(nano, 50)

    def broken(caches):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(rounds, "_run_passes", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        rounds.serve([Sit(read(nano, 1), 0, 3), Pass(waiting(nano, 1))])
    assert rounds.rows.n_free == rounds.room.rows


@torch.inference_mode()
def test_turns_are_encoded_one_by_one_and_what_cannot_be_is_nobody_elses_fault(nano):
    sound, broken = Inputs(clips=torch.randn(1, 8, 32_000)), Inputs(clips=torch.randn(1, 8, 3))
    rounds = Rounds(nano, 50)
    found = rounds.serve([Encode(sound), Encode(sound)])
    assert found.keys() == {0}
    assert found[0].tokens["audio"].shape[0] == 1
    found = rounds.serve([Encode(broken), Pass(waiting(nano, 1))])
    assert isinstance(found[0], Exception)
    assert found[1][0].shape == (1, nano.lm.config.hidden_size)
