"""Snapshot of a job and related objects at one moment, as plain data for pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from launcher.cluster.dra import DeviceObjects
from launcher.cluster.resources import INDEX_LABEL, ROLE_LABEL, Object

State = Literal["Pending", "Created", "Running", "Restarting", "Suspended", "Succeeded", "Failed", "Deleting"]

_ORDER: Final[tuple[State, ...]] = ("Failed", "Succeeded", "Suspended", "Restarting", "Running", "Created")
"""Conditions by precedence. Source: the operator keeps old conditions with status False beside new ones."""


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One job and related objects; empty if there are none, or if the user may not read them (`denied`)."""

    job: Object

    now: datetime
    """Time of the snapshot, UTC."""

    pods: tuple[Object, ...] = ()
    """Pods of the job by index."""

    events: tuple[Object, ...] = ()
    """Events of the job, its pods and its claims, oldest first."""

    claims: tuple[Object, ...] = ()
    """Existing claims that the pods mount."""

    nodes: tuple[Object, ...] = ()
    """All nodes of the cluster; read only while a pod is not scheduled."""

    node_pods: tuple[Object, ...] = ()
    """Unfinished pods of all namespaces that are bound to a node; read with `nodes`."""

    devices: DeviceObjects = field(default_factory=DeviceObjects)
    """What tells of devices that DRA drivers serve; read with `nodes`."""

    workload: Object | None = None
    """Workload of Kueue, if the job is queued."""

    workloads: tuple[Object, ...] = ()
    """Workloads of all jobs of the namespace; read with `workload`."""

    waiting: tuple[Object, ...] = ()
    """Kueue's list of pending workloads of the job's queue, in order; empty if the cluster does not serve it."""

    operator: Object | None = None
    """Deployment of the training operator; read only while the job has no conditions."""

    tails: Mapping[str, str] = field(default_factory=dict)
    """Last log lines of containers that failed without a termination message, by pod."""

    denied: frozenset[str] = frozenset()
    """Plurals of the resources that the user may not read."""


def state(job: Object) -> State:
    """The job's state; Pending until the operator has set a condition."""
    return "Deleting" if "deletionTimestamp" in job["metadata"] else outcome(job)


def outcome(job: Object) -> State:
    """The job's state by its conditions, even if it is being deleted."""
    conditions = {entry["type"] for entry in job.get("status", {}).get("conditions") or () if entry["status"] == "True"}
    return next((name for name in _ORDER if name in conditions), "Pending")


def is_over(job: Object) -> bool:
    """Whether the job has succeeded or failed."""
    return outcome(job) in {"Succeeded", "Failed"}


def short_name(pod: Object) -> str:
    """`worker-3`, `master-0`: the pod's name without the job's."""
    labels = pod["metadata"].get("labels") or {}
    if ROLE_LABEL in labels and INDEX_LABEL in labels:
        return f"{labels[ROLE_LABEL]}-{labels[INDEX_LABEL]}"
    return str(pod["metadata"]["name"])


def wanted_pods(job: Object) -> int:
    """Number of pods in the job's specification."""
    return sum(replica.get("replicas", 1) for replica in job["spec"]["pytorchReplicaSpecs"].values())
