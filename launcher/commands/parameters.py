"""Flags and arguments shared by several commands."""

from typing import Annotated, Literal

from cyclopts import Parameter

from launcher.cluster.access import Access, Target
from launcher.settings.sources import Sources
from launcher.spec.job import JobSpec
from trainer.config import parse_duration

Job = Annotated[JobSpec, Parameter(name="*")]
From = Annotated[Sources, Parameter(name="*")]
Through = Annotated[Access, Parameter(name="*")]
On = Annotated[Target, Parameter(name="*")]
Name = Annotated[str, Parameter(help="Name of the job.")]
Form = Annotated[Literal["table", "wide", "json", "yaml", "name"], Parameter(name="-o", help="Output format.")]
Timeout = Annotated[str | None, Parameter(help="Maximum time to wait: `90s`, `30m`, `8h`.", show_default=False)]
Switch = Annotated[bool, Parameter(negative=(), show_default=False)]
Yes = Annotated[bool, Parameter(name=("--yes", "-y"), negative=(), show_default=False)]
Watch = Annotated[bool, Parameter(name=("--watch", "-w"), negative=(), show_default=False)]
DryRun = Literal["none", "client", "server"]


def seconds(timeout: str | None) -> float | None:
    """The time-out in seconds. Raises: InputError for a text that is not a duration."""
    return None if timeout is None else parse_duration(timeout, "--timeout")
