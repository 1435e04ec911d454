"""Checkpoints of a run: commit, find, read and prune.

The state is written first and its checkpoint manifest last: a state without a manifest is not a checkpoint. Deletion is
in the reverse order.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from trainer.errors import InputError, listing
from trainer.layout import CHECKPOINTS, committed_step, is_ours, manifest_key, state_key
from trainer.limits import STATE_BYTES, LimitError
from trainer.runs.manifest import Manifest, best, committed
from trainer.runs.manifest import to_bytes as manifest_bytes
from trainer.storage import AbsentError, DamagedError, Storage

READINGS: Final = 2
"""Number of reads of a state with a wrong hash: the first transfer may have damaged it."""


class BrokenError(InputError):
    """The state of a checkpoint is missing or differs from its manifest."""


class State(Protocol):
    """The interface of a training state for committing it."""

    @property
    def step(self) -> int:
        """Optimiser steps taken."""

    @property
    def world_size(self) -> int:
        """Number of workers."""

    def to_bytes(self) -> bytes:
        """Content of `state.pt`."""


@dataclass(frozen=True)
class Scored:
    """Validation scores of a state."""

    auroc: float | None
    """Mean over the findings with a defined AUROC."""
    loss: float | None


def manifest_of(content: bytes, state: State, *, epoch: float, scored: Scored | None) -> Manifest:
    """The manifest that commits a state of this content."""
    return Manifest(
        step=state.step,
        epoch=epoch,
        world_size=state.world_size,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        val_auroc=scored.auroc if scored else None,
        val_loss=scored.loss if scored and scored.loss is not None and math.isfinite(scored.loss) else None,
        validated=scored is not None,
    )


def commit(storage: Storage, manifest: Manifest) -> None:
    """Write the manifest of a stored state; again after validation, with its scores."""
    storage.write(manifest_key(manifest.step), manifest_bytes(manifest))


def newest(storage: Storage, report: Callable[[str], None]) -> tuple[Manifest, bytes] | None:
    """The newest undamaged checkpoint and its state; None in a run without checkpoints. Only the run's writer calls it.

    Newer, damaged checkpoints are reported and their manifests deleted: training continues from an earlier step.

    Raises: InputError when all checkpoints are damaged: starting afresh is the user's decision.
    """
    damaged: list[str] = []
    for manifest in reversed(committed(storage, damaged.append)):
        try:
            content = read_state(storage, manifest)
        except BrokenError as problem:
            damaged.append(str(problem.args[0]))
            continue
        for text in damaged:
            report(f"{text}; continuing from the previous checkpoint")
        for newer in committed(storage):
            if newer.step > manifest.step:
                storage.delete(manifest_key(newer.step))
        return manifest, content
    if damaged:
        raise InputError(
            f"cannot continue the run at `{storage.url}`: all its checkpoints are damaged:{listing(damaged)}",
            hint="use another --name to start a new run",
        )
    return None


def read_state(storage: Storage, manifest: Manifest) -> bytes:
    """The state of a manifest. Raises: BrokenError when it is missing or differs from what was committed."""
    where = f"{storage.url.rstrip('/')}/{state_key(manifest.step)}"
    problem = ""
    for _ in range(READINGS):
        try:
            content = storage.read(state_key(manifest.step), most_bytes=min(manifest.bytes, STATE_BYTES))
        except AbsentError as absent:
            raise BrokenError(f"cannot restore step {manifest.step}: `{where}` is missing") from absent
        except DamagedError as damaged:
            problem = str(damaged.args[0])
            continue
        except LimitError as longer:
            problem = str(longer)
            break
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 == manifest.sha256:
            return content
        problem = f"its sha256 is {sha256[:12]}…, the manifest says {manifest.sha256[:12]}…"
    raise BrokenError(f"cannot restore step {manifest.step}: `{where}` is damaged: {problem}")


def prune(storage: Storage, manifests: Mapping[int, Manifest], *, keep_last: int) -> dict[int, Manifest]:
    """Delete all but the newest and the best of these checkpoints, manifests first, and uncommitted states; returns the rest.

    Files that are not checkpoints of ours are kept.
    """
    kept = worth_keeping(manifests.values(), keep_last=keep_last)
    keep = {key for step in kept for key in (manifest_key(step), state_key(step))}
    surplus = [key for key in storage.keys(CHECKPOINTS) if is_ours(key) and key not in keep]
    for key in sorted(surplus, key=lambda key: committed_step(key) is None):
        storage.delete(key)
    return {step: manifest for step, manifest in manifests.items() if step in kept}


def worth_keeping(manifests: Iterable[Manifest], *, keep_last: int) -> set[int]:
    """Steps of the newest of these checkpoints, and of the best."""
    by_step = sorted(manifests, key=lambda manifest: manifest.step)
    top = best(by_step)
    return {manifest.step for manifest in by_step[-keep_last:]} | ({top.step} if top else set())
