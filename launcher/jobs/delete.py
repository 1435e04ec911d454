"""Delete jobs with everything made for them, and volumes that outlived their job."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
    NotServedError,
)
from launcher.cluster.resources import (
    CLAIMS,
    INSTANCE_LABEL,
    JOB_SETS,
    OURS,
    PODS,
    RUNTIMES,
    SERVICES,
    TRAIN_JOBS,
    VOLUMES,
    Object,
    Resource,
)
from launcher.jobs import leftovers
from launcher.jobs.leftovers import poll_until, remove_objects
from launcher.kinds import lookup
from launcher.spec.job import LABELS
from launcher.spec.train_job import administrators_runtime
from launcher.status.collect import age_s
from trainer.errors import TimeLimitError

UNCLAIMED_S: Final = 3600.0
"""Age of a launcher's volume without a claim after which it is left over from a killed submit."""


def sweep(cluster: Cluster) -> list[str]:
    """Remove objects of the launcher in this namespace that have outlived their job; returns what was removed."""
    return [
        *(f"the volume {name}" for name in sweep_volumes(cluster)),
        *(f"the runtime {name}" for name in sweep_runtimes(cluster)),
    ]


def sweep_volumes(cluster: Cluster) -> list[str]:
    """Remove the launcher's volumes in this namespace whose claim is gone; returns their names.

    A volume that was never bound is removed only when older than an hour: its claim is created shortly after it. Without the
    permission for volumes, which few users have, nothing is done.
    """
    try:
        volumes = cluster.list(VOLUMES, labels=OURS)
    except ForbiddenError:
        return []
    names = [
        each["metadata"]["name"]
        for each in volumes
        if each["spec"].get("claimRef", {}).get("namespace") == cluster.namespace and _is_left_over(each)
    ]
    left = remove_objects(cluster, ((VOLUMES, name, None) for name in names))
    return [name for name in names if f"{VOLUMES.kind.lower()}/{name}" not in left]


def _is_left_over(volume: Object) -> bool:
    phase = volume.get("status", {}).get("phase")
    return phase in {"Released", "Failed"} or (phase == "Available" and age_s(volume) > UNCLAIMED_S)


def sweep_runtimes(cluster: Cluster) -> list[str]:
    """Remove TrainingRuntimes of the launcher whose TrainJob was never created; returns their names.

    Only those older than an hour: a TrainJob is created shortly after its runtime. All others have an owner, and go with it.
    """
    try:
        found = cluster.list(RUNTIMES, labels=OURS)
    except (ForbiddenError, NotFoundError):
        return []
    used = (
        {str(each["spec"].get("runtimeRef", {}).get("name")) for each in cluster.list(TRAIN_JOBS)} if found else set()
    )
    names = [
        each["metadata"]["name"]
        for each in found
        if each["metadata"]["name"] not in used
        and not each["metadata"].get("ownerReferences")
        and age_s(each) > UNCLAIMED_S
    ]
    left = remove_objects(cluster, ((RUNTIMES, name, None) for name in names))
    return [name for name in names if f"{RUNTIMES.kind.lower()}/{name}" not in left]


def delete_job(
    cluster: Cluster, name: str, *, api: kinds.Choice = "auto", timeout_s: float, uid: str | None = None
) -> list[str]:
    """Delete the job and wait until its pods, Services, claim and volume are gone; returns what was removed.

    With `uid`, only that object is deleted, not another job that was created under its name meanwhile.

    Raises: NotFoundError when nothing of it exists; ConflictError for another job of the name; TimeLimitError.
    """
    end_s = time.monotonic() + timeout_s
    volumes = _own_volumes(cluster, name)
    removed: list[str] = []
    parts: Sequence[kinds.JobKind] = kinds.TRAINING
    try:
        job = lookup.get(cluster, name, api)
        parts = [kinds.of(job)]
        removed += _delete_object(cluster, job, uid, end_s)
    except NotFoundError:
        removed += leftovers.remove_orphans(cluster, name)
        if not volumes and not removed:
            raise
    for each in parts:
        _wait_for_parts(cluster, each, name, end_s)
    if kinds.of_api("trainjob") in parts:
        removed += leftovers.remove_orphans(cluster, name)
    if volumes:
        _wait_until_gone(cluster, CLAIMS, f"{name}-data", end_s)
    for volume in volumes:
        with suppress(NotFoundError):
            cluster.delete(VOLUMES, volume)
        _wait_until_gone(cluster, VOLUMES, volume, end_s)
        removed.append(f"persistentvolume/{volume}")
    return removed


