"""Weights of labels in the loss of a step, where some labels are unknown.

The loss of a step is the mean over the known labels of its global batch. Every rank can count them without communication: the
images of a step follow from seed and epoch, and every rank has the whole table of labels. DistributedDataParallel averages the
gradients of W ranks, so a known label weighs W divided by that count, and an unknown one 0. Shapes: N images, K findings, S steps
of an epoch, G images of the global batch.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.data.labels import LabelTable
from trainer.data.loader import Rows, training_order


@dataclass(frozen=True, eq=False)
class LabelWeights:
    """Which labels are known, and the weight of one in each step."""

    known_NK: Tensor
    """float32 on the device: 1 where the label is known, else 0; a row for each image of the table."""
    known_N: NDArray[np.int64]
    """Number of known labels of each image."""
    train_rows: Rows
    seed: int
    global_batch: int
    world: int
    """Number of ranks."""
    _of_epoch: dict[int, Tensor] = field(default_factory=dict, repr=False)
    """Weights of the steps of the current epoch, float32 [S], on the device."""

    def to(self, on: torch.device) -> "LabelWeights":
        """The same weights on another device."""
        return replace(self, known_NK=self.known_NK.to(on), _of_epoch={})

    def of(self, samples_N: Tensor, epoch: int, step: int) -> Tensor:
        """Weights [N, K] of these rows of the table in this step of this epoch, both counted from 0, on the device.

        The weight of the step is an input of the computation, so that a compiling device compiles the step once. All labels of a
        step without a known label have the weight 0.
        """
        return self.known_NK[samples_N] * self.of_steps(epoch)[step : step + 1]

    def of_steps(self, epoch: int) -> Tensor:
        """Weights of all steps of an epoch, copied to the device at the epoch's first call, which waits for the device."""
        if epoch not in self._of_epoch:
            order_SG = training_order(self.train_rows, seed=self.seed, epoch=epoch, global_batch=self.global_batch)
            count_S = self.known_N[order_SG].sum(axis=1)
            self._of_epoch.clear()
            weights_S = (self.world / np.maximum(count_S, 1)).astype(np.float32)
            self._of_epoch[epoch] = torch.from_numpy(weights_S).to(self.known_NK.device)
        return self._of_epoch[epoch]


def label_weights(
    table: LabelTable, train_rows: Rows, *, seed: int, global_batch: int, world: int, on: torch.device
) -> LabelWeights | None:
    """Weights for training on these rows; None where all their labels are known, and the loss is a plain mean."""
    known_NK = table.known()
    if known_NK[train_rows].all():
        return None
    return LabelWeights(
        known_NK=torch.from_numpy(known_NK.astype(np.float32)).to(on),
        known_N=known_NK.sum(axis=1, dtype=np.int64),
        train_rows=train_rows,
        seed=seed,
        global_batch=global_batch,
        world=world,
    )
