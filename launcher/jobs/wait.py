"""Wait until a job is over or has a state, by its changes and by looking again."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from launcher.cluster.client import Cluster
from launcher.cluster.errors import (
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    ServerError,
    UnreachableError,
)
from launcher.cluster.resources import JOBS, Object
from launcher.jobs.find import AWAY_S, POLL_S, get_job_before
from launcher.status.collect import collect_snapshot
from launcher.status.diagnose import diagnose
from launcher.status.snapshot import State, is_over, outcome
from trainer.errors import JobFailedError, RemoteError, TimeLimitError

LOOK_AGAIN_S: Final = 15.0
"""A watch may be silent while things happen, so whoever waits lists so often."""


def wait_for_job(
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
    for job in job_changes(cluster, name, end_s=end_s, clock=clock):
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


def job_changes(
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
        job = get_job_before(cluster, name, min(clock() + AWAY_S, math.inf if end_s is None else end_s), clock)
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


def _failure(cluster: Cluster, name: str) -> JobFailedError:
    """That the job failed, and why, as `status` shows it."""
    with suppress(RemoteError):
        found = diagnose(collect_snapshot(cluster, name))
        if found is not None:
            own = "the job failed "  # of a job without pods
            cause = f" {found.sentence.removeprefix(own)}" if found.sentence.startswith(own) else f": {found.sentence}"
            return JobFailedError(f"the job `{name}` failed{cause}", hint=found.next_step)
    return JobFailedError(f"the job `{name}` failed", hint=f"launcher status {name}")
