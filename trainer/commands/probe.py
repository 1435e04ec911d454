"""`trainer probe`."""

import sys
from typing import Annotated

from cyclopts import Parameter

from trainer.config import TrainConfig
from trainer.runs.probe import probe as lines


def probe(config: Annotated[TrainConfig, Parameter(name="*")]) -> None:
    """Look whether a run with these flags could work here: a line of JSON for each look; `launcher doctor --in-cluster` reads them.

    OUTPUT gets an object that is removed again.
    """
    for line in lines(config):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
