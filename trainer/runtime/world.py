"""Rank of this process among the workers; the only reader of RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.errors import InputError
from trainer.layout import JOB


@dataclass(frozen=True)
class World:
    """This process's place among the workers."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    in_pod: bool = False
    """Whether the process runs in Kubernetes, which restarts it when it ends."""
    job: str = ""
    """ID shared by all attempts of this job, to distinguish it from other writers of the same run; empty without one."""

    @property
    def is_rank0(self) -> bool:
        """Whether this is rank 0, which writes and reports."""
        return self.rank == 0

    @property
    def is_local_rank0(self) -> bool:
        """Whether this worker prepares what the workers of its node share."""
        return self.local_rank == 0

    @property
    def node_ranks(self) -> range:
        """Ranks of this node's workers. Source: torchrun numbers the workers of a node consecutively."""
        first = self.rank - self.local_rank
        return range(first, first + self.local_size)


def read_world(environment: Mapping[str, str] = os.environ) -> World:
    """Read the world from torchrun's variables; a single worker without them.

    Raises: InputError when they are incomplete, as in a pod where the operator set RANK for the node.
    """
    job = environment.get(JOB, "")
    if "LOCAL_RANK" not in environment:
        return World(job=job)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, size, local_rank, local_size = (int(environment[name]) for name in names)
    except (KeyError, ValueError) as problem:
        raise InputError(
            f"cannot determine the rank of this worker: {problem} of {', '.join(names)} (from the environment)",
            hint="start workers with torchrun, or a single one with `python -m trainer train`",
        ) from problem
    return World(rank, size, local_rank, local_size, in_pod="KUBERNETES_SERVICE_HOST" in environment, job=job)
