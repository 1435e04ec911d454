"""Causes of unscheduled pods: computed from the nodes if the user may read them, else from the scheduler's message."""

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from launcher.cluster.capacity import (
    EXTENDED_RESOURCE,
    Amounts,
    Room,
    accelerator,
    requests,
    rooms,
    shown,
)
from launcher.cluster.dra import class_of
from launcher.cluster.resources import DEVICE_CLASSES, RESOURCE_SLICES
from launcher.status.diagnose import volumes
from launcher.status.diagnose.facts import Cause, Facts, Pod, at
from launcher.status.diagnose.wording import counted, quoted, resubmit

_SELECTOR_STEP: Final = f"kubectl get nodes --show-labels, then {resubmit('a --node-selector that some node has')}"

SETTLING_S: Final = 30.0
"""Maximum wait of a pod for the scheduler's first attempt."""


def cause(pod: Pod, facts: Facts) -> Cause | None:
    """Why a pod is not scheduled; None when it is."""
    scheduled = pod.conditions.get("PodScheduled")
    if pod.node or pod.phase not in {"Pending", ""}:
        return None
    if scheduled is None or scheduled.status != "False":
        return _unseen(pod, facts)
    if scheduled.reason == "SchedulingGated":
        gates = ", ".join(str(at(gate, "name")) for gate in at(pod.object, "spec", "schedulingGates") or ())
        return Cause(
            code="scheduling-gated",
            why=f"held back by the scheduling gate {quoted(gates) or '?'}",
            next_step=f"kubectl describe pod {pod.name} -n {facts.namespace}",
        )
    message = scheduled.message
    return (
        volumes.claim_cause(pod, facts, message)
        or _from_nodes(pod, facts)
        or _from_scheduler_message(pod, facts, message)
    )


def _unseen(pod: Pod, facts: Facts) -> Cause | None:
    if not facts.aged(pod.created, SETTLING_S):
        return None
    scheduler = at(pod.object, "spec", "schedulerName") or "default-scheduler"
    return Cause(
        code="no-scheduler",
        why=f"the scheduler `{quoted(scheduler)}` has not processed it: it may not be running",
        next_step="kubectl get pods -A | grep -i -e scheduler -e volcano",
    )


def _from_nodes(pod: Pod, facts: Facts) -> Cause | None:
    """The cause computed from the nodes; None if they can't be read."""
    spec = at(pod.object, "spec") or {}
    wanted = requests(spec)
    found = rooms(spec, facts.snapshot.nodes, facts.snapshot.node_pods, facts.devices)
    if not found:
        return None
    name = accelerator(wanted)
    relevant = [room for room in found if name is None or room.total.get(name, 0) > 0]
    if not relevant:
        return _no_accelerators(name, wanted, facts) if name else None
    able = [room for room in relevant if not room.lacks(wanted)]
    open_ = [room for room in able if room.barrier is None]
    if open_:
        return _taken(facts, open_, wanted, name)
    return _barred(able, wanted, name) if able else _too_small(relevant, wanted, name, facts)


def _no_accelerators(name: str, wanted: Amounts, facts: Facts) -> Cause:
    objects = facts.snapshot.devices
    device_class = class_of(name, objects.classes)
    unread = RESOURCE_SLICES if device_class else DEVICE_CLASSES
    tainted = sum(on_node[name].tainted for on_node in facts.devices.values() if name in on_node)
    if unread.plural in objects.denied:
        reason = f"its device plugin may not be running, and its DRA driver can't be seen without permission to list {unread.plural}"
        next_step = "ask an administrator for the permission (k8s/base has the roles), or whether a DRA driver runs"
    elif device_class:
        of_class = f"of the DeviceClass {quoted(device_class['metadata']['name'])}"
        reason = (
            f"{counted(tainted, 'device')} {of_class} {_is_or_are(tainted)} excluded by taints"
            if tainted
            else f"no ResourceSlice has a device {of_class}, whose DRA driver may not be running"
        )
        next_step = "kubectl get resourceslices -o yaml, and kubectl get pods -A | grep -i dra"
    else:
        reason = "its device plugin may not be running"
        next_step = "kubectl get pods -A | grep -i device-plugin; if there is none, ask an administrator to install it (k8s/operator)"
    nodes = counted(len(facts.snapshot.nodes), "node")
    why = f"wants {shown(name, wanted[name])} {name}, which none of {nodes} offers: {reason}"
    return Cause(code="no-accelerators", why=why, next_step=next_step)


