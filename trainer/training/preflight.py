"""Checks at the start of a run on nodes where it has not been: the device, the node, and the workers against each other.

They come where they cost least: the device before it is opened, the workers when they have joined, the disk when the labels are
known. Nodes that pass are noted in the run's prefix, and restarts there are not checked again.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import torch

from trainer.config import TrainConfig
from trainer.devices import Device, trial
from trainer.errors import JobFailedError, KnownError
from trainer.location import Location
from trainer.runs import known_nodes, node_checks
from trainer.runs.checks import Outcome, Row, as_table, from_json
from trainer.runtime.process_group import WorkerGroup
from trainer.runtime.world import World
from trainer.storage import Storage, open_storage
from trainer.training.group_check import ALL_REDUCE, check_group

DEVICE: Final = "device"
CLOCK: Final = "clock"
HOST: Final = "huge pages"

KNOWN_RETRY_S: Final = 5.0
"""How long the list of known nodes is tried: without it the node is checked, and the run's own requests report the storage."""


@dataclass
class Preflight:
    """The checks of one start, on one worker."""

    node: str = ""
    is_new: bool = False
    """Whether this worker's node is checked."""
    nodes: Sequence[str] = ()
    """All nodes that are checked, on every rank; known once the workers have joined."""
    rows: list[Row] = field(default_factory=list)
    """Of this worker and its node."""
    group_rows: list[Row] = field(default_factory=list)
    """Of all workers together, the same on every rank."""
    seconds: float = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the duration of the block to `seconds`."""
        started_s = time.monotonic()
        try:
            yield
        finally:
            self.seconds += time.monotonic() - started_s

    def raise_failed(self) -> None:
        """Raises: JobFailedError naming the node and the first check that failed on it."""
        failed = next((row for row in self.rows if row.outcome.status == "FAIL"), None)
        if failed is not None:
            raise JobFailedError(
                f"preflight failed on node `{self.node}`: {failed.check}: {failed.outcome.found}",
                hint="; ".join(filter(None, [failed.outcome.fix, "--preflight off starts without these checks"])),
            )


def begin(config: TrainConfig, world: World, device: Device) -> Preflight:
    """Before the device is opened: where the run has not been on this node, try the device in a process of its own.

    Raises: JobFailedError for a device that fails; InputError for software that does not fit it.
    """
    if config.preflight == "off":
        return Preflight()
    node = node_checks.node_name()
    preflight = Preflight(node, is_new=node not in _known(config))
    if preflight.is_new and device.is_accelerator:
        with preflight.timed():
            preflight.rows.append(device_row(device, world))
        preflight.raise_failed()
    return preflight


def check_workers(
    preflight: Preflight, group: WorkerGroup, device: Device, on: torch.device, heartbeat: Callable[[str], None]
) -> None:
    """With the workers joined: check new nodes, and where there is one, the workers against each other. Collective.

    Raises: JobFailedError, on one rank; PeerError on the others.
    """
    heartbeat("preflight")
    new = group.all_gather(preflight.node.encode() if preflight.is_new else b"")
    preflight.nodes = sorted({name.decode() for name in new if name})
    if not preflight.nodes:
        return
    with preflight.timed():
        if preflight.is_new and group.world.is_local_rank0:
            preflight.rows += node_rows(device, group.world)
        group.all_or_raise(preflight.raise_failed)
        preflight.group_rows += check_group(group, device, on, node=preflight.node, heartbeat=heartbeat)


def check_disk(
    preflight: Preflight, config: TrainConfig, group: WorkerGroup, report: Callable[[str], None], *, added_bytes: int
) -> None:
    """With the labels read: check the disks of new nodes, which get `added_bytes` of images; rank 0 reports all checks. Collective.

    Raises: JobFailedError, on one rank; PeerError on the others.
    """
    if not preflight.nodes:
        return
    with preflight.timed():
        if preflight.is_new and group.world.is_local_rank0:
            cache = Path(config.cache_dir or Path(config.output) / "cache")
            preflight.rows.append(Row(node_checks.DISK, node_checks.disk(cache, added_bytes)))
            preflight.rows += clock_rows(config)
        group.all_or_raise(preflight.raise_failed)
        everyones = _gathered(preflight, group)
    if group.world.is_rank0:
        for line in in_words(preflight, everyones):
            report(line)


def note_nodes(preflight: Preflight, group: WorkerGroup, storage: Storage) -> None:
    """Note the nodes that have passed, once the run's record is written. Collective. Raises: RemoteError, PeerError."""
    if preflight.nodes:
        group.on_rank0(lambda: known_nodes.note(storage, preflight.nodes))


