"""Wait for a job or follow its log until it has finished; its outcome becomes the exit code."""

import os
import sys

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import NotFoundError
from launcher.commands.parameters import seconds
from launcher.commands.terminal import report
from launcher.jobs.wait import wait_for_job
from launcher.kinds.state import State
from launcher.logs import printing
from launcher.logs.lines import LogOptions
from launcher.status import collect
from launcher.status.diagnose import diagnose
from trainer.errors import InterruptedByUser, JobFailedError
from trainer.screen import unscreened


def wait_for(
    cluster: Cluster, name: str, timeout: str | None, until: State | None = None, api: kinds.Choice = "auto"
) -> None:
    """Wait until the job has finished, or has the state `until`, and print its state."""
    state = wait_for_job(cluster, name, api=api, until=until, timeout_s=seconds(timeout))
    sys.stdout.write(f"{state}\n")


def follow_log(cluster: Cluster, name: str, options: LogOptions | None = None, api: kinds.Choice = "auto") -> None:
    """Follow the log of a job until it has finished."""

    def waiting(what: str) -> None:
        diagnosis = diagnose(collect.collect_snapshot(cluster, name, api))
        report(what + (f" ({diagnosis.sentence})" if diagnosis else ""))

    colour = printing.wants_colour(sys.stdout, os.environ)
    try:
        outcome = printing.follow(
            cluster,
            name,
            options or LogOptions(follow=True),
            api=api,
            out=unscreened(sys.stdout),
            report=report,
            waiting=waiting,
            colour=colour,
        )
    except KeyboardInterrupt:
        raise InterruptedByUser(
            f"no longer following `{name}`; the job continues", hint=f"launcher logs {name} -f follows it again"
        ) from None
    if outcome.state == "Deleted":
        raise NotFoundError(f"the job `{name}` was deleted while its log was followed", hint="launcher list")
    if outcome.state == "Failed":
        raise JobFailedError(f"the job `{name}` failed", hint=f"launcher status {name}")
