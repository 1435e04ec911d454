"""Causes of suspended jobs: queues of Kueue, or suspended by a user."""

import re
from collections.abc import Mapping
from typing import Final

from launcher.status.diagnose import queue_position
from launcher.status.diagnose.facts import Cause, Condition, Facts, at, conditions
from launcher.status.diagnose.wording import quoted, resubmit

QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
NOTICE_S: Final = 30.0
"""Kueue creates the Workload of a job within seconds."""

_ABSENT: Final = re.compile(r"LocalQueue (\S+) (?:doesn't exist|not found)")
_NEVER: Final = re.compile(r"maximum capacity|exceeds? max", re.IGNORECASE)


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
        why = f"it has the queue {quoted(queue)}, but Kueue has created no Workload: it may not be running, or not manage PyTorchJobs"
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
    return _refused(facts, queue, said) or _waiting(facts, queue, said, told.get("Evicted"))


def _given_up(facts: Facts, evicted: Condition | None) -> Cause:
    said = quoted(evicted.message) if evicted else ""
    return Cause(
        code="queue-deactivated",
        why=f"Kueue has deactivated it{f': {said}' if said else ''}",
        next_step=f"{_described(facts)}, then {resubmit('settings that the queue admits')}",
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
    if "inactive" in said or ("ClusterQueue" in said and "exist" in said):
        return Cause(
            code="queue-inactive",
            why=f"the queue {queue} does not admit jobs: {quoted(said)}",
            next_step=f"kubectl describe localqueue {queue} -n {facts.namespace}; ask its administrator",
        )
    if _NEVER.search(said):
        return Cause(
            code="queue-too-small",
            why=f"the queue {queue} can never admit it: {quoted(said)}",
            next_step=resubmit("fewer --workers, or another --queue"),
        )
    return None


def _waiting(facts: Facts, queue: str, said: str, evicted: Condition | None) -> Cause:
    reason = f": {quoted(said)}" if said else ""
    place = queue_position.position(facts)
    there = f"it waits in the queue {queue}{f' as {place}' if place else ''}{reason}"
    if evicted and evicted.status == "True":
        return Cause(
            code="queue-evicted",
            why=f"Kueue evicted it {facts.ago(evicted.since)} ago ({quoted(evicted.reason)}: "
            f"{quoted(evicted.message)}); {there}",
            next_step="wait: it resumes from its newest checkpoint when it is admitted again",
        )
    return Cause(code="queued", why=there, next_step=f"wait; kubectl get workloads -n {facts.namespace} lists the jobs")


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
