"""`--parity-check`: the first steps on the device against the same steps on the CPU in fp32, before training.

An accelerator, its mode or its precision can train to a worse model without an error (docs/decisions/0032). Rank 0 takes the steps
on two copies of the network with BatchNorm in eval mode and without dropout, so that both compute the same function; the run itself
keeps its weights, optimiser, random states and order of images.
"""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from trainer.data.loader import Batch, Rows, training_batches, training_order
from trainer.devices import cpu
from trainer.errors import JobFailedError, listing
from trainer.formats.documents import run_record
from trainer.models import architectures
from trainer.models.losses import Loss
from trainer.runs import record
from trainer.runtime.progress import USUALLY_FEW, Advance
from trainer.runtime.watchdog import COMPILING
from trainer.training.run import Run
from trainer.training.state import Training, optimizer_of
from trainer.training.step import add_gradients, set_rate, update
from trainer.training.step_inputs import EpochInputs, StepInputs

LIMITS: Final[Mapping[str, float]] = {"loss": 0.02, "gradient norm": 0.05, "cosine of the gradients": 0.1}
"""Largest difference from the CPU, as a share of the CPU's value. Measured with bf16 on the CPU: docs/decisions/0032.

The cosine is that between the device's gradient and the CPU's, all parameters as one vector, so the CPU's value is 1.
"""

PIECE: Final = 16
"""Images that the CPU computes at a time: a batch for an accelerator may need more memory than the pod has."""


@dataclass(frozen=True)
class Compared:
    """A step on both."""

    step: int
    device: Mapping[str, float]
    """By the names of `LIMITS`."""
    cpu: Mapping[str, float]

    def difference(self, name: str) -> float:
        """Relative to the CPU's value; infinite where either is not finite."""
        ours, theirs = self.device[name], self.cpu[name]
        if not math.isfinite(ours) or not math.isfinite(theirs):
            return math.inf
        return abs(ours - theirs) / max(abs(theirs), 1e-12)

    def is_comparable(self) -> bool:
        """Whether the CPU's values are finite."""
        return all(map(math.isfinite, self.cpu.values()))

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
    facts, storage = _facts(run), run.prefix.storage
    if (run_record(storage) or {}).get("parity_passed") == facts:
        run.reporter.line(
            f"parity check skipped: an earlier start of this run passed it on {run.executed_on}, torch {facts['torch']}"
        )
        return
    random, of_device = torch.get_rng_state(), run.device.random_state()
    assert run.config.parity_check is not None
    found, name = [], run.executed_on
    images = run.config.parity_check * run.config.batch_per_worker(run.group.world.size)
    with run.reporter.progress("parity check", images, USUALLY_FEW) as advance:
        for one in _steps(run, training, advance):
            found.append(one)
            run.reporter.line(f"parity check, {one.in_words(name)}")
            _check_comparable(run, found)
    torch.set_rng_state(random)
    if of_device is not None:
        run.device.set_random_state(of_device)
    run.watchdog.pause()
    _check_within_limits(run, found)
    worst = ", ".join(f"{max(one.difference(what) for one in found):.2%} of {what}" for what in LIMITS)
    run.reporter.line(f"parity check passed: {len(found)} steps differ from the CPU by at most {worst}")
    record.note_parity_passed(storage, facts)


def _facts(run: Run) -> dict[str, Any]:
    """What a passed check holds for: another start of the run repeats it where any of these differs."""
    return {
        "device": run.device.name,
        "hardware": run.device.hardware(),
        run.device.mode_fact: run.mode,
        "precision": run.precision,
        "torch": torch.__version__,
        "steps": run.config.parity_check,
    }


def _check_comparable(run: Run, found: Sequence[Compared]) -> None:
    """A device that is wrong makes the CPU's later values not finite too: then its own steps are reported at the end."""
    *before, last = found
    if not last.is_comparable() and not any(one.is_beyond() for one in before):
        raise JobFailedError(
            f"cannot compare {run.executed_on} with the CPU: loss or gradient of step {last.step} is not finite on the CPU in fp32 "
            f"(`--parity-check {run.config.parity_check}`):{listing(one.in_words(run.executed_on) for one in found)}",
            hint="a lower --lr or a smaller --parity-check; the check trains random weights",
        )


def _check_within_limits(run: Run, found: Sequence[Compared]) -> None:
    beyond, name = [one for one in found if one.is_beyond()], run.executed_on
    if beyond:
        *limits, last = (f"{limit:.0%} of {what}" for what, limit in LIMITS.items())
        raise JobFailedError(
            f"cannot train on {name}: {len(beyond)} of {len(found)} steps differ from the CPU in fp32 by more than "
            f"{', '.join(limits)} or {last} (`--parity-check {run.config.parity_check}`):"
            f"{listing(one.in_words(name) for one in found)}",
            hint="another --gaudi-mode, --compile off, --precision fp32 or another image; without --parity-check the run trains with these numbers",
        )


