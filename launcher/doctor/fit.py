"""Check whether a job's pods fit on the nodes now, after other pods have ended, or never; pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from launcher.cluster.capacity import (
    NO_DEVICES,
    Amounts,
    Barrier,
    Devices,
    Room,
    accelerator,
    amount,
    quantity,
    requests,
    rooms,
    shown,
)
from launcher.cluster.resources import Object
from launcher.doctor.runner import fail, ok, skipped, warn
from trainer.errors import on_one_line
from trainer.runs.checks import Outcome

PAGES: Final = "hugepages-2Mi"

_NONE: Final = Fraction(0)


@dataclass(frozen=True, kw_only=True)
class PodSet:
    """Identical pods of one job."""

    pod_spec: Object
    pods: int
    fewest: int
    """Smallest number with which the job trains."""


def huge_pages(pod_spec: Object, nodes: Sequence[Object], devices: Devices = NO_DEVICES) -> Outcome:
    """Check that the nodes with the accelerator have enough preallocated huge pages."""
    wanted = requests(pod_spec)
    pages = wanted.get(PAGES, _NONE)
    if not pages:
        return skipped("the job uses no huge pages")
    resource = accelerator(wanted)
    offering = [node for node in nodes if resource is None or _offers(node, resource, devices)]
    enough = [node for node in offering if amount(node, "allocatable", PAGES) >= pages]
    most = max((amount(node, "allocatable", PAGES) for node in offering), default=_NONE)
    found = f"a pod needs {shown(PAGES, pages)} of {PAGES}; "
    fix = f"preallocate them on each node: sysctl vm.nr_hugepages={int(pages / quantity('2Mi'))} or more, then restart its kubelet"
    if not offering:
        return skipped(f"no node offers `{resource}`")
    if not enough:
        return fail(f"{found}no node with {resource} has that many (most: {shown(PAGES, most)})", fix)
    if len(enough) < len(offering):
        return warn(f"{found}{len(enough)} of {len(offering)} nodes with {resource} have that many", fix)
    return ok(f"{found}{_nodes(len(enough))} {'has' if len(enough) == 1 else 'have'} that many")


def fit(
    pod_set: PodSet, nodes: Sequence[Object], pods: Sequence[Object] | None, devices: Devices = NO_DEVICES
) -> Outcome:
    """Check whether the scheduler can place all pods now, after others have ended, or never.

    `pods` are those of the whole cluster; None if the user may not list them. `devices` are those that DRA drivers serve.
    """
    wanted = requests(pod_set.pod_spec)
    every = rooms(pod_set.pod_spec, nodes, pods or (), devices)
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
    unsure = any(not each.exact for node in now for each in devices.get(node, {}).values())
    most = "; DRA devices are counted as at most so many" if unsure else ""
    return ok(f"{what}: fit{'s' if pod_set.pods == 1 else ''} now on {_names(list(now))}{fewer}{most}")


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


def _offers(node: Object, resource: str, devices: Devices) -> bool:
    served = devices.get(node["metadata"]["name"], {}).get(resource)
    return bool(amount(node, "allocatable", resource) or (served and served.total))


def _pods(count: int) -> str:
    return "1 pod" if count == 1 else f"{count} pods"


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"


def _names(names: Sequence[str]) -> str:
    shown_names = ", ".join(on_one_line(name) for name in names[:4])
    return shown_names if len(names) <= 4 else f"{shown_names} and {len(names) - 4} more"
