"""Flags and arguments that several commands have."""

from typing import Annotated, Literal

from cyclopts import Parameter

from launcher.cluster.access import Target
from trainer.config import parse_duration

On = Annotated[Target, Parameter(name="*")]
Name = Annotated[str, Parameter(help="Name of the job.")]
Form = Annotated[Literal["table", "wide", "json", "yaml", "name"], Parameter(name="-o", help="How to print it.")]
Timeout = Annotated[str | None, Parameter(help="How long to wait at most: `90s`, `30m`, `8h`.", show_default=False)]
Switch = Annotated[bool, Parameter(negative=(), show_default=False)]
Yes = Annotated[bool, Parameter(name=("--yes", "-y"), negative=(), show_default=False)]
Watch = Annotated[bool, Parameter(name=("--watch", "-w"), negative=(), show_default=False)]
DryRun = Literal["none", "client", "server"]


def seconds(timeout: str | None) -> float | None:
    """Raises: InputError for what is no duration."""
    return None if timeout is None else parse_duration(timeout, "--timeout")
