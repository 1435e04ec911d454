"""What each accelerator needs from Kubernetes and from the container: one row each, amounts per worker.

No row asks for a Linux capability: a user other than root gets none of those that a pod adds (measured: docs/decisions/0026).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal

AcceleratorName = Literal["gaudi", "cuda", "cpu"]
Generation = Literal["1", "2", "3"]


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

    memory_of_mib: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """The same for models that need more."""

    shm_mib: int
    """A worker's part of /dev/shm, through which the workers of a node talk."""

    read_only_root: bool = True
    """Whether the container can do without writing to its own file system; it always has /tmp."""

    hugepages_mib: int | None = None
    """Huge pages of 2 MiB, so this is even."""

    env: Mapping[str, str] = field(default_factory=_env)
    """Set in every job."""

    multi_node_env: Mapping[str, str] = field(default_factory=_env)
    """Set too where a job has several nodes."""

    efa: "Efa | None" = None
    """What Elastic Fabric Adapters need besides, where nodes can have them."""

    image: str
    """The image that is suggested where none is given: how to build one."""


@dataclass(frozen=True, kw_only=True)
class Efa:
    """Elastic Fabric Adapters of one node; the amounts are a node's, not a worker's."""

    most: int
    """Adapters of the largest node."""

    hugepages_mib: int = 0
    env: Mapping[str, str] = field(default_factory=_env)


EFA_RESOURCE: Final = "vpc.amazonaws.com/efa"


_GAUDI_2: Final = Accelerator(
    device="hpu",
    resource="habana.ai/gaudi",
    node_sizes=(1, 2, 4, 8),  # collectives run within these groups of a node's cards only
    cpu_milli=10_000,
    memory_mib=32 * 1024,
    shm_mib=2 * 1024,
    read_only_root=False,  # the vendor's libraries write beside themselves
    # Source: 29000Mi for 8 cards is the vendor's health screen for Gaudi2 and 3.
    hugepages_mib=3626,
    # Lazy (1), though eager is the vendor's default: on chest X-rays with 1.24 and Gaudi2, eager lost 9 AUC points
    # without an error where lazy met the reference (docs/decisions/0008). Written out because the default changed at 1.21.
    env=_env(PT_HPU_LAZY_MODE="1", HABANA_LOGS="/tmp/habana_logs"),  # noqa: S108 - the pod's own
    multi_node_env=_env(HCCL_SOCKET_IFNAME="eth0"),
    image="build Dockerfile.hpu (Gaudi software 1.24.0, torch 2.10.0: its defaults)",
)

GAUDI: Final[Mapping[Generation, Accelerator]] = MappingProxyType(
    {
        "1": replace(
            _GAUDI_2,
            # Source: 21000Mi for the 8 cards of a DL1 node in the cloud vendor's examples; rounded up to an even number.
            hugepages_mib=2626,
            # Source: the vendor's guide to several DL1 nodes; only they reach each other through the host's adapters.
            efa=Efa(most=4, env=_env(FI_PROVIDER="efa", FI_EFA_USE_DEVICE_RDMA="1", RDMAV_FORK_SAFE="1")),
            image="build Dockerfile.hpu with GAUDI_VERSION=1.21.3, GAUDI_BUILD=57 and TORCH_VERSION=2.6.0: 1.21 is the last for this generation",
        ),
        "2": _GAUDI_2,
        "3": _GAUDI_2,
    }
)

ACCELERATORS: Final[Mapping[AcceleratorName, Accelerator]] = MappingProxyType(
    {
        "gaudi": _GAUDI_2,
        "cuda": Accelerator(
            device="cuda",
            resource="nvidia.com/gpu",
            cpu_milli=6_000,
            memory_mib=24 * 1024,
            shm_mib=2 * 1024,
            env=_env(NCCL_DEBUG="WARN"),
            multi_node_env=_env(NCCL_SOCKET_IFNAME="eth0"),
            # Source: 5120Mi of huge pages in the cloud vendor's examples; no FI_* with libfabric >= 1.18.
            efa=Efa(most=32, hugepages_mib=5120),
            image="build Dockerfile.cuda",
        ),
        # Half a core is what two workers on a small node can both be promised; they use what is free.
        "cpu": Accelerator(
            device="cpu",
            cpu_milli=500,
            memory_mib=4 * 1024,
            # Measured on one worker of `--preset pneumonia`, 64 images of 224 pixels a batch: 4.7 GiB; DenseNet-121 2.0, ResNet-50 1.6.
            memory_of_mib=MappingProxyType({"vgg16": 6 * 1024}),
            shm_mib=256,
            image="build Dockerfile.cuda",
        ),
    }
)


def hardware(name: AcceleratorName, generation: Generation) -> Accelerator:
    """The row of an accelerator; the generation is Gaudi's."""
    return GAUDI[generation] if name == "gaudi" else ACCELERATORS[name]
