"""`trainer probe`."""

import sys
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

from trainer.config import TrainConfig
from trainer.runs.probe import Outcome, outcome_of, row
from trainer.runs.probe import probe as lines


def probe(config: Annotated[TrainConfig, Parameter(name="*")]) -> None:
    """Check whether a run with these flags can work here; prints a line of JSON per check, for `launcher doctor --in-cluster`.

    Writes an object to OUTPUT and deletes it again.
    """
    for line in _lines(config):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _lines(config: TrainConfig) -> Iterator[str]:
    yield from lines(config)
    yield row("device", outcome_of(lambda: device(config)))


def device(config: TrainConfig) -> Outcome:
    """Check that the installed torch supports the device, its mode and, where there is a card, this card. Raises: KnownError."""
    import torch  # noqa: PLC0415 - takes seconds; the other checks do not wait for it

    from trainer import devices  # noqa: PLC0415 - loads torch

    found = devices.find("auto") if config.device == "auto" else devices.load(config.device)
    reason = found.unsupported()
    if reason is not None:
        return Outcome(
            "FAIL", f"this image cannot train on {found.name}: {reason}", "use the image that is built for it"
        )
    mode = found.choose_mode(config.gaudi_mode, config.compile)
    software = f"torch {torch.__version__} for {devices.in_mode(found, mode)}"
    reason = found.missing()
    if reason is not None:
        return Outcome("skipped", f"{software}; {reason}, so no card was compared with it")
    found.check(0)
    return Outcome("OK", software)