def _steps(run: Run, training: Training, advance: Advance) -> Iterator[Compared]:
    epoch = training.step // run.steps_per_epoch
    reference = _on_cpu(run)
    weights = _weights(run)
    ours, theirs = _copy(run, training, weights, epoch), _copy(reference, training, weights, epoch)
    ours.parallel = run.device.compiled(ours.network, run.mode)
    batches = list(_batches(run, training.step))
    loaded = run.loader.batches([rows for _, rows in batches])
    for (epoch, _), batch in zip(batches, loaded, strict=True):
        run.watchdog.heartbeat(f"parity check, step {ours.step + 1}", timeout_scale=COMPILING)
        host = Batch(batch.samples_N, batch.x_N1SS.cpu())
        loss = add_gradients(run, ours, batch.x_N1SS, _inputs(run, ours, batch.samples_N, epoch))
        reference_loss = _add_gradients_in_pieces(reference, theirs, host, epoch, advance)
        reference_norm = clip_grad_norm_(theirs.network.parameters(), math.inf)
        cosine = _handed_over(ours, theirs)
        norm = _updated(run, ours)
        _updated(reference, theirs)
        yield Compared(ours.step, _values(loss, norm, cosine), _values(reference_loss, reference_norm, 1.0))


def _on_cpu(run: Run) -> Run:
    on = torch.device("cpu")
    weights = None if run.label_weights is None else run.label_weights.to(on)
    return replace(
        run,
        device=cpu,
        on=on,
        precision="fp32",
        memory_format=cpu.memory_format,
        labels_NK=run.labels_NK.cpu(),
        label_weights=weights,
    )


def _handed_over(ours: Training, theirs: Training) -> float:
    """The cosine of both gradients, after the CPU's optimiser has been given the device's.

    With its own, rounding grows from step to step until correct devices are beyond the limits. A wrong step of the device's optimiser
    shows in the loss of the next step.
    """
    products = np.zeros(3)
    for parameter, reference in zip(ours.network.parameters(), theirs.network.parameters(), strict=True):
        mine = None if parameter.grad is None else parameter.grad.detach().cpu().float()
        products += _products(mine, reference.grad)
        reference.grad = mine
    with np.errstate(invalid="ignore", over="ignore"):
        both, squares = products[0], products[1] * products[2]
        return float(both / np.sqrt(squares)) if squares else float(products[1] == products[2])


def _products(ours: Tensor | None, theirs: Tensor | None) -> list[float]:
    """Of a parameter's gradients: of both, of ours with itself, of theirs with itself; 0 where there is none."""
    a, b = (None if each is None else each.flatten() for each in (ours, theirs))
    pairs = ((a, b), (a, a), (b, b))
    return [0.0 if x is None or y is None else float(torch.dot(x, y)) for x, y in pairs]


def _updated(run: Run, training: Training) -> Tensor:
    set_rate(run, training)
    norm = update(run, training)
    training.step += 1
    return norm


def _values(loss: Tensor, grad_norm: Tensor, cosine: float) -> dict[str, float]:
    return dict(zip(LIMITS, (float(loss), float(grad_norm), cosine), strict=True))


def _weights(run: Run) -> nn.Module:
    """The network to compare with: random weights, also where the run has `--weights` or resumes.

    Gradients of trained weights are small sums of large parts, and rounding alone is more than 5 % of them (docs/decisions/0032): a
    correct device would be refused.
    """
    torch.manual_seed(run.config.seed)
    config = run.config
    return architectures.build(config.model, config.head, len(run.table.findings), recomputes=config.recomputes)


def _copy(run: Run, training: Training, network: nn.Module, epoch: int) -> Training:
    """A training of this network on the device of `run`, in eval mode, with gradients of what this epoch trains."""
    network = copy.deepcopy(network).to(run.on).to(memory_format=run.memory_format).eval()
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


def _add_gradients_in_pieces(run: Run, training: Training, batch: Batch, epoch: int, advance: Advance) -> Tensor:
    """As `add_gradients`: without batch statistics, loss and gradients of a batch are the weighted sums of those of its parts."""
    total = torch.zeros(())
    images = len(batch.samples_N)
    for rows in np.array_split(np.arange(images), -(-images // PIECE)):
        run.watchdog.heartbeat(f"parity check, step {training.step + 1} on the CPU", timeout_scale=COMPILING)
        part = replace(run, loss=_weighted(run.loss, len(rows) / images))
        inputs = _inputs(part, training, batch.samples_N[rows], epoch)
        total += add_gradients(part, training, batch.x_N1SS[torch.from_numpy(rows)], inputs)
        advance(len(rows), "images on the CPU")
    return total


def _inputs(run: Run, training: Training, samples_N: Rows, epoch: int) -> StepInputs:
    return EpochInputs([samples_N], epoch, training.feed.draws, run.on).of(0)


def _weighted(loss: Loss, share: float) -> Loss:
    """The loss of a part with this share of the images; a loss with weights is a sum already."""

    def part_loss(logits_NK: Tensor, labels_NK: Tensor, weights_NK: Tensor | None = None) -> Tensor:
        part = loss(logits_NK, labels_NK, weights_NK)
        return share * part if weights_NK is None else part

    return part_loss
