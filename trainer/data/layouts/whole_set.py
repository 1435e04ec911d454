"""Sets that are published without a split: all images in train, of which val and test are taken by patient."""

from fractions import Fraction
from typing import Final

from trainer.data.layouts.source import Request

SHARES: Final = {"val": Fraction(1, 10), "test": Fraction(2, 10)}
"""Shares of the patients, as of `--split patients:70/10/20`."""


def shares(request: Request) -> dict[str, Fraction]:
    """What is taken from train; nothing where a split is requested."""
    return dict(SHARES) if request.given else {}


def notes(request: Request, *, by: str = "patient") -> tuple[str, ...]:
    """A note about the split."""
    if not request.given:
        return ()
    return (f"the data set has no split; it is drawn by {by}, as with --split patients:70/10/20",)
