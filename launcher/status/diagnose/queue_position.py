"""Position of a job among the pending jobs of its queue."""

from launcher.cluster.resources import Object
from launcher.status.diagnose.facts import Facts, at, conditions


def position(facts: Facts) -> str:
    """The position, such as `number 3 of 7`; empty if unknown.

    Kueue's own list includes the whole queue. Without it, the Workloads of the namespace are sorted like Kueue does: by priority,
    then age. Source: kueue, pkg/visibility/storage and pkg/cache/queue; its positions count from 0.
    """
    name = at(facts.snapshot.workload, "metadata", "name")
    return _listed(facts, name) or _counted(facts, name)


def _listed(facts: Facts, name: str | None) -> str:
    waiting = facts.snapshot.waiting
    entry = next((each for each in waiting if at(each, "metadata", "name") == name), None)
    if entry is None:
        return ""
    number, overall = int(at(entry, "positionInLocalQueue") or 0), int(at(entry, "positionInClusterQueue") or 0)
    elsewhere = f", number {overall + 1} of its ClusterQueue" if overall > number else ""
    return f"number {number + 1} of {max(len(waiting), number + 1)}{elsewhere}"


def _counted(facts: Facts, name: str | None) -> str:
    queue = at(facts.snapshot.workload, "spec", "queueName")
    waiting = sorted((each for each in facts.snapshot.workloads if _waits(each, queue)), key=_order)
    names = [at(each, "metadata", "name") for each in waiting]
    return f"number {names.index(name) + 1} of {len(names)} of this namespace" if name in names else ""


def _waits(workload: Object, queue: str | None) -> bool:
    told = conditions(workload)
    done = any(told[each].status == "True" for each in ("QuotaReserved", "Finished") if each in told)
    return not done and at(workload, "spec", "queueName") == queue and at(workload, "spec", "active") is not False


def _order(workload: Object) -> tuple[int, str]:
    return -int(at(workload, "spec", "priority") or 0), str(at(workload, "metadata", "creationTimestamp") or "")
