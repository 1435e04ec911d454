"""`launcher scale`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from launcher.cluster.access import Access, Target
from launcher.cluster.client import open_cluster
from launcher.commands.job import From, Through, with_claim
from launcher.commands.parameters import Switch
from launcher.commands.terminal import report, report_error
from launcher.jobs.delete import sweep_volumes
from launcher.jobs.local import check as check_here
from launcher.scale import results as comparison
from launcher.scale import table
from launcher.scale.members import ScaleSpec, members
from launcher.scale.queue import GO_ON, JobQueue, Problems
from launcher.settings.sources import Sources
from launcher.spec.job import JobSpec
from launcher.spec.trust import allowed
from trainer.errors import InputError, InterruptedByUser, JobFailedError, listing


def _directory(_: type, tokens: Sequence[Token]) -> Path:
    """The directory that a text names; an empty one would be the current. Raises: InputError."""
    if not tokens[-1].value:
        raise InputError("cannot gather runs in ``: it names no directory (from `--to`)", hint="--to DIRECTORY")
    return Path(tokens[-1].value)


def scale(
    *,
    job: Annotated[ScaleSpec, Parameter(name="*")],
    to: Annotated[Path, Parameter(converter=_directory, n_tokens=1, accepts_keys=False)],
    sources: From = Sources(),  # noqa: ARG001, B008 - read by apply_settings; frozen
    access: Through = Access(),  # noqa: B008 - frozen
    local: Switch = False,
    parallel: Annotated[int | None, Parameter(show_default=False)] = None,
    s3_endpoint_here: Annotated[str | None, Parameter(show_default=False)] = None,
    form: Annotated[table.Form, Parameter(name="-o")] = "table",
) -> None:
    """Compare sizes.

    Parameters
    ----------
    to
        Directory for what the runs say of themselves, a folder for each, and for the plots.
    local
        Run them on this machine, without a cluster, one after the other. Needs no image.
    parallel
        So many jobs at once in the cluster; one after the other unless given, so that none slows another down.
    s3_endpoint_here
        URL of the S3 server as this machine reaches it; that of --s3-endpoint unless given.
    form
        How to print the comparison.
    """
    _check_parallel(parallel, local=local)
    scale_spec = members(job)
    try:
        endpoint = s3_endpoint_here or scale_spec[0].s3.endpoint
        reach = comparison.Reach(
            local=local, endpoint=allowed(endpoint) if scale_spec[0].output_at.is_bucket else endpoint
        )
        comparison.check_places(job.name, scale_spec, to, reach)
        problems = _run(scale_spec, access, reach, parallel or 1)
        _tell_of(scale_spec, to, reach, problems, form)
    except KeyboardInterrupt:
        raise InterruptedByUser("interrupted by Ctrl-C", hint=GO_ON) from None


def _check_parallel(parallel: int | None, *, local: bool) -> None:
    """Raises: InputError."""
    if parallel is None:
        return
    if local:
        raise InputError(
            "cannot use --parallel with --local: jobs that share this machine would slow each other down",
            hint="leave it out",
        )
    if parallel < 1:
        raise InputError(f"cannot use --parallel {parallel}: it must be at least 1", hint="--parallel 2")


def _run(scale_spec: Sequence[JobSpec], access: Access, reach: comparison.Reach, parallel: int) -> Problems:
    """Run what has no results yet, once all of it has been checked; why there still are none, by name."""
    if reach.local:
        check_here(scale_spec[0])
    todo = [job for job in scale_spec if not comparison.is_done(job, reach, report)]
    for job in scale_spec:
        if job not in todo:
            report(f"{job.name}: its results are there")
    if reach.local:
        return comparison.here(todo, reach, report)
    return _run_in_cluster(todo, access, reach, parallel) if todo else {}


def _run_in_cluster(todo: Sequence[JobSpec], access: Access, reach: comparison.Reach, parallel: int) -> Problems:
    cluster = open_cluster(Target(namespace=todo[0].namespace, context=access.context, kubeconfig=access.kubeconfig))
    data = with_claim(cluster, todo[0]).s3
    todo = [dataclasses.replace(job, s3=data) for job in todo]
    series = JobQueue(cluster=cluster, has_results=reach.has_results, report=report)
    series.check(todo)
    for name in sweep_volumes(cluster):
        report(f"removed the volume {name}, whose job is gone")
    return series.run(todo, parallel=parallel)


def _tell_of(
    scale_spec: Sequence[JobSpec], to: Path, reach: comparison.Reach, problems: Problems, form: table.Form
) -> None:
    """Print the comparison of what has results, and plot it. Raises: JobFailedError where something has none."""
    done = [job for job in scale_spec if job.name not in problems]
    comparison.gather(done, to, reach, report)
    found = table.numbers([job.name for job in done], to)
    sys.stdout.write(table.shown(scale_spec, found, form))
    sys.stdout.flush()
    try:
        for path in comparison.plot([job.name for job in done], to) if done else ():
            report(f"{path}")
    except InputError as problem:
        if not problems:
            raise
        report_error(problem)
    if problems:
        raise JobFailedError(
            f"{len(problems)} of {len(scale_spec)} runs have no results:"
            f"{listing(f'{name}: {why}' for name, why in problems.items())}",
            hint="the same command runs these again, and keeps the others",
        )
