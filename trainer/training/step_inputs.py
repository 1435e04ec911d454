"""What a step needs beside its images: rows of labels, and the random numbers of the augmentation.

Both follow from seed and order, so those of all steps of an epoch are computed and copied to the device before its first step:
a copy in each step would cost the host time, and from pageable memory may wait for the device. Shapes: S steps, N images, D draws.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.loader import Rows

Draws = Callable[[Rows, int], NDArray[np.float32]]
"""Random numbers [D, N] for these samples in this epoch."""


@dataclass(frozen=True)
class StepInputs:
    """Those of one step, on the device."""

    samples_N: Tensor
    """int64, rows of the table of labels."""
    draws_DN: Tensor
    """float32; without rows where the input is not augmented."""


class EpochInputs:
    """Those of consecutive steps of an epoch, on the device."""

    def __init__(self, samples: Sequence[Rows], epoch: int, draws: Draws, on: torch.device) -> None:
        """Of steps with these samples, equally many in each. Waits for the device."""
        samples_SN = np.stack(samples)
        draws_DN = draws(samples_SN.ravel(), epoch)
        draws_SDN = draws_DN.reshape(len(draws_DN), *samples_SN.shape).transpose(1, 0, 2)
        self._samples_SN = torch.from_numpy(samples_SN).to(on)
        self._draws_SDN = torch.from_numpy(np.ascontiguousarray(draws_SDN)).to(on)

    def of(self, step: int) -> StepInputs:
        """Those of a step, counted from the first of these samples; views, without a copy."""
        return StepInputs(self._samples_SN[step], self._draws_SDN[step])
