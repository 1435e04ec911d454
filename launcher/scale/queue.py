"""Jobs in a cluster, so many at once, until all of them are over; one that fails does not keep the others from their turn."""

import dataclasses
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from launcher.cluster.client import Cluster
from launcher.cluster.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from launcher.jobs import submit
from launcher.jobs.delete import delete_job
from launcher.jobs.find import AWAY_S, find_job, get_job_before
from launcher.spec import manifest
from launcher.spec.job import JobSpec
from launcher.status import collect
from launcher.status.diagnose import diagnose
from launcher.status.snapshot import State, is_over, state
from trainer.errors import InterruptedByUser, RemoteError

LOOK_EVERY_S: Final = 2.0
"""How often the jobs that run are looked at."""

TELL_EVERY_S: Final = 60.0
"""How long a job may run without a word about it."""

DELETE_S: Final = 300.0
"""How long the pods of a job that is over may take to go."""

GO_ON: Final = "the same command goes on where this one stopped"

Problems = dict[str, str]
"""Why there are no results, by the run's name."""


@dataclass
class _Followed:
    """A job in the cluster, and what was told of it."""

    job: JobSpec
    seen: State | None
    told_s: float


@dataclass(kw_only=True)
class JobQueue:
    """Jobs that are submitted and followed."""

    cluster: Cluster
    has_results: Callable[[JobSpec], bool]
    """Whether the results of a job's run are there."""
    report: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    problems: Problems = field(default_factory=dict)

    def check(self, todo: Sequence[JobSpec]) -> None:
        """Ask the server about every job before one is made. Raises: InputError, RemoteError."""
        for job in todo:
            there = find_job(self.cluster, job.name)
            if there is None or not is_over(there):
                submit.submit(self.cluster, manifest.render(job), dry_run=True)
                continue
            submit.check_over(there, f"cannot run `{job.name}`")
            # Its name is taken until it is made again, so the server is asked about another.
            trial = dataclasses.replace(job, name=f"try-{secrets.token_hex(2)}")
            submit.check_accepted(self.cluster, manifest.render(trial))

    def run(self, todo: Sequence[JobSpec], *, parallel: int) -> Problems:
        """Submit the jobs, and follow all until they are over; those that run already come first.

        Raises: InterruptedByUser, with the jobs going on; RemoteError when the server stays away.
        """
        running = [self._followed(job) for job in todo if self._is_running(job)]
        there = {each.job.name for each in running}
        waiting = deque(job for job in todo if job.name not in there)
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    running += self._begun(waiting.popleft())
                running = [each for each in running if not self._is_ended(each)]
                if running:
                    self.cluster.sleep(LOOK_EVERY_S)
        except KeyboardInterrupt:
            raise _interrupted([each.job.name for each in running]) from None
        except RemoteError as problem:
            problem.hint = f"{problem.hint}; {GO_ON}" if problem.hint else GO_ON
            raise
        return self.problems

    def _followed(self, job: JobSpec) -> _Followed:
        return _Followed(job, None, self.clock())

    def _is_running(self, job: JobSpec) -> bool:
        there = find_job(self.cluster, job.name)
        return there is not None and not is_over(there)

    def _begun(self, job: JobSpec) -> list[_Followed]:
        """The job, submitted; nothing when the server now refuses it, which is told and noted."""
        try:
            there = find_job(self.cluster, job.name)
            if there is not None and is_over(there):
                self.report(f"{job.name}: is over without results, and is made again")
                delete_job(self.cluster, job.name, timeout_s=DELETE_S)
            submit.submit(self.cluster, manifest.render(job))
        except (ForbiddenError, InvalidError, ConflictError) as problem:
            self.problems[job.name] = str(problem.args[0])
            self.report(f"{job.name}: {self.problems[job.name]}")
            return []
        self.report(f"{job.name}: submitted")
        return [self._followed(job)]

    def _is_ended(self, followed: _Followed) -> bool:
        """Whether the job is over; what is new of it is told, and noted why there are no results."""
        name = followed.job.name
        try:
            there = get_job_before(self.cluster, name, self.clock() + AWAY_S, self.clock)
        except NotFoundError as problem:
            if not self.has_results(followed.job):  # else its time to live is over
                self.problems[name] = str(problem.args[0])
            self.report(f"{name}: {self.problems.get(name, 'done')}")
            return True
        now = state(there)
        if is_over(there):
            self._note(followed.job, now)
            return True
        if now != followed.seen or self.clock() - followed.told_s >= TELL_EVERY_S:
            self.report(f"{name}: {now}{self._progress(name) if now == followed.seen else ''}")
            followed.told_s = self.clock()
        followed.seen = now
        return False

    def _note(self, job: JobSpec, now: State) -> None:
        """Tell how a job has ended."""
        if now == "Failed":
            self.problems[job.name] = self._why(job.name)
        elif not self.has_results(job):
            self.problems[job.name] = "it ended without results"
        problem = self.problems.get(job.name)
        self.report(f"{job.name}: {now}{f': {problem}' if problem else ''}")

    def _why(self, name: str) -> str:
        """Why a job has failed, and what to do."""
        found = diagnose(collect.collect_snapshot(self.cluster, name))
        return f"{found.sentence}; next: {found.next_step}" if found else f"it failed; next: launcher status {name}"

    def _progress(self, name: str) -> str:
        """What keeps a job, or how far it is."""
        try:
            snapshot = collect.collect_snapshot(self.cluster, name)
            found = diagnose(snapshot)
            text = found.sentence if found else collect.progress(self.cluster, snapshot)
        except RemoteError as problem:  # it is looked at again in a moment
            text = str(problem.args[0])
        return f", {text}" if text else ""


def _interrupted(names: Sequence[str]) -> InterruptedByUser:
    if not names:
        return InterruptedByUser("interrupted by Ctrl-C", hint=GO_ON)
    one = len(names) == 1
    return InterruptedByUser(
        f"no longer following {', '.join(f'`{name}`' for name in names)}: {'it goes' if one else 'they go'} on",
        hint=f"{GO_ON}; launcher delete {' '.join(names)} ends {'it' if one else 'them'}",
    )
