"""What changes while a run trains: how it begins, and the state that is saved of it.

All ranks call what is here together.
"""

import copy
import gc
import time
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.devices import Device
from trainer.errors import InputError, JobFailedError
from trainer.layout import state_key
from trainer.models import architectures
from trainer.models.architectures import StateDict
from trainer.models.pretrained import load_first_weights
from trainer.runs.tensorboard import Curves
from trainer.training.feature_cache import Feed, of_images
from trainer.training.schedule import Plateau
from trainer.training.setup import Run
from trainer.training.snapshot import (
    RankState,
    TrainState,
    check_fits,
    check_moments,
    copied,
    from_bytes,
    rank_from_bytes,
    rank_to_bytes,
    tensors_from_bytes,
    tensors_to_bytes,
)

LOWER_RATE: Final = "the last checkpoint is good; start another run with a lower --lr"


@dataclass
class Training:
    """What changes with every step."""

    network: nn.Module
    """Parameters, and this rank's own BatchNorm buffers."""
    feed: Feed
    """What is read: images, or features of a frozen backbone."""
    frozen: bool | None
    """Whether the backbone is; None before the first epoch of this start."""
    parallel: nn.Module
    """The part that is trained, as DistributedDataParallel or itself with one worker; from `ready` on."""
    averaged: nn.Module
    """A copy with buffers averaged over the ranks: what is validated and exported."""
    optimizer: torch.optim.Optimizer
    plateau: Plateau
    step: int
    loss_sum: Tensor
    """Sum of this rank's losses of the epoch's steps so far, on the device."""
    saved_step: int
    """The step of the last snapshot."""
    validated_step: int
    """The step up to which validation has run."""
    curves: Curves
    """What TensorBoard is to see, until it is published."""
    snapshots_s: list[float]
    """How long training stood still for each snapshot of this epoch."""


def begin(run: Run) -> Training:
    """The run's training state: its newest checkpoint where there is one, else the first weights; the same on all ranks.

    Raises: InputError when the weights are another network's.
    """
    state = _found(run)
    network = _network(run, filled=state is None and run.is_rank0)
    # By ourselves: what DistributedDataParallel copies from rank 0 at its start differs between releases.
    if state is not None:
        run.group.all_or_raise(partial(check_fits, state, network, run.group.world.size, _place(run)))
    network.load_state_dict(state.model if state else _first_state(run, network))
    network.to(run.on).to(memory_format=run.device.memory_format)
    training = Training(
        network=network,
        feed=of_images(run),
        frozen=None,
        parallel=network,
        averaged=copy.deepcopy(network),
        optimizer=_optimizer(run, network),
        plateau=Plateau(),
        step=0,
        loss_sum=torch.zeros((), device=run.on),
        saved_step=0,
        validated_step=0,
        curves=Curves(first_step=state.step + 1 if state else 1, started_s=time.time()),
        snapshots_s=[],
    )
    if state is not None:
        _go_on(run, training, state)
    return training


def _found(run: Run) -> TrainState | None:
    """The state of the newest checkpoint, on all ranks. Raises: InputError when it is none."""
    newest = run.prefix.newest
    if newest is None:
        return None
    content = run.group.broadcast(run.prefix.newest_state or b"")
    return run.group.all_or_raise(lambda: from_bytes(content, _place(run), manifest=newest))


def _place(run: Run) -> str:
    """Where the state lies that the run goes on from."""
    assert run.prefix.newest is not None
    return f"{run.prefix.storage.url.rstrip('/')}/{state_key(run.prefix.newest.step)}"


def _network(run: Run, *, filled: bool) -> nn.Module:
    """An untrained network; unless `filled` its weights are not even drawn, for others take their place: VGG16's take seconds.

    Dropout then draws differently on each rank.
    """
    torch.manual_seed(run.config.seed)
    with torch.device("cpu" if filled else "meta"):
        network = architectures.build(run.config.model, run.config.head, len(run.table.findings))
    torch.manual_seed(run.config.seed + 1 + run.group.world.rank)
    return network if filled else network.to_empty(device="cpu")


def ready(run: Run, training: Training, epoch: int) -> None:
    """Prepare for the steps of this epoch, counted from 0: what is trained, and by whom. All ranks call it."""
    frozen = run.config.freezes(epoch)
    if frozen != training.frozen:
        (architectures.freeze if frozen else architectures.unfreeze)(training.network)
        training.parallel = training.network
        gc.collect()  # the one before has hooks on the same parameters until it is gone
        training.parallel = in_parallel(run.group.world.size, run.device, training.feed.part(training.network))
        training.frozen = frozen
    architectures.to_training(training.network, frozen=frozen)


