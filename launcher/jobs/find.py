"""Find jobs by name or namespace, and read the settings of a job."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import (
    ForbiddenError,
    NotFoundError,
    ServerError,
    UnreachableError,
)
from launcher.cluster.resources import CLAIMS, DATA, PODS, Object
from launcher.kinds import lookup
from launcher.spec.fields import Value
from launcher.spec.job import JobSpec
from launcher.spec.metadata import SETTINGS
from launcher.status.snapshot import is_over, state
from trainer.errors import InputError, RemoteError, on_one_line
from trainer.formats.documents import checked
from trainer.limits import parsed_json

POLL_S: Final = 1.0

AWAY_S: Final = 300.0
"""Time for which an API server may be unreachable, as during an upgrade; jobs continue meanwhile."""


def settings_of(job: Object) -> dict[str, Value]:
    """The settings of a job. Raises: InputError when the launcher did not create it."""
    text = settings_text(job)
    if kinds.of(job) not in kinds.TRAINING:
        raise InputError(
            f"cannot read the settings of `{job['metadata']['name']}`: it is no training job",
            hint="launcher prepare, with its flags; shares that are done are kept",
        )
    if text is None:
        raise InputError(
            f"cannot read the settings of `{job['metadata']['name']}`: the launcher did not create it",
            hint="use a job that the launcher created",
        )
    try:
        settings: dict[str, Value] = checked(parsed_json(text.encode()), dict[str, str | list[str] | dict[str, Any]])
    except ValueError as problem:
        reason = on_one_line(str(problem)[:200])
        raise InputError(
            f"cannot read the settings of `{job['metadata']['name']}`: its annotation `{SETTINGS}` is damaged ({reason})",
            hint="launcher submit, with the settings of the job",
        ) from problem
    return settings


def find_admin_claim(cluster: Cluster, place: str) -> str | None:
    """Name of the claim in this namespace that an administrator made for `s3://BUCKET/PREFIX`; None without one."""
    try:
        claims = cluster.list(CLAIMS)
    except RemoteError:  # the next request to the server reports it
        return None
    wanted = place.rstrip("/")
    for claim in claims:
        named: str = (claim["metadata"].get("annotations") or {}).get(DATA, "")
        if named.rstrip("/") == wanted and claim.get("status", {}).get("phase") == "Bound":
            return str(claim["metadata"]["name"])
    return None


def list_jobs(
    cluster: Cluster, api: kinds.Choice = "auto", *, everywhere: bool, labels: str = ""
) -> tuple[list[Object], list[Object]]:
    """All jobs, including those of other programs, and their pods, in two list requests for each kind."""
    jobs = lookup.list_all(cluster, api, everywhere=everywhere, labels=labels)
    pods: list[Object] = []
    for kind in kinds.KINDS:
        if any(kinds.of(job) is kind for job in jobs):
            with suppress(ForbiddenError):  # users without permission for pods still get the list of jobs
                selector = ",".join(filter(None, (kind.job_label, kind.selector)))
                pods += cluster.list(PODS, everywhere=everywhere, labels=selector)
    return jobs, pods


def read_with_retries(cluster: Cluster, job: Object, end_s: float, clock: Callable[[], float]) -> Object:
    """Read a job again, retrying until `end_s` while the server is unreachable. Raises: NotFoundError, UnreachableError."""
    while True:
        try:
            return lookup.again(cluster, job)
        except NotFoundError as problem:
            name = job["metadata"]["name"]
            raise NotFoundError(f"the job `{name}` was deleted meanwhile", hint="launcher list") from problem
        except (ServerError, UnreachableError):
            if clock() >= end_s:
                raise
        cluster.sleep(POLL_S)


def settings_text(job: Object) -> str | None:
    """The annotation with the settings of a job; None without one."""
    return (job["metadata"].get("annotations") or {}).get(SETTINGS)


def with_admin_claim(cluster: Cluster, job: JobSpec, report: Callable[[str], None]) -> JobSpec:
    """The job, reading its data set through the claim that an administrator made for it, if there is one."""
    claim = find_admin_claim(cluster, job.data) if job.mounts_bucket else None
    if not claim:
        return job
    report(f"{job.data} is read through the claim {claim}")
    return replace(job, s3=replace(job.s3, claim=claim))


def check_finished(existing: Object, what: str) -> None:
    """Raises: InputError when the job has not finished or is being deleted; `what` begins its text: `cannot resume `t1``."""
    name = existing["metadata"]["name"]
    if "deletionTimestamp" in existing["metadata"]:
        raise InputError(
            f"{what}: a job of that name is being deleted", hint=f"launcher delete {name} waits until it is gone"
        )
    if not is_over(existing):
        raise InputError(
            f"{what}: it has not finished, its state is {state(existing)}",
            hint=f"launcher logs {name} -f follows it; launcher delete {name} deletes it",
        )
