"""What one worker wants, all do at the same step."""

import math

import pytest
import torch

from trainer.runtime.coordination import MOST_STEPS, Coordination
from trainer.runtime.preemption import Stop
from trainer.runtime.world import World


class WorkerGroup:
    """Two workers; what the other brings into each exchange is in `other`."""

    def __init__(self, rank=0):
        self.world = World(rank, 2)
        self.other = [0.0, 0.0, 0.0, 0.0, 0.0]
        self.exchanges = 0

    def largest(self, values):
        self.exchanges += 1
        return torch.maximum(values, torch.tensor(self.other, dtype=torch.float64))


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def group():
    return WorkerGroup()


@pytest.fixture
def clock():
    return Clock()


def coordination(group, clock, *, stop=None, ends_at_s=math.inf, every_s=math.inf, failed=False):
    return Coordination(
        group,
        stop or Stop(),
        ends_at_s=ends_at_s,
        checkpoint_every_s=every_s,
        failed=lambda: failed,
        clock=clock,
        now=clock,
    )


def steps(coordination, clock, count, step_s):
    flags = []
    for _ in range(count):
        clock.now_s += step_s
        flags.append(coordination.after_step())
    return flags


def test_stop_flag_of_one_worker_reaches_all(group, clock):
    """SIGTERM reaches the workers of one pod only."""
    group.other[0] = 1.0
    assert coordination(group, clock).after_step().stop


def test_stop_flag_of_this_worker_is_shared(group, clock):
    """And the others hear it in the same exchange."""
    stop = Stop()
    stop._receive(15, None)
    flags = coordination(group, clock, stop=stop).after_step()
    assert flags.stop
    assert flags.end


@pytest.mark.parametrize(("step_s", "most"), [(0.001, MOST_STEPS), (0.5, 4), (5.0, 1)])
def test_workers_synchronise_about_every_two_seconds(group, clock, step_s, most):
    """Rarely enough to cost nothing, soon enough for the half minute that a preemption leaves."""
    one = coordination(group, clock)
    steps(one, clock, 2 * most + 1, step_s)
    assert group.exchanges == 3


def test_slowest_worker_decides_the_interval(group, clock):
    """All must talk after the same step, whatever each has measured."""
    group.other[4] = 5.0
    steps(coordination(group, clock), clock, 3, 0.001)
    assert group.exchanges == 3


def test_checkpoint_is_due_when_the_last_is_old(group, clock):
    """By the primary's clock."""
    one = coordination(group, clock, every_s=60)
    assert not steps(one, clock, 1, 10)[0].checkpoint
    assert steps(one, clock, 1, 51)[0].checkpoint
    one.saved()
    assert not steps(one, clock, 1, 10)[0].checkpoint


def test_only_the_clock_of_rank_0_counts(clock):
    """Clocks differ; one that is ahead must not end the run."""
    one = coordination(WorkerGroup(rank=1), clock, ends_at_s=0, every_s=0, failed=True)
    flags = steps(one, clock, 1, 10)[0]
    assert (flags.deadline, flags.checkpoint, flags.failure) == (False, False, False)


def test_deadline_and_failure_are_shared(group, clock):
    """Both end training on all workers."""
    flags = steps(coordination(group, clock, ends_at_s=5, failed=True), clock, 1, 10)[0]
    assert flags.deadline
    assert flags.failure
