"""Training state to bytes and back, and the manifest that commits it.

The state is written first, its manifest last: a state without a manifest is no checkpoint. The newest checkpoint is the
one with the highest step among the manifests, found by listing. Restoring is strict and executes nothing.
"""

import hashlib
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from trainer.errors import InputError
from trainer.layout import CHECKPOINTS, committed_step, manifest_key, state_key
from trainer.model import StateDict
from trainer.schedule import Plateau
from trainer.storage import AbsentError, Storage

FORMAT: Final = 1
KEEP_LAST: Final = 2
"""Checkpoints kept beside the best one: the newest, and the one before it should the newest turn out damaged."""


@dataclass
class TrainState:
    """Exactly what is saved."""

    step: int
    """Optimiser steps taken; epoch and place in it follow from this."""
    model: StateDict
    """Parameters, and BatchNorm buffers averaged over the ranks: what is validated and exported."""
    buffers_by_rank: list[StateDict]
    """Each rank's own BatchNorm buffers: what training goes on with at the same world size."""
    optimizer: dict[str, Any]
    plateau: Plateau


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What commits a checkpoint."""

    format: int
    step: int
    epoch: float
    world_size: int
    bytes: int
    sha256: str
    val_auroc: float | None
    """Mean over the findings where it is defined; None where this checkpoint was not validated."""
    val_loss: float | None


def publish(storage: Storage, state: TrainState, *, epoch: float, val_auroc: float, val_loss: float) -> Manifest:
    """Write and commit the state; nan stands for not validated."""
    content = to_bytes(state)
    manifest = Manifest(
        format=FORMAT,
        step=state.step,
        epoch=epoch,
        world_size=len(state.buffers_by_rank),
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        val_auroc=_defined(val_auroc),
        val_loss=_defined(val_loss),
    )
    storage.write(state_key(state.step), content)
    storage.write(manifest_key(state.step), json.dumps(asdict(manifest), indent=1).encode())
    return manifest


def committed(storage: Storage) -> list[Manifest]:
    """All committed checkpoints, oldest first.

    Raises: InputError for a manifest that can't be understood.
    """
    found = [key for key in storage.keys(CHECKPOINTS) if committed_step(key) is not None]
    return sorted((_read_manifest(storage, key) for key in found), key=lambda manifest: manifest.step)


def best(manifests: list[Manifest]) -> Manifest | None:
    """The checkpoint with the highest validation AUROC, the earliest of equals; the newest where none was validated."""
    validated = [manifest for manifest in manifests if manifest.val_auroc is not None]
    if validated:
        return max(validated, key=lambda manifest: (manifest.val_auroc or 0.0, -manifest.step))
    return manifests[-1] if manifests else None


def restore(storage: Storage, manifest: Manifest) -> TrainState:
    """The state that the manifest commits, its tensors on the processor.

    Raises: InputError when it is missing or not what was committed.
    """
    where = f"{storage.url.rstrip('/')}/{state_key(manifest.step)}"
    hint = f"remove the folder step-{manifest.step:08d} to go on from the checkpoint before it"
    try:
        content = storage.read(state_key(manifest.step))
    except AbsentError as problem:
        raise InputError(f"cannot restore step {manifest.step}: `{where}` is missing", hint=hint) from problem
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != manifest.sha256:
        raise InputError(
            f"cannot restore step {manifest.step}: `{where}` is damaged, its sha256 is {sha256[:12]}…, the manifest says "
            f"{manifest.sha256[:12]}…",
            hint=hint,
        )
    return from_bytes(content)


def prune(storage: Storage) -> None:
    """Remove all but the newest and the best checkpoints, manifest first, and states that nothing commits."""
    manifests = committed(storage)
    top = best(manifests)
    kept = {manifest.step for manifest in manifests[-KEEP_LAST:]} | ({top.step} if top else set())
    keep = {key for step in kept for key in (manifest_key(step), state_key(step))}
    surplus = [key for key in storage.keys(CHECKPOINTS) if key not in keep]
    for key in sorted(surplus, key=lambda key: committed_step(key) is None):
        storage.delete(key)


def to_bytes(state: TrainState) -> bytes:
    """The state as torch saves it: tensors, numbers, strings and containers only."""
    buffer = io.BytesIO()
    content = {
        "step": state.step,
        "model": state.model,
        "buffers_by_rank": state.buffers_by_rank,
        "optimizer": state.optimizer,
        "plateau": asdict(state.plateau),
    }
    torch.save(on_cpu(content), buffer)
    return buffer.getvalue()


def from_bytes(content: bytes) -> TrainState:
    """The state that `to_bytes` wrote; loaded as data."""
    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return TrainState(**loaded | {"plateau": Plateau(**loaded["plateau"])})


def tensors_to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Named tensors as torch saves them."""
    buffer = io.BytesIO()
    torch.save(on_cpu(tensors), buffer)
    return buffer.getvalue()


def tensors_from_bytes(content: bytes) -> StateDict:
    """The tensors that `tensors_to_bytes` wrote; loaded as data."""
    loaded: StateDict = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return loaded


def on_cpu(tree: Any) -> Any:  # noqa: ANN401 - any nesting of dicts, lists and leaves
    """The same nesting with every tensor detached and on the processor."""
    if isinstance(tree, Tensor):
        return tree.detach().cpu()
    if isinstance(tree, Mapping):
        return {key: on_cpu(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [on_cpu(value) for value in tree]
    return tree


def _read_manifest(storage: Storage, key: str) -> Manifest:
    try:
        manifest = Manifest(**json.loads(storage.read(key)))
    except (ValueError, TypeError) as problem:
        raise InputError(
            f"cannot read checkpoint `{storage.url}/{key}`: {problem}", hint="remove its folder to go on without it"
        ) from problem
    if manifest.format != FORMAT:
        raise InputError(
            f"cannot read checkpoint `{storage.url}/{key}`: its format is {manifest.format}, this version reads {FORMAT}"
        )
    return manifest


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else value
