"""`launcher resume`."""

import dataclasses
import secrets
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final

from cyclopts import Parameter

from launcher import kinds
from launcher.cluster.access import Access, Target
from launcher.cluster.client import Cluster, open_cluster
from launcher.cluster.errors import NotFoundError
from launcher.cluster.resources import Object
from launcher.commands.checkpoints import Place, RunName
from launcher.commands.parameters import DryRun, On, Switch, Timeout, Yes
from launcher.commands.submit import check_flags, create, wait_or_follow
from launcher.commands.terminal import confirm, report
from launcher.jobs.choose import with_kind
from launcher.jobs.delete import delete_job
from launcher.jobs.find import check_finished, settings_of, with_admin_claim
from launcher.kinds import lookup
from launcher.kinds.accept import check_replaceable
from launcher.output import as_yaml
from launcher.runs import locate
from launcher.runs import resume as run_resume
from launcher.settings.sources import (
    absolute,
    check_changes,
    context_namespace,
    job_of,
    read_assignments,
    settings_from,
    stored_settings,
    with_api,
    without_unset,
)
from launcher.spec import manifest
from launcher.spec.fields import settings_of as spec_settings
from launcher.spec.job import JobSpec
from trainer.errors import InputError, InterruptedByUser, KnownError, RemoteError
from trainer.layout import check_name

DELETE_S = 300.0
"""Maximum time for deleting the pods of a finished job."""

KEPT: Final = {
    "name": "NAME is the name of the run",
    "namespace": "the job keeps its namespace, which -n selects",
    "output": "the run keeps its location, which --output gives after the job was deleted",
}
"""Settings that identify the run, and the arguments that give them."""


def resume(
    name: RunName,
    *,
    changes: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set", negative=(), show_default=False, help="KEY=YAML, a setting to change; can be repeated."
        ),
    ] = (),
    on: On = Target(),  # noqa: B008 - frozen
    where: Place = locate.Where(),  # noqa: B008 - frozen
    yes: Yes = False,
    dry_run: DryRun = "none",
    wait: Switch = False,
    follow: Switch = False,
    timeout: Timeout = None,
) -> None:
    """Submit a job again.

    Parameters
    ----------
    yes
        Do not ask for confirmation before the finished job is removed; without a terminal none is asked for.
    dry_run
        `client` prints the objects; `server` validates them in the cluster without creating them.
    wait
        Wait until the job has finished; the exit code is its outcome.
    follow
        Follow the log until the job has finished; the exit code is its outcome.
    """
    check_name(name)
    check_flags(local=False, dry_run=dry_run, wait=wait, follow=follow, timeout=timeout)
    check_changes(changes, KEPT)
    cluster, old = _finished_job(on, name, where, dry_run)
    changes = with_api(changes, on.api, kinds.of(old).api if old else None)
    earlier = _earlier_run(name, where, old)
    settings = _settings(name, where, old, earlier, changes)
    namespace = cluster.namespace if cluster else on.namespace
    job = job_of(
        settings_from("the command", {"name": name} | ({"namespace": namespace} if namespace else {})),
        read_assignments(changes),
        settings_from(f"the run {name}", settings),
        *([] if old else [*stored_settings(), context_namespace(on.kubeconfig, on.context)]),
    )
    if earlier:
        run_resume.check(job, earlier)
        report(f"the run at {earlier.url} {earlier.prospect}")
    if cluster is None or old is None or dry_run == "client":
        create(job, on, dry_run=dry_run)
    elif dry_run == "server":
        _check_server_accepts(cluster, job)
        sys.stdout.write(manifest.to_name(manifest.render(job)))
    else:
        _replace(cluster, job, on, old, yes=yes)
    if cluster is not None and dry_run == "none":
        wait_or_follow(cluster, name, wait=wait, follow=follow, timeout=timeout)


def _finished_job(on: Target, name: str, where: locate.Where, dry_run: str) -> tuple[Cluster | None, Object | None]:
    """The cluster, and the finished job or None; no cluster is needed to print objects when `--output` is given.

    Raises: InputError for a job that has not finished, whose run is not in that output, or beside which there is one of the other
    kind; RemoteError.
    """
    try:
        cluster = open_cluster(on)
        old = lookup.find_source(cluster, name, on.api)
    except KnownError as problem:
        if dry_run != "client" or not isinstance(where.output, locate.Typed):
            raise
        report(f"assuming that the job does not exist: {problem.args[0]}")
        return None, None
    if old is not None:
        lookup.check_only_kind(cluster, old, f"cannot resume `{name}`")
        check_finished(old, f"cannot resume `{name}`")
        _check_output(name, where, str(settings_of(old)["output"]))
    return cluster, old


