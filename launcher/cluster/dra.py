"""Devices that DRA drivers serve as extended resources (KEP-5004), counted like the scheduler does.

Where no device plugin offers a resource, a DeviceClass with its name may: the scheduler then takes devices of the driver's
ResourceSlices, and records them in a ResourceClaim of the pod. Not included: DeviceTaintRules, binding conditions.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from launcher.cluster.capacity import Devices, Served, quantity, selects_node
from launcher.cluster.client import Cluster
from launcher.cluster.device_selector import selects
from launcher.cluster.errors import ForbiddenError, NotFoundError
from launcher.cluster.resources import (
    DEVICE_CLASS_PREFIX,
    DEVICE_CLASSES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Object,
    Resource,
)

_EXCLUDING: Final = frozenset({"NoSchedule", "NoExecute"})
"""Effects of taints that exclude a device: a claim for an extended resource tolerates none."""

_Id = tuple[str, str, str]
_Counter = tuple[str, str, str, str]
"""Driver, pool, counter set and name of a counter that devices share."""


@dataclass(frozen=True, kw_only=True)
class DeviceObjects:
    """Objects of dynamic resource allocation, of all namespaces; empty where the server has none."""

    classes: tuple[Object, ...] = ()
    slices: tuple[Object, ...] = ()
    claims: tuple[Object, ...] = ()

    denied: frozenset[str] = frozenset()
    """Plurals of the resources that the user may not list."""


@dataclass(frozen=True)
class _Slice:
    """A ResourceSlice; `complete` is the number of slices of its pool."""

    driver: str
    pool: str
    generation: int
    complete: int
    spec: Object

    @property
    def devices(self) -> list[Object]:
        return self.spec.get("devices") or []


@dataclass(frozen=True)
class _Device:
    driver: str
    pool: str
    body: Object
    is_local: bool = True
    """Whether it belongs to one node."""

    @property
    def id(self) -> _Id:
        return self.driver, self.pool, str(self.body.get("name"))


def read_devices(cluster: Cluster, resources: Collection[str]) -> DeviceObjects:
    """The objects that tell which devices serve these extended resources; one request where no DeviceClass does.

    Raises: RemoteError, but not for kinds that the server does not have or the user may not list.
    """
    denied: set[str] = set()

    def read(kind: Resource) -> tuple[Object, ...]:
        try:
            return tuple(cluster.list(kind, everywhere=True))
        except NotFoundError:
            return ()
        except ForbiddenError:
            denied.add(kind.plural)
            return ()

    classes = read(DEVICE_CLASSES) if resources else ()
    used = any(class_of(each, classes) for each in resources)
    slices, claims = (read(RESOURCE_SLICES), read(RESOURCE_CLAIMS)) if used else ((), ())
    return DeviceObjects(classes=classes, slices=slices, claims=claims, denied=frozenset(denied))


def class_of(resource: str, classes: Iterable[Object]) -> Object | None:
    """The DeviceClass whose devices serve an extended resource, by its field or by the class's own name.

    Source: kubernetes, extendedresourcecache.go: of several classes the newest, then the first by name.
    """
    implicit = resource.removeprefix(DEVICE_CLASS_PREFIX) if resource.startswith(DEVICE_CLASS_PREFIX) else None
    found = [
        each
        for each in sorted(classes, key=lambda each: str(each["metadata"]["name"]))
        if resource == (each.get("spec") or {}).get("extendedResourceName") or implicit == each["metadata"]["name"]
    ]
    return max(found, key=lambda each: str(each["metadata"].get("creationTimestamp") or ""), default=None)


def served_devices(objects: DeviceObjects, nodes: Iterable[Object], resources: Iterable[str]) -> Devices:
    """The devices on each node that DRA drivers serve as these resources."""
    classes = {name: each for name in resources if (each := class_of(name, objects.classes))}
    if not classes or not objects.slices:
        return {}
    slices = _current(_slices(objects.slices))
    of_nodes: dict[str, list[_Slice]] = defaultdict(list)
    for entry in slices:
        of_nodes[entry.spec.get("nodeName") or ""].append(entry)
    taken = None if RESOURCE_CLAIMS.plural in objects.denied else set(_allocated(objects.claims))
    counters = _counters(slices)
    left = _left(counters, slices, taken or set())
    devices: dict[str, dict[str, Served]] = {}
    for node in nodes:
        name = node["metadata"]["name"]
        reached = [*_devices(of_nodes.get(name, ()), node), *_devices(of_nodes.get("", ()), node)]
        served = {resource: _served(of, reached, taken, counters, left) for resource, of in classes.items()}
        devices[name] = {resource: each for resource, each in served.items() if each}
    return devices


def _slices(objects: Iterable[Object]) -> Iterator[_Slice]:
    """The slices that can be counted; later versions may have others."""
    for each in objects:
        spec = each.get("spec") or {}
        pool = spec.get("pool") or {}
        name, generation, complete = (pool.get(key) for key in ("name", "generation", "resourceSliceCount"))
        if spec.get("driver") and name and isinstance(generation, int) and isinstance(complete, int):
            yield _Slice(spec["driver"], name, generation, complete, spec)


def _current(slices: Iterable[_Slice]) -> list[_Slice]:
    """Slices of each pool's newest generation; none of a pool that is incomplete or invalid, as for the scheduler."""
    pools: dict[tuple[str, str], list[_Slice]] = defaultdict(list)
    for each in slices:
        pools[each.driver, each.pool].append(each)
    current: list[_Slice] = []
    for found in pools.values():
        newest = max(each.generation for each in found)
        kept = [each for each in found if each.generation == newest]
        names = [device.get("name") for each in kept for device in each.devices]
        if len(kept) == kept[0].complete and len(names) == len(set(names)):
            current += kept
    return current


