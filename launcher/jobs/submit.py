"""Create a job's objects, all or none."""

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
from launcher.jobs.delete import poll_until, remove_objects
from launcher.jobs.find import KINDS, find_job, settings_text
from launcher.jobs.identity import anonymous, identified
from launcher.status.snapshot import is_over, outcome
from trainer.errors import InputError, RemoteError

CLAIM_GONE_S: Final = 15.0
"""Maximum time for the deletion of a claim after its job."""


@dataclass(frozen=True)
class Submitted:
    """Result of a submit."""

    name: str
    outcome: Literal["created", "unchanged", "would be created"]


def submit(cluster: Cluster, objects: Sequence[Object], *, dry_run: bool = False) -> Submitted:
    """Create all objects of a job or none; an existing job with the same spec is left unchanged.

    Raises: InputError when another job has the name; RemoteError when the server refuses.
    """
    *others, job = objects
    name = job["metadata"]["name"]
    existing = find_job(cluster, name)
    if existing is not None:
        _check_unchanged(existing, job)
        _create_missing_claim(cluster, others, existing)
        return Submitted(name, "unchanged")
    check_accepted(cluster, objects)
    if dry_run:
        return Submitted(name, "would be created")
    _create(cluster, others, identified(job))
    return Submitted(name, "created")


def _create_missing_claim(cluster: Cluster, others: Sequence[Object], job: Object) -> None:
    """Create the claim of a job whose submit was killed before it created the claim: its pods wait for it."""
    for claim in (each for each in others if each["kind"] == CLAIMS.kind):
        try:
            cluster.get(CLAIMS, claim["metadata"]["name"])
        except NotFoundError:
            cluster.create(CLAIMS, _owned(claim, job, job["metadata"]["uid"]))


def check_accepted(cluster: Cluster, objects: Sequence[Object]) -> None:
    """Validate the objects of a job with a dry run in the cluster. Raises: RemoteError."""
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
                "ask an administrator for a claim on the bucket (k8s/components/s3-data) and use it with --data-pvc, "
                "or use --data-access api"
            ),
        ) from problem
    except ConflictError:
        if each["kind"] == JOBS.kind:
            raise  # a volume or claim of that name may be left over from a deleted job, and is removed later


def _create(cluster: Cluster, others: Sequence[Object], job: Object) -> None:
    """Create volume, job and claim in this order: the claim's ownerReference needs the UID of the job."""
    made: list[tuple[Resource, str]] = []
    try:
        uid = None
        for each in sorted([*others, job], key=lambda each: _ORDER[each["kind"]]):
            resource = KINDS[each["kind"]]
            body = _owned(each, job, uid) if each["kind"] == CLAIMS.kind else each
            if resource is VOLUMES:
                _remove_leftover_volume(cluster, body)
            created = cluster.create(resource, body)
            made.append((resource, each["metadata"]["name"]))
            if each is job:
                uid = created["metadata"]["uid"]
    except BaseException as problem:
        left = remove_objects(cluster, reversed(made))
        if left and isinstance(problem, RemoteError):
            problem.hint = (
                f"{', '.join(left)} could not be removed; launcher delete {job['metadata']['name']} removes it"
            )
        raise


_ORDER: Final = {VOLUMES.kind: 0, JOBS.kind: 1, CLAIMS.kind: 2}


def _owned(claim: Object, job: Object, uid: str | None) -> Object:
    owner = {"apiVersion": JOBS.group_version, "kind": JOBS.kind, "name": job["metadata"]["name"], "uid": uid}
    return claim | {"metadata": claim["metadata"] | {"ownerReferences": [owner]}}


def _remove_leftover_volume(cluster: Cluster, volume: Object) -> None:
    """Remove a volume of the same job name, left over after the job was deleted with kubectl: it can't be bound again.

    It is removed after its claim, which the garbage collector deletes shortly after the job.
    """
    name, ours = volume["metadata"]["name"], volume["metadata"]["labels"].items()

    def is_free() -> bool:
        try:
            existing = cluster.get(VOLUMES, name)
        except (NotFoundError, ForbiddenError):
            return True
        if not ours <= (existing["metadata"].get("labels") or {}).items():
            return True  # not ours: the server will report the conflict
        if existing.get("status", {}).get("phase") != "Bound":
            remove_objects(cluster, [(VOLUMES, name)])
        return False

    poll_until(is_free, cluster, time.monotonic() + CLAIM_GONE_S)


def _check_unchanged(existing: Object, job: Object) -> None:
    """Raises: InputError when the existing job has finished or has another spec."""
    name = job["metadata"]["name"]
    if "deletionTimestamp" in existing["metadata"]:
        raise InputError(
            f"cannot submit `{name}`: a job of that name is being deleted",
            hint=f"launcher delete {name} waits until it is gone",
        )
    if is_over(existing):
        raise InputError(
            f"cannot submit `{name}`: a job of that name exists and has {outcome(existing).lower()}",
            hint=(
                f"launcher resume {name} continues its run; launcher clone {name} starts a new run with its settings; "
                f"launcher delete {name} frees the name"
            ),
        )
    difference = _difference(anonymous(existing), job)
    if difference:
        raise InputError(
            f"cannot submit `{name}`: a job of that name exists with another spec:\n{difference}",
            hint=f"launcher delete {name} deletes it; or use another --name",
        )


FILLED_IN: Final[Mapping[str, object]] = {"protocol": "TCP", "suspend": False}
"""Fields that the server adds to every job. Source: defaults of the operator's CRD, v1.9.4."""


def _difference(existing: Object, ours: Object) -> str:
    """Lines of labels and spec that differ.

    With equal settings, fields that only the server's object has are ignored: the server, Kueue or a webhook added them. With
    different settings they are shown, as the new job may have dropped them, except the CRD's defaults.
    """
    import yaml  # noqa: PLC0415 - a fifth of the time of --help

    old, new = ({"labels": each["metadata"].get("labels") or {}, "spec": each["spec"]} for each in (existing, ours))
    same_settings = settings_text(existing) == settings_text(ours)
    before, after = (
        yaml.safe_dump(each, sort_keys=True, default_flow_style=False).splitlines()
        for each in (_common(old, new, FILLED_IN if not same_settings else None), new)
    )
    lines = list(difflib.unified_diff(before, after, "existing", "new", lineterm="", n=2))
    return "\n".join(f"  {line}" for line in lines)


def _common(existing: Any, ours: Any, dropped: Mapping[str, object] | None) -> Any:  # noqa: ANN401 - any part of an object
    """`existing` without the fields that `ours` lacks: all of them, or only the `dropped` ones with their values."""
    if isinstance(existing, dict) and isinstance(ours, dict):
        return {
            key: _common(value, ours.get(key), dropped)
            for key, value in existing.items()
            if key in ours or not (dropped is None or dropped.get(key, ...) == value)
        }
    if isinstance(existing, list) and isinstance(ours, list) and len(existing) == len(ours):
        return [_common(one, other, dropped) for one, other in zip(existing, ours, strict=True)]
    return existing
