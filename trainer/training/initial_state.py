"""What training starts from, checked and loaded before images are decoded: the newest checkpoint, or the initial weights."""

from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import nn

from trainer.config import TrainConfig
from trainer.data.download import fetch_file
from trainer.layout import state_key
from trainer.models import architectures
from trainer.models.architectures import StateDict
from trainer.models.pretrained import check_first_weights, first_weights, load_first_weights
from trainer.runtime.console import Reporter
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.progress import BYTES
from trainer.runtime.watchdog import COMPILING, Watchdog
from trainer.training.claim import Prefix
from trainer.training.run_data import Labels, cache_of
from trainer.training.snapshot import TrainState, check_fits, from_bytes, tensors_from_bytes, tensors_to_bytes

LOADING: Final = "loading the state"


@dataclass(frozen=True)
class InitialState:
    """A network with its weights, and what else of the newest checkpoint is to be restored."""

    network: nn.Module
    """With the same weights on all ranks."""
    state: TrainState | None
    """Of the newest checkpoint; None for a new run."""


def load_initial_state(
    config: TrainConfig, group: WorkerGroup, reporter: Reporter, watchdog: Watchdog, *, labels: Labels, prefix: Prefix
) -> InitialState:
    """From the newest checkpoint, or the initial weights; the network is on the CPU. Collective: all ranks call it.

    Raises: InputError for weights of another network, on one rank; PeerError on the others.
    """
    is_new = prefix.newest is None and group.world.is_rank0
    weights = group.all_or_raise(lambda: _first_weights(config, labels, reporter) if is_new else None)
    watchdog.heartbeat(LOADING, timeout_scale=COMPILING)
    state = _newest_state(prefix, group)
    outputs = len(labels.source.table.findings)
    network = _network(config, outputs, rank=group.world.rank, initialised=is_new)
    # Broadcast by us: what DistributedDataParallel copies from rank 0 at its start differs between releases.
    if state is None:
        network.load_state_dict(_first_state(config, group, network, weights))
        return InitialState(network, None)
    group.all_or_raise(partial(check_fits, state, network, group.world.size, state_place(prefix)))
    network.load_state_dict(state.model)
    return InitialState(network, state)


def state_place(prefix: Prefix) -> str:
    """Path or URL of the state that the run resumes from."""
    assert prefix.newest is not None
    return f"{prefix.storage.url.rstrip('/')}/{state_key(prefix.newest.step)}"


def _newest_state(prefix: Prefix, group: WorkerGroup) -> TrainState | None:
    """The state of the newest checkpoint, on all ranks. Raises: InputError when it is invalid."""
    newest = prefix.newest
    if newest is None:
        return None
    content = group.broadcast(prefix.earlier.take_state() or b"")
    return group.all_or_raise(lambda: from_bytes(content, state_place(prefix), manifest=newest))


def _network(config: TrainConfig, outputs: int, *, rank: int, initialised: bool) -> nn.Module:
    """An untrained network; unless `initialised`, its weights are not initialised, as others replace them: VGG16's take seconds.

    Dropout is seeded differently on each rank.
    """
    torch.manual_seed(config.seed)
    with torch.device("cpu" if initialised else "meta"):
        network = architectures.build(config.model, config.head, outputs, recomputes=config.recomputes)
    torch.manual_seed(config.seed + 1 + rank)
    return network if initialised else network.to_empty(device="cpu")


def _first_state(config: TrainConfig, group: WorkerGroup, network: nn.Module, weights: StateDict | None) -> StateDict:
    """Rank 0's initial state, on all ranks."""

    def first() -> bytes:
        if weights is not None:
            load_first_weights(network, weights, config.weights)
        return tensors_to_bytes(network.state_dict()) if group.world.is_rank0 else b""

    return tensors_from_bytes(group.broadcast(group.all_or_raise(first)))


def _first_weights(config: TrainConfig, labels: Labels, reporter: Reporter) -> StateDict | None:
    """The initial weights, checked against the network."""
    weights, findings = config.weights, labels.source.table.findings
    if "://" in weights:
        shown = partial(reporter.progress, "downloading weights", unit=BYTES)
        weights = str(fetch_file(weights, cache_of(config), shown))
    state = first_weights(
        weights,
        config.model,
        cache_of(config),
        findings=findings,
        all_findings=labels.all_findings,
        report=reporter.line,
    )
    if state is None:
        return None
    has_head = check_first_weights(config.model, config.head, len(findings), state, config.weights)
    if not has_head and weights != "imagenet":
        reporter.line(
            f"the backbone is from `{config.weights}`; it has no head for these {len(findings)} outputs, which starts untrained"
        )
    return state
