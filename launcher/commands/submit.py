"""`launcher submit`."""

import sys
from typing import TYPE_CHECKING

from launcher.cluster.access import Access, Target
from launcher.commands.job import From, Job, Through, with_claim
from launcher.commands.parameters import DryRun, Switch, Timeout, seconds
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
    """Create a job, or run it here.

    Parameters
    ----------
    local
        Run it on this machine, without a cluster: a process for each pod. Needs no image.
    dry_run
        `client` prints the objects; `server` asks the cluster whether it would take them.
    wait
        Wait until the job is over; its outcome is the exit code.
    follow
        Follow the log until the job is over; its outcome is the exit code.
    """
    check_flags(local=local, dry_run=dry_run, wait=wait, follow=follow, timeout=timeout)
    if local:
        _run_here(job)
    else:
        cluster = create(job, access, dry_run=dry_run)
        if cluster is not None:
            stay(cluster, job.name, wait=wait, follow=follow, timeout=timeout)


def check_flags(*, local: bool, dry_run: str, wait: bool, follow: bool, timeout: str | None) -> None:
    """Refuse what could only be ignored, before anything is spent. Raises: InputError."""
    seconds(timeout)
    given = {"--dry-run": dry_run != "none", "--wait": wait, "--follow": follow, "--timeout": timeout is not None}
    ignored = [flag for flag, there in given.items() if there and local]
    if ignored:
        raise InputError(
            f"cannot use {', '.join(ignored)} with --local: it runs here until it is over", hint="leave it out"
        )
    if wait and follow:
        raise InputError(
            "cannot use both --wait and --follow: both end with the job", hint="--follow prints its log too"
        )
    if timeout is not None and not wait:
        raise InputError("cannot use --timeout without --wait", hint="--wait --timeout 8h")


def _run_here(job: JobSpec) -> None:
    from launcher.jobs import local  # noqa: PLC0415 - not for a cluster

    local.check(job)
    local.run(manifest.render(job), scratch=local.cache_of(job), report=report, python=sys.executable)
    sys.stdout.write(f"{job.run}\n")


def create(job: JobSpec, access: Access, *, dry_run: DryRun) -> "Cluster | None":
    """Create the job in its namespace, or print it or ask the server; the cluster where the job is now. Raises: KnownError."""
    if dry_run == "client":
        sys.stdout.write(manifest.to_yaml(manifest.render(job)))
        return None
    from launcher.cluster.client import open_cluster  # noqa: PLC0415 - a dry run of the client needs none

    cluster = open_cluster(Target(namespace=job.namespace, context=access.context, kubeconfig=access.kubeconfig))
    _create(cluster, job, access, dry_run=dry_run == "server")
    return cluster if dry_run == "none" else None


def stay(cluster: "Cluster", name: str, *, wait: bool, follow: bool, timeout: str | None) -> None:
    """Wait for the job or follow its log, where that is wanted."""
    from launcher.commands.follow import follow_log, wait_for  # noqa: PLC0415 - a dry run of the client needs none

    if follow:
        follow_log(cluster, name)
    elif wait:
        wait_for(cluster, name, timeout)


def _create(cluster: "Cluster", job: JobSpec, access: Access, *, dry_run: bool) -> None:
    from launcher.jobs import submit  # noqa: PLC0415 - as above
    from launcher.jobs.delete import sweep_volumes  # noqa: PLC0415 - as above
    from launcher.logs.printing import kubectl_logs_command  # noqa: PLC0415 - as above

    job = with_claim(cluster, job)
    for name in [] if dry_run else sweep_volumes(cluster):
        report(f"removed the volume {name}, whose job is gone")
    objects = manifest.render(job)
    submitted = submit.submit(cluster, objects, dry_run=dry_run)
    sys.stdout.write(manifest.to_name(objects))
    sys.stdout.flush()
    report(f"{submitted.outcome} in {cluster.namespace}; the run goes to {job.run}")
    if not dry_run:
        place = f" -n {cluster.namespace}"
        kubectl = kubectl_logs_command(
            objects[-1], cluster.namespace, context=access.context, kubeconfig=access.kubeconfig
        )
        report(
            "next:\n"
            f"  python -m launcher status {job.name}{place}\n"
            f"  {kubectl}\n"
            f"  python -m launcher delete {job.name}{place}"
        )
