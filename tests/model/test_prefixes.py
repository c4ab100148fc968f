import torch

from model.prefixes import KEPT_S, Prefixes


def kv(ids):
    """Keys and values in which each token is known by its id."""
    return torch.tensor(ids, dtype=torch.float).view(1, 1, 1, -1, 1).expand(2, 2, 1, -1, 3)


def found(prefixes, ids):
    known = prefixes.find(ids)
    return [] if known is None else known[0, 0, 0, :, 0].int().tolist()


def test_what_dialogues_have_in_common_is_found():
    prefixes, one = Prefixes(1000), list(range(100, 140))
    assert found(prefixes, one) == []
    prefixes.keep(one, kv(one))
    assert found(prefixes, [*one, 7, 8]) == one
    assert found(prefixes, [*one[:30], 7, 8]) == one[:30]
    assert found(prefixes, one[:20]) == one[:20]
    assert found(prefixes, [7, *one]) == []
    assert found(prefixes, one[:5]) == []  # not worth it


def test_a_dialogue_takes_the_place_of_what_it_goes_on_from():
    prefixes, one, other = Prefixes(100), list(range(100, 140)), list(range(200, 240))
    prefixes.keep(other, kv(other))
    prefixes.keep(one, kv(one))
    longer = [*one, *range(20)]
    prefixes.keep(longer, kv(longer))  # 60 and 40 tokens: there is room for both
    assert found(prefixes, longer) == longer
    assert found(prefixes, other) == other


def test_those_used_last_stay():
    prefixes, lines = Prefixes(100), [list(range(at, at + 40)) for at in (100, 200, 300)]
    for ids in lines[:2]:
        prefixes.keep(ids, kv(ids))
    assert found(prefixes, lines[0]) == lines[0]
    prefixes.keep(lines[2], kv(lines[2]))
    assert found(prefixes, lines[1]) == []
    assert found(prefixes, lines[0]) == lines[0]
    prefixes.keep(list(range(400, 520)), kv(list(range(400, 520))))
    assert found(prefixes, list(range(400, 520))) == []  # longer than all that may be kept


def test_what_does_not_go_on_is_forgotten():
    now = [0.0]
    prefixes, one, other = Prefixes(1000, clock=lambda: now[0]), list(range(40)), list(range(50, 90))
    prefixes.keep(one, kv(one))
    prefixes.keep(other, kv(other))
    now[0] = KEPT_S - 1
    assert found(prefixes, one) == one
    now[0] = KEPT_S + 1
    assert found(prefixes, one) == one
    assert found(prefixes, other) == []
