"""Whether a job's pods fit onto the nodes: now, when others are over, or never; pure."""

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
    """Equal pods that train together."""

    pod_spec: Object
    pods: int
    fewest: int
    """With so many the job still trains."""


def device_plugin(resource: str | None, nodes: Sequence[Object]) -> Outcome:
    """Whether some node offers the accelerator, and whether all that it has are healthy."""
    if resource is None:
        return skipped("the job uses no accelerator")
    offers = {node["metadata"]["name"]: _amount(node, "allocatable", resource) for node in nodes}
    healthy = {name: count for name, count in offers.items() if count}
    ill = {
        node["metadata"]["name"]: int(_amount(node, "capacity", resource) - offers[node["metadata"]["name"]])
        for node in nodes
        if _amount(node, "capacity", resource) > offers[node["metadata"]["name"]]
    }
    if not healthy:
        return fail(
            f"no node of {len(nodes)} offers `{resource}`"
            + (f" that is healthy: {_listed(ill)} are not" if ill else ""),
            "install the accelerator's driver and device plugin: k8s/operator says how",
        )
    found = f"{int(sum(healthy.values()))} {resource} on {_nodes(len(healthy))}"
    if ill:
        return warn(f"{found}; not healthy: {_listed(ill)}", "an administrator should look at these nodes")
    return ok(found)


def huge_pages(pod_spec: Object, nodes: Sequence[Object]) -> Outcome:
    """Whether the nodes with the accelerator have set huge pages aside."""
    wanted = requests(pod_spec)
    pages = wanted.get(PAGES, _NONE)
    if not pages:
        return skipped("the job uses no huge pages")
    resource = accelerator(wanted)
    devices = [node for node in nodes if resource is None or _amount(node, "allocatable", resource)]
    enough = [node for node in devices if _amount(node, "allocatable", PAGES) >= pages]
    most = max((_amount(node, "allocatable", PAGES) for node in devices), default=_NONE)
    found = f"a pod needs {shown(PAGES, pages)} of {PAGES}; "
    fix = f"set them aside on each node: sysctl vm.nr_hugepages={int(pages / quantity('2Mi'))} or more, then restart its kubelet"
    if not devices:
        return skipped(f"no node offers `{resource}`")
    if not enough:
        return fail(f"{found}no node with {resource} has so much (most: {shown(PAGES, most)})", fix)
    if len(enough) < len(devices):
        return warn(f"{found}{len(enough)} of {len(devices)} nodes with {resource} have so much", fix)
    return ok(f"{found}{_nodes(len(enough))} {'has' if len(enough) == 1 else 'have'} so much")


def fit(pod_set: PodSet, nodes: Sequence[Object], pods: Sequence[Object] | None) -> Outcome:
    """Whether the scheduler could place all pods now, once others are over, or never.

    `pods` are those of the whole cluster, None where the user may not see them.
    """
    wanted = requests(pod_set.pod_spec)
    every = rooms(pod_set.pod_spec, nodes, pods or ())
    open_rooms = [room for room in every if room.barrier is None]
    ever = _placed(pod_set.pods, wanted, {room.node: room.total for room in open_rooms})
    now = _placed(pod_set.pods, wanted, {room.node: room.free for room in open_rooms})
    what = f"{_pods(pod_set.pods)}{'' if pod_set.pods == 1 else ', each'} with {_needs(wanted)}"
    if sum(ever.values()) < pod_set.fewest:
        found = f"{what}: can never fit, the nodes hold {sum(ever.values())} when all is free; {_obstacles(every, wanted, now=False)}"
        return fail(found, _fix(every, sum(ever.values())))
    if pods is None:
        return warn(f"{what}: fit when the nodes are free; not permitted to see what is in use", "")
    if sum(now.values()) < pod_set.fewest:
        found = (
            f"{what}: {sum(now.values())} fit now, all when the nodes are free; {_obstacles(every, wanted, now=True)}"
        )
        return warn(found, "the job waits until others are over")
    fewer = (
        "" if sum(now.values()) == pod_set.pods else f" (only {sum(now.values())} of them, which `--elastic` allows)"
    )
    return ok(f"{what}: fit{'s' if pod_set.pods == 1 else ''} now on {_names(list(now))}{fewer}")


def _placed(pods: int, wanted: Amounts, left: Mapping[str, Amounts]) -> dict[str, int]:
    """How many of the pods each node takes, the roomiest first."""
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
    """What stands in the way, with how many nodes it concerns: first what keeps pods from a node, then what it lacks."""
    if not every:
        return "there are no nodes"
    barriers = Counter(_barrier(room.barrier) for room in every if room.barrier)
    said = [f"{_nodes(count)} {barrier}" for barrier, count in sorted(barriers.items())]
    lacks: dict[str, list[Room]] = {}
    for room in every:
        short = room.lacks_now(wanted) if now else room.lacks(wanted)
        if not room.barrier and short:
            lacks.setdefault(short[0], []).append(room)
    for name, there in lacks.items():
        have = {room.node: (room.free if now else room.total).get(name, _NONE) for room in there}
        most = max(have, key=lambda node: have[node])
        said.append(
            f"{_nodes(len(there))} {'lacks' if len(there) == 1 else 'lack'} {name} (a pod needs {shown(name, wanted[name])}, "
            f"{'free' if now else 'there'}: {'at most ' if len(there) > 1 else ''}{shown(name, max(have[most], _NONE))} on {most})"
        )
    return "; ".join(said) or f"{_nodes(len(every))} {'is' if len(every) == 1 else 'are'} not enough"


def _barrier(barrier: Barrier) -> str:
    return {
        "cordon": "closed to new pods (cordoned)",
        "not ready": "not ready",
        "label": f"without what the node selector asks for: `{barrier.what}`",
        "taint": f"with the taint `{barrier.what}`",
    }[barrier.kind]


def _fix(every: Sequence[Room], most: int) -> str:
    """What would help most, the nearest first."""
    taints = sorted({room.barrier.what for room in every if room.barrier and room.barrier.kind == "taint"})
    if taints:
        return f"--toleration {taints[0]}, if these nodes are for you"
    if any(room.barrier and room.barrier.kind == "label" for room in every):
        return "--node-selector of nodes that exist: kubectl get nodes --show-labels"
    if most:
        return f"fewer --workers ({most} {'pod' if most == 1 else 'pods'} would fit), or more nodes"
    return "nodes with what a pod needs, or fewer --workers-per-node"


def _needs(wanted: Amounts) -> str:
    """What matters of a pod's needs: its accelerators, else processor and memory."""
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
