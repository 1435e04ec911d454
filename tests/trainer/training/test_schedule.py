"""The learning rate over time."""

import pytest

from trainer.training.schedule import COSINE_FLOOR, Plateau, rate_factor


def rates(kind, steps, *, warmup=0, plateau=Plateau()):  # noqa: B008 - immutable
    return [rate_factor(kind, step, warmup_steps=warmup, total_steps=steps, plateau=plateau) for step in range(steps)]


def test_warmup_rises_to_the_peak_and_starts_above_zero():
    """A first step of rate 0 would be wasted."""
    assert rates("constant", 5, warmup=4) == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_cosine_falls_from_the_peak_to_its_floor():
    """The end of training should be gentle, not dead."""
    factors = rates("cosine", 100)
    assert factors[0] == 1.0
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(COSINE_FLOOR, abs=0.001)


def test_plateau_divides_by_ten_when_loss_does_not_fall():
    """As published."""
    plateau = Plateau().after_epoch(0.5).after_epoch(0.6)
    assert plateau == Plateau(pytest.approx(0.1), 0.5)
    assert rates("plateau", 1, plateau=plateau) == [pytest.approx(0.1)]


def test_epoch_without_validation_changes_nothing():
    """nan compares as never better and would divide every epoch."""
    assert Plateau(1.0, 0.5).after_epoch(float("nan")) == Plateau(1.0, 0.5)
