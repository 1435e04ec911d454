"""`launcher scale`."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from launcher.cluster.access import Access, Target
from launcher.cluster.client import open_cluster
from launcher.commands.parameters import From, Switch, Through
from launcher.commands.terminal import report, report_error
from launcher.jobs.choose import with_kind
from launcher.jobs.delete import sweep
from launcher.jobs.find import with_admin_claim
from launcher.jobs.local import check as check_local
from launcher.scale import results, table
from launcher.scale.members import ScaleSpec, members
from launcher.scale.queue import RESUME_HINT, JobQueue, Problems
from launcher.settings.sources import Sources
from launcher.spec.job import JobSpec
from launcher.spec.trust import allowed
from trainer.errors import InputError, InterruptedByUser, JobFailedError, listing
from trainer.location import expanded


def _directory(_: type, tokens: Sequence[Token]) -> Path:
    """The directory of a flag; an empty text would mean the current directory. Raises: InputError."""
    if not tokens[-1].value:
        raise InputError("cannot gather runs in ``: it is not a directory (from `--to`)", hint="--to DIRECTORY")
    return Path(expanded(tokens[-1].value))


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
        Directory for the plots and the results of the runs, one folder for each run.
    local
        Run the jobs on this machine without a cluster, one after the other; no image is needed.
    parallel
        Number of jobs that run at the same time in the cluster; 1 by default, so that none slows another down.
    s3_endpoint_here
        URL of the S3 server from this machine; the default is the value of --s3-endpoint.
    form
        Output format.
    """
    _check_parallel(parallel, local=local)
    scale_spec = members(job)
    try:
        endpoint = s3_endpoint_here or scale_spec[0].s3.endpoint
        reach = results.Reach(
            local=local, endpoint=allowed(endpoint) if scale_spec[0].output_at.is_bucket else endpoint
        )
        results.check_places(job.name, scale_spec, to, reach)
        problems = {
            name: access.in_commands(why, scale_spec[0].namespace)
            for name, why in _run(scale_spec, access, reach, parallel or 1).items()
        }
        _print_comparison(scale_spec, to, reach, problems, form)
    except KeyboardInterrupt:
        raise InterruptedByUser("interrupted by Ctrl-C", hint=RESUME_HINT) from None


def _check_parallel(parallel: int | None, *, local: bool) -> None:
    if parallel is None:
        return
    if local:
        raise InputError(
            "cannot use --parallel with --local: jobs that share this machine would slow each other down",
            hint="omit --parallel",
        )
    if parallel < 1:
        raise InputError(f"cannot use --parallel {parallel}: it must be at least 1", hint="--parallel 2")


def _run(scale_spec: Sequence[JobSpec], access: Access, reach: results.Reach, parallel: int) -> Problems:
    """Run the jobs without results, after all of them were checked; the reasons why there still are none, by name."""
    if reach.local:
        check_local(scale_spec[0])
    todo = [job for job in scale_spec if not results.is_done(job, reach, report)]
    for job in scale_spec:
        if job not in todo:
            report(f"{job.name}: it already has results")
    if reach.local:
        return results.run_local(todo, reach, report)
    return _run_in_cluster(todo, access, reach, parallel) if todo else {}


def _run_in_cluster(todo: Sequence[JobSpec], access: Access, reach: results.Reach, parallel: int) -> Problems:
    target = Target(namespace=todo[0].namespace, context=access.context, kubeconfig=access.kubeconfig)
    cluster = open_cluster(target)
    first = with_admin_claim(cluster, with_kind(cluster, todo[0], report), report)
    todo = [dataclasses.replace(job, s3=first.s3, api=first.api, runtime=first.runtime) for job in todo]
    queue = JobQueue(
        cluster=cluster, has_results=reach.has_results, report=lambda text: report(target.in_commands(text))
    )
    queue.check(todo)
    for what in sweep(cluster):
        report(f"removed {what} of a deleted job")
    return queue.run(todo, parallel=parallel)


def _print_comparison(
    scale_spec: Sequence[JobSpec], to: Path, reach: results.Reach, problems: Problems, form: table.Form
) -> None:
    """Print and plot the runs that have results. Raises: JobFailedError when some have none."""
    done = [job for job in scale_spec if job.name not in problems]
    results.gather(done, to, reach, report)
    numbers = table.numbers([job.name for job in done], to)
    sys.stdout.write(table.shown(scale_spec, numbers, form))
    sys.stdout.flush()
    try:
        for path in results.plot([job.name for job in done], to) if done else ():
            report(f"{path}")
    except InputError as problem:
        if not problems:
            raise
        report_error(problem)
    if problems:
        raise JobFailedError(
            f"{len(problems)} of {len(scale_spec)} runs have no results:"
            f"{listing(f'{name}: {why}' for name, why in problems.items())}",
            hint="run the same command again to rerun these; the others are kept",
        )
