"""Loading modules without looking for garbage among them."""

import gc

import pytest

from trainer import loading
from trainer.loading import uncollected


@pytest.fixture(autouse=True)
def collecting():
    """Garbage is collected before and after each test."""
    gc.enable()
    yield
    gc.enable()


def test_garbage_is_collected_after_the_block_and_not_within_it():
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_garbage_is_collected_after_a_module_that_cannot_be_loaded():
    """Else a command that refuses its flags would leave a process that never collects any."""
    with pytest.raises(ImportError), uncollected():
        raise ImportError
    assert gc.isenabled()


def test_process_that_collects_none_is_left_so():
    """Whoever has disabled it has a reason."""
    gc.disable()
    with uncollected():
        pass
    assert not gc.isenabled()


def test_only_what_the_first_block_has_loaded_is_left_out_of_later_collections(monkeypatch):
    """A process that runs many commands would keep the garbage of all."""
    frozen = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(1))
    loading._freeze_once.cache_clear()
    for _ in range(3):
        with uncollected():
            pass
    assert len(frozen) == 1
