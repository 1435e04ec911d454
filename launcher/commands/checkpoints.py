"""`launcher checkpoints` and `launcher pull`: list and download the results of a run."""

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
from launcher.kinds import lookup
from launcher.runs import checkpoints as run_checkpoints
from launcher.runs import locate
from launcher.runs import pull as run_files
from trainer.errors import InputError, InterruptedByUser
from trainer.location import expanded

RunName = Annotated[str, Parameter(help="Name of the job and its run.")]
Place = Annotated[locate.Where, Parameter(name="*")]


def checkpoints(
    name: RunName,
    *,
    on: On = Target(),  # noqa: B008 - frozen
    where: Place = locate.Where(),  # noqa: B008 - frozen
    form: Annotated[run_checkpoints.Form, Parameter(name="-o", help="Output format; `name` prints steps.")] = "table",
) -> None:
    """List checkpoints."""
    run = _find(name, on, where)
    with run.opened() as storage:
        rows = run_checkpoints.of_run(run, storage, report)
    sys.stdout.write(run_checkpoints.shown(run, rows, form, datetime.now(timezone.utc)))


def _directory(_: type, tokens: Sequence[Token]) -> Path:
    """The directory of a flag; an empty text would mean the current directory. Raises: InputError."""
    if not tokens[-1].value:
        raise InputError("cannot pull into ``: it is not a directory (from `--to`)", hint="--to DIRECTORY")
    return Path(expanded(tokens[-1].value))


def pull(
    name: RunName,
    *,
    step: Annotated[str | None, Parameter(show_default=False)] = None,
    to: Annotated[Path | None, Parameter(converter=_directory, n_tokens=1, accepts_keys=False)] = None,
    what: run_files.What = "all",
    on: On = Target(),  # noqa: B008 - frozen
    where: Place = locate.Where(),  # noqa: B008 - frozen
) -> None:
    """Download results.

    Parameters
    ----------
    step
        Checkpoint to download: `best` (the default), `last` or the number of a step.
    to
        Target directory; the default is NAME in the current directory.
    what
        `checkpoint`, `model` (the exported weights), `report` (scores, predictions, record), or `all` with the logs.
    """
    run = _find(name, on, where)
    try:
        with run.opened() as storage:
            paths = run_files.pull(run, storage, step=step, what=what, directory=to or Path(name), report=report)
    except KeyboardInterrupt:
        raise InterruptedByUser("interrupted by Ctrl-C", hint="run the same command again to resume") from None
    sys.stdout.write("".join(f"{path}\n" for path in paths))


def _find(name: str, on: Target, where: locate.Where) -> locate.Run:
    return locate.find(name, where, lambda: lookup.get(open_cluster(on), name, on.api), report)
