"""`launcher resume`."""

import dataclasses
import secrets
import sys
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Final

import yaml
from cyclopts import Parameter

from launcher.cluster.access import Access, Target
from launcher.cluster.client import Cluster, open_cluster
from launcher.cluster.errors import NotFoundError
from launcher.cluster.resources import Object
from launcher.commands.checkpoints import Place, RunName
from launcher.commands.job import with_claim
from launcher.commands.parameters import DryRun, On, Switch, Timeout, Yes
from launcher.commands.submit import check_flags, create, stay
from launcher.commands.terminal import agreed, report
from launcher.jobs import submit
from launcher.jobs.delete import delete_job
from launcher.jobs.find import find_job, settings_of
from launcher.runs import locate
from launcher.runs import resume as again
from launcher.settings.sources import (
    absolute,
    check_changes,
    context_namespace,
    job_of,
    read_assignments,
    settings_from,
    standing,
)
from launcher.spec import manifest
from launcher.spec.job import JobSpec
from trainer.errors import InputError, InterruptedByUser, KnownError, RemoteError
from trainer.layout import check_name

DELETE_S = 300.0
"""How long the pods of a job that is over may take to go."""

KEPT: Final = {
    "name": "NAME is the run's",
    "namespace": "the job stays where it is, -n says where that is",
    "output": "the run stays where it is, --output says where that is once the job is gone",
}
"""Settings that decide which run it is, and what gives them."""


def resume(
    name: RunName,
    *,
    changes: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set", negative=(), show_default=False, help="KEY=YAML, a setting to change; as often as needed."
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
        Do not ask before the job that is over is removed; without a terminal nobody is asked.
    dry_run
        `client` prints the objects; `server` asks the cluster whether it would take them.
    wait
        Wait until the job is over; its outcome is the exit code.
    follow
        Follow the log until the job is over; its outcome is the exit code.
    """
    check_name(name)
    check_flags(local=False, dry_run=dry_run, wait=wait, follow=follow, timeout=timeout)
    check_changes(changes, KEPT)
    cluster, old = _there(on, name, where, dry_run)
    found = _look(name, where, old)
    settings = _settings(name, where, old, found, changes)
    namespace = cluster.namespace if cluster else on.namespace
    job = job_of(
        settings_from("the command", {"name": name} | ({"namespace": namespace} if namespace else {})),
        read_assignments(changes),
        settings_from(f"the run {name}", settings),
        *([] if old else [*standing(), context_namespace(on.kubeconfig, on.context)]),
    )
    if found:
        again.check(job, found)
        report(f"the run at {found.url} {found.prospect}")
    if cluster is None or old is None or dry_run == "client":
        create(job, on, dry_run=dry_run)
    elif dry_run == "server":
        _try(cluster, job)
        sys.stdout.write(manifest.to_name(manifest.render(job)))
    else:
        _replace(cluster, job, on, settings, yes=yes)
    if cluster is not None and dry_run == "none":
        stay(cluster, name, wait=wait, follow=follow, timeout=timeout)


def _there(on: Target, name: str, where: locate.Where, dry_run: str) -> tuple[Cluster | None, Object | None]:
    """The cluster and the job, which is over, or None; no cluster where objects are only to be printed and the output is typed.

    Raises: InputError for a job that is not over, or whose run lies elsewhere than in that output; RemoteError.
    """
    try:
        cluster = open_cluster(on)
        old = find_job(cluster, name)
    except KnownError as problem:
        if dry_run != "client" or not isinstance(where.output, locate.Typed):
            raise
        report(f"taken for gone: {problem.args[0]}")
        return None, None
    if old is not None:
        submit.check_over(old, f"cannot resume `{name}`")
        _check_output(name, where, str(settings_of(old)["output"]))
    return cluster, old


def _check_output(name: str, where: locate.Where, output: str) -> None:
    """Raises: InputError for an output that is typed where the job's own can be seen, and is another."""
    if (
        isinstance(where.output, locate.Typed)
        and absolute(where.output).rstrip("/") != output.rstrip("/")
        and locate.is_seen(output)
    ):
        raise InputError(
            f"cannot resume `{name}` in `{where.output}`: the run of its job lies in `{output}` (from `--output`)",
            hint=f"leave --output out; launcher delete {name} makes room for a job of the other run",
        )


def _look(name: str, where: locate.Where, old: Object | None) -> again.EarlierRun | None:
    """What lies in the run's prefix; None where this machine can't look and the job tells enough.

    Raises: InputError, DamagedError for a run that can't go on; RemoteError where there is no job.
    """

    def gone() -> Object:
        raise NotFoundError(f"there is no job `{name}`")

    try:
        run = locate.of_settings(name, settings_of(old), where) if old else locate.find(name, where, gone, report)
        with run.opened() as storage:
            return again.read_earlier_run(run, storage, report)
    except (RemoteError, locate.ElsewhereError) as problem:
        if old is None:
            raise
        report(f"not looked at from here: {problem.args[0]}")
        return None


def _settings(
    name: str, where: locate.Where, old: Object | None, found: again.EarlierRun | None, changes: tuple[str, ...]
) -> Mapping[str, Any]:
    """Those of the job; where it is gone, what the run tells, and for the rest today's.

    How this machine reaches S3 is none of them: pods may reach it another way.
    """
    if old is not None:
        return again.may_go_on(settings_of(old))
    assert found is not None
    settings = again.settings_of(name, found) | ({"output": str(where.output)} if where.output else {})
    given = {key for each in (read_assignments(changes), *standing()) for key in each.values}
    again.check_complete(name, given | settings.keys())
    if isinstance(where.endpoint, locate.Typed) and "s3_endpoint" not in given:
        report("--s3-endpoint is of this machine; --set s3_endpoint=URL gives the job one")
    return again.may_go_on(settings)


def _try(cluster: Cluster, job: JobSpec) -> None:
    """Ask the server whether it would take the job, under a name that is free: its own is taken by the one that is over.

    Raises: RemoteError.
    """
    trial = dataclasses.replace(with_claim(cluster, job), name=f"try-{secrets.token_hex(2)}")
    submit.check_accepted(cluster, manifest.render(trial))


def _replace(cluster: Cluster, job: JobSpec, access: Access, settings: Mapping[str, Any], *, yes: bool) -> None:
    """Remove the job that is over, once the server has said that it would take another, and submit it again."""
    question = f"remove the job {job.name} in {cluster.namespace}, which is over, and submit it again? [y/N] "
    if not yes and sys.stdin.isatty() and not agreed(question):
        raise InterruptedByUser("nothing changed")
    _try(cluster, job)
    with _told_if_lost(settings):
        for removed in delete_job(cluster, job.name, timeout_s=DELETE_S):
            report(f"removed {removed}")
        create(job, access, dry_run="none")


@contextmanager
def _told_if_lost(settings: Mapping[str, Any]) -> Iterator[None]:
    """For the block, in which they are nowhere but here: whatever ends it, settings are told.

    Whether the job is there is not asked: what ended the block may keep the answer away too.
    """
    try:
        yield
    except BaseException:
        text = textwrap.indent(yaml.safe_dump(dict(settings)), "  ")
        report(f"the job may be gone; its settings, as `submit --file` takes them, are\n{text.rstrip()}")
        report("")
        raise
