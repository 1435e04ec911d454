"""Input of the trained part of the network: packed images, or cached features of a frozen backbone.

With a frozen backbone and the same images in each epoch, the features are also the same, and only the head must be computed.
Shapes: N images, C channels, S pack side, H x W pixels, F features.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.data.augment import training_view
from trainer.data.loader import Batch, Batches, Rows, evaluation_batches
from trainer.models import architectures
from trainer.models.predictor import DistributedPredictor
from trainer.training.setup import Run, heartbeat_or_stop

TASK: Final = "computing features"


@dataclass(frozen=True)
class Feed:
    """Source of the input of the trained part of a network."""

    loader: Batches
    view: Callable[[Batch, int], Tensor]
    """Input for that part from a batch, in this epoch."""
    part: Callable[[nn.Module], nn.Module]
    """That part of a network."""
    evaluator: DistributedPredictor
    """Evaluator for that part."""


class Cache:
    """Batches of features stored on the device."""

    def __init__(self, rows_N: Rows, features_NF: NDArray[np.float32], on: torch.device) -> None:
        self.waited_s = 0.0
        self._on = on
        self._index_of = np.zeros(int(rows_N.max()) + 1, np.int64)
        self._index_of[rows_N] = np.arange(len(rows_N))
        self._features_NF = torch.from_numpy(features_NF).to(on)

    def batches(self, samples: Sequence[Rows]) -> Iterator[Batch]:
        """The batches of these samples, in order; padding gets the features of some image, as with a pack."""
        for samples_N in samples:
            indices_N = self._index_of[np.maximum(samples_N, 0)]
            yield Batch(samples_N, self._features_NF[torch.from_numpy(indices_N).to(self._on, non_blocking=True)])


def of_images(run: Run) -> Feed:
    """Train on images with the whole network."""
    return Feed(run.loader, partial(_augmented, run), _whole, run.evaluator)


def of_features(run: Run, network: nn.Module, step: int) -> Feed:
    """Train the head on features of the backbone for the training and validation images; each is computed on one rank.

    Collective: all ranks call it. Raises: StopError when a worker received SIGTERM.
    """
    rows_N = np.concatenate([run.rows["train"], run.rows["val"]])
    world = run.group.world
    batches = len(evaluation_batches(rows_N, rank=world.rank, world=world.size, batch=run.evaluator.batch))
    whole = replace(run.evaluator, findings=architectures.features_of(network))
    with (
        run.watchdog.progress(run.reporter.progress, TASK, batches) as advance,
        architectures.headless(network) as backbone,
    ):

        def after_batch() -> None:
            advance(1, "")
            heartbeat_or_stop(run, step, TASK)

        features_NF = whole.predict(backbone, rows_N, after_batch)
    cache = Cache(rows_N, features_NF, run.on)
    return Feed(cache, _features, architectures.head_of, replace(run.evaluator, loader=cache, view=_identity))


def _augmented(run: Run, batch: Batch, epoch: int) -> Tensor:
    config = run.config
    view_NCHW = training_view(
        batch.x_N1SS,
        batch.samples_N,
        seed=config.seed,
        epoch=epoch,
        crop=config.crop,
        crop_px=config.crop_px,
        flip=config.flip,
        rotate=config.rotate,
    )
    return view_NCHW.contiguous(memory_format=run.memory_format)


def _features(batch: Batch, _epoch: int) -> Tensor:
    return batch.x_N1SS


def _identity(x: Tensor) -> Tensor:
    return x


def _whole(network: nn.Module) -> nn.Module:
    return network