def _barred(able: Sequence[Room], wanted: Amounts, name: str | None) -> Cause:
    """Some nodes are large enough, but the pod can't be scheduled to them."""
    barriers = Counter(room.barrier for room in able if room.barrier)
    barrier, number = barriers.most_common(1)[0]
    node = next(room.node for room in able if room.barrier == barrier)
    has = _amount(name, wanted)
    nodes = (
        f"the {number} nodes that have {has}, such as {node},"
        if number > 1
        else f"the only node that has {has}, {node},"
    )
    if barrier.kind == "taint":
        why, code = f"{nodes} {_is_or_are(number)} excluded by the taint {barrier.what}", "taint"
        next_step = resubmit(f"--toleration {barrier.what}, if the job is allowed there")
    elif barrier.kind == "label":
        match = "does not match" if number == 1 else "do not match"
        why, code = f"{nodes} {match} the node selector or affinity: {barrier.what}", "node-selector"
        next_step = _SELECTOR_STEP
    elif barrier.kind == "cordon":
        why, code = f"{nodes} {_is_or_are(number)} cordoned", "nodes-closed"
        next_step = f"ask an administrator: kubectl uncordon {node}"
    else:
        why, code = f"{nodes} {_is_or_are(number)} not ready", "nodes-closed"
        next_step = f"kubectl describe node {node}"
    return Cause(code=code, why=why, next_step=next_step)


def _is_or_are(number: int) -> str:
    return "is" if number == 1 else "are"


def _too_small(relevant: Sequence[Room], wanted: Amounts, name: str | None, facts: Facts) -> Cause:
    """The pod fits on no node, even an empty one; the cause is that of the closest one."""
    nearest = min(relevant, key=lambda room: (_is_short_of(room, wanted, name), len(room.lacks(wanted))))
    lacking = nearest.lacks(wanted)
    if name in lacking:
        nearest = max(relevant, key=lambda room: room.total[str(name)])
        most = shown(str(name), nearest.total[str(name)])
        return Cause(
            code="node-too-small",
            why=f"wants {_amount(name, wanted)} on one node, and the largest, {nearest.node}, has {most}",
            next_step=resubmit(f"--workers-per-node {most} or less"),
        )
    has = f", which has {_amount(name, nearest.total)}," if name else ""
    short = ", ".join(
        f"{_amount(each, wanted)} (it has {shown(each, nearest.total.get(each, Fraction(0)))})" for each in lacking
    )
    return Cause(
        code=_code(lacking[0]),
        why=f"no node can hold it even when empty: {nearest.node}{has} is short of {short}",
        next_step=_smaller(lacking[0], nearest.node, facts),
    )


def _is_short_of(room: Room, wanted: Amounts, name: str | None) -> bool:
    return name is not None and room.total.get(name, 0) < wanted[name]


