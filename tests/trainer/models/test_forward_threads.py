"""Threads that decode and run forward passes: on processors side by side, on an accelerator only decoding is in threads."""

import threading
from types import SimpleNamespace

import pytest
import torch

from trainer.devices import cpu
from trainer.errors import InputError
from trainer.models import forward_threads as module
from trainer.models.forward_threads import forward_threads, naming_batch


@pytest.fixture(autouse=True)
def four_cores(monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 4)
    torch.set_num_threads(4)


PROCESSOR = cpu
ACCELERATOR = SimpleNamespace(passes_at_once=lambda _cores: 1)


def squares(device, mode, items, batch):
    """Results, and the names of the threads of each of the three steps."""
    threads_of = {"prepare": set(), "compute": set(), "finish": set()}

    def note(step):
        threads_of[step].add(threading.current_thread().name.split("_")[0])

    def prepare(number):
        note("prepare")
        return number

    def compute(prepared):
        for number in prepared:
            note("compute")
            yield number * number

    def finish(number):
        note("finish")
        return str(number)

    with forward_threads(device, mode, batch) as threads:
        results = list(threads.pipeline(items, batch, prepare, compute, finish, ahead=2))
    return results, threads_of


@pytest.mark.parametrize("items", [0, 1, 7, 40])
@pytest.mark.parametrize("device", [PROCESSOR, ACCELERATOR])
def test_every_item_has_its_result_in_order(device, items):
    results, _ = squares(device, "eager", range(items), 3)
    assert results == [str(number * number) for number in range(items)]


def test_threads_of_a_processor_do_everything():
    assert squares(PROCESSOR, "eager", range(9), 2)[1] == {
        step: {"forward"} for step in ("prepare", "compute", "finish")
    }


@pytest.mark.parametrize(("device", "mode"), [(ACCELERATOR, "lazy"), (ACCELERATOR, "compile"), (PROCESSOR, "compile")])
def test_an_accelerator_and_a_compiled_network_are_used_by_the_calling_thread_alone(device, mode):
    """The context of an accelerator belongs to the thread that opened it."""
    _, threads_of = squares(device, mode, range(9), 2)
    assert threads_of == {"prepare": {"forward"}, "compute": {"MainThread"}, "finish": {"forward"}}


def test_each_forward_pass_has_its_share_of_the_cores():
    """More threads than cores would wait for each other."""
    with forward_threads(PROCESSOR, "eager", 8) as threads:
        assert threads.threads == 4
        assert set(threads.computed(lambda _: torch.get_num_threads(), range(8))) == {1}
    assert torch.get_num_threads() == 4


def test_threads_that_the_user_allows_torch_are_not_exceeded():
    torch.set_num_threads(2)
    with forward_threads(PROCESSOR, "eager", 8) as threads:
        assert threads.threads == 2
        assert set(threads.computed(lambda _: torch.get_num_threads(), range(4))) == {1}
    assert torch.get_num_threads() == 2


def test_large_batches_are_computed_on_more_cores_each_to_bound_memory():
    with forward_threads(PROCESSOR, "eager", 64) as threads:
        assert threads.threads == 2
        assert set(threads.computed(lambda _: torch.get_num_threads(), range(4))) == {2}
    with forward_threads(PROCESSOR, "eager", 4096) as threads:
        assert not threads.side_by_side


def test_batches_are_small_enough_for_every_thread():
    with forward_threads(PROCESSOR, "eager", 8) as threads:
        assert [threads.batch_of(items) for items in (0, 1, 4, 5, 8, 32, 33, 100)] == [1, 1, 1, 2, 2, 8, 5, 7]
    with forward_threads(ACCELERATOR, "eager", 8) as threads:
        assert [threads.batch_of(items) for items in (0, 1, 5, 100)] == [1, 1, 5, 8]


@pytest.mark.parametrize(("items", "most", "sizes"), [(0, 4, []), (3, 4, [3]), (8, 4, [4, 4]), (13, 4, [3, 3, 3, 4])])
def test_threads_get_equally_many_items(items, most, sizes):
    """Else the one with the last, short list waits for the others."""
    taken = []

    def compute(prepared):
        chunk = list(prepared)
        taken.append(len(chunk))
        return iter(chunk)

    with forward_threads(PROCESSOR, "eager", most) as threads:
        results = list(threads.pipeline(range(items), most, abs, compute, abs, ahead=4))
    assert (results, sorted(taken)) == (list(range(items)), sizes)


def test_an_error_in_a_thread_is_the_callers_and_the_threads_end():
    def fail(number):
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"), forward_threads(PROCESSOR, "eager", 8) as threads:
        list(threads.computed(fail, range(5)))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("forward")]


@pytest.mark.parametrize("device", [PROCESSOR, ACCELERATOR])
def test_ctrl_c_ends_the_threads_after_what_they_are_doing(device):
    """Thousands of images that are still to come are not decoded first."""
    begun = []

    def prepare(number):
        begun.append(number)
        return number

    with pytest.raises(KeyboardInterrupt), forward_threads(device, "eager", 2) as threads:  # noqa: PT012
        for _ in threads.pipeline(range(1000), 2, prepare, iter, lambda number: number, ahead=4):
            raise KeyboardInterrupt
    assert len(begun) < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("forward")]


def test_ctrl_c_does_not_wait_for_the_pictures_of_a_whole_batch():
    finished, may_go_on = [], threading.Event()

    def finish(number):
        if number >= 8:  # the second batch, whose results nobody has waited for
            assert may_go_on.wait(60)
        finished.append(number)
        return number

    with pytest.raises(KeyboardInterrupt), forward_threads(PROCESSOR, "eager", 8) as threads:  # noqa: PT012
        for _ in threads.pipeline(range(64), 8, lambda number: number, iter, finish, ahead=4):
            threads.ending.set()  # as at the end of the block, which then waits for the threads
            may_go_on.set()
            raise KeyboardInterrupt
    assert len([number for number in finished if number >= 8]) <= threads.threads


@pytest.mark.parametrize(("batch", "hint"), [(8, "use --batch-size 4, or less"), (1, "more memory")])
def test_batch_that_does_not_fit_into_memory_is_named_with_what_to_lower(batch, hint):
    """It was a bug with a traceback; only training named it."""

    def compute(item):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB")

    with (
        pytest.raises(
            InputError, match=f"cannot compute batches of up to {batch} images: out of memory .CUDA"
        ) as caught,
        naming_batch(batch),
        forward_threads(PROCESSOR, "eager", batch) as threads,
    ):
        list(threads.computed(compute, [1, 2]))
    assert hint in caught.value.hint
