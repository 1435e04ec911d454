"""The jobs of one comparison: which have results, running the others here or in a cluster, and bringing the results here.

How far the comparison has come is read from the runs themselves and from the cluster's jobs, so the same call goes on.
"""

import dataclasses
import json
import secrets
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from launcher import jobs, local, manifest, observe, pull, runs
from launcher import resume as again
from launcher.cluster import Cluster, ConflictError, ForbiddenError, InvalidError, NotFoundError
from launcher.diagnose import diagnose
from launcher.runs import Tell
from launcher.snapshot import State, is_over, state
from launcher.spec import JobSpec, is_s3
from trainer.errors import InputError, InterruptedByUser, JobFailedError, KnownError, RemoteError, listing
from trainer.layout import RESULTS, RUN

LOOK_EVERY_S: Final = 2.0
"""How often the jobs that run are looked at."""

TELL_EVERY_S: Final = 60.0
"""How long a job may run without a word about it."""

DELETE_S: Final = 300.0
"""How long the pods of a job that is over may take to go."""

STDERR: Final = 2
"""What jobs that run here say; stdout is for the table."""

GO_ON: Final = "the same command goes on where this one stopped"

PAGES: Final = ("index.html", "scaling.png")
"""What `trainer report` writes for people."""

Problems = dict[str, str]
"""Why there are no results, by the run's name."""

Clock = Callable[[], float]


def check_places(members: Sequence[JobSpec], to: Path, *, here: bool) -> None:
    """Refuse a comparison whose results could not be gathered. Raises: InputError."""
    output = members[0].output
    if not here and not runs.is_seen(output):
        raise InputError(
            f"cannot compare runs in `{output}`: only the cluster's nodes see that directory (from `--output`)",
            hint="--output s3://BUCKET/PREFIX, or a directory that this machine has too",
        )
    if not is_s3(output) and to.resolve() == Path(output).resolve():
        raise InputError(
            f"cannot gather runs in `{to}`: they lie there themselves (from `--to`)", hint="--to DIRECTORY"
        )
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"cannot write to `{to}`: {problem.strerror} (from `--to`)", hint="--to DIRECTORY of yours"
        ) from problem
    for job in members:
        _check_same(job, _json(to / job.name / RUN), str(to / job.name), here=here)


def _json(path: Path) -> Mapping[str, Any] | None:
    """What was pulled there; None where nothing was, or where it is none of ours, which `pull` tells."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "identity" in record else None


def _check_same(job: JobSpec, record: Mapping[str, Any] | None, place: str, *, here: bool) -> None:
    """Raises: InputError when the run at that place was started with other settings."""
    if record is None:
        return
    identity = dict(record["identity"])
    if here and job.train.weights not in {"imagenet", "none"}:
        identity.pop("weights", None)  # the run knows the file by its place here, the job by a container's
    found = again.differences(job, dict(record) | {"identity": identity})
    if record.get("world_size", job.workers) != job.workers:
        found.append(f"workers: {record['world_size']} there, {job.workers} now")
    if found:
        raise InputError(
            f"cannot compare with the run at `{place}`: it was started with other settings:{listing(found)}",
            hint="another --name is another comparison; or the settings that it was started with",
        )


def _run(job: JobSpec) -> runs.Run:
    settings: dict[str, object] = {"output": job.output}
    settings |= {"s3_endpoint": job.s3.endpoint} if job.s3.endpoint else {}
    settings |= {"s3_region": job.s3.region} if job.s3.region else {}
    return runs.of_settings(job.name, settings, runs.Where())


def is_done(job: JobSpec, tell: Tell, *, here: bool) -> bool:
    """Whether the run's results are there, of as many steps as are asked for.

    Raises: InputError for a run with other settings; KnownError when its place can't be read.
    """
    run = _run(job)
    with run.opened() as storage:
        found = again.look(run, storage, tell)
    _check_same(job, found.record, run.url, here=here)
    steps = found.record["config"].get("max_steps") if found.record else None
    return found.is_scored and steps == job.train.max_steps


def results(job: JobSpec) -> bool:
    """Whether the run's results are there."""
    with _run(job).opened() as storage:
        return bool(storage.keys(RESULTS))


def here(todo: Sequence[JobSpec], tell: Tell) -> Problems:
    """Run the jobs on this machine, one after the other; a job that fails does not keep the next from its turn.

    Raises: InterruptedByUser, TryAgainError.
    """
    problems: Problems = {}
    for number, job in enumerate(todo, start=1):
        tell(f"{job.name}: runs here, {number} of {len(todo)}")
        try:
            objects = manifest.render(job)
            local.run(objects, scratch=local.cache_of(job), tell=tell, python=sys.executable, out=STDERR)
        except JobFailedError as problem:
            problems[job.name] = str(problem.args[0])
        except InterruptedByUser as problem:
            problem.hint = GO_ON
            raise
        else:
            problems |= {} if results(job) else {job.name: "it ended without results"}
        tell(f"{job.name}: {problems.get(job.name, 'done')}")
    return problems


@dataclass
class _Followed:
    """A job in the cluster, and what was told of it."""

    job: JobSpec
    seen: State | None
    told_s: float


def check_accepted(cluster: Cluster, todo: Sequence[JobSpec]) -> None:
    """Ask the server about every job before one is made. Raises: InputError, RemoteError."""
    for job in todo:
        there = jobs.found(cluster, job.name)
        if there is not None and is_over(there):
            # Its name is taken until it is made again, so the server is asked about another.
            trial = dataclasses.replace(job, name=f"try-{secrets.token_hex(2)}")
            jobs.check_over(there, f"cannot run `{job.name}`")
            jobs.check_accepted(cluster, manifest.render(trial))
        else:
            jobs.submit(cluster, manifest.render(job), dry_run=True)


