"""Causes that only a TrainJob has: all its pods were started again, or its runtime is gone."""

from typing import Final

from launcher.status.diagnose.facts import Cause, Event, Facts
from launcher.status.diagnose.wording import quoted

STEADY_S: Final = 120.0
"""Running time after which restarted pods count as healthy."""

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
        "admitted nor suspended; its pods continue",
        next_step=f"python -m launcher delete {facts.job} -n {facts.namespace}, then submit it again: its run resumes from the newest checkpoint",
    )