def device_row(device: Device, world: World) -> Row:
    """Row of a trial of this worker's device. Raises: InputError for software that does not fit the device."""
    try:
        found = trial.run(device.name, world.local_rank, world.local_size)
    except JobFailedError as problem:
        return Row(DEVICE, Outcome("FAIL", str(problem.args[0]), problem.hint or ""))
    return Row(DEVICE, Outcome("OK", f"{found.hardware} with {found.software} computed in {found.seconds:.1f} s"))


def node_rows(device: Device, world: World) -> Iterator[Row]:
    """Rows of a node, as its workers need it for this device."""
    if device.is_accelerator and world.local_size > 1:
        yield Row(node_checks.SHARED_MEMORY, node_checks.shared_memory())
    shortage = device.host_shortage()
    if shortage is not None:
        yield Row(HOST, Outcome("WARN", shortage, "preallocate them (vm.nr_hugepages), and request them for the pod"))


def clock_rows(config: TrainConfig) -> Iterator[Row]:
    """The row of this node's clock against the S3 server's, where the run uses a bucket."""
    bucket = next((each for each in map(Location, (config.output, config.data)) if each.is_bucket), None)
    if bucket is None:
        return
    from trainer.runs.preflight import clock  # noqa: PLC0415 - loads an HTTP client, which runs without a bucket do not need

    try:
        outcome = clock(bucket)
    except KnownError:  # the run's own requests report a server that does not respond
        return
    status = "WARN" if outcome.status == "FAIL" else outcome.status
    yield Row(CLOCK, Outcome(status, outcome.found, outcome.fix))


def in_words(preflight: Preflight, everyones: Sequence[tuple[str, Row]]) -> list[str]:
    """The result in one line; with a table of all checks where one has a warning. `everyones` are rows with their nodes."""
    rows = [*everyones, *((preflight.node, row) for row in preflight.group_rows)]
    where = f"{len(preflight.nodes)} nodes" if len(preflight.nodes) > 1 else f"node `{preflight.nodes[0]}`"
    line = f"preflight of {where} in {preflight.seconds:.1f} s"
    if all(row.outcome.status in {"OK", "skipped"} for _, row in rows):
        found = {row.check: f" ({row.outcome.found})" if row.check == ALL_REDUCE else "" for _, row in rows}
        return [f"{line}: {', '.join(f'{check}{detail}' for check, detail in found.items())}: OK"]
    several = len({node for node, _ in everyones}) > 1
    shown = dict.fromkeys(
        Row(f"{row.check} on {node}" if several and (node, row) in everyones else row.check, row.outcome)
        for node, row in rows
    )
    return [f"{line}, with warnings:", *as_table(list(shown))]


def _known(config: TrainConfig) -> list[str]:
    try:
        url = f"{config.output.rstrip('/')}/{config.name}"
        return known_nodes.read(open_storage(url, patience_s=KNOWN_RETRY_S))
    except KnownError:
        return []


def _gathered(preflight: Preflight, group: WorkerGroup) -> list[tuple[str, Row]]:
    """The rows of every worker with its node."""
    mine = json.dumps([preflight.node, *(row.as_json() for row in preflight.rows)]).encode()
    gathered = []
    for payload in group.all_gather(mine):
        node, *lines = json.loads(payload)
        gathered += [(node, from_json(line)) for line in lines]
    return gathered