def _taken(facts: Facts, able: Sequence[Room], wanted: Amounts, name: str | None) -> Cause | None:
    """The pod fits on empty nodes, but other pods use them."""
    if "pods" in facts.snapshot.denied or any(not room.lacks_now(wanted) for room in able):
        return None  # only the scheduler knows the cause
    nearest = min(able, key=lambda room: (name in room.lacks_now(wanted), len(room.lacks_now(wanted))))
    resource = nearest.lacks_now(wanted)[0]
    best = max(able, key=lambda room: room.free.get(resource, 0)) if resource == name else nearest
    free, total = (shown(resource, amounts.get(resource, Fraction(0))) for amounts in (best.free, best.total))
    beside = f" beside {_amount(name, best.free)}" if name and resource != name else ""
    why = f"wants {_amount(resource, wanted)}, largest free {free} on {best.node} (of {total}{beside})"
    slots, pods = sum(room.holds(wanted) for room in able), facts.wanted_pods
    if slots < pods and facts.is_training:  # pods of other jobs run one after another
        why += f"; the nodes it may use hold only {slots} of the job's {counted(pods, 'pod')}, even when empty"
        next_step = f"{resubmit(facts.fewer_pods)}, or add nodes"
    else:
        why += f"; it fits when other pods end ({counted(len(able), 'node')} could hold it)"
        next_step = (
            f"wait, or list the pods there: kubectl get pods -A -o wide --field-selector spec.nodeName={best.node}"
        )
    return Cause(code=_code(resource), why=why + _held(facts, resource), next_step=next_step)


def _held(facts: Facts, resource: str) -> str:
    """Amount that the job's other pods hold meanwhile."""
    holders = [pod for pod in facts.pods if pod.node and pod.phase in {"Pending", "Running"}]
    held = sum((requests(at(pod.object, "spec") or {}).get(resource, Fraction(0)) for pod in holders), Fraction(0))
    if not held or not EXTENDED_RESOURCE.fullmatch(resource):
        return ""
    return f"; meanwhile {counted(len(holders), 'pod')} of it hold{'s' if len(holders) == 1 else ''} {shown(resource, held)}"


def _amount(name: str | None, amounts: Amounts) -> str:
    return f"{shown(name, amounts.get(name, Fraction(0)))} {name}" if name else "room"


def _code(resource: str) -> str:
    if EXTENDED_RESOURCE.fullmatch(resource):
        return "unschedulable-accelerators"
    if resource.startswith("hugepages-"):
        return "hugepages"
    return f"unschedulable-{resource}"


def _smaller(resource: str, node: str, facts: Facts) -> str:
    if resource.startswith("hugepages-"):
        return f"preallocate huge pages on the nodes (vm.nr_hugepages; kubectl describe node {node}), or lower the amount with --overlay FILE"
    return f"{resubmit(facts.smaller_pods)}, or lower the request with --overlay FILE"


_INSUFFICIENT: Final = re.compile(r"\d+ Insufficient ([^\s,]*[^\s,.])")


def _from_scheduler_message(pod: Pod, facts: Facts, message: str) -> Cause:
    said = quoted(
        re.sub(r"\s*((no new claims to deallocate|still not schedulable),\s*)?preemption:.*", "", message).rstrip("., ")
    )
    short = sorted(
        _INSUFFICIENT.findall(said),
        key=lambda name: (not EXTENDED_RESOURCE.fullmatch(name), not name.startswith("huge")),
    )
    if short:
        wanted = requests(at(pod.object, "spec") or {})
        return Cause(
            code=_code(short[0]),
            why=f"wants {_amount(short[0], wanted)}: {said}",
            next_step=f"{_seen_by_others(facts)}kubectl describe pod {pod.name} -n {facts.namespace}",
        )
    code = next((code for words, code in _WORDS.items() if words in said), "unschedulable")
    next_step = _STEPS.get(code, f"kubectl describe pod {pod.name} -n {facts.namespace}")
    return Cause(code=code, why=said or "no node can run it", next_step=next_step)


def _seen_by_others(facts: Facts) -> str:
    return (
        "ask someone with permission to read nodes how many are free; "
        if {"nodes", "pods"} & facts.snapshot.denied
        else ""
    )


_WORDS: Final = {
    "cannot allocate all claims": "unschedulable-accelerators",
    "untolerated taint": "taint",
    "affinity/selector": "node-selector",
    "unschedulable": "nodes-closed",
}
_STEPS: Final = {
    "taint": resubmit(
        "--toleration KEY; the keys: kubectl get nodes -o custom-columns=NODE:.metadata.name,TAINTS:.spec.taints"
    ),
    "node-selector": _SELECTOR_STEP,
}
