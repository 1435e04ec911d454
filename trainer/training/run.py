"""A run as its workers know it, and what they do together outside the steps of training."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer import devices
from trainer.config import Mode, TrainConfig
from trainer.data.labels import LabelTable
from trainer.data.layouts import Source
from trainer.data.loader import Loader, steps_per_epoch
from trainer.data.packs.reading import Pack
from trainer.devices import Arithmetic, Device
from trainer.models.losses import Loss
from trainer.models.predictor import DistributedPredictor
from trainer.runtime.console import Reporter
from trainer.runtime.coordination import Coordination
from trainer.runtime.preemption import Stop, stopped
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.progress import USUALLY_FEW
from trainer.runtime.watchdog import COMPILING, Watchdog
from trainer.training.claim import Prefix
from trainer.training.label_weights import LabelWeights


@dataclass(frozen=True)
class Run:
    """Everything that a run needs and that does not change while it trains."""

    config: TrainConfig
    group: WorkerGroup
    device: Device
    on: torch.device
    mode: Mode
    """Mode of the device."""
    precision: Arithmetic
    memory_format: torch.memory_format
    """Of the network and its input; of a run that resumes, the one it began with."""
    reporter: Reporter
    source: Source
    """Labels of the data set, and their location."""
    rows: Mapping[str, NDArray[np.int64]]
    """Samples of each split, without unreadable images."""
    pack: Pack
    """The images."""
    loader: Loader
    evaluator: DistributedPredictor
    labels_NK: Tensor
    """float32, on the device; 0 where unknown."""
    label_weights: LabelWeights | None
    """Weights of labels in the loss; None where all training labels are known."""
    loss: Loss
    """Of logits and labels, both [N, K], and weights of the labels where some are unknown."""
    prefix: Prefix
    """Prefix of the run, claimed by this job."""
    coordination: Coordination
    stop: Stop
    watchdog: Watchdog
    positive_class: str | None
    """Of a single-label model; None for independent findings."""

    @property
    def table(self) -> LabelTable:
        """Labels and split of all images."""
        return self.source.table

    @property
    def global_batch(self) -> int:
        """Images per optimiser step over all workers."""
        return self.config.batch_per_worker(self.group.world.size) * self.group.world.size

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one pass over the training images."""
        return steps_per_epoch(len(self.rows["train"]), self.global_batch)

    @property
    def total_steps(self) -> int:
        """Optimiser steps until the end, as the schedule sees it."""
        return self.steps_per_epoch * self.config.epochs

    @property
    def last_step(self) -> int:
        """Where this start of the run stops."""
        return min(self.total_steps, self.config.max_steps or self.total_steps)

    @property
    def executed_on(self) -> str:
        """Device, mode and precision in words."""
        return f"{devices.in_mode(self.device, self.mode)} in {self.precision}"

    @property
    def is_rank0(self) -> bool:
        """Whether this worker writes and reports."""
        return self.group.world.is_rank0


def why_not_compiled(run: Run) -> str | None:
    """Why `--compile auto` does not compile on a device that gains by it; None where it does, or gains nothing."""
    config = run.config
    if config.compile != "auto" or run.mode == "compile":
        return None
    if config.recomputes and run.device.choose_mode(config.gaudi_mode, "auto") == "compile":
        return "what `--activation-memory low` computes again is not compiled"
    return run.device.cannot_compile()


@contextmanager
def predicting(run: Run, images: int, step: int, doing: str) -> Iterator[Callable[[], None]]:
    """Progress of predictions for this many images; yields a function to call on all ranks after each batch.

    It resets the watchdog and stops if a rank received a signal. Raises: StopError, on all ranks.
    """
    batches = -(-images // (run.evaluator.batch * run.group.world.size))
    with run.reporter.progress(doing, batches, USUALLY_FEW) as advance:

        def after_batch() -> None:
            advance(1, "batches")
            heartbeat_or_stop(run, step, doing)

        yield after_batch


def heartbeat_or_stop(run: Run, step: int, doing: str) -> None:
    """Call on all ranks after each batch outside training: resets the watchdog and stops if a rank received a signal.

    Raises: StopError, on all ranks.
    """
    run.watchdog.heartbeat(doing, timeout_scale=COMPILING)
    if run.coordination.after_step().stop:
        raise stopped(step)