def _devices(slices: Iterable[_Slice], node: Object) -> Iterator[_Device]:
    """Devices that a node can reach."""
    for each in slices:
        per_device = bool(each.spec.get("perDeviceNodeSelection"))
        if not per_device and not _reaches(each.spec, node):
            continue
        for device in each.devices:
            if not per_device or _reaches(device, node):
                is_local = bool((device if per_device else each.spec).get("nodeName"))
                yield _Device(each.driver, each.pool, device, is_local)


def _reaches(selection: Object, node: Object) -> bool:
    if selection.get("nodeName"):
        return bool(selection["nodeName"] == node["metadata"]["name"])
    return bool(selection.get("allNodes")) or selects_node(selection.get("nodeSelector") or {}, node)


def _allocated(claims: Iterable[Object]) -> Iterator[_Id]:
    """Devices that claims have for themselves: not those for administration, and not shares of a device."""
    for claim in claims:
        allocation = (claim.get("status") or {}).get("allocation") or {}
        for result in (allocation.get("devices") or {}).get("results") or ():
            if not result.get("adminAccess") and not result.get("shareID"):
                yield str(result.get("driver")), str(result.get("pool")), str(result.get("device"))


def _served(
    device_class: Object,
    devices: Sequence[_Device],
    taken: set[_Id] | None,
    counters: Mapping[_Counter, Fraction],
    left: Mapping[_Counter, Fraction],
) -> Served | None:
    """The devices of a class among those of a node; None without any."""
    selectors = (device_class.get("spec") or {}).get("selectors") or ()
    matches = [(device, selects(selectors, device.driver, device.body)) for device in devices]
    usable, tainted, exact = [], 0, True
    for device, is_selected in matches:
        if is_selected is False:
            continue
        if any(taint.get("effect") in _EXCLUDING for taint in device.body.get("taints") or ()):
            tainted += 1
            continue
        usable.append(device)
        exact &= is_selected is True and device.is_local and not device.body.get("allowMultipleAllocations")
    if not usable and not tainted:
        return None
    free = None if taken is None else _placed([device for device in usable if device.id not in taken], left)
    return Served(total=_placed(usable, counters), free=free, exact=exact, tainted=tainted)


def _placed(devices: Sequence[_Device], counters: Mapping[_Counter, Fraction]) -> int:
    """Number of devices that can be taken together: those of one card, such as MIG partitions, share its counters."""
    needs = [dict(_consumed(device)) for device in devices]
    left = {name: counters.get(name, Fraction(0)) for need in needs for name in need}
    count = 0
    for need in sorted(needs, key=lambda need: sum(need.values())):
        if all(left[name] >= amount for name, amount in need.items()):
            left |= {name: left[name] - amount for name, amount in need.items()}
            count += 1
    return count


def _consumed(device: _Device) -> Iterator[tuple[_Counter, Fraction]]:
    for each in device.body.get("consumesCounters") or ():
        yield from _amounts(device.driver, device.pool, each.get("counterSet", ""), each)


def _counters(slices: Iterable[_Slice]) -> dict[_Counter, Fraction]:
    return dict(
        entry
        for each in slices
        for group in each.spec.get("sharedCounters") or ()
        for entry in _amounts(each.driver, each.pool, group.get("name", ""), group)
    )


def _amounts(driver: str, pool: str, group: str, body: Object) -> Iterator[tuple[_Counter, Fraction]]:
    for name, counter in (body.get("counters") or {}).items():
        with suppress(ValueError):
            yield (driver, pool, group, name), quantity(counter.get("value"))


def _left(
    counters: Mapping[_Counter, Fraction], slices: Iterable[_Slice], taken: set[_Id]
) -> Mapping[_Counter, Fraction]:
    """Counters without what taken devices consume."""
    left = dict(counters)
    devices = [_Device(each.driver, each.pool, body) for each in slices if counters for body in each.devices]
    for device in devices:
        for name, amount in _consumed(device) if device.id in taken else ():
            left[name] = left.get(name, Fraction(0)) - amount
    return left
