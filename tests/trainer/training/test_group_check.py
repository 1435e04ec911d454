"""The workers against each other: which one is named, and when."""

import pytest
import torch

from trainer.devices import cpu
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.world import World
from trainer.training import group_check
from trainer.training.group_check import (
    GRADIENT_VALUES,
    Reduction,
    WorkerFacts,
    check_group,
    compare_clocks,
    compare_workers,
    rate_reduction,
)


def workers(*times_ms, clocks=None):
    """Two workers on each node."""
    clocks = clocks or [0.0] * len(times_ms)
    return [
        WorkerFacts(node=f"node-{rank // 2}", clock_s=1e9 + clock, product_s=ms / 1e3)
        for rank, (ms, clock) in enumerate(zip(times_ms, clocks, strict=True))
    ]


@pytest.mark.parametrize("times_ms", [(2.0, 2.9), (1.0, 1.0, 1.4, 1.5), (3.0, 1.0, 3.0, 3.0)])
def test_workers_whose_times_differ_as_clocks_do_are_equal(times_ms):
    """A fast one delays nobody."""
    assert compare_workers(workers(*times_ms)).status == "OK"


def test_slow_worker_is_named_with_its_node():
    found = compare_workers(workers(2.0, 2.1, 1.9, 6.0))
    assert found.status == "WARN"
    assert "rank 3 on `node-1` (3.0 times)" in found.found
    assert "rank 0" not in found.found
    assert "2.00 ms" in found.found


def test_slower_one_of_two_is_named():
    """Their median must not lie between them."""
    assert "rank 1 on `node-0` (1.6 times)" in compare_workers(workers(1.0, 1.6)).found


def test_many_slow_workers_are_counted_slowest_first():
    found = compare_workers(workers(*[1.0] * 8, 2, 3, 4, 5, 6, 7)).found
    assert found.index("rank 13") < found.index("rank 12") < found.index("rank 10")
    assert "and 2 more" in found


@pytest.mark.parametrize(("apart_s", "status"), [(0.4, "OK"), (4.9, "OK"), (-5.1, "WARN"), (3600, "WARN")])
def test_clocks_of_nodes_are_compared(apart_s, status):
    found = compare_clocks(workers(1, 1, 1, 1, clocks=[0, 0, apart_s, apart_s]))
    assert found.status == status
    ahead, behind = ("node-1", "node-0") if apart_s > 0 else ("node-0", "node-1")
    assert (f"`{ahead}` is ahead of `{behind}`" in found.found) == (status == "WARN")


@pytest.mark.parametrize(("gradient_s", "status"), [(0.0316, "OK"), (1.0, "OK"), (1.2, "WARN")])
def test_all_reduce_is_rated_by_what_a_step_waits(gradient_s, status):
    found = rate_reduction(Reduction(latency_s=2e-4, gradient_s=gradient_s), 2)
    assert found.status == status
    assert found.found.startswith(f"26.6 MiB in {1e3 * gradient_s:.1f} ms")
    assert "one value in 0.20 ms" in found.found


def test_rate_of_the_all_reduce_is_that_of_a_link():
    """Of n workers each sends and receives 2 (n - 1) / n of the bytes."""
    second = Reduction(latency_s=1e-3, gradient_s=1.0)
    rate = 4 * GRADIENT_VALUES / 1e9
    assert f"({rate:.2f} GB/s)" in rate_reduction(second, 2).found
    assert f"({1.75 * rate:.2f} GB/s)" in rate_reduction(second, 8).found


@pytest.mark.parametrize(("gradients_s", "counted_s"), [([3.0, 0.1], 0.1), ([3.0, 2.0], 2.0), ([0.3, 0.1, 0.2], 0.1)])
def test_connections_that_the_first_all_reduce_opens_are_no_slow_link(monkeypatch, gradients_s, counted_s):
    """Every run on GPUs would be warned otherwise. A slow link is not measured for longer than needed."""
    left = [*gradients_s, 0.001, 0.001, 0.001]
    monkeypatch.setattr(group_check, "_reduce_s", lambda *_: left.pop(0))
    measured = group_check._reduction(WorkerGroup(World(), None), cpu, torch.device("cpu"))
    assert measured == Reduction(gradient_s=counted_s, latency_s=0.001)
    assert left == []


def test_single_worker_has_nothing_to_compare():
    group = WorkerGroup(World(), None)
    assert check_group(group, cpu, torch.device("cpu"), node="n", heartbeat=pytest.fail) == []
