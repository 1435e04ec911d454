"""Snapshot of a job and related objects at one moment, as plain data for pure functions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from launcher import kinds
from launcher.cluster.dra import DeviceObjects
from launcher.cluster.resources import Object
from launcher.kinds.state import State


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One job and related objects; empty if there are none, or if the user may not read them (`denied`)."""

    job: Object

    now: datetime
    """Time of the snapshot, UTC."""

    beneath: tuple[Object, ...] = ()
    """Objects between a TrainJob and its pods: its JobSet and the Jobs of that."""

    lacks_runtime: bool = False
    """Whether the TrainingRuntime of an unfinished TrainJob is gone."""

    pods: tuple[Object, ...] = ()
    """Pods of the job by index; of those with the same index the newest."""

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
    """Deployment of the job's controller; read only while the job has no conditions."""

    tails: Mapping[str, str] = field(default_factory=dict)
    """Last log lines of containers that failed without a termination message, by pod."""

    denied: frozenset[str] = frozenset()
    """Plurals of the resources that the user may not read."""


def state(job: Object) -> State:
    """The job's state; Pending until its controller has set one."""
    return "Deleting" if "deletionTimestamp" in job["metadata"] else outcome(job)


def outcome(job: Object) -> State:
    """The job's state, even if it is being deleted."""
    return kinds.of(job).outcome(job)


def is_over(job: Object) -> bool:
    """Whether the job has succeeded or failed."""
    return outcome(job) in {"Succeeded", "Failed"}
