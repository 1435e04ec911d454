"""`launcher resume`."""

import dataclasses
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any

import yaml
from cyclopts import Parameter

from launcher import jobs, manifest, runs
from launcher import resume as again
from launcher.cluster import Cluster, NotFoundError, open_cluster
from launcher.commands import dispatch
from launcher.commands.checkpoints import Place, RunName
from launcher.commands.job import job_of, with_claim
from launcher.commands.parameters import DryRun, On, Switch, Timeout, Yes
from launcher.commands.submit import check_flags
from launcher.commands.talk import agreed, tell
from launcher.resources import Object
from launcher.settings import nothing_standing, read_assignments, standing
from launcher.spec import JobSpec
from launcher.target import Target
from trainer.errors import InterruptedByUser, KnownError, RemoteError
from trainer.layout import check_name

DELETE_S = 300.0
"""How long the pods of a job that is over may take to go."""


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
    where: Place = runs.Where(),  # noqa: B008 - frozen
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
    cluster = open_cluster(on)
    old = jobs.found(cluster, name)
    if old is not None:
        jobs.check_over(old, f"cannot resume `{name}`")
    found = _look(name, where, old)
    settings = _settings(name, where, old, found, changes)
    with _as_flags(settings, closed=old is not None) as source:
        flags = [*source, "--namespace", cluster.namespace, f"--name={name}", *(f"--set={each}" for each in changes)]
        job = job_of(flags)
        if found:
            again.check(job, found)
            tell(f"the run at {found.url} {found.prospect}")
        if old is not None and dry_run == "server":
            _try(cluster, job)
            sys.stdout.write(manifest.to_name(manifest.render(job)))
            return
        if old is not None and dry_run == "none":
            _make_room(cluster, job, yes=yes)
        way = _through(on, dry_run) + _until(wait=wait, follow=follow, timeout=timeout)
        _submit(cluster, name, flags + way, settings)


def _look(name: str, where: runs.Where, old: Object | None) -> again.Found | None:
    """What lies in the run's prefix; None where this machine can't look and the job tells enough."""

    def job() -> Object:
        if old is None:
            raise NotFoundError(f"there is no job `{name}`")
        return old

    try:
        run = runs.find(name, where, job, tell)
        with run.opened() as storage:
            return again.look(run, storage, tell)
    except KnownError as problem:
        if old is None:
            raise
        tell(f"not looked at from here: {problem.args[0]}")
        return None


def _settings(
    name: str, where: runs.Where, old: Object | None, found: again.Found | None, changes: tuple[str, ...]
) -> Mapping[str, Any]:
    """Those of the job; where it is gone, what the run tells, and for the rest today's."""
    if old is not None:
        return again.may_go_on(jobs.settings_of(old))
    assert found is not None
    told = {"output": where.output, "s3_endpoint": where.endpoint, "s3_region": where.region}
    settings = again.settings_of(name, found) | {key: str(text) for key, text in told.items() if text}
    given = {key for each in (read_assignments(changes), *standing()) for key in each.values}
    again.check_complete(name, given | settings.keys())
    return again.may_go_on(settings)


@contextmanager
def _as_flags(settings: Mapping[str, Any], *, closed: bool) -> Iterator[list[str]]:
    """Flags that give these settings; `closed` to what stands in the environment and in files."""
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(dict(settings), file)
        file.flush()
        with nothing_standing() if closed else nullcontext():
            yield ["--file", file.name]


def _try(cluster: Cluster, job: JobSpec) -> None:
    """Ask the server whether it would take the job, under a name that is free: its own is taken by the one that is over.

    Raises: RemoteError.
    """
    trial = dataclasses.replace(with_claim(cluster, job), name=f"try-{secrets.token_hex(2)}")
    jobs.check_accepted(cluster, manifest.render(trial))


def _make_room(cluster: Cluster, job: JobSpec, *, yes: bool) -> None:
    """Remove the job that is over, once the server has said that it would take another."""
    question = f"remove the job {job.name} in {cluster.namespace}, which is over, and submit it again? [y/N] "
    if not yes and sys.stdin.isatty() and not agreed(question):
        raise InterruptedByUser("nothing changed")
    _try(cluster, job)
    for removed in jobs.delete(cluster, job.name, timeout_s=DELETE_S):
        tell(f"removed {removed}")


def _submit(cluster: Cluster, name: str, flags: list[str], settings: Mapping[str, Any]) -> None:
    try:
        dispatch(["submit", *flags])
    except RemoteError:
        if jobs.found(cluster, name) is None:  # they were nowhere else
            tell(f"the job is not there any more; its settings were\n{yaml.safe_dump(dict(settings))}")
        raise


def _through(on: Target, dry_run: str) -> list[str]:
    flags = ["--dry-run", dry_run]
    flags += [f"--context={on.context}"] if on.context else []
    return flags + ([f"--kubeconfig={on.kubeconfig}"] if on.kubeconfig else [])


def _until(*, wait: bool, follow: bool, timeout: str | None) -> list[str]:
    flags = [flag for flag, given in (("--wait", wait), ("--follow", follow)) if given]
    return flags + ([f"--timeout={timeout}"] if timeout else [])
