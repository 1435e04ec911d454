"""Find jobs: by name, all of a namespace, and the settings that one was made from."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from launcher.cluster.client import Cluster
from launcher.cluster.errors import (
    ForbiddenError,
    NotFoundError,
    ServerError,
    UnreachableError,
)
from launcher.cluster.resources import CLAIMS, JOB_LABEL, JOBS, PODS, VOLUMES, Object, Resource
from launcher.spec.fields import Value
from launcher.spec.job import JobSpec
from launcher.spec.manifest import SETTINGS
from trainer.errors import InputError, RemoteError, on_one_line
from trainer.formats.documents import checked
from trainer.limits import parsed_json

OURS: Final = "app.kubernetes.io/managed-by=chexnet-launcher"


INSTANCE_LABEL: Final = "app.kubernetes.io/instance"


DATA: Final = "chexnet-launcher/data"
"""Annotation by which an administrator says which `s3://BUCKET/PREFIX` a claim holds."""


POLL_S: Final = 1.0


AWAY_S: Final = 300.0
"""A server that is upgraded is away for as long as this, and the jobs go on meanwhile."""


KINDS: Final[Mapping[str, Resource]] = {each.kind: each for each in (JOBS, CLAIMS, VOLUMES)}


def settings_of(job: Object) -> dict[str, Value]:
    """The settings that a job was made from. Raises: InputError when the launcher did not make it."""
    text = settings_text(job)
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


def find_job(cluster: Cluster, name: str) -> Object | None:
    """The job, None where there is none. Raises: NotFoundError where the cluster knows no PyTorchJobs."""
    try:
        return cluster.get(JOBS, name)
    except NotFoundError:
        if not cluster.serves(JOBS):
            raise
        return None


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


def get_job(cluster: Cluster, name: str) -> Object:
    """The job. Raises: NotFoundError."""
    return cluster.get(JOBS, name)


def list_jobs(cluster: Cluster, *, everywhere: bool, labels: str = "") -> tuple[list[Object], list[Object]]:
    """Jobs, those that the launcher did not make too, and their pods: two requests however many there are."""
    jobs = cluster.list(JOBS, everywhere=everywhere, labels=labels)
    try:
        pods = cluster.list(PODS, everywhere=everywhere, labels=JOB_LABEL) if jobs else []
    except ForbiddenError:  # who may see jobs only still gets their list
        pods = []
    return jobs, pods


def get_job_before(cluster: Cluster, name: str, end_s: float, clock: Callable[[], float]) -> Object:
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


def settings_text(job: Object) -> str | None:
    """The annotation with the settings that a job was made from, None where it has none."""
    return (job["metadata"].get("annotations") or {}).get(SETTINGS)


def on_existing_claim(cluster: Cluster, job: JobSpec, report: Callable[[str], None]) -> JobSpec:
    """The job, reading its data set through the claim that an administrator made for it, if there is one."""
    claim = claim_for(cluster, job.data) if job.mounts_bucket else None
    if not claim:
        return job
    report(f"{job.data} is read through the claim {claim}")
    return replace(job, s3=replace(job.s3, claim=claim))
