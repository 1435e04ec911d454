"""`launcher wait`."""

from typing import Annotated, Literal

from cyclopts import Parameter

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.commands.follow import wait_for
from launcher.commands.parameters import Name, On, Timeout


def wait(
    name: Name,
    *,
    on: On = Target(),  # noqa: B008 - frozen
    until: Annotated[Literal["Succeeded", "Failed", "Running", "Suspended"] | None, Parameter(name="--for")] = None,
    timeout: Timeout = None,
) -> None:
    """Wait until a job has finished.

    Parameters
    ----------
    until
        State to wait for; it is an error when the job ends in another state.
    """
    wait_for(open_cluster(on), name, timeout, until, on.api)
