"""`--parity-check`: the first steps on the device against the same steps on the CPU in fp32, before training.

An accelerator, its mode or its precision can train to a worse model without an error (docs/decisions/0032). Rank 0 takes the steps
on two copies of the network with BatchNorm in eval mode and without dropout, so that both compute the same function; the run itself
keeps its weights, optimiser, random states and order of images.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from trainer.data.loader import Batch, Rows, training_batches, training_order
from trainer.devices import cpu
from trainer.errors import JobFailedError, listing
from trainer.models import architectures
from trainer.models.losses import Loss
from trainer.runtime.watchdog import COMPILING
from trainer.training.setup import Run
from trainer.training.state import Training, optimizer_of
from trainer.training.step import add_gradients, set_rate, update

LIMITS: Final[Mapping[str, float]] = {"loss": 0.02, "gradient norm": 0.05}
"""Largest difference from the CPU, as a share of the CPU's value. Measured with bf16 on the CPU: docs/decisions/0032."""

PIECE: Final = 16
"""Images that the CPU computes at a time: a batch for an accelerator may need more memory than the pod has."""


@dataclass(frozen=True)
class Compared:
    """A step on both."""

    step: int
    device: Mapping[str, float]
    """Loss and gradient norm."""
    cpu: Mapping[str, float]

    def difference(self, name: str) -> float:
        """Relative to the CPU's value; infinite where only one of both is finite, 0 where neither is."""
        ours, theirs = self.device[name], self.cpu[name]
        if not math.isfinite(ours) or not math.isfinite(theirs):
            return 0.0 if math.isfinite(ours) == math.isfinite(theirs) else math.inf
        return abs(ours - theirs) / max(abs(theirs), 1e-12)

    def is_beyond(self) -> bool:
        """Whether a difference is above its limit."""
        return any(self.difference(name) > limit for name, limit in LIMITS.items())

    def in_words(self, device: str) -> str:
        """Both values and their difference."""
        pairs = (
            f"{name} {self.device[name]:.5g} on {device}, {self.cpu[name]:.5g} on the CPU ({self.difference(name):.2%})"
            for name in LIMITS
        )
        return f"step {self.step}: {'; '.join(pairs)}"


def check_parity(run: Run, training: Training) -> None:
    """Compare the first steps of this start with the CPU, on rank 0, where `--parity-check` asks for it. All workers call it.

    Raises: JobFailedError with both series when one is beyond its limit; PeerError on the other ranks.
    """
    if run.config.parity_check is None or training.step >= run.last_step:
        return
    run.watchdog.pause()  # the others wait for rank 0, which alone knows its progress
    run.group.on_rank0(lambda: _check(run, training))


def _check(run: Run, training: Training) -> None:
    random, of_device = torch.get_rng_state(), run.device.random_state()
    found = list(_steps(run, training))
    torch.set_rng_state(random)
    if of_device is not None:
        run.device.set_random_state(of_device)
    run.watchdog.pause()
    name = _name(run)
    for one in found:
        run.reporter.line(f"parity check, {one.in_words(name)}")
    limits = " and ".join(f"{limit:.0%} of {what}" for what, limit in LIMITS.items())
    beyond = [one for one in found if one.is_beyond()]
    if beyond:
        raise JobFailedError(
            f"cannot train on {name}: {len(beyond)} of {len(found)} steps differ from the CPU in fp32 by more than {limits} "
            f"(`--parity-check {run.config.parity_check}`):{listing(one.in_words(name) for one in found)}",
            hint="another --gaudi-mode, --precision fp32 or another image; without --parity-check the run trains with these numbers",
        )
    worst = ", ".join(f"{max(one.difference(what) for one in found):.2%} of {what}" for what in LIMITS)
    run.reporter.line(f"parity check passed: {len(found)} steps differ from the CPU by at most {worst}")


def _name(run: Run) -> str:
    mode = f" in the mode {run.mode}" if run.mode else ""
    return f"{run.device.name}{mode} in {run.precision}"


