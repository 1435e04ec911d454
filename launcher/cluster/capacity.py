"""Capacity of nodes for a pod, computed like the scheduler does; pure.

Included: labels, required node affinity, taints, cordons, readiness and all resources. Not included: topology spread, affinity
between pods, host ports and volume topology.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Final, Literal

from launcher.cluster.resources import Object

Amounts = Mapping[str, Fraction]
"""Amounts by resource: cores, bytes or pieces."""

EXTENDED_RESOURCE: Final = re.compile(r"(?!hugepages-|attachable-volumes-)[^/]+/.+")
"""An extended resource, which a device plugin provides."""

_SIZES: Final[Mapping[str, Fraction]] = {
    **{unit: Fraction(2) ** (10 * power) for power, unit in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))},
    **{
        unit: Fraction(10) ** (3 * power)
        for power, unit in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
}
_QUANTITY: Final = re.compile(r"([-+]?[\d.]+(?:[eE][-+]?\d+)?)([KMGTPE]i|[numkMGTPE]?)")

Obstacle = Literal["cordon", "not ready", "label", "taint"]


@dataclass(frozen=True, kw_only=True)
class Served:
    """Devices of one extended resource that a DRA driver serves on a node."""

    total: int
    """Devices that a pod could get, taken or not."""

    free: int | None
    """None if the claims that take devices can't be read: the pods' requests count then."""

    exact: bool = True
    """Whether it is certain; otherwise there are at most so many."""

    tainted: int = 0
    """Further devices that are excluded by a taint of theirs."""


Devices = Mapping[str, Mapping[str, Served]]
"""Devices served by DRA drivers, by node and resource."""

NO_DEVICES: Final[Devices] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True)
class Barrier:
    """Reason why a pod can't be scheduled to a node, however much is free there."""

    kind: Obstacle
    what: str
    """The taint as `KEY=VALUE:EFFECT`, or the missing label."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """Capacity of one node for one pod."""

    node: str
    barrier: Barrier | None
    total: Amounts
    """Allocatable amounts without the requests of DaemonSet pods, which stay on every node."""

    free: Amounts

    def lacks(self, wanted: Amounts) -> list[str]:
        """Resources of which even the empty node has too little."""
        return _short(self.total, wanted)

    def lacks_now(self, wanted: Amounts) -> list[str]:
        """Resources of which too little is free."""
        return _short(self.free, wanted)

    def holds(self, wanted: Amounts) -> int:
        """Number of such pods that fit on the empty node."""
        return int(min((self.total.get(name, 0) // amount for name, amount in wanted.items() if amount), default=0))


def rooms(
    pod_spec: Object, nodes: Iterable[Object], pods: Sequence[Object], devices: Devices = NO_DEVICES
) -> list[Room]:
    """Capacity of each node for a pod; `pods` are all pods of the cluster, `devices` those that DRA drivers serve."""
    by_node: dict[str, list[Object]] = {}
    for pod in pods:
        by_node.setdefault(pod.get("spec", {}).get("nodeName", ""), []).append(pod)
    names = [(node, node["metadata"]["name"]) for node in nodes]
    return [_room(pod_spec, node, by_node.get(name, []), devices.get(name, {})) for node, name in names]


def requests(pod_spec: Object) -> Amounts:
    """Amounts that the scheduler reserves for a pod, including one of the resource `pods`.

    Init containers run one after the other before the main ones, so the largest counts; sidecars among them keep running.
    """
    sidecars: dict[str, Fraction] = {}
    largest: dict[str, Fraction] = {}
    for container in pod_spec.get("initContainers") or ():
        stays = container.get("restartPolicy") == "Always"
        beside = _sum(sidecars, _amounts(container))
        sidecars = beside if stays else sidecars
        largest = {
            name: max(largest.get(name, Fraction(0)), beside.get(name, Fraction(0))) for name in {*largest, *beside}
        }
    running = _sum(sidecars, *map(_amounts, pod_spec.get("containers") or ()))
    most = {name: max(running.get(name, Fraction(0)), largest.get(name, Fraction(0))) for name in {*running, *largest}}
    overhead = {name: quantity(amount) for name, amount in (pod_spec.get("overhead") or {}).items()}
    return {name: amount for name, amount in _sum(most, overhead).items() if amount} | {"pods": Fraction(1)}


def accelerator(wanted: Amounts) -> str | None:
    """The extended resource that a pod requests, preferably not a network adapter."""
    names = extended(wanted)
    return next((name for name in names if not name.endswith("/efa")), names[0] if names else None)


def amount(node: Object, kind: Literal["allocatable", "capacity"], resource: str) -> Fraction:
    """A node's own amount of a resource; 0 if it has none, or states none that can be read."""
    try:
        return quantity((node.get("status", {}).get(kind) or {}).get(resource, "0"))
    except ValueError:
        return Fraction(0)


def extended(wanted: Iterable[str]) -> list[str]:
    """The extended resources among these."""
    return sorted(name for name in wanted if EXTENDED_RESOURCE.fullmatch(name))


def quantity(text: object) -> Fraction:
    """Parse a Kubernetes quantity: `500m`, `29008Mi`, `8`. Raises: ValueError."""
    match = _QUANTITY.fullmatch(str(text))
    if not match:
        raise ValueError(f"not a quantity: {text!r}")
    return Fraction(match[1]) * _SIZES[match[2]]


def shown(name: str, amount: Fraction) -> str:
    """Format an amount: sizes in binary units, fractions of cores in `m`."""
    if name in {"memory", "ephemeral-storage"} or name.startswith("hugepages-"):
        for unit in ("Gi", "Mi", "Ki"):
            if amount >= _SIZES[unit] and (amount % _SIZES[unit] == 0 or unit != "Gi"):
                return f"{int(amount / _SIZES[unit])}{unit}"
        return f"{int(amount)}"
    return f"{int(amount)}" if amount == int(amount) else f"{int(amount * 1000)}m"


