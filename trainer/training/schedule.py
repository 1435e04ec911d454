"""Learning-rate schedules: pure functions of the step, and the state of the plateau schedule."""

import math
from dataclasses import dataclass
from typing import Final, Literal

PLATEAU_FACTOR: Final = 0.1
"""Source: CheXNet, arXiv:1711.05225: decayed by 10 each time the validation loss plateaus after an epoch."""

COSINE_FLOOR: Final = 0.01
"""Share of the peak at which the cosine ends."""


@dataclass(frozen=True)
class Plateau:
    """State of the plateau schedule."""

    factor: float = 1.0
    best_loss: float = math.inf

    def after_epoch(self, val_loss: float) -> "Plateau":
        """The state after an epoch with this validation loss; unchanged without validation images (nan)."""
        if math.isnan(val_loss):
            return self
        if val_loss < self.best_loss:
            return Plateau(self.factor, val_loss)
        return Plateau(self.factor * PLATEAU_FACTOR, self.best_loss)


def rate_factor(
    kind: Literal["constant", "plateau", "cosine"], step: int, *, warmup_steps: int, total_steps: int, plateau: Plateau
) -> float:
    """Factor of the peak learning rate for step number `step`, counted from 0."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if kind == "cosine":
        done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
        return COSINE_FLOOR + (1 - COSINE_FLOOR) * (1 + math.cos(math.pi * min(1.0, done))) / 2
    return plateau.factor if kind == "plateau" else 1.0
