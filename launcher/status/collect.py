"""Collect a snapshot of a job and related objects; objects that the user may not read are left out."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Final

from launcher import kinds
from launcher.cluster.capacity import extended, requests
from launcher.cluster.client import Cluster
from launcher.cluster.dra import DeviceObjects, read_devices
from launcher.cluster.errors import ForbiddenError, NotFoundError
from launcher.cluster.operator import controller_of, deployments_of
from launcher.cluster.resources import (
    BATCH_JOBS,
    CLAIMS,
    DEPLOYMENTS,
    EVENTS,
    JOB_SETS,
    NODES,
    PENDING_WORKLOADS,
    PODS,
    QUEUE_LABEL,
    RUNTIMES,
    WORKLOADS,
    Object,
    Resource,
)
from launcher.kinds import lookup
from launcher.status.snapshot import Snapshot, is_over
from trainer.errors import RemoteError

UNSEEN_S: Final = 30.0
"""Age of a job without conditions after which the operator's Deployment is read."""

TAIL_LINES: Final = 40
TAILED: Final = 16
"""Maximum number of logs that are read, of pods that failed without a termination message; earlier failures first, as they cause later ones."""

TAIL_S: Final = 5.0
"""Time limit for a log, so that an unresponsive node does not delay the status."""

RANK_0: Final = "[rank 0] "
"""Prefix of the lines that report progress. Source: trainer/runtime/console.py."""

_PROGRESS_WORDS: Final = (
    *("epoch", "decoding", "downloading", "preparing"),
    *("checking the image files", "verifying the decoded images", "computing features", "evaluating "),
)
"""Of the lines that the trainer's steps write: training, and those before and after it."""


def collect_snapshot(cluster: Cluster, name: str, api: kinds.Choice = "auto") -> Snapshot:
    """The job with related objects; resources that the user may not read are listed in `denied`.

    Raises: NotFoundError; InputError when both kinds have a job of this name and `api` does not decide.
    """
    job = lookup.get(cluster, name, api)
    kind = kinds.of(job)
    denied: set[str] = set()

    def read(*versions: Resource, namespace: str | None = None, **selectors: object) -> list[Object]:
        try:
            return cluster.first_served(versions, lambda each: cluster.list(each, namespace=namespace, **selectors))  # type: ignore[arg-type]  # labels, fields, everywhere
        except (ForbiddenError, NotFoundError):
            denied.add(versions[0].plural)
            return []

    pods = tuple(kinds.newest(job, read(PODS, labels=f"{kind.job_label}={name}")))
    beneath = tuple(_beneath(read, job)) if kind.api == "trainjob" else ()
    unscheduled = any(not pod["spec"].get("nodeName") for pod in pods) and not is_over(job)
    unseen = not kind.is_seen(job) and age_s(job) > UNSEEN_S
    queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    workloads = tuple(read(*WORKLOADS)) if queue else ()
    workload = _workload(workloads, job)
    return Snapshot(
        job=job,
        now=datetime.now(timezone.utc),
        beneath=beneath,
        lacks_runtime=kind.api == "trainjob" and not is_over(job) and _lacks_runtime(read, job, denied),
        pods=pods,
        events=tuple(_events(read(EVENTS), job, beneath, pods)),
        claims=tuple(_named_claims(read(CLAIMS), pods)) if any(_waits(pod) for pod in pods) else (),
        nodes=tuple(read(NODES)) if unscheduled else (),
        node_pods=tuple(read(PODS, everywhere=True, fields="status.phase!=Succeeded,status.phase!=Failed"))
        if unscheduled
        else (),
        devices=read_devices(cluster, _wanted(pods)) if unscheduled else DeviceObjects(),
        workload=workload,
        workloads=workloads,
        waiting=_waiting(cluster, queue) if queue and workload and kind.is_suspended(job) else (),
        operator=_operator(read(DEPLOYMENTS, everywhere=True), kind.resource) if unseen else None,
        tails=_tails(cluster, pods),
        denied=frozenset(denied),
    )


def _beneath(read: Callable[..., list[Object]], job: Object) -> Iterator[Object]:
    """The JobSet of a TrainJob, and its Jobs; those of an earlier job of the same name are older."""
    name = job["metadata"]["name"]
    found = [
        *read(JOB_SETS, fields=f"metadata.name={name}"),
        *read(BATCH_JOBS, labels=f"{kinds.of(job).job_label}={name}"),
    ]
    return (each for each in found if kinds.of(job).owns(job, each))


def _wanted(pods: Iterable[Object]) -> list[str]:
    """Extended resources that pods without a node request."""
    return extended({name for pod in pods if not pod["spec"].get("nodeName") for name in requests(pod["spec"])})


