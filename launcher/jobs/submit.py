"""What is done with jobs on a cluster: create, look at, wait for, delete."""

import difflib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from launcher.cluster.client import Cluster
from launcher.cluster.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    ServerError,
    UnreachableError,
)
from launcher.cluster.resources import CLAIMS, JOB_LABEL, JOBS, PODS, SERVICES, VOLUMES, Object, Resource
from launcher.jobs.identity import anonymous, identified
from launcher.spec.fields import Value
from launcher.spec.manifest import SETTINGS
from launcher.status.collect import age_s, collect_snapshot
from launcher.status.diagnose import diagnose
from launcher.status.snapshot import State, is_over, outcome, state
from trainer.errors import InputError, JobFailedError, RemoteError, TimeLimitError, on_one_line
from trainer.formats.documents import checked
from trainer.limits import parsed_json

OURS: Final = "app.kubernetes.io/managed-by=chexnet-launcher"
INSTANCE_LABEL: Final = "app.kubernetes.io/instance"

DATA: Final = "chexnet-launcher/data"
"""Annotation by which an administrator says which `s3://BUCKET/PREFIX` a claim holds."""

UNCLAIMED_S: Final = 3600.0
"""A volume of ours without a claim for so long was left by a submit that was killed."""

LOOK_AGAIN_S: Final = 15.0
"""A watch may be silent while things happen, so whoever waits lists so often."""

POLL_S: Final = 1.0

AWAY_S: Final = 300.0
"""A server that is upgraded is away for as long as this, and the jobs go on meanwhile."""

KINDS: Final[Mapping[str, Resource]] = {each.kind: each for each in (JOBS, CLAIMS, VOLUMES)}


@dataclass(frozen=True)
class Submitted:
    """What became of a submit."""

    name: str
    outcome: Literal["created", "unchanged", "would be created"]


def settings_of(job: Object) -> dict[str, Value]:
    """The settings that a job was made from. Raises: InputError when the launcher did not make it."""
    text = _settings(job)
    if text is None:
        raise InputError(
            f"cannot tell the settings of `{job['metadata']['name']}`: the launcher did not make it",
            hint="launcher list shows those that it made",
        )
    try:
        settings: dict[str, Value] = checked(parsed_json(text.encode()), dict[str, str | list[str] | dict[str, Any]])
    except ValueError as problem:
        reason = on_one_line(str(problem)[:200])
        raise InputError(
            f"cannot tell the settings of `{job['metadata']['name']}`: its annotation `{SETTINGS}` is damaged ({reason})",
            hint="launcher submit with the settings that you give",
        ) from problem
    return settings


def submit(cluster: Cluster, objects: Sequence[Object], *, dry_run: bool = False) -> Submitted:
    """Create the objects of a job, all of them or none; a job that is there already with the same spec is left alone.

    Raises: InputError when another job has the name; RemoteError when the server refuses.
    """
    *others, job = objects
    name = job["metadata"]["name"]
    there = found(cluster, name)
    if there is not None:
        _check_unchanged(there, job)
        _complete(cluster, others, there)
        return Submitted(name, "unchanged")
    check_accepted(cluster, objects)
    if dry_run:
        return Submitted(name, "would be created")
    _create(cluster, others, identified(job))
    return Submitted(name, "created")


def _complete(cluster: Cluster, others: Sequence[Object], job: Object) -> None:
    """Make the claim of a job whose submit was killed before it came to that: its pods wait for it."""
    for claim in (each for each in others if each["kind"] == CLAIMS.kind):
        try:
            cluster.get(CLAIMS, claim["metadata"]["name"])
        except NotFoundError:
            cluster.create(CLAIMS, _owned(claim, job, job["metadata"]["uid"]))


def check_accepted(cluster: Cluster, objects: Sequence[Object]) -> None:
    """Ask the server whether it would take the objects of a job. Raises: RemoteError."""
    for each in objects:
        _check_accepted(cluster, each)


