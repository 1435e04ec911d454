"""Checkpoints of a run: list, select and print them."""

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
"""Number of steps that a message lists; runs usually keep a few."""


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint of a run."""

    step: int
    manifest: Manifest | None
    """None when the checkpoint manifest is damaged."""
    written: datetime | None
    """Time of the commit by the storage's clock; None if it was removed meanwhile."""
    problem: Literal["damaged", "missing"] | None
    """Problem of the state, from its listed size, or of the checkpoint manifest."""
    is_best: bool
    is_last: bool

    @property
    def marks(self) -> list[str]:
        """Words that select it with `--step`."""
        return [word for word, applies in (("best", self.is_best), ("last", self.is_last)) if applies]


def of_run(run: Run, storage: Storage, report: Report) -> list[Checkpoint]:
    """All committed checkpoints, newest first, including damaged ones; empty if the run has none yet.

    Raises: AbsentError when there is no run; InputError, RemoteError.
    """
    problems: list[str] = []
    manifests = committed(storage, problems.append)
    for problem in problems:
        report(problem)
    stats = storage.stats(CHECKPOINTS)
    # A listed checkpoint manifest without a reported problem was committed after the first listing.
    damaged = {
        step for key in stats if (step := committed_step(key)) is not None and any(key in each for each in problems)
    }
    if not manifests and not damaged and not any(key in storage.keys(key) for key in (RUN, STARTS)):
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
    """The error for a run without any files."""
    return AbsentError(
        f"cannot find the run `{run.name}`: there are no files at `{run.url}`",
        hint="check the name and --output; a job writes its first files when it starts",
    )


def _problem(manifest: Manifest | None, stats: Mapping[str, Stat]) -> Literal["damaged", "missing"] | None:
    if manifest is None:
        return "damaged"
    state = stats.get(state_key(manifest.step))
    if state is None:
        return "missing"
    return None if state.size_bytes == manifest.bytes else "damaged"


def chosen(run: Run, found: Sequence[Checkpoint], step: str) -> Manifest:
    """The manifest of checkpoint `step`: `best`, `last` or a number. Raises: InputError, AbsentError, DamagedError."""
    if not found:
        raise InputError(
            f"cannot choose a checkpoint of `{run.name}`: there is none yet at `{run.url}`",
            hint=f"launcher pull {run.name} --what report downloads the rest; launcher logs {run.name}",
        )
    number = step_named(step, [each.manifest for each in reversed(found) if each.manifest])
    wanted = next((each for each in found if each.step == number), None)
    if wanted is None and number is None:  # all checkpoint manifests are damaged: the best score is unknown
        wanted = found[0]
    if wanted is None:
        steps = ", ".join(str(each.step) for each in found[:SHOWN_STEPS])
        raise InputError(
            f"cannot find step {step} of `{run.name}`: its checkpoints are of steps {steps} (from `--step`)",
            hint="--step best|last|N; a run keeps its best and its newest checkpoints",
        )
    return _whole(run, found, wanted)


def _whole(run: Run, found: Sequence[Checkpoint], wanted: Checkpoint) -> Manifest:
    """The manifest of an undamaged checkpoint. Raises: AbsentError, DamagedError."""
    if wanted.manifest and not wanted.problem:
        return wanted.manifest
    others = [str(each.step) for each in found if not each.problem][:SHOWN_STEPS]
    key = state_key(wanted.step) if wanted.manifest else manifest_key(wanted.step)
    kind = AbsentError if wanted.problem == "missing" else DamagedError
    raise kind(
        f"cannot pull step {wanted.step} of `{run.name}`: `{run.url}/{key}` is {wanted.problem}",
        hint=f"--step {'|'.join(others)} is undamaged" if others else "all its checkpoints are damaged or incomplete",
    )


def shown(run: Run, found: Sequence[Checkpoint], form: Form, now: datetime) -> str:
    """The checkpoints in this form; `name` prints the steps of undamaged ones, for `--step`."""
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
