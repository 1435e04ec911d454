"""`launcher clone`."""

from typing import Annotated

from cyclopts import Parameter

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.commands.parameters import DryRun, On
from launcher.commands.submit import create
from launcher.jobs.find import get_job, settings_of
from launcher.settings.sources import check_changes, job_of, read_assignments, settings_from


def clone(
    source: Annotated[str, Parameter(help="Name of the job to clone.")],
    *,
    changes: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set", negative=(), show_default=False, help="KEY=YAML, a setting to change; as often as needed."
        ),
    ] = (),
    name: str | None = None,
    on: On = Target(),  # noqa: B008 - frozen
    dry_run: DryRun = "none",
) -> None:
    """Submit a job like another.

    Parameters
    ----------
    name
        Name of the new job; made up unless given.
    dry_run
        `client` prints the objects; `server` asks the cluster whether it would take them.
    """
    check_changes(changes, {"name": "--name gives it", "namespace": "a clone stays in that of its original"})
    cluster = open_cluster(on)
    given = {"namespace": cluster.namespace} | ({"name": name} if name else {})
    original = settings_of(get_job(cluster, source))
    original.pop("name", None)
    job = job_of(
        settings_from("the command", given),
        read_assignments(changes),
        settings_from(f"the settings of the job {source}", original),
    )
    create(job, on, dry_run=dry_run)
