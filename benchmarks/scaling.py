"""What communication costs a training step, and what part of it runs beside the backward pass, in one run.

    python benchmarks/scaling.py

DenseNet-121 on processors with gloo, one thread and one core a rank, for 1, 2 and 4 ranks; more ranks than cores are named oversubscribed.
All processes live at the same time, and each round measures every number of ranks in turn, while the other ranks wait:

- a step without communication: forward, backward and Adam on a batch in memory, on all ranks at once
- the all-reduce of the gradient alone: of 4 bytes, in one bucket, and in the buckets that DistributedDataParallel makes by default
- a step with DistributedDataParallel, with those buckets and with one

A time is that of the slowest rank after a barrier. The overlap of a round is the part of the all-reduce that a step does not wait for:

    overlap = 1 - (step with DDP - step without communication) / all-reduce alone

Small against the noise of a step, this difference needs a quiet machine. So the times at which each bucket's all-reduce starts and ends in a
step are measured as well: the part of them before the last gradient is there is the most that can overlap.

Medians are printed with their 95 % interval over the rounds (a sign test: it assumes no distribution), and beside them the fastest round
of each, which other programs on the machine disturb least. Where the interval of an overlap is wider than the all-reduce, it is unknown.
At the end the step of 2 ranks is estimated from that of 1 by the formula of docs/benchmarks.md, and compared with the measured one.
"""

import argparse
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from arguments import numbers, positive
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from trainer.devices import cpu
from trainer.models import architectures

FINDINGS = 14
WARM_UP = 3
BY_DEFAULT: Mapping[str, Any] = {}
"""A first bucket of 1 MiB, others of 25: a cap that is given, even this one, holds for the first as well. Source: torch's DistributedDataParallel."""
ONE_BUCKET: Mapping[str, Any] = {"bucket_cap_mb": 4096}

STEP, DDP, DDP_ONE = "step alone", "step, DDP's buckets", "step, one bucket"
SMALL, ONE, BUCKETS = "all-reduce, 4 bytes", "all-reduce, one bucket", "all-reduce, DDP's buckets"

BESIDE = "all-reduce beside the backward pass, DDP's buckets"

KINDS = {"DDP's buckets": (DDP, BUCKETS), "one bucket": (DDP_ONE, ONE)}

Seconds = Mapping[str, Sequence[float]]
"""Of each round, by what was measured; of `BESIDE`, shares."""


@dataclass(frozen=True)
class Size:
    """What each rank computes."""

    model: str
    batch: int
    px: int
    rounds: int


@dataclass(frozen=True)
class Estimate:
    """A median, and its interval."""

    median: float
    low: float
    high: float

    def as_text(self, digits: int, scale: float = 1) -> str:
        """Such as `12.3 (11.9-12.8)`."""
        median, low, high = (f"{scale * each:.{digits}f}" for each in (self.median, self.low, self.high))
        return f"{median} ({low}-{high})"


def estimate(values: Sequence[float]) -> Estimate:
    """The median, and the interval that contains that of the distribution in at least 95 % of cases.

    Source: sign test. Of n values, each is below the true median with probability 1/2; fewer than 6 values give their range.
    """
    ordered, n = sorted(values), len(values)
    tails = list(accumulate(math.comb(n, k) / 2**n for k in range(n)))
    skipped = max((k + 1 for k, tail in enumerate(tails) if tail <= 0.025), default=0)
    return Estimate(statistics.median(ordered), ordered[max(skipped - 1, 0)], ordered[n - max(skipped, 1)])


def overlap(step: float, parallel: float, reduction: float) -> float:
    """The part of an all-reduce that runs beside the backward pass: 1 all of it, 0 none; below 0 it slows the pass down."""
    return 1 - (parallel - step) / reduction


def beside(spans: Sequence[tuple[float, float]], last_start: float) -> float:
    """The share of these spans, each from start to end, that lies before the start of the last one."""
    whole = sum(end - start for start, end in spans)
    return sum(max(0.0, min(end, last_start) - start) for start, end in spans) / whole


def ring_s(ranks: int, n_bytes: float, *, bytes_per_s: float, latency_s: float) -> float:
    """Seconds of a ring all-reduce: each rank sends and receives its share 2(n-1) times, each with a latency."""
    steps = 2 * (ranks - 1)
    return steps / ranks * n_bytes / bytes_per_s + steps * latency_s


def ring_inputs(ranks: int, n_bytes: float, *, small_s: float, whole_s: float) -> tuple[float, float]:
    """Bandwidth in bytes/s and latency in s of the ring, from the times of a tiny all-reduce and of the gradient's."""
    steps = 2 * (ranks - 1)
    return steps / ranks * n_bytes / max(whole_s - small_s, 1e-9), small_s / steps


