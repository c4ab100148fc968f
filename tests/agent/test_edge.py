import gc

import pytest

from agent.edge import loading


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()


def test_what_was_loaded_is_not_looked_through_for_garbage():
    with loading():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() > len(kept)
    assert not any(one is kept for one in gc.get_objects())


def test_garbage_is_collected_again_where_loading_fails():
    with pytest.raises(OSError, match="no weights"), loading():
        raise OSError("no weights")
    assert gc.isenabled()


def test_who_collects_no_garbage_goes_on_so():
    gc.disable()
    try:
        with loading():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
