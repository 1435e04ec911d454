"""`launcher checkpoints` and `launcher pull`: what a run has left, and bringing it here."""

import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, Token

from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.commands.parameters import On
from launcher.commands.terminal import report
from launcher.jobs.find import get_job
from launcher.runs import checkpoints as of
from launcher.runs import locate
from launcher.runs import pull as results
from trainer.errors import InputError, InterruptedByUser

RunName = Annotated[str, Parameter(help="Name of the job, and so of its run.")]
Place = Annotated[locate.Where, Parameter(name="*")]


def checkpoints(
    name: RunName,
    *,
    on: On = Target(),  # noqa: B008 - frozen
    where: Place = locate.Where(),  # noqa: B008 - frozen
    form: Annotated[of.Form, Parameter(name="-o", help="How to print them; by `name` as steps.")] = "table",
) -> None:
    """Print checkpoints."""
    run = _find(name, on, where)
    with run.opened() as storage:
        found = of.of_run(run, storage, report)
    sys.stdout.write(of.shown(run, found, form, datetime.now(timezone.utc)))


def _directory(_: type, tokens: Sequence[Token]) -> Path:
    """The directory that a text names; an empty one would be the current. Raises: InputError."""
    if not tokens[-1].value:
        raise InputError("cannot pull into ``: it names no directory (from `--to`)", hint="--to DIRECTORY")
    return Path(tokens[-1].value)


def pull(
    name: RunName,
    *,
    step: Annotated[str | None, Parameter(show_default=False)] = None,
    to: Annotated[Path | None, Parameter(converter=_directory, n_tokens=1, accepts_keys=False)] = None,
    what: results.What = "all",
    on: On = Target(),  # noqa: B008 - frozen
    where: Place = locate.Where(),  # noqa: B008 - frozen
) -> None:
    """Fetch results.

    Parameters
    ----------
    step
        Which checkpoint: `best`, `last` or a step's number; the best unless given.
    to
        Directory to put them in; NAME here unless given.
    what
        `checkpoint`, `model` (the exported weights), `report` (scores, predictions, record), or `all` with the logs.
    """
    run = _find(name, on, where)
    try:
        with run.opened() as storage:
            paths = results.pull(run, storage, step=step, what=what, directory=to or Path(name), report=report)
    except KeyboardInterrupt:
        raise InterruptedByUser(
            "interrupted by Ctrl-C", hint="the same command goes on where this one stopped"
        ) from None
    sys.stdout.write("".join(f"{path}\n" for path in paths))


def _find(name: str, on: Target, where: locate.Where) -> locate.Run:
    return locate.find(name, where, lambda: get_job(open_cluster(on), name), report)
