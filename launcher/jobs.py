"""What is done with jobs on a cluster: create, look at, wait for, delete."""

import difflib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Final, Literal

from launcher.cluster import (
    Cluster,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnreachableError,
)
from launcher.manifest import SETTINGS
from launcher.resources import (
    CLAIMS,
    DEPLOYMENTS,
    EVENTS,
    JOB_LABEL,
    JOBS,
    NODES,
    PODS,
    SERVICES,
    VOLUMES,
    WORKLOADS,
    Object,
    Resource,
)
from launcher.snapshot import Snapshot, State, is_over, state
from trainer.errors import InputError, JobFailedError, KnownError, RemoteError, TimeLimitError

OURS: Final = "app.kubernetes.io/managed-by=chexnet-launcher"
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"

DATA: Final = "chexnet-launcher/data"
"""Annotation by which an administrator says which `s3://BUCKET/PREFIX` a claim holds."""

UNSEEN_S: Final = 30.0
"""After so long without a condition one asks for the operator."""

TAIL_LINES: Final = 20
LOOK_AGAIN_S: Final = 15.0
"""A watch may be silent while things happen, so whoever waits lists so often."""

POLL_S: Final = 1.0

KINDS: Final[Mapping[str, Resource]] = {each.kind: each for each in (JOBS, CLAIMS, VOLUMES)}

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Submitted:
    """What became of a submit."""

    name: str
    outcome: Literal["created", "unchanged", "would be created"]


def settings_of(job: Object) -> dict[str, str | list[str]]:
    """The settings that a job was made from. Raises: InputError when the launcher did not make it."""
    text = (job["metadata"].get("annotations") or {}).get(SETTINGS)
    if text is None:
        raise InputError(
            f"cannot clone `{job['metadata']['name']}`: the launcher did not make it",
            hint="launcher list shows those that it made",
        )
    settings: dict[str, str | list[str]] = json.loads(text)
    return settings


def submit(cluster: Cluster, objects: Sequence[Object], *, dry_run: bool = False) -> Submitted:
    """Create the objects of a job, all of them or none; a job that is there already with the same spec is left alone.

    Raises: InputError when another job has the name; RemoteError when the server refuses.
    """
    *others, job = objects
    name = job["metadata"]["name"]
    there = _found(cluster, name)
    if there is not None:
        _check_unchanged(there, job)
        return Submitted(name, "unchanged")
    for each in objects:
        try:
            cluster.create(KINDS[each["kind"]], each, dry_run=True)
        except ForbiddenError as problem:
            raise _volume_forbidden(problem, each) from problem
        except ConflictError:
            if each is job:
                raise
    if dry_run:
        return Submitted(name, "would be created")
    _create(cluster, others, job)
    return Submitted(name, "created")


def _create(cluster: Cluster, others: Sequence[Object], job: Object) -> None:
    """Volume, job, claim: the job owns its claim, so it must be there first; its pods wait a second for the claim."""
    made: list[tuple[Resource, str]] = []
    try:
        uid = None
        for each in sorted([*others, job], key=lambda each: _ORDER[each["kind"]]):
            resource = KINDS[each["kind"]]
            body = _owned(each, job, uid) if each["kind"] == CLAIMS.kind else each
            _replace_left_over(cluster, resource, body)
            created = cluster.create(resource, body)
            made.append((resource, each["metadata"]["name"]))
            if each is job:
                uid = created["metadata"]["uid"]
    except BaseException:
        _remove(cluster, reversed(made))
        raise


_ORDER: Final = {VOLUMES.kind: 0, JOBS.kind: 1, CLAIMS.kind: 2}


def _owned(claim: Object, job: Object, uid: str | None) -> Object:
    owner = {"apiVersion": JOBS.group_version, "kind": JOBS.kind, "name": job["metadata"]["name"], "uid": uid}
    return claim | {"metadata": claim["metadata"] | {"ownerReferences": [owner]}}


def _replace_left_over(cluster: Cluster, resource: Resource, body: Object) -> None:
    """A volume of ours whose claim is gone is never bound again; make room for the new one."""
    if resource is not VOLUMES:
        return
    name = body["metadata"]["name"]
    try:
        there = cluster.get(VOLUMES, name)
    except (NotFoundError, ForbiddenError):
        return
    ours = (there["metadata"].get("labels") or {}).items() >= body["metadata"]["labels"].items()
    if ours and there.get("status", {}).get("phase") != "Bound":
        _remove(cluster, [(VOLUMES, name)])
        _until_gone(cluster, VOLUMES, name, cluster.namespace, time.monotonic() + LOOK_AGAIN_S)


