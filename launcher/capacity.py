"""What pods ask of nodes and what nodes have left, by the scheduler's rules as far as requests, taints and labels go; pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Final

from launcher.resources import Object

Amounts = dict[str, Fraction]
"""By resource: cores, bytes, or devices; `pods` is how many pods."""

_UNITS: Final[Mapping[str, Fraction]] = {
    "": Fraction(1),
    **{unit: Fraction(1, 1000**power) for power, unit in enumerate("mun", start=1)},
    **{unit: Fraction(1000**power) for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Fraction(1024**power) for power, unit in enumerate("KMGTPE", start=1)},
}
"""Source: the Kubernetes API reference, Quantity."""

_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)", re.ASCII)

_BYTES: Final = ("memory", "ephemeral-storage", "hugepages-", "requests.memory", "limits.memory", "requests.hugepages-")

_REPELLING: Final = frozenset({"NoSchedule", "NoExecute"})

_UNSCHEDULABLE: Final = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}


@cache
def quantity(text: str | float) -> Fraction:
    """What a quantity such as `500m`, `4Gi` or `29008Mi` stands for: cores, bytes or devices. Raises: ValueError."""
    match = _QUANTITY.fullmatch(str(text).strip())
    if not match:
        raise ValueError(f"`{text}` is no quantity")
    number, exponent, unit = match.groups()
    return Fraction(number + (exponent or "")) * _UNITS[unit or ""]


def amounts(quantities: Mapping[str, str | int] | None) -> Amounts:
    """The numbers of a list of resources, such as a node's `allocatable`; those that can't be read are left out."""
    read: Amounts = {}
    for resource, text in (quantities or {}).items():
        try:
            read[resource] = quantity(text)
        except ValueError:
            continue
    return read


def spelled(resource: str, amount: Fraction) -> str:
    """An amount as people write it: `2.5` cores, `28.3Gi`, `8` devices."""
    if not resource.startswith(_BYTES):
        return f"{float(amount):g}"
    for unit in ("Ti", "Gi", "Mi"):
        if abs(amount) >= _UNITS[unit]:
            return f"{round(float(amount / _UNITS[unit]), 1):g}{unit}"
    return f"{float(amount):g}"


def requests(pod_spec: Object) -> Amounts:
    """What a node must have left for a pod: its containers together, or an init container that needs more, and its overhead.

    Source: kubernetes/enhancements, KEP 753 (sidecars run beside all that start after them) and KEP 2837 (a pod's own resources).
    """
    together: Amounts = {}
    largest: Amounts = {}
    for container in pod_spec.get("initContainers") or ():
        own = _requested(container)
        if container.get("restartPolicy") == "Always":
            together = _plus(together, own)
            largest = _most(largest, together)
        else:
            largest = _most(largest, _plus(together, own))
    for container in pod_spec.get("containers") or ():
        together = _plus(together, _requested(container))
    needed = _most(together, largest) | _requested(pod_spec)
    return _plus(needed, amounts(pod_spec.get("overhead"))) | {"pods": Fraction(1)}


def _requested(thing: Object) -> Amounts:
    """A container's requests; the API server takes the limit where there is no request."""
    resources = thing.get("resources") or {}
    return amounts((resources.get("limits") or {}) | (resources.get("requests") or {}))


def _plus(one: Amounts, other: Amounts) -> Amounts:
    return {name: one.get(name, Fraction(0)) + other.get(name, Fraction(0)) for name in {**one, **other}}


def _most(one: Amounts, other: Amounts) -> Amounts:
    return {name: max(one.get(name, Fraction(0)), other.get(name, Fraction(0))) for name in {**one, **other}}


def allocatable(node: Object) -> Amounts:
    """What pods may have of the node when it is empty."""
    return amounts(node.get("status", {}).get("allocatable"))


def free(node: Object, pods: Iterable[Object]) -> Amounts:
    """What the node has left beside those of the pods that are bound to it and not over."""
    left = allocatable(node)
    name = node["metadata"]["name"]
    for pod in pods:
        if pod["spec"].get("nodeName") == name and pod.get("status", {}).get("phase") not in {"Succeeded", "Failed"}:
            for resource, amount in requests(pod["spec"]).items():
                left[resource] = left.get(resource, Fraction(0)) - amount
    return left


def by_node(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """The pods that are bound to a node, by its name: what `free` wants when there are many nodes."""
    found: dict[str, list[Object]] = {}
    for pod in pods:
        if pod["spec"].get("nodeName"):
            found.setdefault(pod["spec"]["nodeName"], []).append(pod)
    return found


def repelling(node: Object, pod_spec: Object) -> list[str]:
    """Taints that keep the pod from the node, as `KEY=VALUE:EFFECT`; a cordoned node has one."""
    taints = [taint for taint in node.get("spec", {}).get("taints") or () if taint["effect"] in _REPELLING]
    if node.get("spec", {}).get("unschedulable") and all(taint["key"] != _UNSCHEDULABLE["key"] for taint in taints):
        taints.append(_UNSCHEDULABLE)
    tolerations = pod_spec.get("tolerations") or ()
    return [
        f"{taint['key']}{'=' * bool(taint.get('value'))}{taint.get('value') or ''}:{taint['effect']}"
        for taint in taints
        if not any(_tolerates(toleration, taint) for toleration in tolerations)
    ]


def _tolerates(toleration: Object, taint: Object) -> bool:
    if toleration.get("effect") not in {None, "", taint["effect"]}:
        return False
    if toleration.get("operator") == "Exists":
        return toleration.get("key") in {None, "", taint["key"]}
    return toleration.get("key") == taint["key"] and (toleration.get("value") or "") == (taint.get("value") or "")


def tolerated(node: Object, pod_spec: Object) -> bool:
    """Whether no taint keeps the pod from the node."""
    return not repelling(node, pod_spec)


def selected(node: Object, pod_spec: Object) -> bool:
    """Whether the node is one of those that the pod's node selector and required node affinity allow."""
    labels = node["metadata"].get("labels") or {}
    if not (pod_spec.get("nodeSelector") or {}).items() <= labels.items():
        return False
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(_term_holds(term, labels, fields) for term in required.get("nodeSelectorTerms") or ())


def _term_holds(term: Object, labels: Mapping[str, str], fields: Mapping[str, str]) -> bool:
    """All of a term's parts must hold; an empty term holds nowhere."""
    expressions = [(each, labels) for each in term.get("matchExpressions") or ()]
    expressions += [(each, fields) for each in term.get("matchFields") or ()]
    return bool(expressions) and all(_expression_holds(each, values) for each, values in expressions)


def _expression_holds(expression: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    values = expression.get("values") or []
    operator = expression["operator"]
    if operator in {"Gt", "Lt"}:
        if value is None or not re.fullmatch(r"-?\d+", value):
            return False
        return int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }.get(operator, False)


def lacking(left: Amounts, needs: Amounts) -> list[str]:
    """Resources of which less is left than a pod needs."""
    return [name for name, amount in needs.items() if amount > left.get(name, Fraction(0))]


def holds(left: Amounts, needs: Amounts) -> int:
    """How many pods with these needs go onto a node that has so much left."""
    asked = [(name, amount) for name, amount in needs.items() if amount > 0]
    return max(0, min((int(left.get(name, Fraction(0)) // amount) for name, amount in asked), default=0))


def place(wanted: int, needs: Amounts, left: Mapping[str, Amounts]) -> dict[str, int]:
    """How many of `wanted` equal pods each node takes, fullest nodes last; fewer in all where there is no room."""
    room: Sequence[tuple[str, int]] = sorted(
        ((name, holds(each, needs)) for name, each in left.items()), key=lambda entry: (-entry[1], entry[0])
    )
    placed: dict[str, int] = {}
    for name, count in room:
        taken = min(count, wanted - sum(placed.values()))
        if taken:
            placed[name] = taken
    return placed
