"""Training state to bytes and back, and how it is committed, found again and pruned.

The state is written first, its manifest last: a state without a manifest is no checkpoint. What is deleted goes the other way.
Restoring is strict and executes nothing.
"""

import hashlib
import io
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from trainer import manifests
from trainer.errors import InputError, listing
from trainer.layout import CHECKPOINTS, committed_step, is_ours, manifest_key, state_key
from trainer.manifests import Manifest, best, committed
from trainer.model import StateDict
from trainer.schedule import Plateau
from trainer.storage import AbsentError, DamagedError, Storage

READINGS: Final = 2
"""How often a state whose hash is wrong is read: the first time it may have been the way here that broke it."""


class BrokenError(InputError):
    """A checkpoint is not whole: its state is missing, or not what its manifest says."""


@dataclass
class RankState:
    """What each rank has for itself."""

    buffers: StateDict
    """BatchNorm's statistics."""
    random: dict[str, Tensor]
    """States of the random generators: `cpu`, and `device` where it has one."""
    loss_sum: float
    """Sum of the losses of this epoch's steps so far."""


@dataclass
class TrainState:
    """Exactly what is saved. At the end of an epoch it is the state before validation, whose outcome the manifest tells."""

    step: int
    """Optimiser steps taken; epoch and place in it follow from this."""
    model: StateDict
    """Parameters, and BatchNorm buffers averaged over the ranks: what is validated and exported."""
    ranks: list[RankState]
    """What training goes on with at the same world size."""
    optimizer: dict[str, Any]
    plateau: Plateau


@dataclass(frozen=True)
class Scored:
    """What validation has found of a state."""

    auroc: float | None
    """Mean over the findings where it is defined."""
    loss: float | None


def manifest_of(content: bytes, state: TrainState, *, epoch: float, scored: Scored | None) -> Manifest:
    """The manifest that commits the state whose bytes these are."""
    return Manifest(
        step=state.step,
        epoch=epoch,
        world_size=len(state.ranks),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        val_auroc=scored.auroc if scored else None,
        val_loss=scored.loss if scored else None,
        validated=scored is not None,
    )


def commit(storage: Storage, manifest: Manifest) -> None:
    """Write the manifest of a state that is there; again, when validation has told more of it."""
    storage.write(manifest_key(manifest.step), manifests.to_bytes(manifest))


def newest(storage: Storage, tell: Callable[[str], None]) -> tuple[Manifest, bytes] | None:
    """The newest checkpoint that is whole, and its state; None in a run without checkpoints. Only the run's one writer calls it.

    Damaged ones that are newer are told, and no longer committed: what training goes on to write is older than they are.

    Raises: InputError when there are checkpoints and none is whole: starting afresh must be the user's wish.
    """
    damaged: list[str] = []
    for manifest in reversed(committed(storage, damaged.append)):
        try:
            content = read_state(storage, manifest)
        except BrokenError as problem:
            damaged.append(str(problem.args[0]))
            continue
        for text in damaged:
            tell(f"{text}; going on from the checkpoint before it")
        for newer in committed(storage):
            if newer.step > manifest.step:
                storage.delete(manifest_key(newer.step))
        return manifest, content
    if damaged:
        raise InputError(
            f"cannot go on at `{storage.url}`: none of its checkpoints is whole:{listing(damaged)}",
            hint="give another --name to start anew",
        )
    return None


def read_state(storage: Storage, manifest: Manifest) -> bytes:
    """The bytes that the manifest commits. Raises: BrokenError when they are missing, or not what was committed."""
    where = f"{storage.url.rstrip('/')}/{state_key(manifest.step)}"
    problem = ""
    for _ in range(READINGS):
        try:
            content = storage.read(state_key(manifest.step))
        except AbsentError as absent:
            raise BrokenError(f"cannot restore step {manifest.step}: `{where}` is missing") from absent
        except DamagedError as damaged:
            problem = str(damaged.args[0])
            continue
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 == manifest.sha256:
            return content
        problem = f"its sha256 is {sha256[:12]}…, the manifest says {manifest.sha256[:12]}…"
    raise BrokenError(f"cannot restore step {manifest.step}: `{where}` is damaged: {problem}")


def prune(storage: Storage, manifests: Mapping[int, Manifest], *, keep_last: int) -> dict[int, Manifest]:
    """Remove all but the newest and the best of these checkpoints, manifest first, and states that nothing commits; those that stay.

    Files that are no checkpoint of ours stay, whatever they are.
    """
    kept = worth_keeping(manifests.values(), keep_last=keep_last)
    keep = {key for step in kept for key in (manifest_key(step), state_key(step))}
    surplus = [key for key in storage.keys(CHECKPOINTS) if is_ours(key) and key not in keep]
    for key in sorted(surplus, key=lambda key: committed_step(key) is None):
        storage.delete(key)
    return {step: manifest for step, manifest in manifests.items() if step in kept}


def worth_keeping(manifests: Iterable[Manifest], *, keep_last: int) -> set[int]:
    """Steps of the newest of these, and of the best."""
    by_step = sorted(manifests, key=lambda manifest: manifest.step)
    top = best(by_step)
    return {manifest.step for manifest in by_step[-keep_last:]} | ({top.step} if top else set())


def to_bytes(state: TrainState) -> bytes:
    """The state as torch saves it: tensors, numbers, strings and containers only."""
    buffer = io.BytesIO()
    content = {
        "step": state.step,
        "model": state.model,
        "ranks": [vars(rank) for rank in state.ranks],
        "optimizer": state.optimizer,
        "plateau": asdict(state.plateau),
    }
    torch.save(content, buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> TrainState:
    """The state that `to_bytes` wrote; loaded as data."""
    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    ranks = [RankState(**rank) for rank in loaded["ranks"]]
    return TrainState(**loaded | {"ranks": ranks, "plateau": Plateau(**loaded["plateau"])})


def rank_to_bytes(rank: RankState) -> bytes:
    """One rank's part, to be sent to the one that writes."""
    buffer = io.BytesIO()
    torch.save(vars(rank), buffer)
    return buffer.getvalue()


def rank_from_bytes(content: bytes) -> RankState:
    """The part that `rank_to_bytes` wrote; loaded as data."""
    return RankState(**torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as torch saves them."""
    buffer = io.BytesIO()
    torch.save(copied(tensors), buffer)
    return buffer.getvalue()


def tensors_from_bytes(content: bytes) -> StateDict:
    """The tensors that `tensors_to_bytes` wrote; loaded as data."""
    loaded: StateDict = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return loaded


def copied(tree: Any) -> Any:  # noqa: ANN401 - any nesting of dicts, lists and leaves
    """The same nesting with a copy of every tensor on the processor, which training no longer changes."""
    if isinstance(tree, Tensor):
        return tree.detach().to("cpu", copy=True)
    if isinstance(
        tree, Mapping
    ):  # equal states are to have equal bytes, and pickle tells strings apart that are two objects
        return {sys.intern(key) if isinstance(key, str) else key: copied(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [copied(value) for value in tree]
    return tree