def _delete_object(cluster: Cluster, job: Object, uid: str | None, end_s: float) -> list[str]:
    """Delete the job itself and wait until it is gone; returns its name as kubectl prints it."""
    kind, name = kinds.of(job), job["metadata"]["name"]
    cluster.delete(kind.resource, name, uid=uid, propagation=kind.propagation)
    with _runtime_lent(cluster, job):
        _wait_until_gone(cluster, kind.resource, name, end_s)
    return [kind.resource.named(name)]


@contextmanager
def _runtime_lent(cluster: Cluster, job: Object) -> Iterator[None]:
    """For the block, a runtime in place of the job's own, if a deletion in the foreground (by kubectl) has removed that.

    Without one, the webhooks refuse the change with which the garbage collector would finish the deletion.
    """
    name = job["metadata"]["name"]
    is_held = "foregroundDeletion" in (job["metadata"].get("finalizers") or ())
    made: list[leftovers.Made] = []
    if kinds.of(job).api == "trainjob" and is_held:
        runtime = administrators_runtime(name)
        runtime["metadata"]["labels"] = LABELS | {INSTANCE_LABEL: name}
        with suppress(ConflictError, ForbiddenError):  # it exists, or was made by an administrator
            made.append((RUNTIMES, name, cluster.create(RUNTIMES, runtime)["metadata"]["uid"]))
    try:
        yield
    finally:
        remove_objects(cluster, made)


def _wait_for_parts(cluster: Cluster, kind: kinds.JobKind, name: str, end_s: float) -> None:
    """Wait until the objects that a controller made for a job are gone: a later job of the name would take them for its own."""
    selector = f"{kind.job_label}={name}"
    if kind.api == "trainjob":
        with suppress(ForbiddenError, NotServedError):
            _wait_until_none(cluster, JOB_SETS, end_s, name, fields=f"metadata.name={name}")
    _wait_until_none(cluster, PODS, end_s, name, labels=selector)
    with suppress(ForbiddenError):  # roles of Kubeflow lack Services
        _wait_until_none(cluster, SERVICES, end_s, name, labels=selector)


def _wait_until_none(cluster: Cluster, resource: Resource, end_s: float, job: str, **selector: str) -> None:
    """Wait until no object of the job matches the selector. Raises: TimeLimitError."""
    what = f"a {'pod' if resource is PODS else resource.kind} of `{job}`"
    _wait_until(lambda: not cluster.list(resource, **selector), what, cluster, end_s)  # type: ignore[arg-type]  # labels or fields


def _own_volumes(cluster: Cluster, name: str) -> list[str]:
    try:
        volumes = cluster.list(VOLUMES, labels=f"{OURS},{INSTANCE_LABEL}={name}")
    except ForbiddenError:
        return []
    return [
        each["metadata"]["name"]
        for each in volumes
        if each["spec"].get("claimRef", {}).get("namespace") == cluster.namespace
    ]


def _wait_until_gone(cluster: Cluster, resource: Resource, name: str, end_s: float) -> None:
    def is_gone() -> bool:
        try:
            cluster.get(resource, name)
        except NotFoundError:
            return True
        return False

    _wait_until(is_gone, f"{resource.kind} `{name}`", cluster, end_s)


def _wait_until(holds: Callable[[], bool], what: str, cluster: Cluster, end_s: float) -> None:
    """Raises: TimeLimitError."""
    if not poll_until(holds, cluster, end_s):
        raise TimeLimitError(
            f"cannot delete everything in time: {what} still exists (from `--timeout`)",
            hint="run the same command again to continue",
        )