def in_parallel(workers: int, device: Device, part: nn.Module) -> nn.Module:
    """The module with gradients averaged over the workers; all of them call it."""
    if workers == 1:
        return part
    own = {name: buffer.clone() for name, buffer in part.named_buffers()}
    parallel = DistributedDataParallel(part, **device.ddp_options())
    for name, buffer in part.named_buffers():  # it may have given all ranks rank 0's
        buffer.copy_(own[name])
    return parallel


def _first_state(run: Run, network: nn.Module) -> StateDict:
    """Rank 0's state of a network that has not been trained here, on all ranks."""

    def first() -> bytes:
        if run.first_weights is not None:
            load_first_weights(network, run.first_weights, run.config.weights)
        return tensors_to_bytes(network.state_dict()) if run.is_rank0 else b""

    return tensors_from_bytes(run.group.broadcast(run.group.all_or_raise(first)))


def _optimizer(run: Run, network: nn.Module) -> torch.optim.Optimizer:
    kinds: dict[str, type[torch.optim.Adam]] = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    return kinds[run.config.optimizer](
        network.parameters(),
        lr=run.config.lr,
        weight_decay=run.config.weight_decay,
        **run.device.optimizer_options(),
    )


def _go_on(run: Run, training: Training, state: TrainState) -> None:
    """Put everything but the parameters back."""
    assert run.prefix.newest is not None
    run.group.all_or_raise(lambda: check_moments(state, training.optimizer, _place(run)))
    for group in state.optimizer["param_groups"]:
        group.update(run.device.optimizer_options())  # the state may come from another device
    training.optimizer.load_state_dict(state.optimizer)
    training.plateau, training.step = state.plateau, state.step
    training.saved_step = training.validated_step = state.step
    if run.prefix.newest.validated:
        loss = run.prefix.newest.val_loss
        training.plateau = state.plateau.after_epoch(float("nan") if loss is None else loss)
    elif state.step % run.steps_per_epoch == 0:
        training.validated_step = state.step - 1
    world = run.group.world
    if len(state.ranks) == world.size:
        run.group.all_or_raise(lambda: _put_back(run, training, state.ranks[world.rank]))
    else:
        training.loss_sum.fill_(sum(rank.loss_sum for rank in state.ranks) / len(state.ranks))
    run.reporter.line(f"going on from step {state.step}")


def _put_back(run: Run, training: Training, own: RankState) -> None:
    """What each rank has for itself; with another number of workers nobody's parts fit."""
    for name, buffer in training.network.named_buffers():
        buffer.copy_(own.buffers[name])
    try:
        torch.set_rng_state(own.random["cpu"])
        if "device" in own.random:
            run.device.set_random_state(own.random["device"])
    except (RuntimeError, ValueError, TypeError) as problem:
        kind = type(problem).__name__
        raise InputError(
            f"cannot go on from `{_place(run)}`: its random generators are none of this machine's ({kind})",
            hint="go on on the kind of device that wrote it, or give another --name to start anew",
        ) from problem
    training.loss_sum.fill_(own.loss_sum)


def ranks_of(run: Run, training: Training) -> list[RankState]:
    """What each rank has for itself, of all ranks on every rank."""
    random = {"cpu": torch.get_rng_state()}
    of_device = run.device.random_state()
    if of_device is not None:
        random["device"] = of_device
    own = RankState(copied(dict(training.network.named_buffers())), random, training.loss_sum.item())
    payloads = run.group.all_gather(rank_to_bytes(own))
    return [rank_from_bytes(payload) for payload in payloads]


def averaged_state(run: Run, training: Training, ranks: list[RankState]) -> StateDict:
    """Parameters as they are, BatchNorm statistics averaged over the ranks; copies on the processor.

    Raises: JobFailedError where they are no numbers: such weights are never saved, nor taken for the best.
    """
    state: StateDict = copied(training.network.state_dict())
    for name, buffer in training.network.named_buffers():
        if buffer.is_floating_point():
            state[name] = torch.stack([rank.buffers[name] for rank in ranks]).mean(dim=0)
    run.group.all_or_raise(lambda: _check_weights(training.step, state))
    return state


def snapshot(training: Training, ranks: list[RankState], model_state: StateDict) -> TrainState:
    """The state as it is now, in memory that training no longer changes."""
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
            f"cannot go on training: after step {step} {len(bad)} tensors are not finite, the first is `{bad[0]}`",
            hint=LOWER_RATE,
        )
