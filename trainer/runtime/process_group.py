"""Agreement of a run's workers.

Gradients use the device's own backend (DDP); everything here uses a second group on the CPU, because accelerator back
ends lack timeouts and some lack object collectives.
"""

import json
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, NoReturn, TypeVar

import torch
import torch.distributed as dist

from trainer.errors import InputError, KnownError, PeerError, TryAgainError, on_one_line
from trainer.runtime.interfaces import check_interfaces
from trainer.runtime.world import World
from trainer.storage import UnreachableError

T = TypeVar("T")

AGREEMENT_TIMEOUT: Final = timedelta(hours=2)
"""Longest wait for a peer, which may be decoding the whole data set (17 core-minutes) from a slow mount."""


_IP_ADDRESS: Final = re.compile(r"[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")


class WorkerGroup:
    """All workers of a run, with collectives on the CPU."""

    def __init__(self, world: World, group: Any) -> None:  # noqa: ANN401 - torch's type differs between releases
        self.world = world
        self._group = group

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Every rank's payload, in rank order, on every rank. Collective: all ranks call it."""
        if self._group is None:
            return [payload]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world.size)]
        dist.all_gather(sizes, torch.tensor([len(payload)]), group=self._group)
        longest = max(int(size) for size in sizes)
        padded_payload = torch.zeros(longest, dtype=torch.uint8)
        if payload:
            padded_payload[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        padded = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.world.size)]
        dist.all_gather(padded, padded_payload, group=self._group)
        return [bytes(row[: int(size)].numpy()) for row, size in zip(padded, sizes, strict=True)]

    def broadcast(self, payload: bytes) -> bytes:
        """Rank 0's payload on every rank; other ranks' payloads are ignored. Collective: all ranks call it."""
        if self._group is None:
            return payload
        size = torch.tensor([len(payload)])
        dist.broadcast(size, src=0, group=self._group)
        content = (
            torch.frombuffer(bytearray(payload), dtype=torch.uint8)
            if self.world.is_rank0
            else torch.empty(int(size), dtype=torch.uint8)
        )
        dist.broadcast(content, src=0, group=self._group)
        return bytes(content.numpy())

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Elementwise sum of a CPU tensor over the ranks, on every rank. Collective: all ranks call it."""
        if self._group is None:
            return values
        total = values.clone()
        dist.all_reduce(total, group=self._group)
        return total

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Elementwise mean of a CPU tensor over the ranks, on every rank. Collective: all ranks call it."""
        return self.sum(values) / self.world.size

    def largest(self, values: torch.Tensor) -> torch.Tensor:
        """Elementwise maximum of a CPU tensor over the ranks, on every rank. Collective: all ranks call it."""
        if self._group is None:
            return values
        top = values.clone()
        dist.all_reduce(top, op=dist.ReduceOp.MAX, group=self._group)
        return top

    def all_or_raise(self, act: Callable[[], T]) -> T:
        """The result of `act` on this rank, once it has succeeded on all ranks.

        Raises: the known error on the first rank that has one; PeerError on all others. So no rank waits for one that
        has left, and an error on all ranks is reported once.
        """
        result: T | None = None
        problem: KnownError | None = None
        try:
            result = act()
        except UnreachableError as error:
            problem = _retryable(error)
        except KnownError as error:
            problem = error
        codes = [int(code) for code in self.all_gather(str(problem.exit_code if problem else 0).encode())]
        first = next((rank for rank, code in enumerate(codes) if code), None)
        if first is None:
            return result  # type: ignore[return-value]  # act() has returned where no rank had a problem
        if problem is not None and first == self.world.rank:
            raise problem
        raise PeerError(codes[first], on_this_node=first in self.world.node_ranks, rank=first)

    def on_rank0(self, act: Callable[[], T]) -> T:
        """The result of `act` on rank 0, as JSON, on all ranks.

        Raises: its known error on rank 0; PeerError on the others.
        """
        result = self.all_or_raise(lambda: act() if self.world.is_rank0 else None)
        return json.loads(self.broadcast(json.dumps(result).encode()))  # type: ignore[no-any-return]

    def on_local_rank0(self, act: Callable[[], None]) -> None:
        """Run `act` on one worker of each node while the others wait."""
        self.all_or_raise(lambda: act() if self.world.is_local_rank0 else None)


def _retryable(problem: UnreachableError) -> TryAgainError:
    """An unreachable bucket is worth a restart, unlike one that refuses."""
    again = TryAgainError(str(problem.args[0]), hint="the same command continues from the newest checkpoint")
    again.__cause__ = problem
    return again


@contextmanager
def join(world: World, backend: str) -> Iterator[WorkerGroup]:
    """The worker group for the block. At a normal end, workers wait for each other, so that none aborts a peer's last exchange.

    The groups are not destroyed: torch 2.6 can hang in that (a thread that the destructor joins waits for the GIL that
    the destructor's caller holds), and after a failure it can wait for peers forever. `leave_process` ends without it.

    Raises: InputError for a network interface or an own address that can't be used, before it waits for the other workers.
    """
    if world.size == 1:
        yield WorkerGroup(world, None)
        return
    check_interfaces(backend)
    _check_own_name(os.environ.get("MASTER_ADDR", ""))
    dist.init_process_group(backend)
    group = WorkerGroup(world, dist.new_group(backend="gloo", timeout=AGREEMENT_TIMEOUT))
    yield group
    group.all_gather(b"")


def _check_own_name(address: str) -> None:
    """Raises: InputError when the workers are to meet under this machine's own name, and it does not resolve."""
    if _IP_ADDRESS.fullmatch(address) or address not in {socket.gethostname(), socket.getfqdn()}:
        return  # another machine's: its name may resolve later, and is then found by the store's own retries
    try:
        socket.getaddrinfo(address, None)
    except OSError as problem:
        raise InputError(
            f"cannot join the other workers: this machine's own name does not resolve, got `{on_one_line(address)}` (from `MASTER_ADDR`)",
            hint="torchrun --local-addr 127.0.0.1 on one machine, or its address in the network; or add the name to /etc/hosts",
        ) from problem


def leave_process(exit_code: int) -> NoReturn:
    """End this worker at once, skipping torch's exit handlers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)
