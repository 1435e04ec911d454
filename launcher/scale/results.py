"""Results of the runs of a comparison: check for them, run local jobs, and download and plot all results.

The state of a comparison is read from its runs, so that the same call resumes it.
"""

import csv
import io
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from launcher.jobs import interpreter, local
from launcher.runs import locate, pull
from launcher.runs import resume as run_resume
from launcher.runs.locate import Report
from launcher.scale.members import run_name
from launcher.scale.queue import RESUME_HINT, Problems
from launcher.spec.job import JobSpec
from trainer.errors import InputError, InterruptedByUser, JobFailedError, listing, on_one_line
from trainer.formats import spreadsheet
from trainer.formats.documents import Record, Results, checked
from trainer.layout import REPORT, RESULTS, RUN
from trainer.limits import JSON_BYTES, parsed_json, read_at_most
from trainer.location import Location
from trainer.storage import NoProxyError, Storage, UnreachableError
from trainer.storage.files import open_regular

STDERR: Final = 2
"""Output of local jobs; stdout is for the table."""

PAGES: Final = ("index.html", "scaling.png")
"""Page and plot of `trainer report`."""

TABLE: Final = "scaling.csv"
"""Its table for programs, written before the pages."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Access of this machine to the runs."""

    local: bool = False
    """Whether the jobs run on this machine."""
    endpoint: str | None = None
    """URL of the S3 server from this machine; the default is that of the jobs."""

    def run(self, job: JobSpec) -> locate.Run:
        """The run of a job."""
        where = locate.Where(endpoint=self.endpoint or job.s3.endpoint, region=job.s3.region)
        return locate.of_settings(job.name, {"output": job.output}, where)

    @contextmanager
    def opened(self, job: JobSpec) -> Iterator[Storage]:
        """The storage of a job's run, for the block. Raises: KnownError."""
        try:
            with self.run(job).opened() as storage:
                yield storage
        except NoProxyError:
            raise
        except UnreachableError as problem:
            problem.hint = f"--s3-endpoint-here URL sets the address of the S3 server from this machine; {RESUME_HINT}"
            raise

    def has_results(self, job: JobSpec) -> bool:
        """Whether the run has results. Raises: KnownError."""
        with self.opened(job) as storage:
            return RESULTS in storage.keys(RESULTS)


def check_places(name: str, members: Sequence[JobSpec], to: Path, reach: Reach) -> None:
    """Check that the results can be read and gathered, before anything runs. Raises: InputError."""
    output = members[0].output
    if not reach.local and not locate.is_seen(output):
        raise InputError(
            f"cannot compare runs in `{output}`: only the cluster's nodes can read that directory (from `--output`)",
            hint="--output s3://BUCKET/PREFIX, or a directory that this machine shares with the nodes",
        )
    if not Location(output).is_bucket and to.resolve() == Path(output).resolve():
        raise InputError(
            f"cannot gather runs in `{to}`: it is the output of the runs (from `--to`)", hint="--to DIRECTORY"
        )
    try:
        to.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"cannot write to `{to}`: {problem.strerror} (from `--to`)", hint="--to DIRECTORY with write permission"
        ) from problem
    _check_own(name, to)
    for job in members:
        _check_same(job, _json(to / job.name / RUN), str(to / job.name), reach)


def _check_own(name: str, to: Path) -> None:
    """Raises: InputError when the pages of this comparison would replace those of another."""
    links = [name for name in (TABLE, *PAGES) if (to / name).is_symlink()]
    try:
        with open_regular(to / TABLE) as file:
            others = links or [
                spreadsheet.read(row["run"])
                for row in csv.DictReader(io.StringIO(read_at_most(file, JSON_BYTES).decode(), newline=""))
                if row["run"] != run_name(name, row["model"], row["workers"])
            ]
    except FileNotFoundError:
        others = links or [page for page in PAGES if (to / page).exists()]
    except (OSError, ValueError, KeyError, TypeError, csv.Error, InputError):
        others = [TABLE]
    if others:
        raise InputError(
            f"cannot gather runs in `{to}`: it holds `{on_one_line(others[0])}`, which is not part of `{name}` (from `--to`)",
            hint="--to DIRECTORY, one for each comparison",
        )


