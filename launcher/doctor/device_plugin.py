"""Check that nodes offer the accelerator: by a device plugin or a DRA driver, whole, shared or in parts; pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from launcher.cluster.capacity import NO_DEVICES, Devices, amount
from launcher.cluster.dra import DeviceObjects, class_of
from launcher.cluster.resources import DEVICE_CLASSES, RESOURCE_CLAIMS, RESOURCE_SLICES, Object
from launcher.doctor.runner import fail, ok, skipped, warn
from launcher.spec.extended_resource import VENDORS, vendor_of
from trainer.errors import on_one_line
from trainer.runs.checks import Outcome

_SHARED: Final = ".shared"
"""End of the name of a shared resource, where the device plugin renames it. Source: k8s-device-plugin, `renameByDefault`."""

_CARDS: Final = re.compile(r"/(gpu(\.shared)?|mig-[^/]+|gaudi)$")
"""Names of cards and their parts, among resources of a vendor such as network adapters."""

_STRATEGY: Final = "nvidia.com/gpu.sharing-strategy"
_ROLES: Final = "ask an administrator for the permission: k8s/base has the roles"


@dataclass(frozen=True)
class _Offers:
    """Devices by node."""

    by_plugin: Mapping[str, int]
    by_driver: Mapping[str, int]
    unusable: Mapping[str, int]
    """Unhealthy or tainted ones."""


def device_plugin(
    resource: str | None,
    nodes: Sequence[Object],
    *,
    objects: DeviceObjects | None = None,
    devices: Devices = NO_DEVICES,
    per_pod: int = 1,
) -> Outcome:
    """Check that a node offers the accelerator, that all devices are healthy, and that each is a card for one worker.

    `devices` are those that DRA drivers serve by `objects`; a pod requests `per_pod`.
    """
    if resource is None:
        return skipped("the job uses no accelerator")
    offers = _offers(resource, nodes, devices)
    if not offers.by_plugin and not offers.by_driver:
        return _absent(resource, nodes, offers, objects or DeviceObjects())
    notes = list(_notes(resource, nodes, offers))
    found = "; ".join([_count(resource, offers, objects or DeviceObjects(), devices), *notes])
    if offers.unusable:
        return warn(f"{found}; not healthy: {_listed(offers.unusable)}", "ask an administrator to check these nodes")
    if notes and (per_pod > 1 or not resource.endswith(_SHARED)):
        fewer = "--workers-per-node 1, because workers of a pod may get the same card; or " if per_pod > 1 else ""
        return warn(found, f"{fewer}nodes with whole cards for one pod each, by --node-selector")
    return ok(found)


def _offers(resource: str, nodes: Sequence[Object], devices: Devices) -> _Offers:
    by_plugin, by_driver, unusable = {}, {}, {}
    for node in nodes:
        name = node["metadata"]["name"]
        offered, served = amount(node, "allocatable", resource), devices.get(name, {}).get(resource)
        if offered:
            by_plugin[name] = int(offered)
        elif served and served.total:
            by_driver[name] = served.total
        tainted = served.tainted if served and not offered else 0
        unhealthy = int(amount(node, "capacity", resource) - offered)
        if unhealthy > 0 or tainted:
            unusable[name] = max(unhealthy, tainted)
    return _Offers(by_plugin, by_driver, unusable)


def _absent(resource: str, nodes: Sequence[Object], offers: _Offers, objects: DeviceObjects) -> Outcome:
    found = f"no node of {len(nodes)} offers `{resource}`"
    if offers.unusable:
        found += f" that is healthy: {_listed(offers.unusable)} are not"
    device_class = class_of(resource, objects.classes)
    unread = RESOURCE_SLICES if device_class else DEVICE_CLASSES
    if unread.plural in objects.denied:
        return warn(f"{found}; a DRA driver may, but you are not permitted to list {unread.plural}", _ROLES)
    if device_class and not offers.unusable:
        return fail(
            f"{found}, and no ResourceSlice has a device of the DeviceClass `{device_class['metadata']['name']}`, which serves it",
            "the class's DRA driver must run on the nodes: kubectl get resourceslices; kubectl get pods -A | grep -i dra",
        )
    others = _others(resource, nodes, objects)
    instead = f"--resource {others[0]}, which the cluster offers; or " if others else ""
    return fail(
        found, f"{instead}install the accelerator's driver and device plugin, or its DRA driver: see k8s/operator"
    )


def _others(resource: str, nodes: Sequence[Object], objects: DeviceObjects) -> list[str]:
    """Other resources of the same accelerator, such as MIG devices, or what its DRA driver calls it."""
    wanted = VENDORS.get(vendor_of(resource) or "")
    by_class = {each["spec"].get("extendedResourceName") for each in objects.classes if each.get("spec")}
    on_nodes = {
        name for node in nodes for name in node["status"].get("allocatable", ()) if amount(node, "allocatable", name)
    }
    names = sorted(name for name in {*on_nodes, *by_class} if name and _CARDS.search(name))
    return [name for name in names if wanted and (vendor := vendor_of(name)) and VENDORS[vendor] == wanted]


def _count(resource: str, offers: _Offers, objects: DeviceObjects, devices: Devices) -> str:
    """Number of devices and nodes, and which of them a DRA driver serves."""
    total, number = (
        sum(offers.by_plugin.values()) + sum(offers.by_driver.values()),
        len(offers.by_plugin) + len(offers.by_driver),
    )
    served = [devices[name][resource] for name in offers.by_driver]
    most = "" if all(each.exact for each in served) else "at most "
    found = f"{most}{total} {resource} on {'1 node' if number == 1 else f'{number} nodes'}"
    device_class = class_of(resource, objects.classes)
    if not served or not device_class:
        return found
    share = f", {sum(offers.by_driver.values())} of them" if offers.by_plugin else ""
    found += f"{share} by DRA (DeviceClass `{device_class['metadata']['name']}`)"
    if RESOURCE_CLAIMS.plural in objects.denied:
        found += f"; not permitted to list {RESOURCE_CLAIMS.plural}, which may hold some"
    return found


def _notes(resource: str, nodes: Sequence[Object], offers: _Offers) -> Iterator[str]:
    """What the labels of GPU feature discovery say about devices that are not cards.

    Source: k8s-device-plugin, internal/lm/resource.go, and its catalog of labels.
    """
    base = resource.removesuffix(_SHARED)
    for node in nodes:
        name, labels = node["metadata"]["name"], node["metadata"].get("labels") or {}
        if name not in offers.by_plugin:
            continue
        product, replicas = labels.get(f"{base}.product", ""), labels.get(f"{base}.replicas", "")
        shares = int(replicas) if replicas.isdecimal() else 1
        strategy = labels.get(_STRATEGY, "none")
        if shares > 1:
            how = strategy if strategy != "none" else "shared"
            cards = offers.by_plugin[name] // shares
            yield f"{how}: {offers.by_plugin[name]} on {on_one_line(name)} are {cards} devices for {shares} pods each"
        elif strategy != "none" or product.endswith("-SHARED") or resource.endswith(_SHARED):
            yield f"shared: {on_one_line(name)} offers more than it has devices"
        if base == "nvidia.com/gpu" and "-MIG-" in product:
            yield f"MIG: each on {on_one_line(name)} is a part of a card, {on_one_line(product)}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} on {on_one_line(name)}" for name, count in counts.items())
