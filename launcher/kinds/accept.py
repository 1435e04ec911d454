"""Validate the objects of a job with a dry run in the cluster, before any of them is created."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ConflictError, ForbiddenError, NotFoundError
from launcher.cluster.resources import CLAIMS, CLUSTER_RUNTIMES, RUNTIMES, VOLUMES, Object, Resource
from launcher.kinds import trainjob

RESOURCES: Final[Mapping[str, Resource]] = {
    each.kind: each for each in (*(kind.resource for kind in kinds.KINDS), RUNTIMES, CLAIMS, VOLUMES)
}
"""Resources of the objects of a job, by kind."""


def check_accepted(cluster: Cluster, objects: Sequence[Object]) -> Object | None:
    """Validate the objects of a job; returns the job as the webhooks changed it, None if it was not validated.

    Raises: RemoteError.
    """
    *others, job = objects
    for each in others:
        _check_other(cluster, each)
    own = next((each for each in others if each["kind"] == RUNTIMES.kind), None)
    return check_job(cluster, job if own is None else with_existing_runtime(cluster, job))


def check_job(cluster: Cluster, job: Object | None) -> Object | None:
    """Validate a job whose runtime exists. Raises: RemoteError."""
    return None if job is None else cluster.create(kinds.of(job).resource, job, dry_run=True)


def with_existing_runtime(cluster: Cluster, job: Object) -> Object | None:
    """The TrainJob with a runtime that exists: Trainer's webhook refuses one whose runtime is not created yet.

    None when the cluster has no runtime to validate with.
    """
    found = next(_runtimes(cluster), None)
    return None if found is None else job | {"spec": job["spec"] | {"runtimeRef": found}}


def _runtimes(cluster: Cluster) -> Iterator[Object]:
    """References to runtimes for torch, those of the cluster first."""
    for resource in (CLUSTER_RUNTIMES, RUNTIMES):
        try:
            found = cluster.list(resource)
        except (ForbiddenError, NotFoundError):
            continue
        for each in found:
            jobs = each["spec"].get("template", {}).get("spec", {}).get("replicatedJobs") or ()
            if "torch" in (each["spec"].get("mlPolicy") or {}) and trainjob.ROLE in {job.get("name") for job in jobs}:
                yield {"apiGroup": resource.group, "kind": resource.kind, "name": each["metadata"]["name"]}


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
        return  # a volume, claim or runtime of that name may be left over from a deleted job, and is removed later