def _steps(run: Run, training: Training) -> Iterator[Compared]:
    epoch = training.step // run.steps_per_epoch
    reference = replace(run, device=cpu, on=torch.device("cpu"), precision="fp32", labels_NK=run.labels_NK.cpu())
    weights = _weights(run, training)
    ours, theirs = _copy(run, training, weights, epoch), _copy(reference, training, weights, epoch)
    ours.parallel = run.device.compiled(ours.network, run.mode)
    batches = list(_batches(run, training.step))
    loaded = run.loader.batches([rows for _, rows in batches])
    for (epoch, _), batch in zip(batches, loaded, strict=True):
        run.watchdog.heartbeat(f"parity check, step {ours.step + 1}", timeout_scale=COMPILING)
        host = Batch(batch.samples_N, batch.x_N1SS.cpu())
        loss = add_gradients(run, ours, batch, epoch)
        reference_loss = _add_gradients_in_pieces(reference, theirs, host, epoch)
        reference_norm = clip_grad_norm_(theirs.network.parameters(), math.inf)
        _hand_over_gradients(ours, theirs)
        norm = _updated(run, ours)
        _updated(reference, theirs)
        yield Compared(ours.step, _values(loss, norm), _values(reference_loss, reference_norm))


def _hand_over_gradients(ours: Training, theirs: Training) -> None:
    """The CPU's optimiser takes the device's gradients: else rounding grows from step to step until sound devices are beyond the limits.

    A wrong step of the device's optimiser shows in the loss of the next step.
    """
    for parameter, reference in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
        reference.grad = None if parameter.grad is None else parameter.grad.cpu()


def _updated(run: Run, training: Training) -> Tensor:
    set_rate(run, training)
    norm = update(run, training)
    training.step += 1
    return norm


def _values(loss: Tensor, grad_norm: Tensor) -> dict[str, float]:
    return dict(zip(LIMITS, (float(loss), float(grad_norm)), strict=True))


def _weights(run: Run, training: Training) -> nn.Module:
    """The network to compare with: at the start of a run its own; later one drawn anew.

    Gradients of trained weights are small sums of large parts, and rounding alone is more than 5 % of them (docs/decisions/0032): a
    sound run would not survive a restart.
    """
    if training.step == 0:
        return training.network
    torch.manual_seed(run.config.seed)
    return architectures.build(run.config.model, run.config.head, len(run.table.findings))


def _copy(run: Run, training: Training, network: nn.Module, epoch: int) -> Training:
    """A training of this network on the device of `run`, in eval mode, with gradients of what this epoch trains."""
    network = copy.deepcopy(network).to(run.on).to(memory_format=run.device.memory_format).eval()
    (architectures.freeze if run.config.freezes(epoch) else architectures.unfreeze)(network)
    return replace(training, network=network, parallel=network, optimizer=optimizer_of(run, network))


def _batches(run: Run, step: int) -> Iterator[tuple[int, Rows]]:
    """Epoch and samples of rank 0 of the steps to compare: those that it trains on next."""
    assert run.config.parity_check is not None
    world = run.group.world
    for number in range(step, step + run.config.parity_check):
        epoch, first = divmod(number, run.steps_per_epoch)
        order = training_order(run.rows["train"], seed=run.config.seed, epoch=epoch, global_batch=run.global_batch)
        yield epoch, training_batches(order[first : first + 1], rank=world.rank, world=world.size, first_step=0)[0]


def _add_gradients_in_pieces(run: Run, training: Training, batch: Batch, epoch: int) -> Tensor:
    """As `add_gradients`: without batch statistics, loss and gradients of a batch are the weighted sums of those of its parts."""
    total = torch.zeros(())
    images = len(batch.samples_N)
    for rows in np.array_split(np.arange(images), -(-images // PIECE)):
        run.watchdog.heartbeat(f"parity check, step {training.step + 1} on the CPU", timeout_scale=COMPILING)
        part = replace(run, loss=_weighted(run.loss, len(rows) / images))
        total += add_gradients(
            part, training, Batch(batch.samples_N[rows], batch.x_N1SS[torch.from_numpy(rows)]), epoch
        )
    return total


def _weighted(loss: Loss, weight: float) -> Loss:
    return lambda logits_NK, labels_NK: weight * loss(logits_NK, labels_NK)
