"""`trainer probe`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from trainer.config import TrainConfig
from trainer.runs.probe import probe as lines


def probe(config: Annotated[TrainConfig, Parameter(name="*")]) -> None:
    """Check whether a run with these flags can work here; prints a line of JSON per check, for `launcher doctor --in-cluster`.

    Writes an object to OUTPUT and deletes it again.
    """
    for line in lines(config):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
