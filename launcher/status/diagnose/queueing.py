"""Causes of suspended jobs: queues of Kueue, or suspended by a user."""

import json
import re
from collections.abc import Mapping
from typing import Final

from launcher.cluster.resources import QUEUE_LABEL, QUEUE_PRIORITY_LABEL
from launcher.status.diagnose import queue_position
from launcher.status.diagnose.facts import Cause, Condition, Facts, at, conditions, moment
from launcher.status.diagnose.quota_message import obstacle, shortage
from launcher.status.diagnose.wording import lasting, quoted, resubmit

NOTICE_S: Final = 30.0
"""Kueue creates the Workload of a job within seconds."""

_ABSENT: Final = re.compile(r"LocalQueue (\S+) (?:doesn't exist|not found|is terminating or missing)")
_CLOSED: Final = re.compile(
    r"(?:Cluster|Local)Queue \S+ (?:is (?:inactive|stopped|terminating or missing)|doesn't exist|not found)"
    r"|namespace doesn't match ClusterQueue selector"
)
"""Source: kueue v0.19.2, pkg/controller/core/workload_controller.go and pkg/scheduler/scheduler.go."""

_PREEMPTED: Final = re.compile(r"to accommodate a workload \(UID: ([^\s,]+), JobUID: [^\s)]+\) due to ([^;]+)")
_CLUSTER_QUEUE: Final = re.compile(r"preemptor path: \S*/([^\s;/]+)")


def cause(facts: Facts) -> Cause | None:
    """Why a job is suspended; None when it is not."""
    if not facts.kind.is_suspended(facts.snapshot.job):
        return None
    queue = at(facts.snapshot.job, "metadata", "labels", QUEUE_LABEL)
    if not queue:
        return Cause(
            code="suspended",
            why="it is suspended and has no queue that would start it",
            next_step=f"kubectl patch {facts.kubectl_name} -n {facts.namespace} --type=merge -p '{facts.kind.resumed}'",
        )
    workload = facts.snapshot.workload
    if workload is None:
        return _unnoticed(facts, str(queue))
    return _queued(facts, quoted(str(queue)), conditions(workload), active=at(workload, "spec", "active") is not False)


def _unnoticed(facts: Facts, queue: str) -> Cause:
    if "workloads" in facts.snapshot.denied:
        why = f"it waits in the queue {quoted(queue)}; you may not read why, or Kueue is not installed"
    elif facts.aged(facts.created, NOTICE_S):
        priority = at(facts.snapshot.job, "metadata", "labels", QUEUE_PRIORITY_LABEL)
        named = f"; there may be no WorkloadPriorityClass `{quoted(str(priority))}`" if priority else ""
        why = (
            f"it has the queue {quoted(queue)}, but Kueue has created no Workload: it may not be running, "
            f"or not manage {facts.kind.resource.kind}s{named}"
        )
    else:
        why = f"it waits for Kueue to process it in the queue {quoted(queue)}"
    return Cause(
        code="queue-unseen",
        why=why,
        next_step=f"kubectl get localqueues,workloads -n {facts.namespace}; python -m launcher doctor",
    )


def _queued(facts: Facts, queue: str, told: Mapping[str, Condition], *, active: bool) -> Cause:
    """The cause from the conditions of the Workload."""
    reserved = told.get("QuotaReserved")
    said = reserved.message if reserved else ""
    if not active:
        return _given_up(facts, told.get("Evicted"))
    if reserved and reserved.status == "True":
        return _checked(facts, queue)
    evicted = told.get("Evicted")
    if evicted is None or evicted.status != "True":
        return _refused(facts, queue, said) or _waiting(facts, queue, said)
    return _refused(facts, queue, said) or _backing_off(facts, queue, evicted) or _evicted(facts, queue, said, evicted)


def _given_up(facts: Facts, evicted: Condition | None) -> Cause:
    said = quoted(evicted.message.removeprefix("The workload is deactivated").strip()) if evicted else ""
    workload = at(facts.snapshot.workload, "metadata", "name")
    active = _compact({"spec": {"active": True}})
    return Cause(
        code="queue-deactivated",
        why=f"its Workload in Kueue was deactivated{f' {said}' if said else ''}",
        next_step=f"kubectl patch workload {workload} -n {facts.namespace} --type=merge -p '{active}' queues it again, "
        f"as an administrator may; or {resubmit('settings that the queue admits')}",
        since=evicted.since if evicted else None,
    )


