"""The checkpoints of a run, as a table and as a document, and which of them is meant."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from launcher.runs import Run, Tell
from launcher.show import age, document, table
from trainer.errors import InputError, on_one_line
from trainer.layout import CHECKPOINTS, RUN, STARTS, manifest_key, state_key
from trainer.manifests import Manifest, best, committed
from trainer.storage import AbsentError, Storage

Form = Literal["table", "json", "yaml", "name"]

SHOWN_STEPS: Final = 20
"""How many steps a message lists; runs keep a handful."""


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint, and its place among those of the run."""

    manifest: Manifest
    written: datetime | None
    """When it was committed, by the storage's clock; None where it was removed since."""
    is_best: bool
    is_last: bool

    @property
    def marks(self) -> str:
        """By which words `--step` finds it."""
        return " ".join(word for word, there in (("best", self.is_best), ("last", self.is_last)) if there)


def of_run(run: Run, storage: Storage, tell: Tell) -> list[Checkpoint]:
    """All committed checkpoints, the newest first; empty where the run has none yet.

    Raises: AbsentError when no run lies there; InputError, RemoteError.
    """
    manifests = committed(storage, tell)
    if not manifests and not any(storage.keys(key) for key in (RUN, STARTS)):
        raise AbsentError(
            f"cannot find the run `{run.name}`: nothing lies at `{run.url}`",
            hint="check the name and --output; a job writes there once it has started",
        )
    stats, top = storage.stats(CHECKPOINTS), best(manifests)
    return [
        Checkpoint(
            each,
            stats[key].modified if (key := manifest_key(each.step)) in stats else None,
            is_best=each is top,
            is_last=each is manifests[-1],
        )
        for each in reversed(manifests)
    ]


def chosen(run: Run, found: Sequence[Checkpoint], step: str) -> Manifest:
    """The one that `step` means: `best`, `last` or a number. Raises: InputError."""
    if not found:
        raise InputError(
            f"cannot choose a checkpoint of `{run.name}`: there is none yet at `{run.url}`",
            hint=f"launcher pull {run.name} --what report fetches the rest; launcher logs {run.name}",
        )
    number = int(step) if step.isascii() and step.isdecimal() else None
    if step not in {"best", "last"} and number is None:
        raise InputError(
            f"cannot use `{on_one_line(step)}` as a step: it is `best`, `last` or a number (from `--step`)",
            hint="--step best",
        )
    wanted = (each.manifest for each in found if step in each.marks.split() or number == each.manifest.step)
    manifest = next(wanted, None)
    if manifest is None:
        steps = ", ".join(str(each.manifest.step) for each in found[:SHOWN_STEPS])
        raise InputError(
            f"cannot find step {step} of `{run.name}`: its checkpoints are of {steps} (from `--step`)",
            hint="--step best|last|N; a run keeps its best and its newest",
        )
    return manifest


def shown(run: Run, found: Sequence[Checkpoint], form: Form, now: datetime) -> str:
    """The checkpoints for people or for programs; by name they are steps, as `--step` takes them."""
    if form == "name":
        return "".join(f"{each.manifest.step}\n" for each in found)
    if form == "table":
        return table([_row(each, now) for each in found], empty="no checkpoints yet")
    return document({"run": run.url, "checkpoints": [_record(run, each) for each in found]}, form)


def _row(checkpoint: Checkpoint, now: datetime) -> dict[str, str]:
    manifest = checkpoint.manifest
    return {
        "step": str(manifest.step),
        "epoch": f"{manifest.epoch:.4g}",
        "val auroc": "" if manifest.val_auroc is None else f"{manifest.val_auroc:.4f}",
        "size": size(manifest.bytes),
        "age": age(_written(checkpoint), now),
        "mark": checkpoint.marks,
    }


def _record(run: Run, checkpoint: Checkpoint) -> dict[str, Any]:
    manifest = checkpoint.manifest
    return {
        "step": manifest.step,
        "epoch": manifest.epoch,
        "val_auroc": manifest.val_auroc,
        "val_loss": manifest.val_loss,
        "size_bytes": manifest.bytes,
        "sha256": manifest.sha256,
        "written": _written(checkpoint),
        "best": checkpoint.is_best,
        "last": checkpoint.is_last,
        "state": f"{run.url}/{state_key(manifest.step)}",
    }


def _written(checkpoint: Checkpoint) -> str | None:
    return None if checkpoint.written is None else checkpoint.written.isoformat(timespec="seconds")


def size(size_bytes: int) -> str:
    """A number of bytes as people read it: `812 B`, `27.3 MiB`."""
    power = min(3, int(math.log(max(size_bytes, 1), 1024)))
    return f"{size_bytes / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}" if power else f"{size_bytes} B"
