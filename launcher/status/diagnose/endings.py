"""Causes of ended containers and pods."""

import re
import signal
from dataclasses import replace
from typing import Final

from launcher.status.diagnose import starting, unscheduled
from launcher.status.diagnose.facts import Cause, Container, End, Event, Facts, Pod, at
from launcher.status.diagnose.log_tail import read_tail
from launcher.status.diagnose.reported import ReportedCause
from launcher.status.diagnose.termination_message import read_message
from launcher.status.diagnose.wording import quoted, resubmit
from trainer.errors import EXIT_CODES

OUT_OF_MEMORY: Final = "OOMKilled"
KILLED: Final = 137
"""128 + SIGKILL: exit code of a container that the kernel killed at its memory limit."""

GONE_S: Final = 60.0
"""Time after the grace period in which a pod must be deleted."""

STEADY_S: Final = 120.0
"""Running time after which a recreated pod counts as healthy."""

REPEATED: Final = 3
"""Number of ends of one pod that is not accidental."""

_EXITED: Final = re.compile(r"^Pod: \S+?\.(\S+) exited with code (\d+)")
_ENDED: Final = re.compile(r"^Error pod (\S+) container \S+ exitCode: (\d+) terminated message: ?(.*)", re.DOTALL)


_FIRST_TO_LAST: Final = {False: 0, None: 1, True: 2}
"""Precedence of failures: own failures, then unknown ones, then consequences of other failures."""


def cause(pod: Pod, facts: Facts) -> Cause | None:
    """Why a pod has ended or ends repeatedly; None when it has not."""
    return _taken_away(pod, facts) or _lost(pod, facts) or stuck_cause(pod, facts) or _container_cause(pod, facts)


def first_to_fail(facts: Facts) -> tuple[Pod, Cause] | None:
    """The pod that failed first, and the cause; None without a failed pod."""
    failed = [(pod, cause(pod, facts)) for pod in facts.pods]
    ended = [(pod, found) for pod, found in failed if found is not None]
    return min(ended, key=lambda entry: (_FIRST_TO_LAST[entry[1].is_a_consequence], _moment(entry[0])), default=None)


def recreated_cause(facts: Facts) -> tuple[str, Event, Cause] | None:
    """Name, event and cause of a recreated pod, which only events of the job show; None when it is healthy since."""
    for event in reversed(facts.events):
        ended, exited = _ENDED.match(event.message), _EXITED.match(event.message)
        told = ended or exited
        if not told or not _is_recent(event, facts) or not int(told[2]) or _is_steady(told[1], event, facts):
            continue
        if event.reason in starting.UNSTARTED:
            return told[1], event, starting.unstarted_cause(ended[3] if ended else "", facts)
        end = End(exit_code=int(told[2]), reason=event.reason, message=ended[3] if ended else "", at=event.last)
        found = _exit(told[1], end, read_message(end.message), facts)
        return told[1], event, replace(found, code="restarted") if found.code == "failed" else found
    return None


def _is_recent(event: Event, facts: Facts) -> bool:
    """Whether an event can explain the current state of the job, or its state when it failed."""
    failed = facts.conditions.get("Failed")
    over = failed.since if failed and failed.status == "True" else None
    return facts.recent(event.last) or (over is not None and facts.recent(event.last, now=over))


def _is_steady(name: str, event: Event, facts: Facts) -> bool:
    pod = next((pod for pod in facts.pods if pod.name == name), None)
    since = next((container.started for container in pod.containers if container.started), None) if pod else None
    return since is not None and facts.aged(since, STEADY_S) and event.count < REPEATED


def _moment(pod: Pod) -> float:
    ends = [container.ended or container.earlier for container in pod.containers]
    return min((end.at.timestamp() for end in ends if end and end.at), default=float("inf"))


def _taken_away(pod: Pod, facts: Facts) -> Cause | None:
    """Eviction or preemption of the pod, or of the one that it replaces."""
    disruption = pod.conditions.get("DisruptionTarget")
    if disruption and disruption.status == "True":
        return _displaced(pod, facts, disruption.reason, pod.message or disruption.message)
    if pod.reason in {"Evicted", "Preempting", "Shutdown", "NodeShutdown", "Terminated"}:
        return _displaced(pod, facts, pod.reason, pod.message)
    told = next(facts.events_of(pod.name, "Preempted", "Preempting", "Evicted", "TaintManagerEviction"), None)
    if not told or pod.phase != "Pending" or not facts.recent(told.last):
        return None
    before = _displaced(pod, facts, told.reason, told.message)
    now = unscheduled.cause(pod, facts)
    why = f"{before.why}, {facts.ago(told.last)} ago{f'; now it {now.why}' if now else ''}"
    return Cause(code=before.code, why=why, next_step=before.next_step)