def _check_accepted(cluster: Cluster, each: Object) -> None:
    try:
        cluster.create(KINDS[each["kind"]], each, dry_run=True)
    except ForbiddenError as problem:
        if each["kind"] != VOLUMES.kind:
            raise
        raise ForbiddenError(
            str(problem.args[0]),
            hint=(
                "ask for a claim on the bucket (k8s/components/s3-data) and name it with --data-pvc, "
                "or use --data-access api"
            ),
        ) from problem
    except ConflictError:
        if each["kind"] == JOBS.kind:
            raise  # a volume and a claim of that name may be left over, and go in a moment


def _create(cluster: Cluster, others: Sequence[Object], job: Object) -> None:
    """Volume, job, claim: the job owns its claim, so it must be there first; its pods wait a second for the claim."""
    made: list[tuple[Resource, str]] = []
    try:
        uid = None
        for each in sorted([*others, job], key=lambda each: _ORDER[each["kind"]]):
            resource = KINDS[each["kind"]]
            body = _owned(each, job, uid) if each["kind"] == CLAIMS.kind else each
            if resource is VOLUMES:
                _make_room(cluster, body)
            created = cluster.create(resource, body)
            made.append((resource, each["metadata"]["name"]))
            if each is job:
                uid = created["metadata"]["uid"]
    except BaseException as problem:
        left = _remove(cluster, reversed(made))
        if left and isinstance(problem, RemoteError):
            problem.hint = f"left behind: {', '.join(left)}; launcher delete {job['metadata']['name']} removes it"
        raise


_ORDER: Final = {VOLUMES.kind: 0, JOBS.kind: 1, CLAIMS.kind: 2}


def _owned(claim: Object, job: Object, uid: str | None) -> Object:
    owner = {"apiVersion": JOBS.group_version, "kind": JOBS.kind, "name": job["metadata"]["name"], "uid": uid}
    return claim | {"metadata": claim["metadata"] | {"ownerReferences": [owner]}}


def _make_room(cluster: Cluster, volume: Object) -> None:
    """Remove a volume of ours that is left: its job was deleted by another hand, and it is never bound again.

    Its claim goes a moment after the job, and only then may it go.
    """
    name, ours = volume["metadata"]["name"], volume["metadata"]["labels"].items()

    def is_free() -> bool:
        try:
            there = cluster.get(VOLUMES, name)
        except (NotFoundError, ForbiddenError):
            return True
        if not ours <= (there["metadata"].get("labels") or {}).items():
            return True  # the server will refuse ours
        if there.get("status", {}).get("phase") != "Bound":
            _remove(cluster, [(VOLUMES, name)])
        return False

    _comes_true(is_free, cluster, time.monotonic() + LOOK_AGAIN_S)


def _remove(cluster: Cluster, made: Iterable[tuple[Resource, str]]) -> list[str]:
    """Take back what was made; what could not be removed, for that must not hide why."""
    left = []
    for resource, name in made:
        try:
            cluster.delete(resource, name, propagation="Background")
        except NotFoundError:
            continue
        except RemoteError:
            left.append(f"{resource.kind.lower()}/{name}")
    return left


def found(cluster: Cluster, name: str) -> Object | None:
    """The job, None where there is none. Raises: NotFoundError where the cluster knows no PyTorchJobs."""
    try:
        return cluster.get(JOBS, name)
    except NotFoundError:
        if not cluster.serves(JOBS):
            raise
        return None


def check_over(there: Object, what: str) -> None:
    """Raises: InputError when the job has not ended, or is being deleted; `what` begins it: `cannot resume `t1``."""
    name = there["metadata"]["name"]
    if "deletionTimestamp" in there["metadata"]:
        raise InputError(
            f"{what}: a job of that name is being deleted", hint=f"launcher delete {name} waits until it is gone"
        )
    if not is_over(there):
        raise InputError(
            f"{what}: it is not over, its state is {state(there)}",
            hint=f"launcher logs {name} -f follows it; launcher delete {name} ends it",
        )