def _json(path: Path) -> Mapping[str, Any] | None:
    """The record of an earlier pull; None without one. Another file is reported by `pull`."""
    try:
        with open_regular(path) as file:
            record = checked(parsed_json(read_at_most(file, JSON_BYTES)), Record)
    except (OSError, ValueError):
        return None
    return cast("Mapping[str, Any]", record) if "identity" in record else None


def _check_same(job: JobSpec, record: Mapping[str, Any] | None, place: str, reach: Reach) -> None:
    """Raises: InputError when the run was started with other settings."""
    if record is None:
        return
    # A local run has a path of this machine for its weights, the job a path in its container.
    ignored = {"weights"} if reach.local and job.train.weights not in {"imagenet", "none"} else set[str]()
    changes = run_resume.differences(job, record, ignored=ignored)
    if record.get("world_size", job.workers) != job.workers:
        changes.append(f"workers: {record['world_size']} in the run, {job.workers} now")
    if changes:
        raise InputError(
            f"cannot compare with the run at `{place}`: it was started with other settings:{listing(changes)}",
            hint="use the settings that it was started with, or another --name for another comparison",
        )


def is_done(job: JobSpec, reach: Reach, report: Report) -> bool:
    """Whether the run has results for the requested number of steps.

    Raises: InputError for a run with other settings; KnownError when it can't be read.
    """
    with reach.opened(job) as storage:
        earlier = run_resume.read_earlier_run(reach.run(job), storage, report)
    _check_same(job, earlier.record, earlier.url, reach)
    steps = earlier.record["config"].get("max_steps") if earlier.record else None
    return earlier.is_scored and steps == job.train.max_steps


def run_local(todo: Sequence[JobSpec], reach: Reach, report: Report) -> Problems:
    """Run the jobs on this machine, one after the other; a failed job does not stop the next.

    Raises: InterruptedByUser, TryAgainError.
    """
    problems: Problems = {}
    for number, job in enumerate(todo, start=1):
        report(f"{job.name}: running on this machine, {number} of {len(todo)}")
        try:
            objects = local.objects(job)
            local.run(objects, scratch=local.cache_of(job), report=report, python=sys.executable, out=STDERR)
        except JobFailedError as problem:
            problems[job.name] = str(problem.args[0])
        except InterruptedByUser as problem:
            problem.hint = RESUME_HINT
            raise
        else:
            problems |= {} if reach.has_results(job) else {job.name: "it ended without results"}
        report(f"{job.name}: {problems.get(job.name, 'done')}")
    return problems


def gather(done: Sequence[JobSpec], to: Path, reach: Reach, report: Report) -> None:
    """Download results and reports of the runs into folders of `to`. Raises: KnownError."""
    for job in done:
        run = reach.run(job)
        with reach.opened(job) as storage:
            pull.pull(run, storage, step=None, what="report", directory=to / job.name, report=lambda _: None)
        try:
            with open_regular(to / job.name / RESULTS) as file:
                checked(parsed_json(read_at_most(file, JSON_BYTES)), Results)
        except (OSError, ValueError) as problem:
            raise InputError(
                f"cannot read `{run.url}/{RESULTS}`: it is not a valid results file of a run: {problem}"
            ) from problem
    if done:
        report(f"downloaded {len(done)} run{'' if len(done) == 1 else 's'} into {to}")


def plot(names: Sequence[str], to: Path) -> list[Path]:
    """Write the report of the comparison into `to`; returns the paths of page and plot, or of a single run's own report.

    A separate process of the trainer writes it: the launcher is installed without the packages for plots.

    Raises: InputError when it fails.
    """
    if len(names) < 2:  # nothing to compare
        return [path for path in (to / name / REPORT for name in names) if path.is_file()]
    command = [sys.executable, "-m", "trainer", "report", *(str(to / name) for name in names), "--out", str(to)]
    environment = os.environ | interpreter.environment()
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False, env=environment)
    if done.returncode:
        raise InputError(
            f"cannot plot: `trainer report` failed with exit code {done.returncode}, see the lines above",
            hint=f"the runs are in {to}; run the same command again to plot them",
        )
    return [path for path in (to / page for page in PAGES) if path.is_file()]
