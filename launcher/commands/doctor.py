"""`launcher doctor`."""

import sys
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Literal

from cyclopts import Parameter

from launcher.cluster.access import Access, Target
from launcher.cluster.client import open_cluster
from launcher.commands.parameters import From, Job, Switch, Through
from launcher.commands.terminal import report
from launcher.doctor import checks
from launcher.jobs.choose import with_runtime, with_served_kind
from launcher.jobs.find import with_admin_claim
from launcher.settings.sources import Sources
from trainer.errors import RemoteError


def doctor(
    *,
    job: Job,
    sources: From = Sources(),  # noqa: ARG001, B008 - read by apply_settings; frozen
    access: Through = Access(),  # noqa: B008 - frozen
    in_cluster: Switch = False,
    form: Annotated[Literal["table", "json"], Parameter(name="-o")] = "table",
) -> None:
    """Check the prerequisites of a job.

    Parameters
    ----------
    in_cluster
        Check buckets, labels and weights from a short-lived pod with the job's account, not from this machine.
    form
        Output format.
    """
    cluster = open_cluster(Target(namespace=job.namespace, context=access.context, kubeconfig=access.kubeconfig))
    with suppress(RemoteError):  # a row reports it
        job = with_served_kind(cluster, job, report)
        job = with_runtime(cluster, job, report)
    found = checks.doctor(with_admin_claim(cluster, job, report), cluster, in_cluster=in_cluster)
    rows = [replace(row, fix=access.in_commands(row.fix, job.namespace)) for row in found]
    sys.stdout.write(checks.as_json(rows) if form == "json" else checks.as_table(rows))
    sys.stdout.flush()
    checks.check_passed(rows)