def _check_unchanged(there: Object, job: Object) -> None:
    """Raises: InputError when the job of that name is over, or is another one."""
    name = job["metadata"]["name"]
    if "deletionTimestamp" in there["metadata"]:
        raise InputError(
            f"cannot submit `{name}`: a job of that name is being deleted",
            hint=f"launcher delete {name} waits until it is gone",
        )
    if is_over(there):
        raise InputError(
            f"cannot submit `{name}`: a job of that name is there and has {outcome(there).lower()}",
            hint=(
                f"launcher resume {name} goes on with its run; launcher clone {name} starts a new one with its settings; "
                f"launcher delete {name} makes room"
            ),
        )
    difference = _difference(anonymous(there), job)
    if difference:
        raise InputError(
            f"cannot submit `{name}`: a job of that name is there, with another spec:\n{difference}",
            hint=f"launcher delete {name} ends it; another --name is another job",
        )


FILLED_IN: Final[Mapping[str, object]] = {"protocol": "TCP", "suspend": False}
"""What the server adds to every job. Source: defaults of the operator's CRD, v1.9.4."""


def _difference(there: Object, ours: Object) -> str:
    """Lines that differ, in the labels and the spec.

    A field that only the server's has is one that the server, Kueue or a webhook has added: the settings are the same. Where
    they are not, it may be one that we have no more.
    """
    import yaml  # noqa: PLC0415 - a fifth of the time that --help takes

    old, new = ({"labels": each["metadata"].get("labels") or {}, "spec": each["spec"]} for each in (there, ours))
    same_settings = _settings(there) == _settings(ours)
    before, after = (
        yaml.safe_dump(each, sort_keys=True, default_flow_style=False).splitlines()
        for each in (_common(old, new, FILLED_IN if not same_settings else None), new)
    )
    lines = list(difflib.unified_diff(before, after, "there", "now", lineterm="", n=2))
    return "\n".join(f"  {line}" for line in lines)


def _settings(job: Object) -> str | None:
    return (job["metadata"].get("annotations") or {}).get(SETTINGS)


def _common(there: Any, ours: Any, dropped: Mapping[str, object] | None) -> Any:  # noqa: ANN401 - any part of an object
    """`there` without the fields that `ours` does not name: all of them, or the `dropped` ones with their values."""
    if isinstance(there, dict) and isinstance(ours, dict):
        return {
            key: _common(value, ours.get(key), dropped)
            for key, value in there.items()
            if key in ours or not (dropped is None or dropped.get(key, ...) == value)
        }
    if isinstance(there, list) and isinstance(ours, list) and len(there) == len(ours):
        return [_common(one, other, dropped) for one, other in zip(there, ours, strict=True)]
    return there


def claim_for(cluster: Cluster, place: str) -> str | None:
    """The claim on `s3://BUCKET/PREFIX` that an administrator made in this namespace, None without one."""
    try:
        claims = cluster.list(CLAIMS)
    except RemoteError:  # whoever goes on meets it again, and says so
        return None
    wanted = place.rstrip("/")
    for claim in claims:
        named: str = (claim["metadata"].get("annotations") or {}).get(DATA, "")
        if named.rstrip("/") == wanted and claim.get("status", {}).get("phase") == "Bound":
            return str(claim["metadata"]["name"])
    return None


