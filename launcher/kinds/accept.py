"""Validate the objects of a job with a dry run in the cluster, before any of them is created."""

from collections.abc import Mapping, Sequence
from typing import Final

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ConflictError, ForbiddenError
from launcher.cluster.resources import CLAIMS, QUEUE_LABEL, RUNTIMES, VOLUMES, Object, Resource
from launcher.kinds.kueue import check_held
from launcher.kinds.runtimes import with_existing_runtime
from trainer.errors import InputError, RemoteError

RESOURCES: Final[Mapping[str, Resource]] = {
    each.kind: each for each in (*(kind.resource for kind in kinds.KINDS), RUNTIMES, CLAIMS, VOLUMES)
}
"""Resources of the objects of a job, by kind."""


def check_replaceable(cluster: Cluster, objects: Sequence[Object]) -> None:
    """As `check_accepted`, before the job that these replace is deleted. Raises: RemoteError, also when it can't be known."""
    if check_accepted(cluster, objects) is None and QUEUE_LABEL in (objects[-1]["metadata"].get("labels") or {}):
        raise RemoteError(
            "cannot check before the deletion of the finished job whether Kueue holds the new one: no TrainingRuntime exists to try it with",
            hint="ask an administrator for k8s/components/trainer-runtime, or use launcher clone, which deletes nothing",
        )


def check_accepted(cluster: Cluster, objects: Sequence[Object]) -> Object | None:
    """Validate the objects of a job, and that Kueue holds one with a queue; returns as `dry_run`. Raises: RemoteError."""
    answer = dry_run(cluster, objects)
    if answer is not None:
        check_held(cluster, objects[-1], answer)
    return answer


def dry_run(cluster: Cluster, objects: Sequence[Object]) -> Object | None:
    """Validate the objects of a job; returns the job as the webhooks changed it, None if it was not validated.

    Raises: RemoteError.
    """
    *others, job = objects
    for each in others:
        _check_other(cluster, each)
    own = next((each for each in others if each["kind"] == RUNTIMES.kind), None)
    tried = job if own is None else with_existing_runtime(cluster, job)
    return None if tried is None else cluster.create(kinds.of(job).resource, tried, dry_run=True)


def _check_other(cluster: Cluster, each: Object) -> None:
    try:
        cluster.create(RESOURCES[each["kind"]], each, dry_run=True)
    except ForbiddenError as problem:
        if each["kind"] != VOLUMES.kind:
            raise
        raise ForbiddenError(
            str(problem.args[0]),
            hint=(
                "ask an administrator for a claim on the bucket (k8s/components/s3-data) and use it with --data-pvc, "
                "or use --data-access api"
            ),
        ) from problem
    except ConflictError:
        # A volume, claim or runtime of that name may be left over from a deleted job, and is removed later.
        if each["kind"] == RUNTIMES.kind:
            _check_ours(cluster, each)


def _check_ours(cluster: Cluster, runtime: Object) -> None:
    """Raises: InputError for the runtime of another program or an administrator with the job's name."""
    name = runtime["metadata"]["name"]
    existing = cluster.get(RUNTIMES, name)["metadata"].get("labels") or {}
    if not runtime["metadata"]["labels"].items() <= existing.items():
        raise InputError(
            f"cannot create the runtime of `{name}`: another TrainingRuntime has this name", hint="use another --name"
        )