def _check_output(name: str, where: locate.Where, output: str) -> None:
    """Raises: InputError for an `--output` that differs from the job's own, if this machine can reach that."""
    if (
        isinstance(where.output, locate.Typed)
        and absolute(where.output).rstrip("/") != output.rstrip("/")
        and locate.is_seen(output)
    ):
        raise InputError(
            f"cannot resume `{name}` in `{where.output}`: the run of its job is in `{output}` (from `--output`)",
            hint=f"omit --output; to resume the other run, first launcher delete {name}",
        )


def _earlier_run(name: str, where: locate.Where, old: Object | None) -> run_resume.EarlierRun | None:
    """The content of the run's prefix; None when this machine can't read it and the job exists.

    Raises: InputError, DamagedError for a run that can't resume; RemoteError when there is no job.
    """

    def no_job() -> Object:
        raise NotFoundError(f"there is no job `{name}`")

    try:
        run = locate.of_settings(name, settings_of(old), where) if old else locate.find(name, where, no_job, report)
        with run.opened() as storage:
            return run_resume.read_earlier_run(run, storage, report)
    except (RemoteError, locate.ElsewhereError) as problem:
        if old is None:
            raise
        report(f"the run was not checked: {problem.args[0]}")
        return None


def _settings(
    name: str, where: locate.Where, old: Object | None, earlier: run_resume.EarlierRun | None, changes: tuple[str, ...]
) -> Mapping[str, Any]:
    """The settings of the job; after its deletion those of the run's record, completed by the current settings.

    The S3 flags of this machine are not among them: pods may reach S3 at another address.
    """
    if old is not None:
        settings = without_unset(settings_of(old) | {"api": kinds.of(old).api}, changes)
        return run_resume.without_resume_flag(settings)
    assert earlier is not None
    settings = run_resume.settings_of(name, earlier) | ({"output": str(where.output)} if where.output else {})
    given = {key for each in (read_assignments(changes), *stored_settings()) for key in each.values}
    run_resume.check_complete(name, given | settings.keys())
    if isinstance(where.endpoint, locate.Typed) and "s3_endpoint" not in given:
        report("--s3-endpoint applies to this machine only; set that of the job with --set s3_endpoint=URL")
    return run_resume.without_resume_flag(settings)


def _check_server_accepts(cluster: Cluster, job: JobSpec) -> None:
    """Validate the job in the cluster under a free name: the finished job still has its own.

    Raises: RemoteError.
    """
    accepted = with_admin_claim(cluster, with_kind(cluster, job, report), report)
    trial = dataclasses.replace(accepted, name=f"try-{secrets.token_hex(2)}")
    check_replaceable(cluster, manifest.render(trial))


def _replace(cluster: Cluster, job: JobSpec, access: Access, old: Object, *, yes: bool) -> None:
    """Remove the finished job and submit it again, after a dry run of the new one was accepted."""
    question = f"remove the finished job {job.name} in {cluster.namespace} and submit it again? [y/N] "
    if not yes and sys.stdin.isatty() and not confirm(question):
        raise InterruptedByUser("nothing changed")
    _check_server_accepts(cluster, job)
    with _settings_reported_on_failure(job, access):
        for removed in delete_job(
            cluster, job.name, api=kinds.of(old).api, timeout_s=DELETE_S, uid=old["metadata"].get("uid")
        ):
            report(f"removed {removed}")
        create(job, access, dry_run="none")


@contextmanager
def _settings_reported_on_failure(job: JobSpec, access: Access) -> Iterator[None]:
    """Report the job's settings when the block fails: between deletion and creation only this process has them.

    Whether the job exists is not checked: the cause of the failure may prevent that request as well.
    """
    try:
        yield
    except BaseException:
        text = textwrap.indent(as_yaml(spec_settings(job)), "  ")
        command = f"launcher submit --name {job.name} -n {job.namespace} --file FILE"
        report(
            f"the job may be deleted; write these settings to FILE, then `{access.in_commands(command)}`:\n{text.rstrip()}"
        )
        report("")
        raise
