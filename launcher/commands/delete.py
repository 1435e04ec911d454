"""`launcher delete`."""

import sys

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.commands.parameters import Name, On, Timeout, Yes, seconds
from launcher.commands.terminal import confirm, report_error
from launcher.jobs.delete import delete_job
from trainer.errors import InputError, InterruptedByUser, KnownError, on_one_line


def delete(
    *names: Name,
    on: On = Target(),  # noqa: B008 - frozen
    yes: Yes = False,
    timeout: Timeout = "5m",
) -> None:
    """Delete jobs.

    Parameters
    ----------
    yes
        Do not ask for confirmation; without a terminal none is asked for.
    """
    if not names:
        raise InputError("cannot delete: no job is named", hint="launcher delete NAME; launcher list prints the names")
    cluster = open_cluster(on)
    if not yes and sys.stdin.isatty() and not confirm(f"delete {', '.join(names)} in {cluster.namespace}? [y/N] "):
        raise InterruptedByUser("nothing deleted")
    problems: list[KnownError] = []
    for name in names:
        try:
            for removed in delete_job(cluster, name, api=on.api, timeout_s=seconds(timeout) or 300):
                sys.stdout.write(f"{on_one_line(removed)}\n")
                sys.stdout.flush()
        except KnownError as problem:
            problems.append(problem)
    for earlier in problems[:-1]:
        earlier.hint = earlier.hint and on.in_commands(earlier.hint)
        report_error(earlier)
    if problems:
        raise problems[-1]
