"""What only a TrainJob has: a restart of all pods, the end of its runtime, and a limit of time that also counts waiting."""

from typing import Final

from launcher.status.diagnose.facts import Cause, Event, Facts, at
from launcher.status.diagnose.wording import quoted

STEADY_S: Final = 120.0
"""Running time after which restarted pods count as healthy."""

EARLY_S: Final = 60.0
"""Age of a job up to which its first events appear."""

_LOSSES: Final = ("Evicted", "Preempted", "Preempting", "TaintManagerEviction", "NodeNotReady", "OOMKilling")
"""Reasons of events about a pod that is lost."""


def restarted_cause(facts: Facts) -> Cause | None:
    """That the JobSet has started all pods again; None when they are healthy since."""
    since = max((pod.created for pod in facts.pods if pod.created), default=None)
    if not facts.restarts or not facts.recent(since) or _are_steady(facts):
        return None
    times = "once" if facts.restarts == 1 else f"{facts.restarts} times"
    lost = next((each for each in reversed(facts.events) if each.reason in _LOSSES), None)
    return Cause(
        code="restarted",
        why=f"all pods were started again {facts.ago(since)} ago, {times} so far: {_loss(lost, facts)}",
        next_step=facts.logs,
    )


def _loss(event: Event | None, facts: Facts) -> str:
    if event is None:
        return "a pod was lost, and its status and log with it"
    return f"`{quoted(event.about.removeprefix(f'{facts.job}-'))}` was lost: {quoted(event.message)}"


def _are_steady(facts: Facts) -> bool:
    started = [container.started for pod in facts.pods for container in pod.containers if not container.is_init]
    return bool(started) and all(each is not None and facts.aged(each, STEADY_S) for each in started)


def runtime_cause(facts: Facts) -> Cause | None:
    """That the runtime of a TrainJob was deleted; None when it exists."""
    if not facts.snapshot.lacks_runtime:
        return None
    return Cause(
        code="runtime-missing",
        why="its TrainingRuntime was deleted: Trainer and Kueue refuse each change of the TrainJob, so that it can be neither "
        f"admitted nor suspended{'; its pods continue' if _has_running_pods(facts) else ''}",
        next_step=_recreation(facts),
    )


def _has_running_pods(facts: Facts) -> bool:
    return any(pod.phase == "Running" and pod.deleted is None for pod in facts.pods)


def _recreation(facts: Facts) -> str:
    """How the runtime is created again: that of the job has its name."""
    runtime = at(facts.snapshot.job, "spec", "runtimeRef", "name")
    if runtime != facts.job:
        return f"ask an administrator to create the TrainingRuntime {quoted(str(runtime))} again (k8s/components/trainer-runtime)"
    return (
        "run the same `launcher submit` again, which creates it again; or python -m launcher delete "
        f"{facts.job} -n {facts.namespace}, then submit it again: its run resumes from the newest checkpoint"
    )


def never_ran(facts: Facts) -> bool:
    """Whether certainly no pod of a TrainJob has run: False where events of its beginning are missing, which expire."""
    status = at(facts.snapshot.job, "status", "jobsStatus") or ()
    counts = [each.get(key) or 0 for each in status for key in ("ready", "succeeded", "failed")]
    created = facts.created
    has_first_events = created is not None and any(
        each.last is not None and (each.last - created).total_seconds() <= EARLY_S for each in facts.events
    )
    has_started = any(each.reason == "Started" for each in facts.events) or any(
        container.started or container.ended or container.earlier for pod in facts.pods for container in pod.containers
    )
    is_certain = facts.kind.api == "trainjob" and has_first_events and not {"events", "pods"} & facts.snapshot.denied
    return is_certain and not has_started and not any(counts) and not facts.restarts
