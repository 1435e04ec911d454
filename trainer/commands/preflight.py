"""`trainer preflight`."""

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from trainer.config import TrainConfig, parse_duration
from trainer.errors import JobFailedError, listing
from trainer.runs.checks import Outcome, Row, as_table, outcome_of, results
from trainer.runs.node_checks import SHARED_MEMORY, node_name
from trainer.runs.preflight import steps
from trainer.runtime.console import Reporter
from trainer.runtime.world import World, read_world

if TYPE_CHECKING:
    from trainer.devices import Device


def preflight(
    config: Annotated[TrainConfig, Parameter(name="*")], *, json: Annotated[bool, Parameter(negative=())] = False
) -> None:
    """Check whether a run with these flags can work here: storage, data, labels, weights, this node and its device.

    Under torchrun, also compares the workers with each other. Writes an object to OUTPUT and deletes it again. Exit code 3 where a
    check fails.

    Parameters
    ----------
    json
        Print a line of JSON per check.
    """
    world = read_world()
    failed = [row for row in _shown(_rows(config, world), world, json=json) if row.outcome.status == "FAIL"]
    if failed:
        problems = listing(f"{row.check}: {row.outcome.found}" for row in failed)
        raise JobFailedError(f"preflight failed:{problems}", hint=failed[0].outcome.fix or None)


def probe(config: Annotated[TrainConfig, Parameter(name="*")]) -> None:
    """Print the rows of `preflight --json` for a launcher of an earlier version, to which failed checks are no failure of the command."""
    world = read_world()
    for _ in _shown(_rows(config, world), world, json=True):
        pass


def _shown(rows: Iterable[Row], world: World, *, json: bool) -> Iterator[Row]:
    """The rows, which rank 0 prints as soon as they are there."""
    for row in rows:
        if world.is_rank0:
            lines = [row.as_json()] if json else as_table([row])
            sys.stdout.write("".join(f"{line}\n" for line in lines))
            sys.stdout.flush()
        yield row


def _rows(config: TrainConfig, world: World) -> Iterator[Row]:
    if world.is_rank0:
        yield from results(steps(config))
    row = Row("device", outcome_of(lambda: device(config, world)))
    yield row
    if row.outcome.status == "OK":
        yield from _host_rows(config, world) if world.size == 1 else _group_rows(config, world)


def device(config: TrainConfig, world: World) -> Outcome:
    """Check that the installed torch supports the device and its mode, and where there is a card, that it computes; and that there are units
    for the precision.

    Raises: KnownError.
    """
    from trainer import devices  # noqa: PLC0415 - loads torch, which takes seconds; the other checks do not wait for it

    found = _found(config)
    reason = found.unsupported()
    if reason is not None:
        return Outcome(
            "FAIL", f"this image cannot train on {found.name}: {reason}", "use the image that is built for it"
        )
    mode = devices.training_mode(found, config)
    software = f"{found.software()} for {devices.in_mode(found, mode)}"
    reason = found.missing()
    if reason is not None:
        return Outcome("skipped", f"{software}; {reason}, so no card was compared with it")
    found.check(world.local_rank)
    if config.precision != "auto":
        found.check_precision(config.precision)
    if not found.is_accelerator:
        return Outcome("OK", software)
    from trainer.training.preflight import device_row  # noqa: PLC0415 - loads torch

    return device_row(found, world).outcome


def _found(config: TrainConfig) -> "Device":
    from trainer import devices  # noqa: PLC0415 - as above

    return devices.find("auto") if config.device == "auto" else devices.load(config.device)


def _host_rows(config: TrainConfig, world: World) -> Iterator[Row]:
    """Rows of this node for its device. The shared memory has been checked without it."""
    from trainer.training.preflight import node_rows  # noqa: PLC0415 - loads torch

    yield from (row for row in node_rows(_found(config), world) if row.check != SHARED_MEMORY)


def _group_rows(config: TrainConfig, world: World) -> Iterator[Row]:
    """Rows of the workers together. Collective. Raises: as `check_workers`."""
    from trainer.runtime.process_group import join  # noqa: PLC0415 - loads torch
    from trainer.runtime.watchdog import Watchdog  # noqa: PLC0415
    from trainer.training.preflight import Preflight, check_workers  # noqa: PLC0415

    watchdog = Watchdog(parse_duration(config.hang_after, "--hang-after"), Reporter(world.rank).line)
    found = _found(config)
    on = found.open(world.local_rank, world.local_size)
    checks = Preflight(node_name(), is_new=True)
    with watchdog.watching(), join(world, found.backend) as group:
        check_workers(checks, group, found, on, watchdog.heartbeat)
        watchdog.pause()
    yield from (row for row in checks.rows if row.check != SHARED_MEMORY)
    yield from checks.group_rows
