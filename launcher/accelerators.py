"""What each accelerator needs from Kubernetes and from the container: one row each, amounts per worker."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

AcceleratorName = Literal["gaudi", "cuda", "cpu"]


def _env(**variables: str) -> Mapping[str, str]:
    return MappingProxyType(variables)


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One row; what an accelerator does not need is None or empty, and then absent from the manifest."""

    device: Literal["hpu", "cuda", "cpu"]
    """What the trainer calls it."""

    resource: str | None = None
    """Extended resource of which a worker takes one."""

    node_sizes: tuple[int, ...] | None = None
    """Workers that a node may have; None is any number."""

    cpu_milli: int
    """Processor time that is kept for a worker, in 1/1000 of a core; it may use what else is free."""

    memory_mib: int
    """Memory of a worker, requested and limit; /dev/shm counts towards it."""

    shm_mib: int
    """A worker's part of /dev/shm, through which the workers of a node talk."""

    hugepages_mib: int | None = None
    """Huge pages of 2 MiB, so this is even."""

    capabilities: tuple[str, ...] = ()
    """Linux capabilities beyond none."""

    env: Mapping[str, str] = field(default_factory=_env)
    """Set in every job."""

    multi_node_env: Mapping[str, str] = field(default_factory=_env)
    """Set too where a job has several nodes."""


ACCELERATORS: Final[Mapping[AcceleratorName, Accelerator]] = MappingProxyType(
    {
        # Source: 29000Mi of huge pages for 8 cards is the vendor's health screen for Gaudi2 and 3; DL1 nodes have 42000Mi.
        "gaudi": Accelerator(
            device="hpu",
            resource="habana.ai/gaudi",
            node_sizes=(1, 2, 4, 8),  # collectives run within these groups of a node's cards only
            cpu_milli=10_000,
            memory_mib=32 * 1024,
            shm_mib=2 * 1024,
            hugepages_mib=3626,
            capabilities=("SYS_NICE",),
            # Lazy (1), though eager is the vendor's default: on chest X-rays with 1.24 and Gaudi2, eager lost 9 AUC points
            # without an error where lazy met the reference (docs/decisions/0008). Written out because the default changed at 1.21.
            env=_env(PT_HPU_LAZY_MODE="1"),
            multi_node_env=_env(HCCL_SOCKET_IFNAME="eth0"),
        ),
        "cuda": Accelerator(
            device="cuda",
            resource="nvidia.com/gpu",
            cpu_milli=6_000,
            memory_mib=24 * 1024,
            shm_mib=2 * 1024,
            env=_env(NCCL_DEBUG="WARN"),
            multi_node_env=_env(NCCL_SOCKET_IFNAME="eth0"),
        ),
        # Half a core is what two workers on a small node can both be promised; they use what is free.
        "cpu": Accelerator(device="cpu", cpu_milli=500, memory_mib=4 * 1024, shm_mib=256),
    }
)
