"""Causes that delay the deletion of a job."""

from collections.abc import Sequence
from typing import Final

from launcher.status.diagnose.facts import Cause, Facts, Pod, at, moment
from launcher.status.diagnose.wording import lasting, quoted

PROPAGATION: Final = frozenset({"foregroundDeletion", "orphan"})
"""Finalizers of the server itself; the first stays while objects owned by the job exist."""


def cause(facts: Facts) -> Cause | None:
    """Why a deleted job still exists; None when it is not being deleted."""
    since = moment(at(facts.snapshot.job, "metadata", "deletionTimestamp"))
    if since is None:
        return None
    finalizers = at(facts.snapshot.job, "metadata", "finalizers") or ()
    others = [str(each) for each in finalizers if each not in PROPAGATION]
    lead = f"being deleted for {facts.ago(since)}"
    if others and not facts.pods:
        return Cause(
            code="deleting-kept",
            why=f"{lead}: the finalizer {quoted(', '.join(others))} prevents it",
            next_step=f"find the owner of the finalizer: kubectl get {facts.kubectl_name} -n {facts.namespace} -o jsonpath={{.metadata.finalizers}}",
        )
    if facts.kind.api == "trainjob" and "foregroundDeletion" in finalizers and not facts.pods:
        return Cause(
            code="deleting-held",
            why=f"{lead}, in the foreground: its TrainingRuntime was removed first, without which Trainer refuses the end of the deletion",
            next_step=f"python -m launcher delete {facts.job} -n {facts.namespace} completes it",
        )
    return Cause(
        code="deleting",
        why=f"{lead}: {_awaited(facts)}",
        next_step=f"wait; python -m launcher delete {facts.job} -n {facts.namespace} waits until it is deleted",
    )


def _awaited(facts: Facts) -> str:
    if facts.pods:
        return _remaining(facts, facts.pods)
    if "pods" in facts.snapshot.denied:
        return "objects that it owns are deleted first, including its pods, which you may not read"
    return "its pods are deleted; its Services and its claim, if any, are next"


def _remaining(facts: Facts, pods: Sequence[Pod]) -> str:
    """Pods that are still terminating, and their remaining grace period, which starts with the deletion of the pod."""
    names = pods[0].short if len(pods) == 1 else f"{pods[0].short} and {len(pods) - 1} more"
    last = max((pod.deleted for pod in pods if pod.deleted), default=None)
    within = f", within {lasting(facts.now, last)}" if last and last > facts.now else ""
    return f"{quoted(names)} must end first{within}"
