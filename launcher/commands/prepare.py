"""`launcher prepare`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from launcher.cluster.access import Access, Target
from launcher.commands.parameters import DryRun, Switch, Through, Timeout
from launcher.commands.submit import check_flags, create_objects, wait_or_follow
from launcher.spec import manifest, prepare_job
from launcher.spec.prepare import PrepareSpec


def prepare(
    *,
    job: Annotated[PrepareSpec, Parameter(name="*")],
    access: Through = Access(),  # noqa: B008 - frozen
    dry_run: DryRun = "none",
    wait: Switch = False,
    follow: Switch = False,
    timeout: Timeout = None,
) -> None:
    """Prepare a data set in the cluster.

    Parameters
    ----------
    dry_run
        `client` prints the job; `server` validates it in the cluster without creating it.
    wait
        Wait until the job has finished; the exit code is its outcome.
    follow
        Follow the log until the job has finished; the exit code is its outcome.
    """
    check_flags(local=False, dry_run=dry_run, wait=wait, follow=follow, timeout=timeout)
    objects = [prepare_job.job(job)]
    if dry_run == "client":
        sys.stdout.write(manifest.to_yaml(objects))
        return
    from launcher.cluster.client import open_cluster  # noqa: PLC0415 - a client dry run needs no cluster

    cluster = open_cluster(Target(namespace=job.namespace, context=access.context, kubeconfig=access.kubeconfig))
    create_objects(cluster, objects, access, dry_run=dry_run == "server", output=job.out)
    if dry_run == "none":
        wait_or_follow(cluster, job.name, wait=wait, follow=follow, timeout=timeout)
