"""Create a job's objects, all or none."""

import difflib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import (
    ForbiddenError,
    NotFoundError,
)
from launcher.cluster.resources import CLAIMS, RUNTIMES, Object
from launcher.jobs import leftovers
from launcher.jobs.find import POLL_S, settings_text
from launcher.jobs.identity import anonymous, identified
from launcher.kinds import lookup
from launcher.kinds.accept import RESOURCES, check_accepted
from launcher.kinds.kueue import check_held
from launcher.spec.train_job import MANAGER
from launcher.status.snapshot import is_over, outcome
from trainer.errors import InputError, RemoteError
from trainer.limits import parsed_json

KNOWN_S: Final = 15.0
"""Maximum time until the webhooks of Trainer and Kueue know a runtime: they read it from caches (measured: docs/decisions/0031)."""

_UNKNOWN_RUNTIME: Final = re.compile(r"must be created before the TrainJob|runtime '[^']*' not found")
"""Source: refusals of Trainer 2.3.0 and Kueue 0.19."""


_SHARED: Final = ", and they would share one run"


@dataclass(frozen=True)
class Submitted:
    """Result of a submit."""

    name: str
    outcome: Literal[
        "created", "unchanged", "would be created", "not validated, as no runtime exists yet; would be created"
    ]


def submit(cluster: Cluster, objects: Sequence[Object], *, dry_run: bool = False) -> Submitted:
    """Create all objects of a job or none; an existing job with the same spec is left unchanged.

    Raises: InputError when another job has the name; RemoteError when the server refuses.
    """
    *others, job = objects
    name = job["metadata"]["name"]
    for existing in lookup.find_all(cluster, name):
        _check_unchanged(existing, job)
        _complete(cluster, others, existing)
        return Submitted(name, "unchanged")
    answer = check_accepted(cluster, objects)
    leftovers.check_free(cluster, job)
    if dry_run:
        return Submitted(
            name, "would be created" if answer else "not validated, as no runtime exists yet; would be created"
        )
    _create(cluster, others, identified(job))
    return Submitted(name, "created")


def _complete(cluster: Cluster, others: Sequence[Object], job: Object) -> None:
    """Finish a submit that was killed after it created the job: the claim, for which pods wait, and the owner of the runtime."""
    for each in others:
        resource = RESOURCES[each["kind"]]
        if resource not in {CLAIMS, RUNTIMES}:
            continue
        try:
            existing = cluster.get(resource, each["metadata"]["name"])
        except NotFoundError:
            cluster.create(resource, _owned(each, job))
        else:
            if resource is RUNTIMES and not existing["metadata"].get("ownerReferences"):
                _give_owner(cluster, each, job)


def _create(cluster: Cluster, others: Sequence[Object], job: Object) -> None:
    """Create what the job needs before it, the job, and what it owns: an ownerReference needs the UID of the job."""
    made: list[leftovers.Made] = []

    def create(each: Object, *, dry_run: bool = False) -> Object:
        created = cluster.create(RESOURCES[each["kind"]], each, dry_run=dry_run)
        if not dry_run:
            made.append((RESOURCES[each["kind"]], each["metadata"]["name"], created["metadata"]["uid"]))
        return created

    try:
        for each in (each for each in others if each["kind"] != CLAIMS.kind):
            leftovers.remove_leftover(cluster, each)
            create(each)
        if any(each["kind"] == RUNTIMES.kind for each in others):
            # for the first time with its own runtime
            check_held(cluster, job, _when_runtime_is_known(cluster, lambda: create(job, dry_run=True)))
        created = kinds.identified(kinds.of(job), _when_runtime_is_known(cluster, lambda: create(job)))
        for each in others:
            if each["kind"] == CLAIMS.kind:
                create(_owned(each, created))
            elif each["kind"] == RUNTIMES.kind:
                _give_owner(cluster, each, created)
    except BaseException as problem:
        left = leftovers.remove_objects(cluster, reversed(made))
        if left and isinstance(problem, RemoteError):
            problem.hint = (
                f"{', '.join(left)} could not be removed; launcher delete {job['metadata']['name']} removes it"
            )
        raise