def _remove(cluster: Cluster, made: Iterable[tuple[Resource, str]]) -> None:
    """Take back what was made; what can't be removed must not hide why."""
    for resource, name in made:
        try:
            cluster.delete(resource, name, propagation="Background")
        except RemoteError:
            continue


def _found(cluster: Cluster, name: str) -> Object | None:
    try:
        return cluster.get(JOBS, name)
    except NotFoundError:
        if not cluster.serves(JOBS):
            raise
        return None


def _check_unchanged(there: Object, job: Object) -> None:
    """Raises: InputError when the job of that name is over, or is another one."""
    name = job["metadata"]["name"]
    if is_over(there):
        raise InputError(
            f"cannot submit `{name}`: a job of that name is there and has {state(there).lower()}",
            hint=f"launcher delete {name} makes room, and the same --name goes on with its run; another --name is a new run",
        )
    difference = _difference(there["spec"], job["spec"])
    if difference:
        raise InputError(
            f"cannot submit `{name}`: a job of that name is there, with another spec:\n{difference}",
            hint=f"launcher delete {name} ends it; another --name is another job",
        )


def _difference(there: Object, ours: Object) -> str:
    """Lines that differ; what only the server has is its own default."""
    import yaml  # noqa: PLC0415 - a fifth of the time that --help takes

    before, after = (
        yaml.safe_dump(each, sort_keys=True, default_flow_style=False).splitlines()
        for each in (_common(there, ours), ours)
    )
    lines = list(difflib.unified_diff(before, after, "there", "now", lineterm="", n=2))
    return "\n".join(f"  {line}" for line in lines)


def _common(there: Any, ours: Any) -> Any:  # noqa: ANN401 - any part of an object
    """`there` without the fields that `ours` does not name."""
    if isinstance(there, dict) and isinstance(ours, dict):
        return {key: _common(value, ours[key]) for key, value in there.items() if key in ours}
    if isinstance(there, list) and isinstance(ours, list) and len(there) == len(ours):
        return [_common(one, other) for one, other in zip(there, ours, strict=True)]
    return there


def _volume_forbidden(problem: ForbiddenError, each: Object) -> KnownError:
    if each["kind"] != VOLUMES.kind:
        return problem
    return ForbiddenError(
        f"{problem.args[0]}",
        hint="ask for a claim on the bucket (k8s/components/s3-data) and name it with --data-pvc, or use --data-access api",
    )


def claim_for(cluster: Cluster, place: str) -> str | None:
    """The claim on `s3://BUCKET/PREFIX` that an administrator made in this namespace, None without one."""
    try:
        claims = cluster.list(CLAIMS)
    except ForbiddenError:
        return None
    wanted = place.rstrip("/")
    for claim in claims:
        named: str = (claim["metadata"].get("annotations") or {}).get(DATA, "")
        if named.rstrip("/") == wanted and claim.get("status", {}).get("phase") == "Bound":
            return str(claim["metadata"]["name"])
    return None


def sweep(cluster: Cluster) -> list[str]:
    """Remove volumes of the launcher in this namespace whose claim is gone; their names. Nobody else may, so forbidden is fine."""
    try:
        volumes = cluster.list(VOLUMES, labels=OURS)
    except ForbiddenError:
        return []
    left = [
        each["metadata"]["name"]
        for each in volumes
        if each.get("status", {}).get("phase") in {"Released", "Failed"}
        and each["spec"].get("claimRef", {}).get("namespace") == cluster.namespace
    ]
    _remove(cluster, ((VOLUMES, name) for name in left))
    return left


def get(cluster: Cluster, name: str) -> Object:
    """The job. Raises: NotFoundError."""
    return cluster.get(JOBS, name)


def all_jobs(cluster: Cluster, *, everywhere: bool, labels: str = "") -> tuple[list[Object], list[Object]]:
    """Jobs, those that the launcher did not make too, and their pods: two requests however many there are."""
    jobs = cluster.list(JOBS, everywhere=everywhere, labels=labels)
    pods = cluster.list(PODS, everywhere=everywhere, labels=JOB_LABEL) if jobs else []
    return jobs, pods


