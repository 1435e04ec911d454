"""`launcher submit`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from launcher.cluster.access import Access, Target
from launcher.cluster.resources import Object
from launcher.commands.parameters import DryRun, From, Job, Switch, Through, Timeout, seconds
from launcher.commands.terminal import report
from launcher.settings.sources import Sources
from launcher.spec import manifest
from launcher.spec.job import JobSpec
from trainer.errors import InputError

if TYPE_CHECKING:
    from launcher.cluster.client import Cluster


def submit(
    *,
    job: Job,
    sources: From = Sources(),  # noqa: ARG001, B008 - read by apply_settings; frozen
    access: Through = Access(),  # noqa: B008 - frozen
    local: Switch = False,
    dry_run: DryRun = "none",
    wait: Switch = False,
    follow: Switch = False,
    timeout: Timeout = None,
) -> None:
    """Create a job, or run it on this machine.

    Parameters
    ----------
    local
        Run the job on this machine without a cluster, one process for each pod; no image is needed.
    dry_run
        `client` prints the objects; `server` validates them in the cluster without creating them.
    wait
        Wait until the job has finished; the exit code is its outcome.
    follow
        Follow the log until the job has finished; the exit code is its outcome.
    """
    check_flags(local=local, dry_run=dry_run, wait=wait, follow=follow, timeout=timeout)
    if local:
        _run_local(job)
    else:
        cluster = create(job, access, dry_run=dry_run)
        if cluster is not None:
            wait_or_follow(cluster, job.name, wait=wait, follow=follow, timeout=timeout)


def check_flags(*, local: bool, dry_run: str, wait: bool, follow: bool, timeout: str | None) -> None:
    """Reject flags that would be ignored, before anything is created. Raises: InputError."""
    seconds(timeout)
    given = {"--dry-run": dry_run != "none", "--wait": wait, "--follow": follow, "--timeout": timeout is not None}
    ignored = [flag for flag, is_given in given.items() if is_given and local]
    if ignored:
        raise InputError(
            f"cannot use {', '.join(ignored)} with --local: the command itself runs the job until it has finished",
            hint=f"omit {', '.join(ignored)}",
        )
    if wait and follow:
        raise InputError(
            "cannot use both --wait and --follow: both wait for the job", hint="--follow also prints its log"
        )
    if timeout is not None and not wait:
        raise InputError("cannot use --timeout without --wait", hint="--wait --timeout 8h")


def _run_local(job: JobSpec) -> None:
    from launcher.jobs import local  # noqa: PLC0415 - only for --local

    local.check(job)
    local.run(local.objects(job), scratch=local.cache_of(job), report=report, python=sys.executable)
    sys.stdout.write(f"{job.run}\n")


def create(job: JobSpec, access: Access, *, dry_run: DryRun) -> "Cluster | None":
    """Create the job in its namespace and return the cluster; a dry run returns None. Raises: KnownError."""
    if dry_run == "client":
        sys.stdout.write(manifest.to_yaml(manifest.render(job)))
        return None
    from launcher.cluster.client import open_cluster  # noqa: PLC0415 - a client dry run needs no cluster

    cluster = open_cluster(Target(namespace=job.namespace, context=access.context, kubeconfig=access.kubeconfig))
    _create(cluster, job, access, dry_run=dry_run == "server")
    return cluster if dry_run == "none" else None


def wait_or_follow(cluster: "Cluster", name: str, *, wait: bool, follow: bool, timeout: str | None) -> None:
    """Wait for the job or follow its log, if a flag asks for it."""
    from launcher.commands.follow import follow_log, wait_for  # noqa: PLC0415 - a client dry run needs no cluster

    if follow:
        follow_log(cluster, name)
    elif wait:
        wait_for(cluster, name, timeout)


def _create(cluster: "Cluster", job: JobSpec, access: Access, *, dry_run: bool) -> None:
    from launcher.jobs.choose import with_kind  # noqa: PLC0415 - as above
    from launcher.jobs.delete import sweep  # noqa: PLC0415 - as above
    from launcher.jobs.find import with_admin_claim  # noqa: PLC0415 - as above

    job = with_admin_claim(cluster, with_kind(cluster, job, report), report)
    for what in [] if dry_run else sweep(cluster):
        report(f"removed {what} of a deleted job")
    create_objects(cluster, manifest.render(job), access, dry_run=dry_run, output=job.run)


def create_objects(
    cluster: "Cluster", objects: Sequence[Object], access: Access, *, dry_run: bool, output: str
) -> None:
    """Create the objects of a job of any kind, or validate them, and print what to do next. Raises: KnownError."""
    from launcher.jobs import submit  # noqa: PLC0415 - a client dry run needs no cluster
    from launcher.logs.printing import kubectl_logs_commands  # noqa: PLC0415 - as above

    submitted = submit.submit(cluster, objects, dry_run=dry_run)
    sys.stdout.write(manifest.to_name(objects))
    sys.stdout.flush()
    report(f"{submitted.outcome} in {cluster.namespace}; output: {output}")
    if not dry_run:
        name, namespace_flag = objects[-1]["metadata"]["name"], f" -n {cluster.namespace}"
        commands = [
            f"python -m launcher status {name}{namespace_flag}",
            *kubectl_logs_commands(objects[-1], cluster.namespace),
            f"python -m launcher delete {name}{namespace_flag}",
        ]
        indented = "\n".join(f"  {command}" for command in commands)
        report(f"next:\n{access.in_commands(indented)}")
