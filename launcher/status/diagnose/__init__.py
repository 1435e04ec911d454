"""Why a job does not run, in one sentence with what to do; pure.

Each module knows one group of causes and looks at a pod (or the job) alone; this one decides which of them is told:
what keeps pods from being made, then what does not pass by itself, then what has ended, then what waits.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from launcher.status.diagnose import admission, endings, queueing, starting, terminating, unscheduled
from launcher.status.diagnose.facts import Cause, Event, Facts, Pod
from launcher.status.diagnose.pod_phase import reason
from launcher.status.diagnose.wording import quoted
from launcher.status.snapshot import Snapshot, state

__all__ = ["Diagnosis", "diagnose", "reason"]

Check = Callable[[Pod, Facts], Cause | None]

CHECKS: Final[tuple[Check, ...]] = (starting.cause, endings.cause, unscheduled.cause)
"""Of a pod, in the order in which they are told."""


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Why a job does not run, or has failed."""

    sentence: str
    """Which pod, since when, why, with the numbers; one line."""

    next_step: str
    """What to type or to change."""

    code: str
    """A short name of the cause, which stays the same between releases."""


def diagnose(snapshot: Snapshot) -> Diagnosis | None:
    """What is wrong with a job, the most telling first; None when it runs, has succeeded, or is only just beginning."""
    facts = Facts(snapshot)
    leaving = terminating.cause(facts)
    if leaving:
        return _told_of_pods(facts, endings.stuck_cause) or Diagnosis(
            sentence=leaving.why, next_step=leaving.next_step, code=leaving.code
        )
    now = state(snapshot.job)
    if now == "Succeeded":
        return None
    if now == "Failed":
        return _failed(facts)
    held = queueing.cause(facts)
    if held:
        return _of_job(facts, held)
    return _unmade(facts) or _ill(facts) or _remade(facts)


def _unmade(facts: Facts) -> Diagnosis | None:
    found = admission.cause(facts)
    return _of_job(facts, found) if found else None


def _ill(facts: Facts) -> Diagnosis | None:
    """The first check that any pod fails."""
    return next(filter(None, (_told_of_pods(facts, check) for check in CHECKS)), None)


def _told_of_pods(facts: Facts, check: Check) -> Diagnosis | None:
    """The pod that fails a check, of several that ended the first one, and how many others share its cause."""
    found = [(pod, cause) for pod in facts.pods if (cause := check(pod, facts))]
    if not found:
        return None
    first = endings.first_to_fail(facts) if check is endings.cause else None
    pod, cause = first or found[0]
    return _of_pod(facts, pod, cause, alike=sum(other.code == cause.code for _, other in found))


def _remade(facts: Facts) -> Diagnosis | None:
    """A pod that has ended and was made anew, of which only events tell."""
    found = endings.remade_cause(facts)
    return _of_remade(facts, *found) if found else None


def _of_remade(facts: Facts, name: str, event: Event, cause: Cause) -> Diagnosis:
    sentence = f"{quoted(name.removeprefix(f'{facts.job}-'))} ended {facts.ago(event.last)} ago and was started again: {cause.why}"
    return Diagnosis(sentence=sentence, next_step=cause.next_step, code=cause.code)


def _failed(facts: Facts) -> Diagnosis:
    """Why a job has failed for good."""
    first = endings.first_to_fail(facts)
    remade = endings.remade_cause(facts)
    if first and not (first[1].is_a_consequence and remade and not remade[2].is_a_consequence):
        return _of_pod(facts, *first, alike=1)
    if remade:
        return _of_remade(facts, *remade)
    failed = facts.conditions.get("Failed")
    said = quoted(failed.message) if failed and failed.message else "the operator does not say why"
    sentence = f"the job failed {facts.ago(failed.since if failed else None)} ago: {said}"
    return Diagnosis(sentence=sentence, next_step=facts.logs, code="failed")


def _of_job(facts: Facts, cause: Cause) -> Diagnosis:
    return Diagnosis(
        sentence=f"waiting {facts.ago(facts.created)}: {cause.why}", next_step=cause.next_step, code=cause.code
    )


def _of_pod(facts: Facts, pod: Pod, cause: Cause, alike: int) -> Diagnosis:
    who = f"{pod.short} and {alike - 1} more" if alike > 1 else pod.short
    sentence = f"{quoted(who)} {' '.join(_how(facts, pod))}: {cause.why}"
    return Diagnosis(sentence=sentence, next_step=cause.next_step, code=cause.code)


def _how(facts: Facts, pod: Pod) -> Iterator[str]:
    """Its state and since when."""
    yield quoted(reason(pod.object))
    ended = next((container.ended.at for container in pod.containers if container.ended), None)
    if pod.deleted and pod.deleted < facts.now:
        yield f"{facts.ago(pod.deleted)} past its grace period"
    else:
        yield f"{facts.ago(ended)} ago" if ended else facts.ago(pod.created)
    restarts = sum(container.restarts for container in pod.containers)
    if restarts:
        yield f"(restarted {restarts} times)" if restarts > 1 else "(restarted once)"