def observe(cluster: Cluster, name: str) -> Snapshot:
    """The job with all that tells how it is; what the user may not read is left out and named in `denied`.

    Raises: NotFoundError.
    """
    job = cluster.get(JOBS, name)
    denied: set[str] = set()

    def read(resource: Resource, *, namespace: str | None = None, **selectors: object) -> list[Object]:
        try:
            return cluster.list(resource, namespace=namespace, **selectors)  # type: ignore[arg-type]  # labels, fields, everywhere
        except (ForbiddenError, NotFoundError):
            denied.add(resource.plural)
            return []

    pods = tuple(sorted(read(PODS, labels=f"{JOB_LABEL}={name}"), key=lambda pod: pod["metadata"]["name"]))
    unscheduled = any(not pod["spec"].get("nodeName") for pod in pods) and not is_over(job)
    unseen = not job.get("status", {}).get("conditions") and _age_s(job) > UNSEEN_S
    queued = "kueue.x-k8s.io/queue-name" in (job["metadata"].get("labels") or {})
    return Snapshot(
        job=job,
        now=datetime.now(timezone.utc),
        pods=pods,
        events=tuple(_events(read(EVENTS), job, pods)),
        claims=tuple(_claims(read(CLAIMS), pods)) if any(_waits(pod) for pod in pods) else (),
        nodes=tuple(read(NODES)) if unscheduled else (),
        node_pods=tuple(read(PODS, everywhere=True, fields="status.phase!=Succeeded,status.phase!=Failed"))
        if unscheduled
        else (),
        workload=_workload(read(WORKLOADS), job) if queued else None,
        operator=_operator(read(DEPLOYMENTS, everywhere=True)) if unseen else None,
        tails=_tails(cluster, pods),
        denied=frozenset(denied),
    )


def _age_s(thing: Object) -> float:
    created = datetime.fromisoformat(thing["metadata"]["creationTimestamp"].replace("Z", "+00:00"))
    return (datetime.now(timezone.utc) - created).total_seconds()


def _waits(pod: Object) -> bool:
    return bool(pod.get("status", {}).get("phase", "Pending") == "Pending")


def _events(events: Iterable[Object], job: Object, pods: Sequence[Object]) -> list[Object]:
    """Of the job, its pods (those that are gone too) and its claim, the oldest first."""
    name = job["metadata"]["name"]
    uid = job["metadata"]["uid"]
    roles = tuple(f"{name}-{role.lower()}-" for role in job["spec"]["pytorchReplicaSpecs"])
    pod_uids = {pod["metadata"]["uid"] for pod in pods}

    def is_about(event: Object) -> bool:
        about = event.get("involvedObject", {})
        if about.get("uid") in {uid, *pod_uids}:
            return True
        return about.get("kind") in {"Pod", CLAIMS.kind} and str(about.get("name", "")).startswith(
            (*roles, f"{name}-data")
        )

    born = job["metadata"]["creationTimestamp"]
    mine = [event for event in events if is_about(event) and event_time(event) >= born]
    return sorted(mine, key=event_time)


def event_time(event: Object) -> str:
    """When it last happened, as the server writes times."""
    series = event.get("series") or {}
    return str(
        event.get("lastTimestamp")
        or series.get("lastObservedTime")
        or event.get("eventTime")
        or event["metadata"].get("creationTimestamp")
        or ""
    )


def _claims(claims: Iterable[Object], pods: Sequence[Object]) -> list[Object]:
    named = {
        volume["persistentVolumeClaim"]["claimName"]
        for pod in pods
        for volume in pod["spec"].get("volumes") or ()
        if "persistentVolumeClaim" in volume
    }
    return [claim for claim in claims if claim["metadata"]["name"] in named]


def _workload(workloads: Iterable[Object], job: Object) -> Object | None:
    uid = job["metadata"]["uid"]
    owned = (w for w in workloads if uid in {owner["uid"] for owner in w["metadata"].get("ownerReferences") or ()})
    return next(owned, None)


def _operator(deployments: Iterable[Object]) -> Object | None:
    return next((each for each in deployments if "training-operator" in each["metadata"]["name"]), None)


def _tails(cluster: Cluster, pods: Sequence[Object]) -> dict[str, str]:
    """The last lines of containers that failed, of those that were started again the lines before."""
    tails = {}
    for pod in pods:
        name = pod["metadata"]["name"]
        for status in pod.get("status", {}).get("containerStatuses") or ():
            failed = (status.get("state", {}).get("terminated") or {}).get("exitCode")
            restarted = not failed and (status.get("lastState") or {}).get("terminated")
            if status["name"] == "pytorch" and (failed or restarted):
                tails[name] = _tail(cluster, name, previous=bool(restarted))
    return tails