def age_s(thing: Object) -> float:
    """Seconds since an object was created."""
    created = datetime.fromisoformat(thing["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    return (datetime.now(timezone.utc) - created).total_seconds()


def _waits(pod: Object) -> bool:
    return bool(pod.get("status", {}).get("phase", "Pending") == "Pending")


def _lacks_runtime(read: Callable[..., list[Object]], job: Object, denied: set[str]) -> bool:
    """Whether the TrainingRuntime to which a TrainJob refers is gone."""
    reference = job["spec"].get("runtimeRef") or {}
    if reference.get("kind") != RUNTIMES.kind:
        return False
    return not read(RUNTIMES, fields=f"metadata.name={reference.get('name')}") and RUNTIMES.plural not in denied


def _events(events: Iterable[Object], job: Object, beneath: Sequence[Object], pods: Sequence[Object]) -> list[Object]:
    """Events of the job, of the objects beneath it, of its pods (including deleted ones) and their claims, oldest first."""
    name = job["metadata"]["name"]
    uids = {each["metadata"]["uid"] for each in (job, *beneath, *pods)}
    pod_name = kinds.of(job).pod_names(job)
    claims = _claims(pods) | {f"{name}-data"}
    created = job["metadata"]["creationTimestamp"].rstrip("Z")  # earlier ones are of a deleted job of the same name

    def is_about(about: Object) -> bool:
        of = str(about.get("name", ""))
        of_pod = about.get("kind") == PODS.kind and pod_name.fullmatch(of) is not None
        of_claim = about.get("kind") == CLAIMS.kind and of in claims
        return about.get("uid") in uids or of_pod or of_claim

    related = [each for each in events if is_about(each.get("involvedObject", {})) and event_time(each) >= created]
    return sorted(related, key=event_time)


def event_time(event: Object) -> str:
    """Time of the last occurrence, in the server's format."""
    series = event.get("series") or {}
    return str(
        event.get("lastTimestamp")
        or series.get("lastObservedTime")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _claims(pods: Iterable[Object]) -> set[str]:
    """Names of the claims that the pods mount."""
    return {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in pods
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    }


def _named_claims(claims: Iterable[Object], pods: Sequence[Object]) -> list[Object]:
    named = _claims(pods)
    return [claim for claim in claims if claim["metadata"]["name"] in named]


def _workload(workloads: Iterable[Object], job: Object) -> Object | None:
    uid = job["metadata"]["uid"]
    owned = (w for w in workloads if uid in {owner["uid"] for owner in w["metadata"].get("ownerReferences") or ()})
    return next(owned, None)


def _waiting(cluster: Cluster, queue: str) -> tuple[Object, ...]:
    """Kueue's list of pending workloads of a queue; empty if not served: `queue_position` then counts Workloads."""
    try:
        found = cluster.first_served(PENDING_WORKLOADS, lambda each: cluster.get(each, f"{queue}/pendingworkloads"))
    except RemoteError:
        return ()
    return tuple(found.get("items") or ())


def _operator(deployments: Iterable[Object], jobs: Resource) -> Object | None:
    return next(iter(deployments_of(controller_of(jobs), deployments)), None)


def _tails(cluster: Cluster, pods: Iterable[Object]) -> dict[str, str]:
    """Last log lines of containers that failed without a termination message; of restarted ones, of the previous container."""
    failed = sorted(filter(None, map(_failure, pods)), key=lambda each: each[:2])
    return {
        pod["metadata"]["name"]: "\n".join(_tail(cluster, pod, previous=restarted))
        for _, _, restarted, pod in failed[:TAILED]
    }


def _failure(pod: Object) -> tuple[str, str, bool, Object] | None:
    """Time of the failure of the pod's container, the pod's name, whether the container was restarted, and the pod.

    None when it did not fail, or left a termination message.
    """
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    status: Object = next((each for each in statuses if each["name"] == kinds.of_pod(pod).container), {})
    now = status.get("state", {}).get("terminated") or {}
    before = status.get("lastState", {}).get("terminated")
    ended = now if now.get("exitCode") else before if not now else None
    if ended is None or str(ended.get("message") or "").strip():
        return None
    return str(ended.get("finishedAt") or ""), pod["metadata"]["name"], ended is before, pod


def _tail(cluster: Cluster, pod: Object, *, previous: bool = False) -> list[str]:
    """The last lines of a pod's log; empty when they can't be read."""
    name, container = pod["metadata"]["name"], kinds.of_pod(pod).container
    with suppress(RemoteError):
        lines = deque(
            cluster.log(name, container=container, tail=TAIL_LINES, previous=previous, read_timeout_s=TAIL_S),
            TAIL_LINES,
        )
        return [line.partition(b" ")[2].decode(errors="replace").rstrip("\n") for line in lines]
    return []


def progress(cluster: Cluster, snapshot: Snapshot) -> str:
    """The newest progress line of the trainer; empty without one."""
    for pod in snapshot.pods:
        if pod.get("status", {}).get("phase") not in {"Running", "Succeeded"}:
            continue
        lines = _tail(cluster, pod)
        prefix = RANK_0 if kinds.of(snapshot.job) in kinds.TRAINING else ""
        reports = [
            line.partition(prefix)[2].strip() if prefix else line
            for line in lines
            if prefix in line and _is_progress(line)
        ]
        if reports or not lines:  # if one log can't be read, the others can't either
            return reports[-1] if reports else ""
    return ""


def _is_progress(line: str) -> bool:
    return any(word in line for word in _PROGRESS_WORDS)
