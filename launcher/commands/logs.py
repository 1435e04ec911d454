"""`launcher logs`."""

import os
import sys
from typing import Annotated

from cyclopts import Parameter

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.commands.follow import follow_log
from launcher.commands.parameters import Name, On
from launcher.commands.terminal import report
from launcher.logs import printing
from launcher.logs.lines import LogOptions
from trainer.screen import unscreened


def logs(
    name: Name,
    *,
    on: On = Target(),  # noqa: B008 - frozen
    options: Annotated[LogOptions, Parameter(name="*")] = LogOptions(),  # noqa: B008 - frozen
) -> None:
    """Print the log of a job."""
    cluster = open_cluster(on)
    if options.follow:
        follow_log(cluster, name, options, on.api)
    else:
        colour = printing.wants_colour(sys.stdout, os.environ)
        printing.write(cluster, name, options, api=on.api, out=unscreened(sys.stdout), report=report, colour=colour)