def _tail(cluster: Cluster, pod: str, *, previous: bool) -> str:
    try:
        lines = [
            line.partition(b" ")[2].decode(errors="replace").rstrip("\n")
            for line in cluster.log(pod, tail=TAIL_LINES, previous=previous)
        ]
    except RemoteError:
        return ""
    return "\n".join(lines)


def progress(cluster: Cluster, snapshot: Snapshot) -> str:
    """The newest line in which the trainer tells how far it is, empty when none does."""
    for pod in snapshot.pods:
        if pod.get("status", {}).get("phase") in {"Running", "Succeeded"}:
            lines = _tail(cluster, pod["metadata"]["name"], previous=False).splitlines()
            told = [
                line
                for line in lines
                if "[rank 0] " in line and ("epoch" in line or "decoding" in line or "downloading" in line)
            ]
            if told:
                return told[-1].partition("[rank 0] ")[2].strip()
    return ""


def wait(
    cluster: Cluster,
    name: str,
    *,
    until: State | None = None,
    timeout_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> State:
    """The job's state once it is over, or is `until`.

    Raises: JobFailedError when it failed and that was not waited for; TimeLimitError; NotFoundError when it is gone.
    """
    end_s = None if timeout_s is None else clock() + timeout_s
    for job in changes(cluster, name, end_s=end_s, clock=clock):
        now = state(job)
        if now == until or (until is None and now == "Succeeded"):
            return now
        if now == "Failed":
            raise JobFailedError(f"the job `{name}` failed", hint=f"launcher status {name}")
        if is_over(job):
            raise JobFailedError(
                f"the job `{name}` has {now.lower()} and will not be {until}", hint=f"launcher status {name}"
            )
    raise TimeLimitError(
        f"the job `{name}` was not over after {timeout_s:g} s (from `--timeout`); it goes on",
        hint=f"launcher status {name}",
    )


def changes(
    cluster: Cluster, name: str, *, end_s: float | None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Object]:
    """The job, and again whenever it may have changed, until `end_s` of the clock.

    Raises: NotFoundError when it is gone; other RemoteErrors when the server stays away.
    """
    while end_s is None or clock() < end_s:
        job = cluster.get(JOBS, name)
        yield job
        left_s = LOOK_AGAIN_S if end_s is None else min(LOOK_AGAIN_S, end_s - clock())
        if left_s <= 0:
            return
        version = job["metadata"]["resourceVersion"]
        try:
            for _, changed in cluster.watch(JOBS, fields=f"metadata.name={name}", since=version, timeout_s=left_s):
                yield changed
        except (GoneError, UnreachableError, InvalidError):
            cluster.sleep(POLL_S)


def delete(cluster: Cluster, name: str, *, timeout_s: float) -> list[str]:
    """End the job and wait until nothing of it is left: pods, Services, claim and volume; what was removed.

    Raises: NotFoundError when there was nothing; TimeLimitError.
    """
    end_s = time.monotonic() + timeout_s
    volumes = _own_volumes(cluster, name)
    removed = []
    try:
        cluster.delete(JOBS, name)
        removed.append(f"pytorchjob.kubeflow.org/{name}")
    except NotFoundError:
        if not volumes:
            raise
    _until_gone(cluster, JOBS, name, cluster.namespace, end_s)
    selector = f"{JOB_LABEL}={name}"
    _until(lambda: not cluster.list(PODS, labels=selector), f"a pod of `{name}`", end_s, cluster)
    _until(lambda: not cluster.list(SERVICES, labels=selector), f"a Service of `{name}`", end_s, cluster)
    claim = f"{name}-data"
    if volumes:
        _until_gone(cluster, CLAIMS, claim, cluster.namespace, end_s)
    for volume in volumes:
        _remove(cluster, [(VOLUMES, volume)])
        _until_gone(cluster, VOLUMES, volume, cluster.namespace, end_s)
        removed.append(f"persistentvolume/{volume}")
    return removed


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


def _until_gone(cluster: Cluster, resource: Resource, name: str, namespace: str, end_s: float) -> None:
    def gone() -> bool:
        try:
            cluster.get(resource, name, namespace=namespace)
        except NotFoundError:
            return True
        return False

    _until(gone, f"{resource.kind} `{name}`", end_s, cluster)


def _until(holds: Callable[[], bool], what: str, end_s: float, cluster: Cluster) -> None:
    while not holds():
        if time.monotonic() > end_s:
            raise TimeLimitError(
                f"cannot delete all in time: {what} is still there (from `--timeout`)", hint="the same command goes on"
            )
        cluster.sleep(POLL_S / 2)