def _refused(facts: Facts, queue: str, said: str) -> Cause | None:
    """Problems for which the queue will never admit the job."""
    absent = _ABSENT.search(said)
    if absent:
        return Cause(
            code="queue-missing",
            why=f"there is no LocalQueue `{quoted(absent[1])}` in namespace {facts.namespace}",
            next_step=f"kubectl get localqueues -n {facts.namespace}, then {resubmit('--queue NAME')}",
        )
    if _CLOSED.search(said):
        return Cause(
            code="queue-inactive",
            why=f"the queue {queue} does not admit jobs: {quoted(said)}",
            next_step=f"kubectl describe localqueue {queue} -n {facts.namespace}; ask its administrator",
        )
    never = obstacle(said)
    if never:
        return Cause(
            code="queue-too-small",
            why=f"the queue {queue} can never admit it: {never}",
            next_step=resubmit(f"{facts.fewer_pods}, or another --queue"),
        )
    return None


def _waiting(facts: Facts, queue: str, said: str) -> Cause:
    return Cause(
        code="queued",
        why=_there(facts, queue, said),
        next_step=f"wait; kubectl get workloads -n {facts.namespace} lists the jobs",
    )


def _there(facts: Facts, queue: str, said: str) -> str:
    """Where the job waits, and for what."""
    place, reason = queue_position.position(facts), shortage(said) or quoted(said)
    return f"it waits in the queue {queue}{f' as {place}' if place else ''}{f': {reason}' if reason else ''}"


def _backing_off(facts: Facts, queue: str, evicted: Condition) -> Cause | None:
    """The wait before Kueue queues an evicted job again; None when there is none."""
    again = moment(at(facts.snapshot.workload, "status", "requeueState", "requeueAt"))
    if again is None or again <= facts.now:
        return None
    times = int(at(facts.snapshot.workload, "status", "requeueState", "count") or 1)
    return Cause(
        code="queue-backoff",
        why=f"{_eviction(facts, evicted)}; it returns to the queue {queue} in {lasting(facts.now, again)} (requeue {times})",
        next_step=f"wait; python -m launcher events {facts.job} -n {facts.namespace} shows why its pods were not ready",
        since=evicted.since,
    )


def _evicted(facts: Facts, queue: str, said: str, evicted: Condition) -> Cause:
    return Cause(
        code="queue-evicted",
        why=f"{_eviction(facts, evicted)}; {_there(facts, queue, said if said != evicted.message else '')}",
        next_step="wait: it resumes from its newest checkpoint when it is admitted again",
        since=evicted.since,
    )


def _eviction(facts: Facts, evicted: Condition) -> str:
    """Who took its quota, and why: `Kueue preempted it for the job a (priority 1000, its own 10): …`."""
    match = _PREEMPTED.search(evicted.message)
    if match is None:
        return f"Kueue evicted it ({quoted(evicted.reason)}: {quoted(evicted.message)})"
    other = next((w for w in facts.snapshot.workloads if at(w, "metadata", "uid") == match[1]), None)
    return f"Kueue preempted it for {_preemptor(facts, other, evicted.message)}: {quoted(match[2])}"


def _preemptor(facts: Facts, workload: object, said: str) -> str:
    """The job of another Workload of the namespace; of other namespaces, only the queue is known."""
    owners = at(workload, "metadata", "ownerReferences")
    if owners:
        priorities = (at(each, "spec", "priority") or 0 for each in (workload, facts.snapshot.workload))
        return f"the job {quoted(str(at(owners[0], 'name')))} (priority {', its own '.join(map(str, priorities))})"
    queue = _CLUSTER_QUEUE.search(said)
    return f"a job of ClusterQueue {quoted(queue[1])}" if queue else "another job"


def _checked(facts: Facts, queue: str) -> Cause:
    """Causes after the quota was reserved: admission checks."""
    checks = at(facts.snapshot.workload, "status", "admissionChecks") or ()
    waiting = [check for check in checks if at(check, "state") != "Ready"]
    if waiting:
        name, said = quoted(str(at(waiting[0], "name"))), quoted(str(at(waiting[0], "message") or ""))
        return Cause(
            code="queue-check",
            why=f"it has quota in the queue {queue} and waits for the admission check `{name}`{f': {said}' if said else ''}",
            next_step=_described(facts),
        )
    return Cause(
        code="queue-admitted",
        why=f"the queue {queue} has admitted it; it is about to start",
        next_step=_described(facts),
    )


def _described(facts: Facts) -> str:
    uid = at(facts.snapshot.job, "metadata", "uid") or ""
    return f"kubectl describe workload -n {facts.namespace} -l kueue.x-k8s.io/job-uid={uid}"


def _compact(patch: object) -> str:
    return json.dumps(patch, separators=(",", ":"))
