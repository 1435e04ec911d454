"""What is done with jobs on a cluster: create, look at, wait for, delete."""

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from launcher.cluster.client import Cluster
from launcher.cluster.errors import (
    ConflictError,
    ForbiddenError,
    NotFoundError,
)
from launcher.cluster.resources import CLAIMS, JOBS, VOLUMES, Object, Resource
from launcher.jobs.delete import comes_true, remove_objects
from launcher.jobs.find import KINDS, find_job, settings_text
from launcher.jobs.identity import anonymous, identified
from launcher.status.snapshot import is_over, outcome, state
from trainer.errors import InputError, RemoteError

CLAIM_GONE_S: Final = 15.0
"""How long a claim may take to go after its job."""


@dataclass(frozen=True)
class Submitted:
    """What became of a submit."""

    name: str
    outcome: Literal["created", "unchanged", "would be created"]


def submit(cluster: Cluster, objects: Sequence[Object], *, dry_run: bool = False) -> Submitted:
    """Create the objects of a job, all of them or none; a job that is there already with the same spec is left alone.

    Raises: InputError when another job has the name; RemoteError when the server refuses.
    """
    *others, job = objects
    name = job["metadata"]["name"]
    there = find_job(cluster, name)
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
        left = remove_objects(cluster, reversed(made))
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
            remove_objects(cluster, [(VOLUMES, name)])
        return False

    comes_true(is_free, cluster, time.monotonic() + CLAIM_GONE_S)


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
    same_settings = settings_text(there) == settings_text(ours)
    before, after = (
        yaml.safe_dump(each, sort_keys=True, default_flow_style=False).splitlines()
        for each in (_common(old, new, FILLED_IN if not same_settings else None), new)
    )
    lines = list(difflib.unified_diff(before, after, "there", "now", lineterm="", n=2))
    return "\n".join(f"  {line}" for line in lines)


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