def in_cluster(
    cluster: Cluster, todo: Sequence[JobSpec], *, parallel: int, tell: Tell, clock: Clock = time.monotonic
) -> Problems:
    """Submit the jobs, so many at once, and follow them until all are over; those that run already come first.

    Raises: InterruptedByUser, with the jobs going on; RemoteError when the server stays away.
    """
    problems: Problems = {}
    running = [_Followed(job, None, clock()) for job in todo if _is_running(cluster, job)]
    waiting = deque(job for job in todo if job not in [each.job for each in running])
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                running += _begun(cluster, waiting.popleft(), problems, tell, clock)
            running = [each for each in running if not _is_ended(cluster, each, problems, tell, clock)]
            if running:
                cluster.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        raise _interrupted([each.job.name for each in running]) from None
    except RemoteError as problem:
        problem.hint = f"{problem.hint}; {GO_ON}" if problem.hint else GO_ON
        raise
    return problems


def _interrupted(names: Sequence[str]) -> InterruptedByUser:
    if not names:
        return InterruptedByUser("interrupted by Ctrl-C", hint=GO_ON)
    return InterruptedByUser(
        f"no longer following {', '.join(f'`{name}`' for name in names)}: {'it goes' if len(names) == 1 else 'they go'} on",
        hint=f"{GO_ON}; launcher delete {' '.join(names)} ends {'it' if len(names) == 1 else 'them'}",
    )


def _is_running(cluster: Cluster, job: JobSpec) -> bool:
    there = jobs.found(cluster, job.name)
    return there is not None and not is_over(there)


def _begun(cluster: Cluster, job: JobSpec, problems: Problems, tell: Tell, clock: Clock) -> list[_Followed]:
    """The job, submitted; nothing when the server now refuses it, which is told and noted."""
    try:
        there = jobs.found(cluster, job.name)
        if there is not None and is_over(there):
            for removed in jobs.delete(cluster, job.name, timeout_s=DELETE_S):
                tell(f"removed {removed}, which is over without results")
        jobs.submit(cluster, manifest.render(job))
    except (ForbiddenError, InvalidError, ConflictError) as problem:
        problems[job.name] = str(problem.args[0])
        tell(f"{job.name}: {problems[job.name]}")
        return []
    tell(f"{job.name}: submitted")
    return [_Followed(job, None, clock())]


def _is_ended(cluster: Cluster, followed: _Followed, problems: Problems, tell: Tell, clock: Clock) -> bool:
    """Whether the job is over; what is new of it is told, and why it failed noted."""
    name = followed.job.name
    try:
        there = jobs.looked_up(cluster, name, clock() + jobs.AWAY_S, clock)
    except NotFoundError as problem:
        if not results(followed.job):  # else its time to live is over
            problems[name] = str(problem.args[0])
        tell(f"{name}: {problems.get(name, 'done')}")
        return True
    now = state(there)
    over = is_over(there)
    if over and not (now == "Succeeded" and results(followed.job)):
        problems[name] = _why(cluster, name) if now == "Failed" else "it ended without results"
        tell(f"{name}: {now}: {problems[name]}")
    elif now != followed.seen or clock() - followed.told_s >= TELL_EVERY_S:
        tell(f"{name}: {now}{'' if over or now != followed.seen else _progress(cluster, name)}")
        followed.told_s = clock()
    followed.seen = now
    return over


def _why(cluster: Cluster, name: str) -> str:
    """Why a job has failed, and what to do."""
    found = diagnose(observe.observe(cluster, name))
    return f"{found.sentence}; next: {found.next_step}" if found else f"the job failed; next: launcher status {name}"


def _progress(cluster: Cluster, name: str) -> str:
    """What keeps a job, or how far it is."""
    try:
        snapshot = observe.observe(cluster, name)
        found = diagnose(snapshot)
        text = found.sentence if found else observe.progress(cluster, snapshot)
    except KnownError as problem:  # it is looked at again in a moment
        text = str(problem.args[0])
    return f", {text}" if text else ""


def gather(done: Sequence[JobSpec], to: Path, tell: Tell) -> dict[str, Mapping[str, Any]]:
    """Fetch what the runs say of themselves into folders of `to`; their results by name. Raises: KnownError."""
    found: dict[str, Mapping[str, Any]] = {}
    for job in done:
        run = _run(job)
        with run.opened() as storage:
            pull.pull(run, storage, step=None, what="report", directory=to / job.name, tell=lambda _: None)
        try:
            found[job.name] = dict(json.loads((to / job.name / RESULTS).read_bytes()))
        except (ValueError, TypeError) as problem:
            raise InputError(f"cannot read `{run.url}/{RESULTS}`: it holds no results of a run") from problem
    if done:
        tell(f"fetched {len(done)} run{'' if len(done) == 1 else 's'} into {to}")
    return found


def plot(names: Sequence[str], to: Path) -> list[Path]:
    """Write the report of the comparison into `to`; the paths of page and plot.

    The trainer does it, in a process of its own: its plots need more than the launcher has.

    Raises: InputError when it could not.
    """
    command = [sys.executable, "-m", "trainer", "report", *(str(to / name) for name in names), "--out", str(to)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise InputError(
            f"cannot plot: `trainer report` left with exit code {done.returncode}, its reason is in the lines above",
            hint=f"the runs lie in {to}; the same command plots them again",
        )
    return [path for path in (to / page for page in PAGES) if path.is_file()]
