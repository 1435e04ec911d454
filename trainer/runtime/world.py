"""Who this process is among the workers; the only reader of RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.errors import InputError
from trainer.layout import JOB


@dataclass(frozen=True)
class World:
    """This process among the workers."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    in_pod: bool = False
    """Whether Kubernetes started this, which starts again what ends."""
    job: str = ""
    """What tells this job from every other that could write to the same run, shared by all its starts; empty when nothing does."""

    @property
    def is_rank0(self) -> bool:
        """Whether this is rank 0, which writes and reports."""
        return self.rank == 0

    @property
    def is_local_rank0(self) -> bool:
        """Whether this worker prepares what its node's workers share."""
        return self.local_rank == 0

    @property
    def node_ranks(self) -> range:
        """Ranks of this node's workers. Source: torchrun numbers a node's workers one after the other."""
        first = self.rank - self.local_rank
        return range(first, first + self.local_size)


def read_world(environment: Mapping[str, str] = os.environ) -> World:
    """The world that torchrun describes; a single worker where it did not start us.

    Raises: InputError when the description is incomplete, as in a pod whose operator set RANK for the node.
    """
    job = environment.get(JOB, "")
    if "LOCAL_RANK" not in environment:
        return World(job=job)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, size, local_rank, local_size = (int(environment[name]) for name in names)
    except (KeyError, ValueError) as problem:
        raise InputError(
            f"cannot tell the workers apart: {problem} of {', '.join(names)} (from the environment)",
            hint="start workers with torchrun, or plain `python -m trainer train` for one",
        ) from problem
    return World(rank, size, local_rank, local_size, in_pod="KUBERNETES_SERVICE_HOST" in environment, job=job)