def tolerates(pod_spec: Object, taint: Object) -> bool:
    """Whether a pod tolerates this taint."""
    return any(_tolerates(toleration, taint) for toleration in pod_spec.get("tolerations") or ())


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and (toleration.get("value") or "") == (taint.get("value") or "")


def allocatable(node: Object, devices: Mapping[str, Served]) -> dict[str, Fraction]:
    """Amounts that a node offers to pods, with the devices of DRA drivers.

    Source: KEP-5004: where a device plugin offers a resource on a node, it alone serves it there.
    """
    amounts = {name: quantity(amount) for name, amount in (node.get("status", {}).get("allocatable") or {}).items()}
    return amounts | {name: Fraction(served.total) for name, served in devices.items() if not amounts.get(name)}


def _room(pod_spec: Object, node: Object, pods: Sequence[Object], devices: Mapping[str, Served]) -> Room:
    held = _sum({}, *(requests(pod.get("spec", {})) for pod in pods))
    standing = _sum({}, *(requests(pod.get("spec", {})) for pod in pods if _is_standing(pod)))
    offered, plugins = allocatable(node, devices), allocatable(node, {})
    # A claim takes a device whatever its pod requests: the pods' requests don't tell.
    claimed = {
        name: Fraction(served.free)
        for name, served in devices.items()
        if served.free is not None and not plugins.get(name)
    }
    return Room(
        node=node["metadata"]["name"],
        barrier=_barrier(pod_spec, node),
        total={name: amount - standing.get(name, 0) for name, amount in offered.items()},
        free={name: amount - held.get(name, 0) for name, amount in offered.items()} | claimed,
    )


def _is_standing(pod: Object) -> bool:
    """Whether it stays on the node: a pod of a DaemonSet, or a static pod of the kubelet."""
    return any(owner.get("kind") in {"DaemonSet", "Node"} for owner in pod["metadata"].get("ownerReferences") or ())


def _barrier(pod_spec: Object, node: Object) -> Barrier | None:
    spec = node.get("spec", {})
    if spec.get("unschedulable"):
        return Barrier(kind="cordon", what="")
    ready = {entry.get("type"): entry.get("status") for entry in node.get("status", {}).get("conditions") or ()}
    if ready.get("Ready", "True") != "True":
        return Barrier(kind="not ready", what="")
    lacking = _lacking_label(pod_spec, node["metadata"].get("labels") or {})
    if lacking:
        return Barrier(kind="label", what=lacking)
    for taint in spec.get("taints") or ():
        if taint.get("effect") in {"NoSchedule", "NoExecute"} and not tolerates(pod_spec, taint):
            value = f"={taint['value']}" if taint.get("value") else ""
            return Barrier(kind="taint", what=f"{taint.get('key', '')}{value}:{taint['effect']}")
    return None


def _lacking_label(pod_spec: Object, labels: Mapping[str, str]) -> str:
    """A label that the node selector or required affinity needs and the node lacks; empty when it has all."""
    for key, value in (pod_spec.get("nodeSelector") or {}).items():
        if labels.get(key) != value:
            return f"{key}={value}"
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    terms = (affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}).get("nodeSelectorTerms") or ()
    wants = [term.get("matchExpressions") or () for term in terms]
    if not wants or any(all(_matches(rule, labels) for rule in rules) for rules in wants):
        return ""
    rule = next(rule for rules in wants for rule in rules if not _matches(rule, labels))
    return " ".join([str(rule.get("key")), str(rule.get("operator")), ",".join(rule.get("values") or ())]).rstrip()


def _matches(rule: Object, labels: Mapping[str, str]) -> bool:
    value, values = labels.get(str(rule.get("key"))), list(rule.get("values") or ())
    operator = str(rule.get("operator"))
    if operator in {"In", "NotIn"}:
        return (value in values) == (operator == "In")
    if operator in {"Exists", "DoesNotExist"}:
        return (value is not None) == (operator == "Exists")
    try:
        distance = int(value or "") - int(values[0])
    except (ValueError, IndexError):  # as for the scheduler: what is no number does not match
        return False
    return distance > 0 if operator == "Gt" else operator == "Lt" and distance < 0


def selects_node(selector: Object, node: Object) -> bool:
    """Whether a NodeSelector, such as that of a ResourceSlice, matches a node; an empty term matches none."""
    labels, fields = node["metadata"].get("labels") or {}, {"metadata.name": node["metadata"]["name"]}
    for term in selector.get("nodeSelectorTerms") or ():
        rules = [(rule, labels) for rule in term.get("matchExpressions") or ()]
        rules += [(rule, fields) for rule in term.get("matchFields") or ()]
        if rules and all(_matches(rule, values) for rule, values in rules):
            return True
    return False


def _amounts(container: Object) -> dict[str, Fraction]:
    requested = (container.get("resources") or {}).get("requests") or {}
    return {name: quantity(amount) for name, amount in requested.items()}


def _sum(*parts: Amounts) -> dict[str, Fraction]:
    total: dict[str, Fraction] = {}
    for amounts in parts:
        for name, amount in amounts.items():
            total[name] = total.get(name, Fraction(0)) + amount
    return total


def _short(has: Amounts, wanted: Amounts) -> list[str]:
    """Accelerators first, then huge pages, then the rest by name."""
    order = sorted(
        wanted, key=lambda name: (not EXTENDED_RESOURCE.fullmatch(name), not name.startswith("hugepages-"), name)
    )
    return [name for name in order if has.get(name, 0) < wanted[name]]
