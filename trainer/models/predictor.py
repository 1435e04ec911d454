"""Predictions of a network for a split, distributed over the ranks.

Shapes: N images, C channels, H x W pixels, K findings.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from trainer.config import Mode
from trainer.data.augment import evaluation_view
from trainer.data.loader import Batch, Batches, Rows, evaluation_batches
from trainer.devices import Arithmetic, Device
from trainer.errors import JobFailedError
from trainer.evaluation.scores import Logits
from trainer.models.forward_threads import forward_threads
from trainer.runtime.process_group import WorkerGroup


@dataclass(frozen=True, kw_only=True)
class DistributedPredictor:
    """Device and peers for predictions."""

    view: Callable[[Tensor], Tensor]
    """From a batch to the network's input."""
    device: Device
    group: WorkerGroup
    precision: Arithmetic
    batch: int
    findings: int
    """Number of the network's outputs."""
    mode: Mode
    """Mode of the device."""
    side_by_side: bool = False
    """Whether forward passes may run in several threads, as `forward_threads` does. Not between steps of a training: how these round could
    depend on torch's number of threads having been set, and a run that resumes has not set it.
    """

    def predict(self, network: nn.Module, loader: Batches, rows_N: Rows, after_batch: Callable[[], None]) -> Logits:
        """As `logits`. Raises: JobFailedError for a non-finite one: such a network must be neither saved nor evaluated."""
        logits_NK = self.logits(network, loader, rows_N, after_batch)
        self.group.all_or_raise(lambda: check_finite(logits_NK))
        return logits_NK

    def logits(self, network: nn.Module, loader: Batches, rows_N: Rows, after_batch: Callable[[], None]) -> Logits:
        """Logits of these samples in order, float32 [N, K], on every rank; no sample counts twice. Collective: all ranks call it.

        `after_batch` is called equally often on every rank.
        """
        world = self.group.world
        batches = evaluation_batches(rows_N, rank=world.rank, world=world.size, batch=self.batch)
        own_logits = [np.empty((0, self.findings), np.float32)]
        for logits_NK in self.outputs(network, loader.batches(batches)):
            own_logits.append(logits_NK)
            after_batch()
        return self._gathered(np.concatenate(own_logits), len(rows_N))

    def outputs(self, network: nn.Module, loaded: Iterator[Batch]) -> Generator[Logits, None, None]:
        """The network's outputs [N, K] for each of these batches in order, without padding; on this rank."""
        network.eval()
        compute = partial(self._logits, self.device.compiled(network, self.mode))
        threads = forward_threads(self.device, self.mode, self.batch) if self.side_by_side else nullcontext()
        with threads as started:
            yield from map(compute, loaded) if started is None else started.computed(compute, loaded)

    def _logits(self, network: nn.Module, batch: Batch) -> Logits:
        """Logits of the samples of a batch, without those that pad it."""
        with torch.inference_mode(), self.device.autocast(self.precision):
            logits_NK = network(self.view(batch.x_N1SS)).float()
            self.device.flush()
            logits: Logits = logits_NK.cpu().numpy()[batch.samples_N >= 0]
            return logits

    def _gathered(self, own_NK: Logits, total: int) -> Logits:
        logits_NK = np.empty((total, self.findings), np.float32)
        world = self.group.world.size
        for rank, payload in enumerate(self.group.all_gather(own_NK.tobytes())):
            logits_NK[rank::world] = np.frombuffer(payload, np.float32).reshape(-1, self.findings)
        return logits_NK


def check_finite(logits_NK: Logits) -> None:
    """Raises: JobFailedError for a non-finite output."""
    refuse_non_finite(int((~np.isfinite(logits_NK)).any(axis=1).sum()), len(logits_NK))


def refuse_non_finite(bad: int, images: int) -> None:
    """Raises: JobFailedError where the output for some of the images is not finite."""
    if bad:
        raise JobFailedError(
            f"cannot evaluate: the network's output for {bad} of {images} images is not finite",
            hint="use an earlier checkpoint; when training, start another run with a lower --lr",
        )


def centre_view(x_N1SS: Tensor, *, crop_px: int, memory_format: torch.memory_format) -> Tensor:
    """The centre of each image, in the device's memory format."""
    return evaluation_view(x_N1SS, crop_px).contiguous(memory_format=memory_format)
