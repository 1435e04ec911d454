"""`launcher list`, `launcher status` and `launcher events`: how jobs are."""

import sys
from datetime import datetime, timezone
from typing import Annotated

from cyclopts import Parameter

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.commands import terminal
from launcher.commands.parameters import Form, Name, On, Watch
from launcher.jobs.find import list_jobs
from launcher.status import collect, tables
from launcher.status.diagnose import diagnose


def list_(
    *,
    on: On = Target(),  # noqa: B008 - frozen
    everywhere: Annotated[bool, Parameter(name=("--all-namespaces", "-A"), negative=(), show_default=False)] = False,
    selector: Annotated[str, Parameter(name=("--selector", "-l"), show_default=False)] = "",
    watch: Watch = False,
    form: Form = "table",
) -> None:
    """Print the jobs of a namespace.

    Parameters
    ----------
    everywhere
        Of all namespaces.
    selector
        Only jobs with these labels: `team=radiology,stage!=test`.
    watch
        Print them again whenever they have changed.
    """
    cluster = open_cluster(on)

    def look() -> str:
        found, pods = list_jobs(cluster, everywhere=everywhere, labels=selector)
        return tables.job_list(found, pods, form, everywhere=everywhere, now=datetime.now(timezone.utc))

    terminal.show(look, watch=watch)


def status(
    name: Name,
    *,
    on: On = Target(),  # noqa: B008 - frozen
    watch: Watch = False,
    form: Form = "table",
) -> None:
    """Print how a job is.

    Parameters
    ----------
    watch
        Print it again whenever it has changed.
    """
    cluster = open_cluster(on)

    def look() -> str:
        snapshot = collect.collect_snapshot(cluster, name)
        return tables.job_status(snapshot, diagnose(snapshot), collect.progress(cluster, snapshot), form)

    terminal.show(look, watch=watch)


def events(name: Name, *, on: On = Target(), form: Form = "table") -> None:  # noqa: B008 - frozen
    """Print what the cluster noted about a job."""
    sys.stdout.write(tables.events(collect.collect_snapshot(open_cluster(on), name), form))
