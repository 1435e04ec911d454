"""The workers of a run: who this process is among them, and how they agree.

The only reader of RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE. Gradients go over the device's own backend (DDP);
everything here goes over a second group on the processors, because accelerator back ends lack timeouts and some lack
object collectives.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import torch
import torch.distributed as dist

from trainer.errors import InputError, KnownError

T = TypeVar("T")

AGREEMENT_TIMEOUT: Final = timedelta(hours=2)
"""Longest wait for a peer: it may be decoding the whole data set (17 core-minutes) from a slow mount."""


@dataclass(frozen=True)
class World:
    """This process among the workers."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_primary(self) -> bool:
        """Whether this is rank 0, which writes and reports."""
        return self.rank == 0

    @property
    def is_first_on_node(self) -> bool:
        """Whether this worker prepares what its node's workers share."""
        return self.local_rank == 0


def read_world(environment: Mapping[str, str] = os.environ) -> World:
    """The world that torchrun describes; a single worker where it did not start us.

    Raises: InputError when the description is incomplete, as in a pod whose operator set RANK for the node.
    """
    if "LOCAL_RANK" not in environment:
        return World()
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        return World(*(int(environment[name]) for name in names))
    except (KeyError, ValueError) as problem:
        raise InputError(
            f"cannot tell the workers apart: {problem} of {', '.join(names)} (from the environment)",
            hint="start workers with torchrun, or plain `python -m trainer train` for one",
        ) from problem


class PeerError(KnownError):
    """Another worker failed and has said why; this one leaves with the same exit code, silently."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("a peer failed")
        self.exit_code = exit_code


class Gang:
    """All workers of a run, able to agree over the processors' own group."""

    def __init__(self, world: World, group: dist.ProcessGroup | None) -> None:
        self.world = world
        self._group = group

    def all_gather(self, payload: bytes) -> list[bytes]:
        """Every rank's payload, in rank order, on every rank. All ranks call it."""
        if self._group is None:
            return [payload]
        sizes = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world.size)]
        dist.all_gather(sizes, torch.tensor([len(payload)]), group=self._group)
        longest = max(int(size) for size in sizes)
        mine = torch.zeros(longest, dtype=torch.uint8)
        if payload:
            mine[: len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        padded = [torch.empty(longest, dtype=torch.uint8) for _ in range(self.world.size)]
        dist.all_gather(padded, mine, group=self._group)
        return [bytes(row[: int(size)].numpy()) for row, size in zip(padded, sizes, strict=True)]

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """Elementwise mean over the ranks of a tensor on the processor, on every rank. All ranks call it."""
        if self._group is None:
            return values
        total = values.clone()
        dist.all_reduce(total, group=self._group)
        return total / self.world.size

    def together(self, act: Callable[[], T]) -> T:
        """What `act` returns on this rank, once it has succeeded on all.

        Raises: the known error of this rank; PeerError on the others. So nobody waits for a rank that has left.
        """
        result, problem = None, None
        try:
            result = act()
        except KnownError as known:
            problem = known
        codes = [int(code) for code in self.all_gather(str(problem.exit_code if problem else 0).encode())]
        if problem is not None:
            raise problem
        if any(codes):
            raise PeerError(next(code for code in codes if code))
        return result  # type: ignore[return-value]  # act() has returned where no rank had a problem

    def on_primary(self, act: Callable[[], T]) -> T:
        """What `act` returned on rank 0, as JSON, on all ranks.

        Raises: its known error on rank 0; PeerError on the others.
        """
        result = self.together(lambda: act() if self.world.is_primary else None)
        return json.loads(self.all_gather(json.dumps(result).encode())[0])  # type: ignore[no-any-return]

    def first_on_node(self, act: Callable[[], None]) -> None:
        """Run `act` on one worker of each node while the others wait."""
        self.together(lambda: act() if self.world.is_first_on_node else None)


@contextmanager
def join(world: World, backend: str) -> Iterator[Gang]:
    """The gang, joined for the block and left in order after it.

    The barrier before leaving keeps a rank from aborting its peers' last collective.
    """
    if world.size == 1:
        yield Gang(world, None)
        return
    dist.init_process_group(backend)
    group = dist.new_group(backend="gloo", timeout=AGREEMENT_TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)
    gang = Gang(world, group)
    try:
        yield gang
        gang.all_gather(b"")
    finally:
        dist.destroy_process_group()
