"""Checkpoints of a run: committed, found again, read and pruned.

The state is written first, its manifest last: a state without a manifest is no checkpoint. What is deleted goes the other way.
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
"""How often a state whose hash is wrong is read: the first time it may have been the way here that broke it."""


class BrokenError(InputError):
    """A checkpoint is not whole: its state is missing, or not what its manifest says."""


class State(Protocol):
    """A training state, as far as committing it needs to know it."""

    @property
    def step(self) -> int:
        """Optimiser steps taken."""

    @property
    def world_size(self) -> int:
        """Number of workers it is the state of."""

    def to_bytes(self) -> bytes:
        """The content of `state.pt`."""


@dataclass(frozen=True)
class Scored:
    """What validation has found of a state."""

    auroc: float | None
    """Mean over the findings where it is defined."""
    loss: float | None


def manifest_of(content: bytes, state: State, *, epoch: float, scored: Scored | None) -> Manifest:
    """The manifest that commits the state whose bytes these are."""
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
    """Write the manifest of a state that is there; again, when validation has told more of it."""
    storage.write(manifest_key(manifest.step), manifest_bytes(manifest))


def newest(storage: Storage, report: Callable[[str], None]) -> tuple[Manifest, bytes] | None:
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
            report(f"{text}; going on from the checkpoint before it")
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
