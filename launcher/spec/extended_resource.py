"""Name of an accelerator's extended resource, such as `nvidia.com/mig-1g.10gb`: validate it, and the row of the table for it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from launcher.cluster.resources import DEVICE_CLASS_PREFIX
from launcher.spec.accelerators import ACCELERATORS, Accelerator, AcceleratorName
from trainer.errors import InputError, on_one_line

_LABEL: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
# Source: IsExtendedResourceName of Kubernetes, pkg/apis/core/v1/helper: with the prefix `requests.` of a quota it must still be a
# qualified name, whose domain has at most 253 characters.
_NAME: Final = re.compile(
    rf"(?=[^/]{{1,244}}/){_LABEL}(\.{_LABEL})*/[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?", re.ASCII
)
_NATIVE: Final = "kubernetes.io/"
MIG: Final = "nvidia.com/mig-"
"""Prefix of the resources of MIG devices, parts of an NVIDIA card. Source: k8s-device-plugin, MIG strategy `mixed`."""
MIG_CLASS: Final = f"{DEVICE_CLASS_PREFIX}mig.nvidia.com"
"""The same by the DeviceClass of NVIDIA's DRA driver. Source: k8s-dra-driver-gpu, deviceclass-mig.yaml of its chart."""

VENDORS: Final[Mapping[str, AcceleratorName | None]] = {
    "nvidia.com": "cuda",
    "habana.ai": "gaudi",
    **dict.fromkeys((f"{kind}.intel.com" for kind in ("gpu", "npu", "qat", "sgx", "dsa", "iaa", "fpga", "vpu")), None),
    "intel.com": "gaudi",
    "amd.com": None,
    "google.com": None,
    "aws.amazon.com": None,
    "amazonaws.com": None,
}
"""Domains of resources that plainly belong to an accelerator, the first that fits; None for what is none of them.

Others may be an administrator's own. Source: the names of Intel's device plugins and DRA drivers.
"""


def with_resource(row: Accelerator, resource: str) -> Accelerator:
    """The accelerator's row for another of its resources; a MIG device allows one worker in a pod."""
    if not resource.startswith(MIG) and resource != MIG_CLASS:
        return replace(row, resource=resource)
    # Source: CUDA uses only the first MIG device that a process sees (the vendor's MIG user guide; pytorch#130181).
    return replace(row, resource=resource, node_sizes=(1,), node_sizes_reason="a process can use only one MIG device")


def vendor_of(resource: str) -> str | None:
    """The vendor's domain in `VENDORS`, also in the name of a DeviceClass; None for other resources."""
    domain = resource.removeprefix(DEVICE_CLASS_PREFIX).partition("/")[0]
    return next((vendor for vendor in VENDORS if f".{domain}".endswith(f".{vendor}")), None)


def check_resource(resource: str, accelerator: AcceleratorName) -> None:
    """Check that a pod may request this resource, and that it can be the accelerator.

    Raises: InputError.
    """
    problem = _problem(resource, accelerator)
    if problem:
        example = ACCELERATORS[accelerator].resource
        raise InputError(
            f"cannot use `{on_one_line(resource)}` as the accelerator's resource: {problem} (from `--resource`)",
            hint=f"--resource {example}, or another name in the output of: kubectl describe nodes"
            if example
            else "omit --resource",
        )


def _problem(resource: str, accelerator: AcceleratorName) -> str | None:
    if ACCELERATORS[accelerator].resource is None:
        return f"`--accelerator {accelerator}` uses none"
    if resource.startswith("requests."):
        return "the prefix `requests.` is for quotas"
    if _NATIVE in resource and not resource.startswith(DEVICE_CLASS_PREFIX):
        return f"`{_NATIVE}` is for Kubernetes' own resources"
    if not _NAME.fullmatch(resource):
        return "it must be DOMAIN/NAME; names without a domain are Kubernetes' own resources"
    vendor = vendor_of(resource)
    owner = VENDORS[vendor] if vendor else accelerator
    if owner == accelerator:
        return None
    whose = f"`--accelerator {owner}`" if owner else "another accelerator"
    return f"`{vendor}` is for {whose}, the job has `--accelerator {accelerator}`"
