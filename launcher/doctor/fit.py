"""Check whether a job's pods fit on the nodes now, after other pods have ended, or never; pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from launcher.cluster.capacity import Amounts, Barrier, Room, accelerator, quantity, requests, rooms, shown
from launcher.cluster.resources import Object
from launcher.doctor.runner import fail, ok, skipped, warn
from trainer.errors import on_one_line
from trainer.runs.probe import Outcome

PAGES: Final = "hugepages-2Mi"

_NONE: Final = Fraction(0)


@dataclass(frozen=True, kw_only=True)
class PodSet:
    """Identical pods of one job."""

    pod_spec: Object
    pods: int
    fewest: int
    """Smallest number with which the job trains."""


def device_plugin(resource: str | None, nodes: Sequence[Object]) -> Outcome:
    """Check that a node offers the accelerator, and that all devices are healthy."""
    if resource is None:
        return skipped("the job uses no accelerator")
    offers = {node["metadata"]["name"]: _amount(node, "allocatable", resource) for node in nodes}
    healthy = {name: count for name, count in offers.items() if count}
    unhealthy = {
        node["metadata"]["name"]: int(_amount(node, "capacity", resource) - offers[node["metadata"]["name"]])
        for node in nodes
        if _amount(node, "capacity", resource) > offers[node["metadata"]["name"]]
    }
    if not healthy:
        return fail(
            f"no node of {len(nodes)} offers `{resource}`"
            + (f" that is healthy: {_listed(unhealthy)} are not" if unhealthy else ""),
            "install the accelerator's driver and device plugin: see k8s/operator",
        )
    found = f"{int(sum(healthy.values()))} {resource} on {_nodes(len(healthy))}"
    if unhealthy:
        return warn(f"{found}; not healthy: {_listed(unhealthy)}", "ask an administrator to check these nodes")
    return ok(found)


def huge_pages(pod_spec: Object, nodes: Sequence[Object]) -> Outcome:
    """Check that the nodes with the accelerator have enough preallocated huge pages."""
    wanted = requests(pod_spec)
    pages = wanted.get(PAGES, _NONE)
    if not pages:
        return skipped("the job uses no huge pages")
    resource = accelerator(wanted)
    devices = [node for node in nodes if resource is None or _amount(node, "allocatable", resource)]
    enough = [node for node in devices if _amount(node, "allocatable", PAGES) >= pages]
    most = max((_amount(node, "allocatable", PAGES) for node in devices), default=_NONE)
    found = f"a pod needs {shown(PAGES, pages)} of {PAGES}; "
    fix = f"preallocate them on each node: sysctl vm.nr_hugepages={int(pages / quantity('2Mi'))} or more, then restart its kubelet"
    if not devices:
        return skipped(f"no node offers `{resource}`")
    if not enough:
        return fail(f"{found}no node with {resource} has that many (most: {shown(PAGES, most)})", fix)
    if len(enough) < len(devices):
        return warn(f"{found}{len(enough)} of {len(devices)} nodes with {resource} have that many", fix)
    return ok(f"{found}{_nodes(len(enough))} {'has' if len(enough) == 1 else 'have'} that many")


def fit(pod_set: PodSet, nodes: Sequence[Object], pods: Sequence[Object] | None) -> Outcome:
    """Check whether the scheduler can place all pods now, after others have ended, or never.

    `pods` are those of the whole cluster; None if the user may not list them.
    """
    wanted = requests(pod_set.pod_spec)
    every = rooms(pod_set.pod_spec, nodes, pods or ())
    open_rooms = [room for room in every if room.barrier is None]
    ever = _placed(pod_set.pods, wanted, {room.node: room.total for room in open_rooms})
    now = _placed(pod_set.pods, wanted, {room.node: room.free for room in open_rooms})
    what = f"{_pods(pod_set.pods)}{'' if pod_set.pods == 1 else ', each'} with {_needs(wanted)}"
    if sum(ever.values()) < pod_set.fewest:
        found = (
            f"{what}: can never fit, the empty nodes hold {sum(ever.values())}; {_obstacles(every, wanted, now=False)}"
        )
        return fail(found, _fix(every, sum(ever.values())))
    if pods is None:
        return warn(f"{what}: fit on empty nodes; not permitted to list the pods in use", "")
    if sum(now.values()) < pod_set.fewest:
        found = f"{what}: {sum(now.values())} fit now, all fit on empty nodes; {_obstacles(every, wanted, now=True)}"
        return warn(found, "the job waits until other pods have ended")
    fewer = (
        "" if sum(now.values()) == pod_set.pods else f" (only {sum(now.values())} of them, which `--elastic` allows)"
    )
    return ok(f"{what}: fit{'s' if pod_set.pods == 1 else ''} now on {_names(list(now))}{fewer}")


def _placed(pods: int, wanted: Amounts, left: Mapping[str, Amounts]) -> dict[str, int]:
    """Number of pods on each node, filling the node with most space first."""
    holds = {node: _holds(amounts, wanted) for node, amounts in left.items()}
    placed: dict[str, int] = {}
    for node, count in sorted(holds.items(), key=lambda entry: (-entry[1], entry[0])):
        taken = min(count, pods - sum(placed.values()))
        if taken > 0:
            placed[node] = taken
    return placed


def _holds(left: Amounts, wanted: Amounts) -> int:
    return max(0, min((int(left.get(name, _NONE) // amount) for name, amount in wanted.items() if amount), default=0))


def _obstacles(every: Sequence[Room], wanted: Amounts, *, now: bool) -> str:
    """Obstacles with the number of nodes: first barriers, then missing resources."""
    if not every:
        return "there are no nodes"
    barriers = Counter(_barrier(room.barrier) for room in every if room.barrier)
    texts = [f"{_nodes(count)} {barrier}" for barrier, count in sorted(barriers.items())]
    lacks: dict[str, list[Room]] = {}
    for room in every:
        short = room.lacks_now(wanted) if now else room.lacks(wanted)
        if not room.barrier and short:
            lacks.setdefault(short[0], []).append(room)
    for name, lacking in lacks.items():
        have = {room.node: (room.free if now else room.total).get(name, _NONE) for room in lacking}
        most = max(have, key=lambda node: have[node])
        texts.append(
            f"{_nodes(len(lacking))} {'lacks' if len(lacking) == 1 else 'lack'} {name} (a pod needs {shown(name, wanted[name])}, "
            f"{'free' if now else 'total'}: {'at most ' if len(lacking) > 1 else ''}{shown(name, max(have[most], _NONE))} on {most})"
        )
    return "; ".join(texts) or f"{_nodes(len(every))} {'is' if len(every) == 1 else 'are'} not enough"


def _barrier(barrier: Barrier) -> str:
    return {
        "cordon": "closed to new pods (cordoned)",
        "not ready": "not ready",
        "label": f"not matching the node selector: `{barrier.what}`",
        "taint": f"with the taint `{barrier.what}`",
    }[barrier.kind]


def _fix(every: Sequence[Room], most: int) -> str:
    taints = sorted({room.barrier.what for room in every if room.barrier and room.barrier.kind == "taint"})
    if taints:
        return f"--toleration {taints[0]}, if the job is allowed on these nodes"
    if any(room.barrier and room.barrier.kind == "label" for room in every):
        return "--node-selector of nodes that exist: kubectl get nodes --show-labels"
    if most:
        return f"fewer --workers ({most} {'pod' if most == 1 else 'pods'} would fit), or more nodes"
    return "nodes with what a pod needs, or fewer --workers-per-node"


def _needs(wanted: Amounts) -> str:
    """The main requests of a pod: its accelerators, or else CPU and memory."""
    resource = accelerator(wanted)
    if resource:
        return f"{shown(resource, wanted[resource])} {resource}"
    return f"{shown('cpu', wanted.get('cpu', _NONE))} cpu and {shown('memory', wanted.get('memory', _NONE))} memory"


def _amount(node: Object, kind: str, resource: str) -> Fraction:
    try:
        return quantity((node.get("status", {}).get(kind) or {}).get(resource, "0"))
    except ValueError:
        return _NONE


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _names(names: Sequence[str]) -> str:
    shown_names = ", ".join(on_one_line(name) for name in names[:4])
    return shown_names if len(names) <= 4 else f"{shown_names} and {len(names) - 4} more"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} on {on_one_line(name)}" for name, count in counts.items())
