"""`launcher clone`."""

import tempfile
from typing import Annotated

import yaml
from cyclopts import Parameter

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.commands import dispatch
from launcher.commands.parameters import DryRun, On
from launcher.jobs import submit
from launcher.settings.sources import check_changes, nothing_standing


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
    settings = submit.settings_of(submit.get(cluster, source))
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file, nothing_standing():
        yaml.safe_dump(settings, file)
        file.flush()
        flags = ["--file", file.name, "--namespace", cluster.namespace, "--dry-run", dry_run]
        flags += [f"--name={name}"] if name else []
        flags += [f"--context={on.context}"] if on.context else []
        flags += [f"--kubeconfig={on.kubeconfig}"] if on.kubeconfig else []
        dispatch(["submit", *flags, *(f"--set={change}" for change in changes)])
