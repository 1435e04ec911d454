"""State that changes during training: start or resume, and snapshots.

All ranks call these functions together.
"""

import copy
import gc
import time
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.devices import Device
from trainer.errors import InputError, JobFailedError
from trainer.models import architectures
from trainer.models.architectures import StateDict
from trainer.runs.tensorboard import Curves
from trainer.training.features import FrozenFeatures
from trainer.training.feed import Feed, of_images
from trainer.training.initial_state import InitialState, state_place
from trainer.training.profiling import StepProfiler
from trainer.training.run import Run
from trainer.training.schedule import Plateau
from trainer.training.snapshot import (
    RankState,
    TrainState,
    check_moments,
    copied,
    rank_from_bytes,
    rank_to_bytes,
)

LOWER_RATE: Final = "checkpoints saved before are finite; start another run with a lower --lr"


@dataclass
class Training:
    """State that changes with every step."""

    network: nn.Module
    """Parameters, and this rank's own BatchNorm buffers."""
    feed: Feed
    """Input: images, or features of a frozen backbone."""
    features: FrozenFeatures | None
    """Features of a frozen backbone until they are the input; then, and in a run that trains on images, None."""
    frozen: bool | None
    """Whether the backbone is frozen; None before the first epoch of this attempt."""
    parallel: nn.Module
    """The trained part, in DistributedDataParallel or, for one worker, alone; set by `prepare_epoch`."""
    eval_network: nn.Module
    """A copy with buffers averaged over the ranks, for validation and export."""
    optimizer: torch.optim.Optimizer
    plateau: Plateau
    step: int
    loss_sum: Tensor
    """Sum of this rank's losses in this epoch so far, on the device."""
    saved_step: int
    """Step of the last snapshot."""
    recorded_step: int
    """Step of the last validation."""
    curves: Curves
    """Curves for TensorBoard, until they are written."""
    profiler: StepProfiler
    """Profiler of `--profile`."""
    snapshots_s: list[float]
    """How long training paused for each snapshot of this epoch."""


def begin(run: Run, initial: InitialState, features: FrozenFeatures | None) -> Training:
    """The run's training state, restored from a checkpoint where it starts from one; the same on all ranks.

    Raises: InputError for an optimiser or random states that do not fit.
    """
    network, state = initial.network, initial.state
    training = Training(
        network=network,
        feed=of_images(run),
        features=features,
        frozen=None,
        parallel=network,
        eval_network=copy.deepcopy(network),
        optimizer=optimizer_of(run, network),
        plateau=Plateau(),
        step=0,
        loss_sum=torch.zeros((), device=run.on),
        saved_step=0,
        recorded_step=0,
        curves=Curves(first_step=state.step + 1 if state else 1, started_s=time.time()),
        profiler=StepProfiler(run),
        snapshots_s=[],
    )
    if state is not None:
        _restore(run, training, state)
    return training


def prepare_epoch(run: Run, training: Training, epoch: int) -> bool:
    """Prepare for this epoch, counted from 0: freeze or unfreeze the backbone; whether its first steps compile.

    Collective: all ranks call it.
    """
    frozen = run.config.freezes(epoch)
    changes = frozen != training.frozen
    if changes:
        (architectures.freeze if frozen else architectures.unfreeze)(training.network)
        training.parallel = training.network
        gc.collect()  # the previous wrapper has hooks on the same parameters until it is collected
        part = run.device.compiled(training.feed.part(training.network), run.mode)
        training.parallel = in_parallel(run.group.world.size, run.device, part)
        training.frozen = frozen
    architectures.to_training(training.network, frozen=frozen)
    return changes and run.mode != "eager"


def in_parallel(workers: int, device: Device, part: nn.Module) -> nn.Module:
    """The module with gradients averaged over the workers. Collective: all workers call it."""
    if workers == 1:
        return part
    own = {name: buffer.clone() for name, buffer in part.named_buffers()}
    parallel = DistributedDataParallel(part, **device.ddp_options())
    for name, buffer in part.named_buffers():  # undo a broadcast of rank 0's buffers
        buffer.copy_(own[name])
    return parallel