class Rank:
    """One process of a measurement: what it can time at one number of ranks."""

    def __init__(self, size: Size, ranks: int, group: Any) -> None:  # noqa: ANN401 - torch's type differs between releases
        torch.manual_seed(0)
        self._group, self._size = group, size
        self.network = architectures.build(size.model, "linear", FINDINGS).to(memory_format=cpu.memory_format)
        generator = torch.Generator().manual_seed(dist.get_rank())
        self._x_NCHW = torch.randn(size.batch, 3, size.px, size.px, generator=generator).contiguous(
            memory_format=cpu.memory_format
        )
        self._y_NK = torch.randint(0, 2, (size.batch, FINDINGS), generator=generator).float()
        self.spans: list[tuple[float, float]] = []
        self.ways: dict[str, Callable[[], object]] = {STEP: self._steps(self.network)}
        if ranks > 1:
            self._add_communication()

    def _add_communication(self) -> None:
        parallel, sizes = self._parallel(BY_DEFAULT), self._bucket_sizes()
        whole = torch.zeros(sum(sizes))
        self.ways[DDP] = self._steps(parallel)
        self.ways[DDP_ONE] = self._steps(self._parallel(ONE_BUCKET))
        self.ways[BESIDE] = self._steps(self._noting())
        self.ways[SMALL] = lambda: self._reduce([torch.zeros(1)])
        self.ways[ONE] = lambda: self._reduce([whole])
        self.ways[BUCKETS] = lambda: self._reduce(list(whole.split(sizes)))

    def _parallel(self, buckets: Mapping[str, Any]) -> DistributedDataParallel:
        """A network of its own with the options of the trainer, but for the size of buckets."""
        network = architectures.build(self._size.model, "linear", FINDINGS).to(memory_format=cpu.memory_format)
        network.load_state_dict(self.network.state_dict())
        options = {name: value for name, value in cpu.ddp_options().items() if name != "bucket_cap_mb"}
        return DistributedDataParallel(network, **options, **buckets, process_group=self._group)

    def _noting(self) -> DistributedDataParallel:
        """With DDP's buckets, and the start and end of the all-reduce of each in `spans`."""

        def reduce(_state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
            start_s = time.perf_counter()
            work = dist.all_reduce(
                bucket.buffer().div_(dist.get_world_size(self._group)), group=self._group, async_op=True
            )

            def note(reduced: torch.futures.Future[list[Tensor]]) -> Tensor:
                self.spans.append((start_s, time.perf_counter()))
                return reduced.value()[0]

            return work.get_future().then(note)

        parallel = self._parallel(BY_DEFAULT)
        parallel.register_comm_hook(None, reduce)
        return parallel

    def _bucket_sizes(self) -> list[int]:
        """Values in each bucket of DDP, in the order of the backward pass, after it has rebuilt them."""
        sizes: list[int] = []

        def note(_state: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
            sizes.append(bucket.buffer().numel())
            done: torch.futures.Future[Tensor] = torch.futures.Future()
            done.set_result(bucket.buffer())
            return done

        parallel = self._parallel(BY_DEFAULT)
        parallel.register_comm_hook(None, note)
        step = self._steps(parallel)
        for _ in range(WARM_UP):
            sizes.clear()
            step()
        return sizes

    def _steps(self, network: nn.Module) -> Callable[[], object]:
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-5)
        loss_of = nn.BCEWithLogitsLoss()

        def step() -> None:
            loss_of(network(self._x_NCHW), self._y_NK).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        return step

    def _reduce(self, buckets: Sequence[Tensor]) -> None:
        works = [dist.all_reduce(each, group=self._group, async_op=True) for each in buckets]
        for work in works:
            work.wait()

    def value(self, way: str) -> float:
        """Seconds of the slowest rank; of `BESIDE`, the mean share."""
        dist.barrier(self._group)
        self.spans.clear()
        start_s = time.perf_counter()
        self.ways[way]()
        value, op = time.perf_counter() - start_s, dist.ReduceOp.MAX
        if way == BESIDE:
            value = beside(self.spans, max(start for start, _ in self.spans)) / dist.get_world_size(self._group)
            op = dist.ReduceOp.SUM
        found = torch.tensor([value], dtype=torch.float64)
        dist.all_reduce(found, op=op, group=self._group)
        return float(found)


def measured(size: Size, counts: Sequence[int]) -> dict[int, dict[str, list[float]]]:
    """Seconds of each round for these numbers of ranks, on a rank that takes part in them. All ranks call it."""
    own: dict[int, Rank] = {}
    found: dict[int, dict[str, list[float]]] = {}
    for ranks in counts:
        group = dist.new_group(list(range(ranks)))
        if dist.get_rank() < ranks:
            own[ranks] = Rank(size, ranks, group)
            found[ranks] = {way: [] for way in own[ranks].ways}
    for number in range(-WARM_UP, size.rounds):
        for ranks in counts:
            dist.barrier()
            if ranks in own:
                _measure_round(own[ranks], found[ranks], number)
    return found


def _measure_round(rank: Rank, found: Mapping[str, list[float]], number: int) -> None:
    """Each way once, in another order in each round; negative rounds warm up."""
    ways = list(rank.ways)
    first = number % len(ways)
    for way in [*ways[first:], *ways[:first]]:
        value = rank.value(way)
        if number >= 0:
            found[way].append(value)


def table(found: Mapping[int, Seconds], cores: int) -> list[str]:
    """A line for each number of ranks and each way."""
    lines = ["| ranks | | median | fastest |", "| --- | --- | --- | --- |"]
    for ranks, seconds in found.items():
        name = f"{ranks}, oversubscribed" if ranks > cores else str(ranks)
        lines += [
            f"| {name} | {way} | {estimate(values).as_text(1, 1e3)} ms | {1e3 * min(values):.1f} ms |"
            for way, values in seconds.items()
            if way != BESIDE
        ]
        if ranks > 1:
            lines += _overlaps(name, seconds)
    return lines


def _overlaps(name: str, seconds: Seconds) -> list[str]:
    lines = [f"| {name} | {BESIDE} | {estimate(seconds[BESIDE]).as_text(2)} | |"]
    for kind, (parallel, reduction) in KINDS.items():
        found = estimate(
            [overlap(*each) for each in zip(seconds[STEP], seconds[parallel], seconds[reduction], strict=True)]
        )
        fastest = overlap(*(min(seconds[each]) for each in (STEP, parallel, reduction)))
        remark = ", unknown" if found.high - found.low > 1 else ""
        lines.append(f"| {name} | overlap, {kind} | {found.as_text(2)}{remark} | {fastest:.2f} |")
    return lines


def prediction(found: Mapping[int, Seconds], n_bytes: int) -> list[str]:
    """The step of 2 ranks, estimated from that of 1, beside the measured one: with medians, and with the fastest rounds."""
    lines = [f"gradient: {n_bytes / 2**20:.1f} MiB"]
    for kind, of in (("medians", statistics.median), ("fastest", min)):
        one, two = ({way: of(values) for way, values in found[ranks].items()} for ranks in (1, 2))
        bytes_per_s, latency_s = ring_inputs(2, n_bytes, small_s=two[SMALL], whole_s=two[ONE])
        reduction_s = ring_s(2, n_bytes, bytes_per_s=bytes_per_s, latency_s=latency_s)
        lines.append(
            f"{kind}: ring of 2 {bytes_per_s / 1e6:.0f} MB/s, latency {1e6 * latency_s:.0f} us; "
            f"2 steps beside each other take {two[STEP] / one[STEP]:.3f} of one alone"
        )
        estimates_s = {
            "from 1 rank": one[STEP] + reduction_s,
            "from 1 rank, all of it overlaps": one[STEP],
            "from 2 steps beside each other": two[STEP] + reduction_s,
        }
        lines += [
            f"{kind}: step of 2 ranks, {words}: estimated {1e3 * each_s:.1f} ms, measured {1e3 * two[DDP]:.1f} ms, "
            f"error {each_s / two[DDP] - 1:+.1%}"
            for words, each_s in estimates_s.items()
        ]
    return lines


def _work(rank: int, size: Size, counts: Sequence[int], folder: str, cores: Sequence[int]) -> None:
    os.sched_setaffinity(0, {cores[rank % len(cores)]})
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=max(counts))
    found = measured(size, counts)
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")
    with suppress(RuntimeError):  # a peer may have left before
        dist.barrier()
    dist.destroy_process_group()


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Cost of communication in a training step, on processors.")
    parser.add_argument("--ranks", type=numbers, default="1,2,4", help="numbers of ranks, with 1 and 2")
    parser.add_argument("--model", default="densenet121")
    parser.add_argument("--batch", type=positive, default=4, help="images of a rank")
    parser.add_argument("--px", type=positive, default=64, help="side of an image")
    parser.add_argument("--rounds", type=positive, default=41)
    args = parser.parse_args(argv)
    counts = sorted(set(args.ranks))
    if counts[:2] != [1, 2]:
        parser.error(f"--ranks needs 1 and 2, got {counts}")
    size, cores = Size(args.model, args.batch, args.px, args.rounds), sorted(os.sched_getaffinity(0))
    network = architectures.build(size.model, "linear", FINDINGS)
    n_bytes = sum(4 * each.numel() for each in network.parameters())
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_work, (size, counts, folder, cores), nprocs=max(counts))
        found = torch.load(Path(folder) / "found.pt", weights_only=True)
    sys.stdout.write(
        f"{size.model}, {size.batch} images of {size.px} px a rank, one thread a rank, {len(cores)} cores, torch {torch.__version__}, "
        f"{size.rounds} rounds; median and 95 % interval\n"
    )
    sys.stdout.write("\n".join([*table(found, len(cores)), *prediction(found, n_bytes)]) + "\n")


if __name__ == "__main__":
    main()
