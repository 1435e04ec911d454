"""What a job waits for that is being deleted."""

from collections.abc import Sequence
from typing import Final

from launcher.status.diagnose.facts import Cause, Facts, Pod, at, moment
from launcher.status.diagnose.wording import lasting, quoted

PROPAGATION: Final = frozenset({"foregroundDeletion", "orphan"})
"""Finalizers of the server itself; the first stays while something is there that the job owns."""


def cause(facts: Facts) -> Cause | None:
    """Why a job is still there that is being deleted, None when nobody deletes it."""
    since = moment(at(facts.snapshot.job, "metadata", "deletionTimestamp"))
    if since is None:
        return None
    finalizers = at(facts.snapshot.job, "metadata", "finalizers") or ()
    others = [str(each) for each in finalizers if each not in PROPAGATION]
    lead = f"being deleted for {facts.ago(since)}"
    if others and not facts.pods:
        return Cause(
            code="deleting-kept",
            why=f"{lead}: the finalizer {quoted(', '.join(others))} keeps it",
            next_step=f"ask whoever set it; kubectl get pytorchjob {facts.job} -n {facts.namespace} -o jsonpath={{.metadata.finalizers}}",
        )
    return Cause(
        code="deleting",
        why=f"{lead}: {_awaited(facts)}",
        next_step=f"wait; python -m launcher delete {facts.job} -n {facts.namespace} ends when nothing of it is left",
    )


def _awaited(facts: Facts) -> str:
    if facts.pods:
        return _ending(facts, facts.pods)
    if "pods" in facts.snapshot.denied:
        return "what it owns goes first, its pods too, which your rights do not show"
    return "its pods are gone; its Services, and its claim where it has one, go first"


def _ending(facts: Facts, pods: Sequence[Pod]) -> str:
    """Which pods still end, and how long they may take; a grace period begins when a pod's own deletion does."""
    who = pods[0].short if len(pods) == 1 else f"{pods[0].short} and {len(pods) - 1} more"
    last = max((pod.deleted for pod in pods if pod.deleted), default=None)
    within = f", within {lasting(facts.now, last)}" if last and last > facts.now else ""
    return f"{quoted(who)} {'ends' if len(pods) == 1 else 'end'} first{within}"