def optimizer_of(run: Run, network: nn.Module) -> torch.optim.Optimizer:
    """The configured optimiser of a network, before its first step."""
    kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[run.config.optimizer](
        network.parameters(),
        lr=run.config.lr,
        weight_decay=run.config.weight_decay,
        **run.device.optimizer_options(),
    )


def _restore(run: Run, training: Training, state: TrainState) -> None:
    """Restore everything but the parameters."""
    assert run.prefix.newest is not None
    run.group.all_or_raise(lambda: check_moments(state, training.optimizer, state_place(run.prefix)))
    for group in state.optimizer["param_groups"]:
        group.update(run.device.optimizer_options())  # the state may come from another device
    training.optimizer.load_state_dict(state.optimizer)
    _lay_out_as_parameters(training.optimizer)
    training.plateau, training.step = state.plateau, state.step
    training.saved_step = training.recorded_step = state.step
    if run.prefix.newest.validated:
        loss = run.prefix.newest.val_loss
        training.plateau = state.plateau.after_epoch(float("nan") if loss is None else loss)
    elif state.step % run.steps_per_epoch == 0:
        training.recorded_step = state.step - 1
    world = run.group.world
    if len(state.ranks) == world.size:
        run.group.all_or_raise(lambda: _restore_rank(run, training, state.ranks[world.rank]))
    else:
        training.loss_sum.fill_(sum(rank.loss_sum for rank in state.ranks) / len(state.ranks))
    run.reporter.line(f"continuing from step {state.step}")


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Give moments the memory format of their parameters: a fused optimiser requires it, and others are faster."""
    for parameter, moments in optimizer.state.items():
        for name, moment in moments.items():
            if moment.shape == parameter.shape and moment.stride() != parameter.stride():
                moments[name] = torch.empty_like(parameter).copy_(moment)


def _restore_rank(run: Run, training: Training, own: RankState) -> None:
    """Restore the rank's own state; not used with another number of workers."""
    for name, buffer in training.network.named_buffers():
        buffer.copy_(own.buffers[name])
    try:
        torch.set_rng_state(own.random["cpu"])
        if "device" in own.random:
            run.device.set_random_state(own.random["device"])
    except (RuntimeError, ValueError, TypeError) as problem:
        kind = type(problem).__name__
        raise InputError(
            f"cannot continue from `{state_place(run.prefix)}`: the states of its random generators do not fit this device ({kind})",
            hint="continue on the kind of device that wrote it, or use another --name to start a new run",
        ) from problem
    training.loss_sum.fill_(own.loss_sum)


def ranks_of(run: Run, training: Training) -> list[RankState]:
    """The states of all ranks, on every rank."""
    random = {"cpu": torch.get_rng_state()}
    of_device = run.device.random_state()
    if of_device is not None:
        random["device"] = of_device
    own = RankState(copied(dict(training.network.named_buffers())), random, training.loss_sum.item())
    payloads = run.group.all_gather(rank_to_bytes(own))
    return [rank_from_bytes(payload) for payload in payloads]


def averaged_state(run: Run, training: Training, ranks: list[RankState]) -> StateDict:
    """Parameters, and BatchNorm statistics averaged over the ranks; copied to the CPU, contiguous whatever the run's memory format.

    Raises: JobFailedError for non-finite values: such weights are never saved, nor chosen as the best.
    """
    state = {name: tensor.contiguous() for name, tensor in copied(training.network.state_dict()).items()}
    for name, buffer in training.network.named_buffers():
        if buffer.is_floating_point():
            state[name] = torch.stack([rank.buffers[name] for rank in ranks]).mean(dim=0)
    run.group.all_or_raise(lambda: _check_weights(training.step, state))
    return state


def snapshot(training: Training, ranks: list[RankState], model_state: StateDict) -> TrainState:
    """The current state, in memory that training does not change."""
    return TrainState(
        step=training.step,
        model=model_state,
        ranks=ranks,
        optimizer=copied(training.optimizer.state_dict()),
        plateau=training.plateau,
    )


def _check_weights(step: int, state: StateDict) -> None:
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not bool(tensor.isfinite().all())]
    if bad:
        raise JobFailedError(
            f"cannot continue training: after step {step} {len(bad)} tensors are not finite, the first is `{bad[0]}`",
            hint=LOWER_RATE,
        )
