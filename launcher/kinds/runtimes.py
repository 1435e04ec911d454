"""Runtimes of the cluster with which a TrainJob can be validated."""

from collections.abc import Iterator

from launcher.cluster.client import Cluster
from launcher.cluster.errors import ForbiddenError, NotFoundError
from launcher.cluster.resources import CLUSTER_RUNTIMES, RUNTIMES, Object
from launcher.kinds import trainjob


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
