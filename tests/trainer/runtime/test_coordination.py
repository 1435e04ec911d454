"""What one worker wants, all do at the same step."""

import math

import pytest
import torch

from trainer.runtime.coordination import MOST_STEPS, Pulse
from trainer.runtime.preemption import Stop
from trainer.runtime.world import World


class Gang:
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
def gang():
    return Gang()


@pytest.fixture
def clock():
    return Clock()


def pulse(gang, clock, *, stop=None, ends_at_s=math.inf, every_s=math.inf, failed=False):
    return Pulse(
        gang,
        stop or Stop(),
        ends_at_s=ends_at_s,
        checkpoint_every_s=every_s,
        failed=lambda: failed,
        clock=clock,
        now=clock,
    )


def steps(pulse, clock, count, step_s):
    wishes = []
    for _ in range(count):
        clock.now_s += step_s
        wishes.append(pulse.after_step())
    return wishes


def test_another_workers_wish_to_stop_is_heard(gang, clock):
    """SIGTERM reaches the workers of one pod only."""
    gang.other[0] = 1.0
    assert pulse(gang, clock).after_step().stop


def test_own_wish_is_told(gang, clock):
    """And the others hear it in the same exchange."""
    stop = Stop()
    stop._told(15, None)
    wishes = pulse(gang, clock, stop=stop).after_step()
    assert wishes.stop
    assert wishes.end


@pytest.mark.parametrize(("step_s", "most"), [(0.001, MOST_STEPS), (0.5, 4), (5.0, 1)])
def test_workers_talk_about_every_two_seconds(gang, clock, step_s, most):
    """Rarely enough to cost nothing, soon enough for the half minute that a preemption leaves."""
    one = pulse(gang, clock)
    steps(one, clock, 2 * most + 1, step_s)
    assert gang.exchanges == 3


def test_slowest_worker_decides_how_often(gang, clock):
    """All must talk after the same step, whatever each has measured."""
    gang.other[4] = 5.0
    steps(pulse(gang, clock), clock, 3, 0.001)
    assert gang.exchanges == 3


def test_checkpoint_is_due_when_the_last_is_old(gang, clock):
    """By the primary's clock."""
    one = pulse(gang, clock, every_s=60)
    assert not steps(one, clock, 1, 10)[0].checkpoint
    assert steps(one, clock, 1, 51)[0].checkpoint
    one.saved()
    assert not steps(one, clock, 1, 10)[0].checkpoint


def test_only_the_primarys_clock_counts(clock):
    """Clocks differ; one that is ahead must not end the run."""
    one = pulse(Gang(rank=1), clock, ends_at_s=0, every_s=0, failed=True)
    wishes = steps(one, clock, 1, 10)[0]
    assert (wishes.deadline, wishes.checkpoint, wishes.failure) == (False, False, False)


def test_deadline_and_failure_are_told(gang, clock):
    """Both end training on all workers."""
    wishes = steps(pulse(gang, clock, ends_at_s=5, failed=True), clock, 1, 10)[0]
    assert wishes.deadline
    assert wishes.failure