def sweep(cluster: Cluster) -> list[str]:
    """Remove volumes of the launcher in this namespace whose claim is gone; their names.

    Of those that never had one only the old: theirs is made a moment after them. Few may remove volumes, so forbidden is fine.
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
    left = _remove(cluster, ((VOLUMES, name) for name in names))
    return [name for name in names if f"{VOLUMES.kind.lower()}/{name}" not in left]


def _is_left_over(volume: Object) -> bool:
    phase = volume.get("status", {}).get("phase")
    return phase in {"Released", "Failed"} or (phase == "Available" and age_s(volume) > UNCLAIMED_S)


def get(cluster: Cluster, name: str) -> Object:
    """The job. Raises: NotFoundError."""
    return cluster.get(JOBS, name)


def all_jobs(cluster: Cluster, *, everywhere: bool, labels: str = "") -> tuple[list[Object], list[Object]]:
    """Jobs, those that the launcher did not make too, and their pods: two requests however many there are."""
    jobs = cluster.list(JOBS, everywhere=everywhere, labels=labels)
    try:
        pods = cluster.list(PODS, everywhere=everywhere, labels=JOB_LABEL) if jobs else []
    except ForbiddenError:  # who may see jobs only still gets their list
        pods = []
    return jobs, pods


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
        now = outcome(job)
        if now == until or (until is None and now == "Succeeded"):
            return now
        if now == "Failed":
            raise _failure(cluster, name)
        if is_over(job):
            raise JobFailedError(
                f"the job `{name}` has {now.lower()} and will not be {until}", hint=f"launcher status {name}"
            )
    raise TimeLimitError(
        f"the job `{name}` was not over after {timeout_s:g} s (from `--timeout`); it goes on",
        hint=f"launcher status {name}",
    )


def _failure(cluster: Cluster, name: str) -> JobFailedError:
    """That the job failed, and why, as `status` shows it."""
    with suppress(RemoteError):
        found = diagnose(collect_snapshot(cluster, name))
        if found is not None:
            own = "the job failed "  # of a job without pods
            cause = f" {found.sentence.removeprefix(own)}" if found.sentence.startswith(own) else f": {found.sentence}"
            return JobFailedError(f"the job `{name}` failed{cause}", hint=found.next_step)
    return JobFailedError(f"the job `{name}` failed", hint=f"launcher status {name}")


def changes(
    cluster: Cluster, name: str, *, end_s: float | None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Object]:
    """The job, and again whenever it may have changed, until `end_s` of the clock.

    Raises: NotFoundError when it is gone, or another has taken its name; other RemoteErrors when the server stays away.
    """
    job = first = cluster.get(JOBS, name)
    while True:
        yield job
        left_s = LOOK_AGAIN_S if end_s is None else min(LOOK_AGAIN_S, end_s - clock())
        if left_s <= 0:
            return
        with suppress(ForbiddenError, GoneError, InvalidError, ServerError, UnreachableError):
            yield from _watched(cluster, job, left_s)
        cluster.sleep(POLL_S)
        job = looked_up(cluster, name, min(clock() + AWAY_S, math.inf if end_s is None else end_s), clock)
        if job["metadata"]["uid"] != first["metadata"]["uid"]:
            raise NotFoundError(
                f"the job `{name}` was deleted, and another has its name", hint=f"launcher status {name}"
            )


def _watched(cluster: Cluster, job: Object, time_s: float) -> Iterator[Object]:
    """The job at each change, until it is deleted, the stream ends or the time is over."""
    metadata = job["metadata"]
    since, fields = metadata["resourceVersion"], f"metadata.name={metadata['name']}"
    for kind, changed in cluster.watch(JOBS, fields=fields, since=since, timeout_s=time_s):
        if kind == "DELETED":
            return
        yield changed


def looked_up(cluster: Cluster, name: str, end_s: float, clock: Callable[[], float]) -> Object:
    """A job that was there, from a server that may be away for a while. Raises: NotFoundError, and UnreachableError at the end."""
    while True:
        try:
            return cluster.get(JOBS, name)
        except NotFoundError as problem:
            raise NotFoundError(f"the job `{name}` was deleted meanwhile", hint="launcher list") from problem
        except (ServerError, UnreachableError):
            if clock() >= end_s:
                raise
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
    _wait_until_gone(cluster, JOBS, name, end_s)
    selector = f"{JOB_LABEL}={name}"
    _wait_until(lambda: not cluster.list(PODS, labels=selector), f"a pod of `{name}`", cluster, end_s)
    _wait_until(lambda: not cluster.list(SERVICES, labels=selector), f"a Service of `{name}`", cluster, end_s)
    if volumes:
        _wait_until_gone(cluster, CLAIMS, f"{name}-data", end_s)
    for volume in volumes:
        with suppress(NotFoundError):
            cluster.delete(VOLUMES, volume)
        _wait_until_gone(cluster, VOLUMES, volume, end_s)
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
    if not _comes_true(holds, cluster, end_s):
        raise TimeLimitError(
            f"cannot delete all in time: {what} is still there (from `--timeout`)", hint="the same command goes on"
        )


def _comes_true(holds: Callable[[], bool], cluster: Cluster, end_s: float) -> bool:
    while not holds():
        if time.monotonic() > end_s:
            return False
        cluster.sleep(POLL_S / 2)
    return True
