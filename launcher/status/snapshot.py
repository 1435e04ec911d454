"""What the cluster says about one job at one moment; plain objects, so that what is made of them is pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from launcher.cluster.resources import INDEX_LABEL, ROLE_LABEL, Object

State = Literal["Pending", "Created", "Running", "Restarting", "Suspended", "Succeeded", "Failed", "Deleting"]

_ORDER: Final[tuple[State, ...]] = ("Failed", "Succeeded", "Suspended", "Restarting", "Running", "Created")
"""Which condition counts, the strongest first. Source: the operator keeps old ones beside new ones with status False."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One job and what surrounds it; empty where there is nothing, or where the user may not look (`denied`)."""

    job: Object

    now: datetime
    """When it was taken; aware, UTC."""

    pods: tuple[Object, ...] = ()
    """The job's, in the order of their index."""

    events: tuple[Object, ...] = ()
    """Of the job, its pods and its claims, the oldest first."""

    claims: tuple[Object, ...] = ()
    """Those that the pods name and that exist."""

    nodes: tuple[Object, ...] = ()
    """All nodes of the cluster; read only while a pod is not scheduled."""

    node_pods: tuple[Object, ...] = ()
    """Pods of all namespaces that are bound to a node and not over; read with `nodes`."""

    workload: Object | None = None
    """Kueue's, where the job is queued."""

    workloads: tuple[Object, ...] = ()
    """Kueue's, of all jobs of the namespace; read with `workload`."""

    waiting: tuple[Object, ...] = ()
    """What Kueue says of those that wait in the job's queue, in their order; empty where it does not serve that."""

    operator: Object | None = None
    """The training operator's Deployment; read only while the job has no conditions."""

    tails: Mapping[str, str] = field(default_factory=dict)
    """By pod: the last lines of a container that has failed without a termination message."""

    denied: frozenset[str] = frozenset()
    """Plurals of the resources that the user may not read."""


def state(job: Object) -> State:
    """The job's state; Pending while the operator has not seen it."""
    return "Deleting" if "deletionTimestamp" in job["metadata"] else outcome(job)


def outcome(job: Object) -> State:
    """What the operator says of the job, whether or not it is being deleted."""
    conditions = {entry["type"] for entry in job.get("status", {}).get("conditions") or () if entry["status"] == "True"}
    return next((name for name in _ORDER if name in conditions), "Pending")


def is_over(job: Object) -> bool:
    """Whether the job has ended, well or not; one that is being deleted before has not."""
    return outcome(job) in {"Succeeded", "Failed"}


def short_name(pod: Object) -> str:
    """`worker-3`, `master-0`: the pod's name without the job's."""
    labels = pod["metadata"].get("labels") or {}
    if ROLE_LABEL in labels and INDEX_LABEL in labels:
        return f"{labels[ROLE_LABEL]}-{labels[INDEX_LABEL]}"
    return str(pod["metadata"]["name"])


def wanted_pods(job: Object) -> int:
    """How many pods the job is to have."""
    return sum(replica.get("replicas", 1) for replica in job["spec"]["pytorchReplicaSpecs"].values())
