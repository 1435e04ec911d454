"""Queue of jobs in a cluster: a limited number runs at the same time, and a failed job does not stop the others."""

import dataclasses
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from launcher.jobs import submit
from launcher.jobs.delete import delete_job
from launcher.jobs.find import AWAY_S, check_finished, read_with_retries
from launcher.kinds import lookup
from launcher.kinds.accept import check_accepted
from launcher.kinds.kueue import NotHeldError
from launcher.kinds.state import State
from launcher.spec import manifest
from launcher.spec.job import JobSpec
from launcher.status import collect
from launcher.status.diagnose import diagnose
from launcher.status.snapshot import is_over, state
from trainer.errors import InterruptedByUser, RemoteError

POLL_S: Final = 2.0
"""Interval between reads of the running jobs."""

REPORT_EVERY_S: Final = 60.0
"""Maximum time between two reports on a running job."""

DELETE_S: Final = 300.0
"""Maximum time for deleting the pods of a finished job."""

RESUME_HINT: Final = "run the same command again to resume"

Problems = dict[str, str]
"""Reasons for missing results by the name of the run."""


@dataclass
class _Followed:
    """A running job and its last report."""

    job: JobSpec
    last_state: State | None
    reported_s: float


@dataclass(kw_only=True)
class JobQueue:
    """Submits jobs and waits for them."""

    cluster: Cluster
    has_results: Callable[[JobSpec], bool]
    """Whether a job's run has results."""
    report: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    problems: Problems = field(default_factory=dict)

    def check(self, todo: Sequence[JobSpec]) -> None:
        """Validate all jobs in the cluster before the first is created. Raises: InputError, RemoteError."""
        for job in todo:
            existing = lookup.find(self.cluster, job.name)
            if existing is None or not is_over(existing):
                submit.submit(self.cluster, manifest.render(job), dry_run=True)
                continue
            check_finished(existing, f"cannot run `{job.name}`")
            # The finished job still has the name, so the dry run needs another one.
            trial = dataclasses.replace(job, name=f"try-{secrets.token_hex(2)}")
            check_accepted(self.cluster, manifest.render(trial))

    def run(self, todo: Sequence[JobSpec], *, parallel: int) -> Problems:
        """Submit the jobs and wait until all have finished; jobs that already run come first.

        Raises: InterruptedByUser, while the jobs continue; RemoteError when the server stays unreachable.
        """
        running = [self._followed(job) for job in todo if self._is_running(job)]
        names = {each.job.name for each in running}
        waiting = deque(job for job in todo if job.name not in names)
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    running += self._begun(waiting.popleft())
                running = [each for each in running if not self._is_ended(each)]
                if running:
                    self.cluster.sleep(POLL_S)
        except KeyboardInterrupt:
            raise _interrupted([each.job.name for each in running]) from None
        except RemoteError as problem:
            problem.hint = f"{problem.hint}; {RESUME_HINT}" if problem.hint else RESUME_HINT
            raise
        return self.problems

    def _followed(self, job: JobSpec) -> _Followed:
        return _Followed(job, None, self.clock())

    def _is_running(self, job: JobSpec) -> bool:
        existing = lookup.find(self.cluster, job.name)
        return existing is not None and not is_over(existing)

    def _begun(self, job: JobSpec) -> list[_Followed]:
        """Submit the job; a refusal by the server is reported and recorded as a problem."""
        try:
            existing = lookup.find(self.cluster, job.name)
            if existing is not None and is_over(existing):
                self.report(f"{job.name}: finished without results, is created again")
                delete_job(self.cluster, job.name, timeout_s=DELETE_S)
            submit.submit(self.cluster, manifest.render(job))
        except (ForbiddenError, InvalidError, ConflictError, NotHeldError) as problem:
            self.problems[job.name] = str(problem.args[0])
            self.report(f"{job.name}: {self.problems[job.name]}")
            return []
        self.report(f"{job.name}: submitted")
        return [self._followed(job)]

    def _is_ended(self, followed: _Followed) -> bool:
        """Whether the job has finished; reports changes and records why it has no results."""
        name = followed.job.name
        try:
            job = kinds.identified(followed.job.kind, {"metadata": {"name": name}})
            current = read_with_retries(self.cluster, job, self.clock() + AWAY_S, self.clock)
        except NotFoundError as problem:
            if not self.has_results(followed.job):  # with results, it was removed after its `--ttl`
                self.problems[name] = str(problem.args[0])
            self.report(f"{name}: {self.problems.get(name, 'done')}")
            return True
        now = state(current)
        if is_over(current):
            self._note(followed.job, now)
            return True
        if now != followed.last_state or self.clock() - followed.reported_s >= REPORT_EVERY_S:
            self.report(f"{name}: {now}{self._progress(name) if now == followed.last_state else ''}")
            followed.reported_s = self.clock()
        followed.last_state = now
        return False

    def _note(self, job: JobSpec, now: State) -> None:
        """Report and record how a job has ended."""
        if now == "Failed":
            self.problems[job.name] = self._why(job.name)
        elif not self.has_results(job):
            self.problems[job.name] = "it ended without results"
        problem = self.problems.get(job.name)
        self.report(f"{job.name}: {now}{f': {problem}' if problem else ''}")

    def _why(self, name: str) -> str:
        """Cause of a failure, and the next step."""
        cause = diagnose(collect.collect_snapshot(self.cluster, name))
        return f"{cause.sentence}; next: {cause.next_step}" if cause else f"it failed; next: launcher status {name}"

    def _progress(self, name: str) -> str:
        """Why a job is not running, or its progress."""
        try:
            snapshot = collect.collect_snapshot(self.cluster, name)
            cause = diagnose(snapshot)
            text = cause.sentence if cause else collect.progress(self.cluster, snapshot)
        except RemoteError as problem:  # the next poll tries again
            text = str(problem.args[0])
        return f", {text}" if text else ""


def _interrupted(names: Sequence[str]) -> InterruptedByUser:
    if not names:
        return InterruptedByUser("interrupted by Ctrl-C", hint=RESUME_HINT)
    one = len(names) == 1
    return InterruptedByUser(
        f"no longer following {', '.join(f'`{name}`' for name in names)}: {'it continues' if one else 'they continue'}",
        hint=f"{RESUME_HINT}; launcher delete {' '.join(names)} deletes {'it' if one else 'them'}",
    )
