"""Known failure messages in logs, with meaning and next step."""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Signature:
    """One kind of failure, recognised by a log line."""

    code: str
    pattern: "re.Pattern[str]"
    meaning: str
    next_step: str

    is_a_consequence: bool = False
    """Whether it is usually caused by the failure of another worker."""


def signature_of(lines: list[str]) -> tuple[Signature, str] | None:
    """The first known failure in a log, and its line: later ones are usually consequences."""
    for line in lines:
        for signature in SIGNATURES:
            if signature.pattern.search(line):
                return signature, line
    return None


def _signature(code: str, pattern: str, meaning: str, next_step: str, *, is_a_consequence: bool = False) -> Signature:
    return Signature(
        code=code,
        pattern=re.compile(pattern, re.IGNORECASE),
        meaning=meaning,
        next_step=next_step,
        is_a_consequence=is_a_consequence,
    )


SIGNATURES: Final = (
    # First, as it quotes messages of drivers.
    _signature(
        "preflight",
        r"preflight failed on node `",
        "a node did not pass the checks before training",
        "keep jobs off the node that the message names (kubectl cordon NODE), then submit again",
    ),
    # Source: the vendor's issue trackers (optimum-habana 1611, vllm-fork 344, tgi-gaudi 93) and its bridge's texts.
    _signature(
        "gaudi-no-devices",
        r"Device acquire failed\.? *No devices found|No devices found",
        "the container sees no Gaudi card",
        "ls /dev/accel on the node; the driver and the device plugin must run, and the pod must request the card's resource (--resource)",
    ),
    _signature(
        "gaudi-already-acquired",
        r"synStatus ?= ?20\b|Device already acquired",
        "two processes use the same Gaudi card",
        "run no other process on the card in the container; hl-smi on the node shows the processes",
    ),
    _signature(
        "gaudi-device-not-found",
        r"synStatus ?= ?8\b|\[Device not found\]",
        "the Gaudi card was not found, usually because processes of a killed run still use it",
        "on the node: hl-smi shows the processes; kill them, or drain the node",
    ),
    _signature(
        "gaudi-acquire-failed",
        r"synStatus ?= ?26\b|Device acquire failed",
        "the Gaudi card can't be acquired: another process uses it, huge pages are missing, or driver and image do not match",
        "on the node: hl-smi shows processes and driver, /proc/meminfo the huge pages; use the image of the driver's release",
    ),
    _signature(
        "gaudi-too-few-devices",
        r"not enough devices available for training",
        "there are more workers in the pod than Gaudi cards",
        "--workers-per-node must be the number of cards; an --overlay must not change the request for cards",
    ),
    _signature(
        "gaudi-memory",
        r"PT_DEVMEM.*Allocation failed",
        "the Gaudi card's memory is full",
        "submit again with a smaller --batch-size or --crop-px",
    ),
    _signature(
        "gaudi-torch-mismatch",
        r"Compile-time (?:major|minor)\S* PyTorch version",
        "the image's torch does not match its Gaudi software",
        "rebuild the image with Dockerfile.hpu, which never installs torch",
    ),
    _signature(
        "hccl-init",
        r"Comm Init Rank Error|Get HCCL UniqueId Error|hcclCommInitRank",
        "the Gaudi cards can't reach each other: ports down, the wrong interface, or a network policy",
        "submit again with --env HCCL_SOCKET_IFNAME=<the pods' interface>; hl-smi -n link on the nodes shows ports",
    ),
    _signature(
        "hccl-error",
        r"HCCL.*(?:timed? ?out|error|failed)|(?:timed? ?out|error|failed).*\bHCCL\b",
        "a collective between Gaudi cards failed, usually because a peer was lost",
        "find the first failed rank in the logs; the job resumes from its newest checkpoint",
        is_a_consequence=True,
    ),
    _signature(
        "collective-timeout",
        r"Watchdog caught collective operation timeout|collective operation timeout|Timed out waiting \d+ms for (?:recv|send)",
        "a worker timed out waiting for its peers",
        "find the rank that stopped first in the logs; the job resumes from its newest checkpoint",
        is_a_consequence=True,
    ),
    _signature(
        "nccl-init",
        r"Bootstrap ?: no socket interface found|ncclCommInitRank|no usable (?:socket )?interface",
        "NCCL finds no interface to the other nodes",
        "submit again with --env NCCL_SOCKET_IFNAME=<the pods' interface>",
    ),
    _signature(
        "nccl-error",
        r"NCCL (?:error|WARN.*(?:failed|error))|ncclSystemError|ncclRemoteError|ncclInternalError|unhandled system error",
        "a collective between GPUs failed",
        "see the NCCL lines in the logs; --env NCCL_DEBUG=INFO logs more",
    ),
    _signature(
        "shared-memory",
        r"Bus error|insufficient shared memory|unable to (?:open|mmap|write|allocate) .*shared memory|shm_open|No space left on device.*/dev/shm|signal 7\b",
        "the shared memory in /dev/shm is full",
        "an --overlay must not remove the `shm` volume; to enlarge it, set the volume's sizeLimit and the container's memory in an --overlay",
    ),
    _signature(
        "gpu-memory",
        r"CUDA out of memory|torch\.OutOfMemoryError|CUDA error: out of memory",
        "the GPU's memory is full",
        "submit again with a smaller --batch-size or --crop-px",
    ),
    _signature(
        "gpu-driver",
        r"driver version is insufficient|Found no NVIDIA driver|no kernel image is available",
        "the node's NVIDIA driver does not fit the image",
        "build Dockerfile.cuda on a base image for the nodes' driver (nvidia-smi shows it)",
    ),
    _signature(
        "deadline",
        r"the deadline is over",
        "the run's deadline has passed",
        "launcher resume NAME --set deadline=… continues from the newest checkpoint",
    ),
    _signature(
        "exec-format",
        r"exec format error",
        "the image is for another processor architecture",
        "build it for the nodes: --platform linux/amd64",
    ),
)
"""Signatures by precedence."""
