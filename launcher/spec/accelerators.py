"""Requirements of each accelerator on Kubernetes and the container, one row each; amounts are per worker.

No row adds a Linux capability: capabilities that a pod adds have no effect for a non-root user (measured: docs/decisions/0026).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final, Literal

from trainer.config import Mode

AcceleratorName = Literal["gaudi", "cuda", "cpu"]
Generation = Literal["1", "2", "3"]


def _env(**variables: str) -> Mapping[str, str]:
    return MappingProxyType(variables)


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One row; fields that are None or empty are absent from the Kubernetes manifest."""

    device: Literal["hpu", "cuda", "cpu"]
    """Value of the trainer's `--device`."""

    resource: str | None = None
    """Extended resource; a worker requests one."""

    node_sizes: tuple[int, ...] | None = None
    """Allowed numbers of workers on a node; None allows any number."""

    node_sizes_reason: str = ""
    """Why only these numbers, for the error."""

    cpu_milli: int
    """CPU request of a worker in 1/1000 of a core; without a limit, it may use more."""

    memory_mib: int
    """Memory request and limit of a worker; /dev/shm counts towards it."""

    memory_of_mib: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """`memory_mib` of models that need more."""

    shm_mib: int
    """A worker's share of /dev/shm, which the workers of a node use to communicate."""

    read_only_root: bool = True
    """Whether the root file system of the container is read-only; /tmp is always writable."""

    hugepages_mib: int | None = None
    """Huge pages of 2 MiB; must be even."""

    mode: Mode | None = None
    """Default of `--gaudi-mode`; None for an accelerator without modes."""

    env: Mapping[str, str] = field(default_factory=_env)
    """Environment variables of every job."""

    multi_node_env: Mapping[str, str] = field(default_factory=_env)
    """Additional environment variables of multi-node jobs."""

    efa: "Efa | None" = None
    """Additional requirements of Elastic Fabric Adapters, if nodes can have them."""

    image: str
    """Suggestion in the error for a missing image: how to build one."""


@dataclass(frozen=True, kw_only=True)
class Efa:
    """Elastic Fabric Adapters; amounts are per node, not per worker."""

    most: int
    """Number of adapters of the largest node."""

    hugepages_mib: int = 0
    env: Mapping[str, str] = field(default_factory=_env)


POD_INTERFACE: Final = "eth0"
"""A pod's network interface in most clusters."""

EFA_RESOURCE: Final = "vpc.amazonaws.com/efa"


_GAUDI_2: Final = Accelerator(
    device="hpu",
    resource="habana.ai/gaudi",
    node_sizes=(1, 2, 4, 8),
    node_sizes_reason="collectives within a node only work in groups of these sizes",
    cpu_milli=10_000,
    memory_mib=32 * 1024,
    shm_mib=2 * 1024,
    read_only_root=False,  # the vendor's libraries write to their own directories
    # Source: 29000Mi for 8 cards is the vendor's health screen for Gaudi2 and 3.
    hugepages_mib=3626,
    # Although the vendor's default is eager: with 1.24 on Gaudi2, eager mode lost 9 AUC points on chest X-rays without an error, and
    # lazy mode reached the reference (docs/decisions/0032). Images with stock torch have no lazy mode, and their trainer says so.
    mode="lazy",
    env=_env(HABANA_LOGS="/tmp/habana_logs"),  # noqa: S108 - the pod's own
    multi_node_env=_env(HCCL_SOCKET_IFNAME=POD_INTERFACE),
    image="build Dockerfile.hpu (Gaudi software 1.24.1, torch 2.11.0: its defaults)",
)

GAUDI: Final[Mapping[Generation, Accelerator]] = MappingProxyType(
    {
        "1": replace(
            _GAUDI_2,
            # Source: 21000Mi for the 8 cards of a DL1 node in the cloud vendor's examples; rounded up to an even number.
            hugepages_mib=2626,
            # Source: the vendor's guide for multiple DL1 nodes; only these communicate through the host's adapters.
            efa=Efa(most=4, env=_env(FI_PROVIDER="efa", FI_EFA_USE_DEVICE_RDMA="1", RDMAV_FORK_SAFE="1")),
            image="build Dockerfile.hpu with GAUDI_VERSION=1.21.3, GAUDI_BUILD=57 and TORCH_VERSION=2.6.0, on BASE_OS=ubuntu22.04: "
            "1.21 is the last for this generation",
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
            multi_node_env=_env(NCCL_SOCKET_IFNAME=POD_INTERFACE),
            # Source: 5120Mi of huge pages in the cloud vendor's examples; no FI_* with libfabric >= 1.18.
            efa=Efa(most=32, hugepages_mib=5120),
            image="build Dockerfile.cuda (CUDA 13: GPUs from Turing on), with CUDA_VERSION=12.6 for Maxwell to Ampere",
        ),
        # Half a core, so that two workers fit on a small node; they may use more than the request.
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


LAZY_MODE: Final = "PT_HPU_LAZY_MODE"
"""Environment variable that the vendor's bridge reads once, when it is loaded; explicit, as its default changed in release 1.21."""


GRADIENT_VIEWS: Final = "PT_HPU_EAGER_ENABLE_GRADIENT_VIEW_LAYOUT_OPT"
"""Source: README of the vendor's Model-References, since release 1.20, for vision models in eager mode without compile."""


def mode_env(mode: Mode | None) -> Mapping[str, str]:
    """Environment variables of a mode; none without one."""
    if mode is None:
        return {}
    return {LAZY_MODE: "1" if mode == "lazy" else "0"} | ({GRADIENT_VIEWS: "1"} if mode == "eager" else {})


def hardware(name: AcceleratorName, generation: Generation) -> Accelerator:
    """The row of an accelerator; `generation` only applies to Gaudi."""
    return GAUDI[generation] if name == "gaudi" else ACCELERATORS[name]
