"""Input of the trained part of the network: packed images, or cached features of a frozen backbone.

With a frozen backbone and the same images in each epoch, the features are also the same, and only the head must be computed.
Shapes: N images, C channels, S pack side, H x W pixels, F features.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trainer.data.augment import Augmentation
from trainer.data.loader import Batch, Batches, Rows
from trainer.models import architectures
from trainer.models.predictor import DistributedPredictor
from trainer.runtime.watchdog import COMPILING
from trainer.training.features import TASK, FrozenFeatures
from trainer.training.run import Run, heartbeat_or_stop
from trainer.training.step_inputs import Draws


@dataclass(frozen=True)
class Feed:
    """Source of the input of the trained part of a network."""

    loader: Batches
    draws: Draws
    """Random numbers for the images of an epoch."""
    view: Callable[[Tensor, Tensor], Tensor]
    """Input for that part from a batch and its draws."""
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
        if not samples:
            return
        indices_SN = torch.from_numpy(self._index_of[np.maximum(np.stack(samples), 0)]).to(self._on)
        for samples_N, indices_N in zip(samples, indices_SN, strict=True):
            yield Batch(samples_N, self._features_NF[indices_N])


def of_images(run: Run) -> Feed:
    """Train on images with the whole network."""
    config = run.config
    augmentation = Augmentation(
        seed=config.seed, crop=config.crop, crop_px=config.crop_px, flip=config.flip, rotate=config.rotate
    )
    return Feed(
        run.loader,
        partial(augmentation.draws, side=run.pack.index.geometry.side),
        partial(_augmented, augmentation, run.memory_format),
        _whole,
        run.evaluator,
    )


def of_features(run: Run, features: FrozenFeatures, step: int) -> Feed:
    """Train the head on features of the backbone for the training and validation images; those that are left are computed now.

    Collective: all ranks call it. Raises: StopError when a worker received SIGTERM; JobFailedError for a non-finite feature.
    """

    def heartbeat() -> None:
        run.watchdog.heartbeat(TASK, timeout_scale=COMPILING)

    heartbeat()
    left = features.left()
    if left:
        with run.reporter.progress(TASK, -(-len(left) // run.group.world.size)) as advance:

            def after_batch() -> None:
                advance(1, "")
                heartbeat_or_stop(run, step, TASK)

            features.compute_left(left, run.loader, after_batch)
    used_N = np.concatenate([run.rows["train"], run.rows["val"]])
    cache = Cache(features.rows_N, features.gathered(used_N, heartbeat), run.on)
    return Feed(cache, _no_draws, _features, architectures.head_of, replace(run.evaluator, view=_identity))


def _augmented(
    augmentation: Augmentation, memory_format: torch.memory_format, x_N1SS: Tensor, draws_7N: Tensor
) -> Tensor:
    return augmentation.view(x_N1SS, draws_7N).contiguous(memory_format=memory_format)


def _features(features_NF: Tensor, _draws: Tensor) -> Tensor:
    return features_NF


def _no_draws(samples_N: Rows, _epoch: int) -> NDArray[np.float32]:
    return np.empty((0, len(samples_N)), np.float32)


def _identity(x: Tensor) -> Tensor:
    return x


def _whole(network: nn.Module) -> nn.Module:
    return network