def _displaced(pod: Pod, facts: Facts, reason: str, message: str) -> Cause:
    said = quoted(message.strip().rstrip(".")) or reason
    if reason in {"PreemptionByScheduler", "Preempted", "Preempting"}:
        return Cause(
            code="preempted",
            why=f"it was preempted by a pod with higher priority ({said})",
            next_step="wait: it is recreated and resumes from the newest checkpoint; --priority-class NAME raises a job's priority",
        )
    next_step = f"kubectl describe node {pod.node}" if pod.node else facts.described
    if "ephemeral" in said or "emptyDir" in said:
        next_step = (
            f"{resubmit('a smaller --pack-side')}, or use nodes with a larger disk: the packed data set is stored there"
        )
    return Cause(code="evicted", why=f"it was evicted from its node ({said})", next_step=next_step)


def _lost(pod: Pod, facts: Facts) -> Cause | None:
    ready = pod.conditions.get("Ready")
    told = next(facts.events_of(pod.name, "NodeNotReady"), None)
    silent = told and ready and ready.status != "True" and pod.phase == "Running" and not pod.containers_ended
    if pod.phase != "Unknown" and pod.reason != "NodeLost" and not silent:
        return None
    return Cause(
        code="node-lost",
        why=f"its node {pod.node or '?'} does not respond",
        next_step=f"kubectl describe node {pod.node}; kubectl delete pod {pod.name} -n {facts.namespace} --force recreates it on another node at once",
    )


def stuck_cause(pod: Pod, facts: Facts) -> Cause | None:
    """Why a pod is still terminating after its grace period; None before."""
    if pod.deleted is None or not facts.aged(pod.deleted, GONE_S):
        return None
    finalizers = ", ".join(map(str, at(pod.object, "metadata", "finalizers") or ()))
    if finalizers:
        return Cause(
            code="stuck-terminating",
            why=f"the finalizer {quoted(finalizers)} prevents its deletion",
            next_step=f"find the owner of the finalizer: kubectl get pod {pod.name} -n {facts.namespace} -o jsonpath={{.metadata.finalizers}}",
        )
    return Cause(
        code="stuck-terminating",
        why=f"node {pod.node or '?'} does not report that it has ended",
        next_step=f"kubectl describe node {pod.node}; when its processes have ended there: kubectl delete pod {pod.name} -n {facts.namespace} --force",
    )


def _container_cause(pod: Pod, facts: Facts) -> Cause | None:
    for container in pod.containers:
        end = container.ended or (container.earlier if _keeps_failing(container, facts) else None)
        if container.is_init or end is None or not (end.exit_code or end.reason == OUT_OF_MEMORY):
            continue
        tail = facts.snapshot.tails.get(pod.name, "") if container.name == facts.kind.container else ""
        found = _exit(pod.name, end, read_message(end.message) if end.message.strip() else read_tail(tail), facts)
        return replace(found, code="crash-loop") if container.waiting and found.code == "failed" else found
    return None


def _keeps_failing(container: Container, facts: Facts) -> bool:
    return container.waiting == "CrashLoopBackOff" or (
        container.started is not None and container.earlier is not None and not facts.aged(container.started, STEADY_S)
    )


def _exit(name: str, end: End, told: ReportedCause, facts: Facts) -> Cause:
    """The cause of a container's end, from its status and its report."""
    if _ran_out_of_memory(name, end, told, facts):
        return _memory(name, end, told, facts)
    found = _own_exit(end, told, facts)
    return replace(found, is_a_consequence=None if told.is_silent else told.is_a_consequence)


def _ran_out_of_memory(name: str, end: End, told: ReportedCause, facts: Facts) -> bool:
    if end.reason == OUT_OF_MEMORY:
        # The runtime sets this reason when any process of the container was killed, even long before: the entrypoint's report is better.
        return told.killed_by != 0 or told.stopped or not told.is_message or end.exit_code == KILLED
    killed = end.exit_code == KILLED or told.killed_by == signal.SIGKILL
    return killed and not told.signature and not _stopped(name, facts)


