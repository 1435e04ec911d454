"""Wait until a job has finished or has a state, with a watch and regular reads."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Final

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import (
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    ServerError,
    UnreachableError,
)
from launcher.cluster.resources import Object
from launcher.jobs.find import AWAY_S, POLL_S, read_with_retries
from launcher.kinds import lookup
from launcher.kinds.state import State
from launcher.status.collect import collect_snapshot
from launcher.status.diagnose import diagnose
from launcher.status.snapshot import is_over, outcome
from trainer.errors import JobFailedError, RemoteError, TimeLimitError

REREAD_S: Final = 15.0
"""Interval between reads of the job: a watch may miss changes silently."""


def wait_for_job(
    cluster: Cluster,
    name: str,
    *,
    api: kinds.Choice = "auto",
    until: State | None = None,
    timeout_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> State:
    """Wait until the job has finished or has the state `until`; returns its state.

    Raises: JobFailedError when it failed and `until` is another state; TimeLimitError; NotFoundError when it was deleted.
    """
    end_s = None if timeout_s is None else clock() + timeout_s
    for job in job_changes(cluster, lookup.get(cluster, name, api), end_s=end_s, clock=clock):
        now = outcome(job)
        if now == until or (until is None and now == "Succeeded"):
            return now
        if now == "Failed":
            raise _failure(cluster, job)
        if is_over(job):
            raise JobFailedError(
                f"the job `{name}` has {now.lower()} and can't become {until}", hint=f"launcher status {name}"
            )
    raise TimeLimitError(
        f"the job `{name}` had not finished after {timeout_s:g} s (from `--timeout`); it continues",
        hint=f"launcher status {name}",
    )


def job_changes(
    cluster: Cluster, job: Object, *, end_s: float | None, clock: Callable[[], float] = time.monotonic
) -> Iterator[Object]:
    """The job, again after each possible change, until `end_s` of the clock.

    Raises: NotFoundError when it was deleted or replaced; other RemoteErrors when the server stays unreachable.
    """
    name, uid = job["metadata"]["name"], job["metadata"]["uid"]
    while True:
        yield job
        left_s = REREAD_S if end_s is None else min(REREAD_S, end_s - clock())
        if left_s <= 0:
            return
        with suppress(ForbiddenError, GoneError, InvalidError, ServerError, UnreachableError):
            yield from _watched(cluster, job, left_s)
        cluster.sleep(POLL_S)
        job = read_with_retries(cluster, job, min(clock() + AWAY_S, math.inf if end_s is None else end_s), clock)
        if job["metadata"]["uid"] != uid:
            raise NotFoundError(
                f"the job `{name}` was deleted, and another job has its name", hint=f"launcher status {name}"
            )


def _watched(cluster: Cluster, job: Object, time_s: float) -> Iterator[Object]:
    """The job at each change, until it is deleted, the watch ends or `time_s` has passed."""
    kind, metadata = kinds.of(job), job["metadata"]
    since, fields = metadata["resourceVersion"], f"metadata.name={metadata['name']}"
    for change, changed in cluster.watch(kind.resource, fields=fields, since=since, timeout_s=time_s):
        if change == "DELETED":
            return
        yield kinds.identified(kind, changed)


def _failure(cluster: Cluster, job: Object) -> JobFailedError:
    """The error for a failed job, with the diagnosis of `status`."""
    name = job["metadata"]["name"]
    with suppress(RemoteError):
        diagnosis = diagnose(collect_snapshot(cluster, name, kinds.of(job).api))
        if diagnosis is not None:
            start, sentence = "the job failed ", diagnosis.sentence  # a job without pods begins like this
            cause = f" {sentence.removeprefix(start)}" if sentence.startswith(start) else f": {sentence}"
            return JobFailedError(f"the job `{name}` failed{cause}", hint=diagnosis.next_step)
    return JobFailedError(f"the job `{name}` failed", hint=f"launcher status {name}")
