"""Diagnosis of a job that does not run: one sentence and the next step; pure.

Each module finds one group of causes, for one pod or for the job. This module selects the reported one by precedence: causes that
prevent the creation of pods, then permanent problems, then ended containers, then waiting pods.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from launcher.status.diagnose import admission, endings, queueing, restarts, starting, terminating, unscheduled
from launcher.status.diagnose.facts import Cause, Event, Facts, Pod
from launcher.status.diagnose.pod_phase import reason
from launcher.status.diagnose.wording import quoted
from launcher.status.snapshot import Snapshot, state

__all__ = ["Diagnosis", "diagnose", "reason"]

Check = Callable[[Pod, Facts], Cause | None]

CHECKS: Final[tuple[Check, ...]] = (starting.cause, endings.cause, unscheduled.cause)
"""Checks of a pod by precedence."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Cause for which a job does not run or has failed."""

    sentence: str
    """Pod, duration and cause with numbers, on one line."""

    next_step: str
    """Command to run or setting to change."""

    code: str
    """Short name of the cause, stable between releases."""


def diagnose(snapshot: Snapshot) -> Diagnosis | None:
    """The most important problem of a job; None when it runs, has succeeded, or is just starting."""
    facts = Facts(snapshot)
    deletion = terminating.cause(facts)
    if deletion:
        return _diagnose_pods(facts, endings.stuck_cause) or Diagnosis(
            sentence=deletion.why, next_step=deletion.next_step, code=deletion.code
        )
    now = state(snapshot.job)
    if now == "Succeeded":
        return None
    if now == "Failed":
        return _failed(facts)
    gone = restarts.runtime_cause(facts)
    held = queueing.cause(facts)
    if held:
        return _of_job(facts, gone or held)
    found = _blocked_creation(facts) or _first_pod_cause(facts) or _recreated(facts)
    if found and not (gone and found.code == "pods-missing"):
        return found
    cause = gone or restarts.restarted_cause(facts)
    return Diagnosis(sentence=cause.why, next_step=cause.next_step, code=cause.code) if cause else None


def _blocked_creation(facts: Facts) -> Diagnosis | None:
    cause = admission.cause(facts)
    return _of_job(facts, cause) if cause else None


def _first_pod_cause(facts: Facts) -> Diagnosis | None:
    """The first check that any pod fails."""
    return next(filter(None, (_diagnose_pods(facts, check) for check in CHECKS)), None)


def _diagnose_pods(facts: Facts, check: Check) -> Diagnosis | None:
    """A pod that fails a check (of ended ones, the first that failed), and the number of others with the same cause."""
    failing = [(pod, cause) for pod in facts.pods if (cause := check(pod, facts))]
    if not failing:
        return None
    first = endings.first_to_fail(facts) if check is endings.cause else None
    pod, cause = first or failing[0]
    return _of_pod(facts, pod, cause, alike=sum(other.code == cause.code for _, other in failing))


def _recreated(facts: Facts) -> Diagnosis | None:
    """A pod that has ended and was recreated, which only events show."""
    recreated = endings.recreated_cause(facts)
    return _of_recreated(facts, *recreated) if recreated else None


def _of_recreated(facts: Facts, name: str, event: Event, cause: Cause) -> Diagnosis:
    sentence = (
        f"{quoted(name.removeprefix(f'{facts.job}-'))} ended {facts.ago(event.last)} ago and was restarted: {cause.why}"
    )
    return Diagnosis(sentence=sentence, next_step=cause.next_step, code=cause.code)


def _failed(facts: Facts) -> Diagnosis:
    """The cause of a failed job."""
    first = endings.first_to_fail(facts)
    recreated = endings.recreated_cause(facts)
    if first and not (first[1].is_a_consequence and recreated and not recreated[2].is_a_consequence):
        return _of_pod(facts, *first, alike=1)
    if recreated:
        return _of_recreated(facts, *recreated)
    failed = facts.conditions.get("Failed")
    said = facts.failed_job or failed
    message = quoted(said.message) if said and said.message else "the operator reports no reason"
    sentence = f"the job failed {facts.ago(failed.since if failed else None)} ago: {message}"
    if failed and failed.reason == "DeadlineExceeded":
        unused = "; no pod of it has run" if restarts.never_ran(facts) else ""
        return Diagnosis(sentence=f"{sentence}{unused}", next_step=facts.longer_deadline, code="deadline")
    return Diagnosis(sentence=sentence, next_step=facts.logs, code="failed")


def _of_job(facts: Facts, cause: Cause) -> Diagnosis:
    return Diagnosis(
        sentence=f"waiting {facts.ago(cause.since or facts.created)}: {cause.why}",
        next_step=cause.next_step,
        code=cause.code,
    )


def _of_pod(facts: Facts, pod: Pod, cause: Cause, alike: int) -> Diagnosis:
    pods = f"{pod.short} and {alike - 1} more" if alike > 1 else pod.short
    sentence = f"{quoted(pods)} {' '.join(_state_and_age(facts, pod))}: {cause.why}"
    return Diagnosis(sentence=sentence, next_step=cause.next_step, code=cause.code)


def _state_and_age(facts: Facts, pod: Pod) -> Iterator[str]:
    """State of a pod and its duration."""
    yield quoted(reason(pod.object))
    ended = next((container.ended.at for container in pod.containers if container.ended), None)
    if pod.deleted and pod.deleted < facts.now:
        yield f"{facts.ago(pod.deleted)} past its grace period"
    else:
        yield f"{facts.ago(ended)} ago" if ended else facts.ago(pod.created)
    restarts = sum(container.restarts for container in pod.containers)
    if restarts:
        yield f"(restarted {restarts} times)" if restarts > 1 else "(restarted once)"