def _own_exit(end: End, told: ReportedCause, facts: Facts) -> Cause:
    code = end.exit_code or 0
    is_deadline = told.signature is not None and told.signature.code == "deadline"
    if told.signature and not told.hint:
        return Cause(
            code=told.signature.code,
            why=f"{_rank(told)}{told.signature.meaning}: {quoted(told.line)}",
            next_step=facts.longer_deadline if is_deadline else told.signature.next_step,
        )
    if code == 128 + signal.SIGBUS:
        return Cause(
            code="shared-memory",
            why=f"{_named(code)}, a bus error: usually /dev/shm is full",
            next_step="an --overlay must not remove the `shm` volume; to enlarge it, set the volume's sizeLimit in an --overlay",
        )
    if told.line:
        return Cause(
            code=told.signature.code if told.signature else _CODES.get(code, "failed"),
            why=f"{_named(code)}: {_rank(told)}{quoted(told.line)}",
            # the trainer's hint names the flags of its own command, which the launcher refuses while the finished job exists
            next_step=facts.longer_deadline if is_deadline else quoted(told.hint) or facts.logs,
        )
    last = next((line for line in reversed(end.message.splitlines()) if line.strip()), "")
    said = f": {quoted(last)}" if last else ""
    if told.killed_by:
        said = f": {_rank(told)}the worker was killed by {_signal(told.killed_by)}"
    return Cause(code=_CODES.get(code, "failed"), why=f"{_named(code)}{said}", next_step=facts.logs)


_CODES: Final = {2: "bad-input", 124: "deadline"}


def _memory(name: str, end: End, told: ReportedCause, facts: Facts) -> Cause:
    limit = _limit(name, facts)
    at_limit = f"at its memory limit of {limit}" if limit else "because its node ran out of memory"
    if told.is_out_of_memory or (told.killed_by and end.reason == OUT_OF_MEMORY):
        why = f"{_rank(told)}the worker was killed (SIGKILL) {at_limit}"
    elif end.reason == OUT_OF_MEMORY:
        why = f"the container was killed {at_limit}"
    elif told.killed_by:
        why = f"{_rank(told)}the worker was killed (SIGKILL), most likely {at_limit}"
    else:
        why = f"the container was killed ({_named(end.exit_code or 0)}), most likely {at_limit}"
    if not facts.is_training:
        again = f"python -m launcher delete {facts.job} -n {facts.namespace}, then launcher prepare"
        return Cause(code="out-of-memory", why=why, next_step=f"{again} with more --memory, or fewer --cpus")
    return Cause(
        code="out-of-memory",
        why=why,
        next_step=f"{resubmit('more memory (--overlay FILE), fewer --workers-per-node, or a smaller --batch-size')}; /dev/shm counts towards memory",
    )


def _limit(name: str, facts: Facts) -> str:
    """The container's memory limit, from the pod or, after its deletion, from the job."""
    pod = next((pod for pod in facts.pods if pod.name == name), None)
    specs = [*([at(pod.object, "spec")] if pod else []), facts.kind.pod_spec(facts.snapshot.job)]
    containers = (each for spec in specs for each in at(spec, "containers") or ())
    containers = (each for each in containers if at(each, "name") == facts.kind.container)
    return next((quoted(str(limit)) for each in containers if (limit := at(each, "resources", "limits", "memory"))), "")


def _stopped(name: str, facts: Facts) -> bool:
    """Whether the pod was stopped on purpose, by deletion, preemption or eviction."""
    pod = next((pod for pod in facts.pods if pod.name == name), None)
    return bool(pod and pod.deleted) or any(
        True for _ in facts.events_of(name, "Killing", "Preempted", "Evicted", "TaintManagerEviction")
    )


def _rank(told: ReportedCause) -> str:
    return f"rank {told.rank}: " if told.rank else ""


def _named(code: int) -> str:
    """An exit code with what it means in our table, or the signal behind it."""
    meaning = _signal(code - 128) if code > 128 else EXIT_CODES.get(code) if code not in {0, 1} else None
    return f"exit code {code} ({meaning})" if meaning else f"exit code {code}"


def _signal(number: int) -> str:
    return signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