def _when_runtime_is_known(cluster: Cluster, create: Callable[[], Object]) -> Object:
    """What `create` returns, called again while a webhook does not know the runtime yet, which was created just before."""
    end_s = time.monotonic() + KNOWN_S
    while True:
        try:
            return create()
        except ForbiddenError as problem:
            if not _UNKNOWN_RUNTIME.search(str(problem)) or time.monotonic() >= end_s:
                raise
        cluster.sleep(POLL_S / 2)


def _give_owner(cluster: Cluster, each: Object, job: Object) -> None:
    """Make the job the owner of an object that was created before it, so that it is deleted with the job."""
    owners = {"metadata": {"ownerReferences": _owned(each, job)["metadata"]["ownerReferences"]}}
    cluster.patch(RESOURCES[each["kind"]], each["metadata"]["name"], owners)


def _owned(each: Object, job: Object) -> Object:
    resource, metadata = kinds.of(job).resource, job["metadata"]
    owner = {
        "apiVersion": resource.group_version,
        "kind": resource.kind,
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
    return each | {"metadata": each["metadata"] | {"ownerReferences": [owner]}}


def _check_unchanged(existing: Object, job: Object) -> None:
    """Raises: InputError when the existing job has finished, or is of another kind or spec."""
    name = job["metadata"]["name"]
    if kinds.of(existing) is not kinds.of(job):
        raise InputError(
            f"cannot submit `{name}`: a {kinds.of(existing).resource.kind} of that name exists{_SHARED if kinds.of(job) in kinds.TRAINING else ''}",
            hint=f"launcher delete {name} deletes it; or use another --name",
        )
    if "deletionTimestamp" in existing["metadata"]:
        raise InputError(
            f"cannot submit `{name}`: a job of that name is being deleted",
            hint=f"launcher delete {name} waits until it is gone",
        )
    if is_over(existing):
        of_run = f"launcher resume {name} continues its run; launcher clone {name} starts a new run with its settings; "
        raise InputError(
            f"cannot submit `{name}`: a job of that name exists and has {outcome(existing).lower()}",
            hint=f"{of_run if kinds.of(existing) in kinds.TRAINING else ''}launcher delete {name} frees the name",
        )
    difference = _difference(anonymous(existing), job)
    if difference:
        raise InputError(
            f"cannot submit `{name}`: a job of that name exists with another spec:\n{difference}",
            hint=f"launcher delete {name} deletes it; or use another --name",
        )


FILLED_IN: Final[Mapping[str, object]] = {
    "protocol": "TCP",
    "suspend": False,
    "managedBy": "trainer.kubeflow.org/trainjob-controller",
}
"""Fields that the server adds to every job. Source: defaults of the CRDs of PyTorchJob v1.9.4 and TrainJob v2.3.0."""


def _difference(existing: Object, ours: Object) -> str:
    """Lines of labels and spec that differ.

    With equal settings, fields that only the server's object has are ignored: the server, Kueue or a webhook added them. With
    different settings they are shown, as the new job may have dropped them, except the CRD's defaults.
    """
    import yaml  # noqa: PLC0415 - a fifth of the time of --help

    existing = _without_foreign_patches(existing)
    old, new = (_compared(each) for each in (existing, ours))
    same_settings = settings_text(existing) == settings_text(ours)
    before, after = (
        yaml.safe_dump(each, sort_keys=True, default_flow_style=False).splitlines()
        for each in (_common(old, new, FILLED_IN if not same_settings else None), new)
    )
    lines = list(difflib.unified_diff(before, after, "existing", "new", lineterm="", n=2))
    return "\n".join(f"  {line}" for line in lines)


def _compared(job: Object) -> Object:
    """What is compared of a job; of a TrainJob also its settings, as much of it is in its runtime."""
    compared = {"labels": job["metadata"].get("labels") or {}, "spec": job["spec"]}
    text = settings_text(job) if kinds.of(job).api == "trainjob" else None
    return compared | ({"settings": parsed_json(text.encode())} if text else {})


def _without_foreign_patches(job: Object) -> Object:
    """A TrainJob without the patches of other programs, as Kueue adds one, and without the times of ours."""
    patches = job["spec"].get("runtimePatches")
    if patches is None:
        return job
    ours = [
        {key: value for key, value in each.items() if key != "time"} for each in patches if each["manager"] == MANAGER
    ]
    rest = {key: value for key, value in job["spec"].items() if key != "runtimePatches"}
    return job | {"spec": rest | ({"runtimePatches": ours} if ours else {})}


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
