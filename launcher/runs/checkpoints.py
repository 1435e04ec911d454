"""The checkpoints of a run, as a table and as a document, and which of them is meant."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from launcher.output import age, document, size, table
from launcher.runs.locate import Report, Run
from trainer.errors import InputError
from trainer.layout import CHECKPOINTS, RUN, STARTS, committed_step, manifest_key, state_key
from trainer.runs.manifest import Manifest, best, committed, step_named
from trainer.storage import AbsentError, DamagedError, Stat, Storage

Form = Literal["table", "json", "yaml", "name"]

SHOWN_STEPS: Final = 20
"""How many steps a message lists; runs keep a handful."""


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint, and its place among those of the run."""

    step: int
    manifest: Manifest | None
    """None where that is damaged."""
    written: datetime | None
    """When it was committed, by the storage's clock; None where it was removed since."""
    problem: Literal["damaged", "missing"] | None
    """Of its state, by what a listing says, or of its manifest."""
    is_best: bool
    is_last: bool

    @property
    def marks(self) -> list[str]:
        """By which words `--step` finds it."""
        return [word for word, there in (("best", self.is_best), ("last", self.is_last)) if there]


def of_run(run: Run, storage: Storage, report: Report) -> list[Checkpoint]:
    """All committed checkpoints, the newest first, those that are damaged too; empty where the run has none yet.

    Raises: AbsentError when no run lies there; InputError, RemoteError.
    """
    said: list[str] = []
    manifests = committed(storage, said.append)
    for each in said:
        report(each)
    stats = storage.stats(CHECKPOINTS)
    # Without a complaint a manifest that is listed but was not read has come since.
    damaged = {step for key in stats if (step := committed_step(key)) is not None and any(key in each for each in said)}
    if not manifests and not damaged and not any(storage.keys(key) for key in (RUN, STARTS)):
        raise nothing_of(run)
    whole, top = {each.step: each for each in manifests}, best(manifests)
    return [
        Checkpoint(
            step=step,
            manifest=(manifest := whole.get(step)),
            written=stats[key].modified if (key := manifest_key(step)) in stats else None,
            problem=_problem(manifest, stats),
            is_best=manifest is not None and manifest is top,
            is_last=manifest is not None and manifest is manifests[-1],
        )
        for step in sorted(whole.keys() | damaged, reverse=True)
    ]


def nothing_of(run: Run) -> AbsentError:
    """The error that no such run is there."""
    return AbsentError(
        f"cannot find the run `{run.name}`: nothing lies at `{run.url}`",
        hint="check the name and --output; a job writes there once it has started",
    )


def _problem(manifest: Manifest | None, stats: Mapping[str, Stat]) -> Literal["damaged", "missing"] | None:
    if manifest is None:
        return "damaged"
    state = stats.get(state_key(manifest.step))
    if state is None:
        return "missing"
    return None if state.size_bytes == manifest.bytes else "damaged"


def chosen(run: Run, found: Sequence[Checkpoint], step: str) -> Manifest:
    """The one that `step` means: `best`, `last` or a number. Raises: InputError, AbsentError, DamagedError."""
    if not found:
        raise InputError(
            f"cannot choose a checkpoint of `{run.name}`: there is none yet at `{run.url}`",
            hint=f"launcher pull {run.name} --what report fetches the rest; launcher logs {run.name}",
        )
    number = step_named(step, [each.manifest for each in reversed(found) if each.manifest])
    wanted = next((each for each in found if each.step == number), None)
    if wanted is None and number is None:  # all manifests are damaged, so the best is unknown
        wanted = found[0]
    if wanted is None:
        steps = ", ".join(str(each.step) for each in found[:SHOWN_STEPS])
        raise InputError(
            f"cannot find step {step} of `{run.name}`: its checkpoints are of {steps} (from `--step`)",
            hint="--step best|last|N; a run keeps its best and its newest",
        )
    return _whole(run, found, wanted)


def _whole(run: Run, found: Sequence[Checkpoint], wanted: Checkpoint) -> Manifest:
    """Raises: AbsentError, DamagedError where a part of it is not what it was."""
    if wanted.manifest and not wanted.problem:
        return wanted.manifest
    others = [str(each.step) for each in found if not each.problem][:SHOWN_STEPS]
    key = state_key(wanted.step) if wanted.manifest else manifest_key(wanted.step)
    kind = AbsentError if wanted.problem == "missing" else DamagedError
    raise kind(
        f"cannot pull step {wanted.step} of `{run.name}`: `{run.url}/{key}` is {wanted.problem}",
        hint=f"--step {'|'.join(others)} is whole" if others else "none of its checkpoints is whole",
    )


def shown(run: Run, found: Sequence[Checkpoint], form: Form, now: datetime) -> str:
    """The checkpoints for people or for programs; by name they are steps, as `--step` takes them: of whole ones."""
    if form == "name":
        return "".join(f"{each.step}\n" for each in found if not each.problem)
    if form == "table":
        return table([_row(each, now) for each in found], empty="no checkpoints yet")
    return document({"run": run.url, "checkpoints": [_record(run, each) for each in found]}, form)


def _row(checkpoint: Checkpoint, now: datetime) -> dict[str, str]:
    manifest = checkpoint.manifest
    marks = [*checkpoint.marks, *([checkpoint.problem] if checkpoint.problem else [])]
    return {
        "step": str(checkpoint.step),
        "epoch": f"{manifest.epoch:.4g}" if manifest else "",
        "val auroc": f"{manifest.val_auroc:.4f}" if manifest and manifest.val_auroc is not None else "",
        "size": size(manifest.bytes) if manifest else "",
        "age": age(_written(checkpoint), now),
        "mark": " ".join(marks),
    }


def _record(run: Run, checkpoint: Checkpoint) -> dict[str, Any]:
    manifest = checkpoint.manifest
    return {
        "step": checkpoint.step,
        "epoch": manifest and manifest.epoch,
        "val_auroc": manifest and manifest.val_auroc,
        "val_loss": manifest and manifest.val_loss,
        "size_bytes": manifest and manifest.bytes,
        "sha256": manifest and manifest.sha256,
        "written": _written(checkpoint),
        "best": checkpoint.is_best,
        "last": checkpoint.is_last,
        "problem": checkpoint.problem,
        "state": f"{run.url}/{state_key(checkpoint.step)}",
    }


def _written(checkpoint: Checkpoint) -> str | None:
    return None if checkpoint.written is None else checkpoint.written.isoformat(timespec="seconds")
