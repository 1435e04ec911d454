"""Checks of joined workers against each other: clocks, a computation on each device, and the all-reduce of gradients.

A step takes as long as on its slowest worker, and as its slowest link: neither shows as an error. So these checks only warn.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median_low
from typing import Final

import torch
import torch.distributed as dist

from trainer.devices import Device
from trainer.runs.checks import Outcome, Row
from trainer.runtime.process_group import WorkerGroup

ALL_REDUCE: Final = "all-reduce"

GRADIENT_VALUES: Final = 6_968_206
"""fp32 values of one all-reduce: the gradients of DenseNet-121 with 14 outputs, 26.6 MiB."""

SIDES: Final = {False: 256, True: 4096}
"""Side of the multiplied matrices, by `Device.is_accelerator`: about a millisecond on a core, so that some products are not
interrupted by other processes, and more on a card, where a small product would time the host."""

REPEATS: Final = 20
"""Products of which the fastest counts: the others may have waited for another process."""

REDUCTIONS: Final = 2
"""All-reduces after the first, of which the fastest counts; one where the first took `SLOW_REDUCE_S`. The first never counts alone:
NCCL and HCCL open connections in it, which takes seconds."""

SLOW_SHARE: Final = 1.5
"""Time of a slow worker's product relative to the median. Clocks of equal processors differ by less; a worker that shares its core
has 2."""

SLOW_REDUCE_S: Final = 1.0
"""Duration of an all-reduce above which a warning is due: every step waits for one."""

CLOCKS_S: Final = 5.0
"""Difference between clocks of nodes above which a warning is due. Logs of several nodes are merged by time."""

SHOWN: Final = 4
"""Slow workers that are named."""


@dataclass(frozen=True, kw_only=True)
class WorkerFacts:
    """What a worker knows of itself."""

    node: str
    clock_s: float
    """Unix time after all workers had arrived."""
    product_s: float
    """Time of one product of matrices."""


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """Times of an all-reduce, of the slowest worker."""

    latency_s: float
    """Of one value."""
    gradient_s: float
    """Of `GRADIENT_VALUES`."""


def check_group(
    group: WorkerGroup, device: Device, on: torch.device, *, node: str, heartbeat: Callable[[str], None]
) -> list[Row]:
    """Rows of the checks; none for a single worker. Collective: all ranks call it, with the device open and the group joined."""
    if group.world.size == 1:
        return []
    heartbeat("preflight: computing")
    product_s = _product_s(device, on)
    group.all_gather(b"")
    mine = WorkerFacts(node=node, clock_s=time.time(), product_s=product_s)
    workers = [WorkerFacts(**json.loads(each)) for each in group.all_gather(json.dumps(asdict(mine)).encode())]
    heartbeat("preflight: all-reduce")
    reduction = _reduction(group, device, on)
    several = len({worker.node for worker in workers}) > 1
    return [
        *([Row("clocks", compare_clocks(workers))] if several else []),
        Row("workers", compare_workers(workers)),
        Row(ALL_REDUCE, rate_reduction(reduction, group.world.size)),
    ]


def compare_clocks(workers: Sequence[WorkerFacts]) -> Outcome:
    """Compare the nodes' clocks; their difference includes the time that a message takes."""
    by_node = {worker.node: worker for worker in workers}
    first = min(by_node.values(), key=lambda worker: worker.clock_s)
    last = max(by_node.values(), key=lambda worker: worker.clock_s)
    apart_s = last.clock_s - first.clock_s
    found = f"clocks of {len(by_node)} nodes differ by at most {apart_s:.1f} s"
    if apart_s <= CLOCKS_S:
        return Outcome("OK", found)
    return Outcome(
        "WARN", f"{found}: `{last.node}` is ahead of `{first.node}`", "synchronise the clocks of the nodes with NTP"
    )


def compare_workers(workers: Sequence[WorkerFacts]) -> Outcome:
    """Compare the workers' times of the same computation, and name those that are slow."""
    times = [worker.product_s for worker in workers]
    usual_s = median_low(times)
    slow = [rank for rank, seconds in enumerate(times) if seconds > SLOW_SHARE * usual_s]
    if not slow:
        return Outcome("OK", f"a computation takes {1e3 * min(times):.2f} to {1e3 * max(times):.2f} ms")
    slow.sort(key=lambda rank: times[rank], reverse=True)
    named = (f"rank {rank} on `{workers[rank].node}` ({times[rank] / usual_s:.1f} times)" for rank in slow[:SHOWN])
    more = f" and {len(slow) - SHOWN} more" if len(slow) > SHOWN else ""
    return Outcome(
        "WARN",
        f"slower than the median of {1e3 * usual_s:.2f} ms: {', '.join(named)}{more}; each step waits for the slowest",
        "look for other processes there, a limit of CPU time, or a device that is throttled",
    )


def rate_reduction(reduction: Reduction, world_size: int) -> Outcome:
    """Rate the all-reduce of gradients.

    The rate is that of each worker's link: 2 (n - 1) / n of the bytes pass it in each direction. Source: nccl-tests, "bus bandwidth".
    """
    size_bytes = 4 * GRADIENT_VALUES
    rate = 2 * (world_size - 1) / world_size * size_bytes / reduction.gradient_s
    found = (
        f"{size_bytes / 2**20:.1f} MiB in {1e3 * reduction.gradient_s:.1f} ms ({rate / 1e9:.2f} GB/s), "
        f"one value in {1e3 * reduction.latency_s:.2f} ms"
    )
    if reduction.gradient_s <= SLOW_REDUCE_S:
        return Outcome("OK", found)
    return Outcome(
        "WARN",
        f"{found}: every step waits for it",
        "check the network between the nodes, and the interface that is used (NCCL_SOCKET_IFNAME, GLOO_SOCKET_IFNAME)",
    )


def _product_s(device: Device, on: torch.device) -> float:
    side = SIDES[device.is_accelerator]
    ones = torch.ones(side, side, device=on)
    times = []
    for _ in range(1 + REPEATS):
        started_s = time.perf_counter()
        product = ones @ ones
        device.flush()
        product[0, 0].item()  # waits for the device
        times.append(time.perf_counter() - started_s)
    return min(times[1:])


def _reduction(group: WorkerGroup, device: Device, on: torch.device) -> Reduction:
    one, gradients = torch.zeros(1, device=on), torch.zeros(GRADIENT_VALUES, device=on)
    first_s = _reduce_s(group, device, gradients)
    repeats = 1 if first_s > SLOW_REDUCE_S else REDUCTIONS
    gradient_s = min([first_s, *(_reduce_s(group, device, gradients) for _ in range(repeats))])
    return Reduction(gradient_s=gradient_s, latency_s=min(_reduce_s(group, device, one) for _ in range(1 + REDUCTIONS)))


def _reduce_s(group: WorkerGroup, device: Device, values: torch.Tensor) -> float:
    """Duration of an all-reduce on the slowest worker, the same on all."""
    group.all_gather(b"")
    started_s = time.perf_counter()
    dist.all_reduce(values)
    device.flush()
    values[0].item()  # waits for the device
    return float(group.largest(torch.tensor([time.perf_counter() - started_s], dtype=torch.float64)))
