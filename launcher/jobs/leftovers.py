"""Objects of an earlier job of the same name, which stand in the way of a new one or were left by a deletion."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Final

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ConflictError, ForbiddenError, NotFoundError
from launcher.cluster.resources import (
    CONFIG_MAPS,
    INSTANCE_LABEL,
    JOB_SETS,
    RUNTIMES,
    TRAIN_JOBS,
    VOLUMES,
    Object,
    Resource,
)
from launcher.jobs.find import POLL_S
from launcher.spec.job import LABELS
from launcher.status.collect import age_s
from trainer.errors import InputError, RemoteError

CLAIM_GONE_S: Final = 15.0
"""Maximum time for the deletion of a claim, a runtime or a JobSet after its job."""

SUBMIT_S: Final = 60.0
"""Time in which a submit creates the TrainJob of a runtime, with the retries of its requests."""

Made = tuple[Resource, str, str | None]
"""Resource, name and UID of an object; without UID, whatever has the name."""


def check_free(cluster: Cluster, job: Object) -> None:
    """Wait until nothing that Trainer made for an earlier TrainJob of the name exists: it would be taken for the new job's.

    Raises: InputError when something stays.
    """
    name = job["metadata"]["name"]
    left: list[str] = []

    def is_free() -> bool:
        left[:] = [f"{resource.kind.lower()}/{each}" for resource, each in _of_trainer(cluster, name)]
        return not left

    if kinds.of(job).api == "trainjob" and not poll_until(is_free, cluster, time.monotonic() + CLAIM_GONE_S):
        raise InputError(
            f"cannot submit `{name}`: {' and '.join(left)} of an earlier TrainJob exist, which the new one would take for its own",
            hint=f"launcher delete {name} removes what the launcher made; kubectl delete -n {cluster.namespace} {' '.join(left)}; or use another --name",
        )


def _of_trainer(cluster: Cluster, name: str) -> Iterator[tuple[Resource, str]]:
    """The JobSet and the snapshot of the runtime that Trainer makes for a TrainJob, if they exist and may be read."""
    for resource, each in ((JOB_SETS, name), (CONFIG_MAPS, f"{name}-runtime-snapshot")):
        try:
            cluster.get(resource, each)
        except (ForbiddenError, NotFoundError):
            continue
        yield resource, each


def remove_orphans(cluster: Cluster, name: str) -> list[str]:
    """Remove what outlived a TrainJob of the launcher, as after `kubectl delete --cascade=orphan`; returns what was removed.

    Raises: RemoteError when an object can't be deleted.
    """
    ours = LABELS | {INSTANCE_LABEL: name}
    try:
        runtime = cluster.get(RUNTIMES, name)
    except (ForbiddenError, NotFoundError):
        return []
    metadata = runtime["metadata"]
    is_ours = ours.items() <= (metadata.get("labels") or {}).items()
    if not is_ours or metadata.get("ownerReferences") or _exists(cluster, TRAIN_JOBS, name):
        return []  # the garbage collector removes owned ones
    orphans = [*_of_trainer(cluster, name), (RUNTIMES, name)]
    for resource, each in orphans:
        with suppress(NotFoundError):
            cluster.delete(resource, each, propagation="Background")
    return [resource.named(each) for resource, each in orphans]


def remove_leftover(cluster: Cluster, each: Object) -> None:
    """Remove an object of the same job name before it is created again.

    Raises: InputError for a runtime that another submit may be using.
    """
    if each["kind"] == VOLUMES.kind:
        _remove_volume(cluster, each)
    elif each["kind"] == RUNTIMES.kind:
        _remove_runtime(cluster, each)


def _remove_runtime(cluster: Cluster, runtime: Object) -> None:
    """Remove a runtime left over from a killed submit, or wait for that of a job that is just being deleted."""
    name, ours = runtime["metadata"]["name"], runtime["metadata"]["labels"].items()
    found: list[Object] = []

    def is_free() -> bool:
        try:
            found[:] = [cluster.get(RUNTIMES, name)]
        except NotFoundError:
            found.clear()
        return not found or not found[0]["metadata"].get("ownerReferences")

    poll_until(is_free, cluster, time.monotonic() + CLAIM_GONE_S)
    if not found or not ours <= (found[0]["metadata"].get("labels") or {}).items():
        return  # not ours: the server will report the conflict
    if age_s(found[0]) < SUBMIT_S or _exists(cluster, TRAIN_JOBS, name):
        raise InputError(
            f"cannot submit `{name}`: its TrainingRuntime was created {age_s(found[0]):.0f} s ago, by another submit or by one that was interrupted",
            hint=f"launcher status {name}; or run the same command again in a minute",
        )
    remove_objects(cluster, [(RUNTIMES, name, found[0]["metadata"]["uid"])])


def _remove_volume(cluster: Cluster, volume: Object) -> None:
    """Remove a volume of the same job name, left over after the job was deleted with kubectl: it can't be bound again.

    It is removed after its claim, which the garbage collector deletes shortly after the job.
    """
    name, ours = volume["metadata"]["name"], volume["metadata"]["labels"].items()

    def is_free() -> bool:
        try:
            existing = cluster.get(VOLUMES, name)
        except (NotFoundError, ForbiddenError):
            return True
        if not ours <= (existing["metadata"].get("labels") or {}).items():
            return True  # not ours: the server will report the conflict
        if existing.get("status", {}).get("phase") != "Bound":
            remove_objects(cluster, [(VOLUMES, name, None)])
        return False

    poll_until(is_free, cluster, time.monotonic() + CLAIM_GONE_S)


def _exists(cluster: Cluster, resource: Resource, name: str) -> bool:
    try:
        cluster.get(resource, name)
    except NotFoundError:
        return False
    return True


def poll_until(holds: Callable[[], bool], cluster: Cluster, end_s: float) -> bool:
    """Call `holds` repeatedly until it is true or `end_s` has passed; returns whether it became true."""
    while not holds():
        if time.monotonic() > end_s:
            return False
        cluster.sleep(POLL_S / 2)
    return True


def remove_objects(cluster: Cluster, made: Iterable[Made]) -> list[str]:
    """Delete these objects; returns those that could not be deleted. Errors are not raised, so the original error stays visible."""
    left = []
    for resource, name, uid in made:
        try:
            cluster.delete(resource, name, propagation="Background", uid=uid)
        except (NotFoundError, ConflictError):  # gone, or another object has the name by now
            continue
        except RemoteError:
            left.append(f"{resource.kind.lower()}/{name}")
    return left
