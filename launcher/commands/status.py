"""`launcher list`, `launcher status` and `launcher events`."""

import sys
from dataclasses import replace
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
    """List the jobs of a namespace.

    Parameters
    ----------
    everywhere
        List the jobs of all namespaces.
    selector
        Label selector to filter on: `team=radiology,stage!=test`.
    watch
        Print the list again after each change.
    """
    cluster = open_cluster(on)

    def current() -> str:
        jobs, pods = list_jobs(cluster, on.api, everywhere=everywhere, labels=selector)
        return tables.job_list(jobs, pods, form, everywhere=everywhere, now=datetime.now(timezone.utc))

    terminal.show(current, watch=watch)


def status(
    name: Name,
    *,
    on: On = Target(),  # noqa: B008 - frozen
    watch: Watch = False,
    form: Form = "table",
) -> None:
    """Print the status of a job.

    Parameters
    ----------
    watch
        Print the status again after each change.
    """
    cluster = open_cluster(on)

    def current() -> str:
        snapshot = collect.collect_snapshot(cluster, name, on.api)
        found = diagnose(snapshot)
        if found is not None:
            found = replace(found, next_step=on.in_commands(found.next_step))
        return tables.job_status(snapshot, found, collect.progress(cluster, snapshot), form)

    terminal.show(current, watch=watch)


def events(name: Name, *, on: On = Target(), form: Form = "table") -> None:  # noqa: B008 - frozen
    """Print the events of a job."""
    sys.stdout.write(tables.events(collect.collect_snapshot(open_cluster(on), name, on.api), form))
