"""Capacity of nodes for a pod, computed like the scheduler does; pure.

Included: labels, required node affinity, taints, cordons, readiness and all resources. Not included: topology spread, affinity
between pods, host ports and volume topology.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
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


def rooms(pod_spec: Object, nodes: Iterable[Object], pods: Sequence[Object]) -> list[Room]:
    """Capacity of each node for a pod; `pods` are all pods of the cluster."""
    by_node: dict[str, list[Object]] = {}
    for pod in pods:
        by_node.setdefault(pod.get("spec", {}).get("nodeName", ""), []).append(pod)
    return [_room(pod_spec, node, by_node.get(node["metadata"]["name"], [])) for node in nodes]


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
    names = sorted(name for name in wanted if EXTENDED_RESOURCE.fullmatch(name))
    return next((name for name in names if not name.endswith("/efa")), names[0] if names else None)


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


def _room(pod_spec: Object, node: Object, pods: Sequence[Object]) -> Room:
    held = _sum({}, *(requests(pod.get("spec", {})) for pod in pods))
    standing = _sum({}, *(requests(pod.get("spec", {})) for pod in pods if _is_standing(pod)))
    allocatable = {name: quantity(amount) for name, amount in (node.get("status", {}).get("allocatable") or {}).items()}
    return Room(
        node=node["metadata"]["name"],
        barrier=_barrier(pod_spec, node),
        total={name: amount - standing.get(name, 0) for name, amount in allocatable.items()},
        free={name: amount - held.get(name, 0) for name, amount in allocatable.items()},
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
    operator = rule.get("operator")
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator == "DoesNotExist":
        return value is None
    if value is None or operator == "Exists":
        return value is not None
    return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])


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
