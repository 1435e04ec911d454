"""Staying with a job until it is over; how it ended is how the command ends."""

import os
import sys

from launcher.cluster.client import Cluster
from launcher.cluster.errors import NotFoundError
from launcher.commands.parameters import seconds
from launcher.commands.terminal import report
from launcher.jobs.wait import wait_for_job
from launcher.logs import printing as joblog
from launcher.logs.lines import LogOptions
from launcher.status import collect
from launcher.status.diagnose import diagnose
from launcher.status.snapshot import State
from trainer.errors import InterruptedByUser, JobFailedError
from trainer.screen import unscreened


def wait_for(cluster: Cluster, name: str, timeout: str | None, until: State | None = None) -> None:
    """Wait until the job is over, or `until`, and print its state."""
    state = wait_for_job(cluster, name, until=until, timeout_s=seconds(timeout))
    sys.stdout.write(f"{state}\n")


def follow_log(cluster: Cluster, name: str, options: LogOptions | None = None) -> None:
    """Follow the log of a job until it is over."""

    def waiting(what: str) -> None:
        found = diagnose(collect.collect_snapshot(cluster, name))
        report(what + (f" ({found.sentence})" if found else ""))

    colour = joblog.wants_colour(sys.stdout, os.environ)
    try:
        ending = joblog.follow(
            cluster,
            name,
            options or LogOptions(follow=True),
            out=unscreened(sys.stdout),
            report=report,
            waiting=waiting,
            colour=colour,
        )
    except KeyboardInterrupt:
        raise InterruptedByUser(
            f"no longer following `{name}`; the job goes on", hint=f"launcher logs {name} -f follows it again"
        ) from None
    if ending.state == "Deleted":
        raise NotFoundError(f"the job `{name}` was deleted while its log was followed", hint="launcher list")
    if ending.state == "Failed":
        raise JobFailedError(f"the job `{name}` failed", hint=f"launcher status {name}")
