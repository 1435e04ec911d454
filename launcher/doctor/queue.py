"""Check the queue of a job: that Kueue holds it, its LocalQueue, and its priority there."""

from launcher.cluster.client import Cluster
from launcher.cluster.errors import NotFoundError, NotServedError
from launcher.cluster.operator import KUEUE
from launcher.cluster.resources import LOCAL_QUEUES, QUEUE_PRIORITIES, Object
from launcher.doctor.runner import fail, ok, skipped, warn
from launcher.kinds import kueue
from launcher.spec.job import JobSpec
from trainer.errors import on_one_line
from trainer.runs.checks import Outcome


def held(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check that Kueue holds jobs of this kind in this namespace. Raises: RemoteError."""
    queue, ours = str(spec.policy.queue), f"{spec.kind.resource.kind}s"
    managed = kueue.manages(cluster, spec.kind, queue)
    if managed is None:
        return warn(
            f"whether Kueue manages {ours} could not be tried by a dry run", "see `job dry run`; submit tries it again"
        )
    return (
        ok(f"Kueue holds {ours} of this namespace until their queue admits them")
        if managed
        else fail(*kueue.explain(cluster, spec.kind, queue))
    )


def local_queue(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check that the job's LocalQueue exists and is active. Raises: RemoteError."""
    name = str(spec.policy.queue)
    try:
        queue = cluster.first_served(LOCAL_QUEUES, lambda each: cluster.get(each, name, namespace=spec.namespace))
    except NotServedError:
        return fail(
            "the cluster does not serve LocalQueues: Kueue is not installed", f"omit --queue, or {KUEUE.install}"
        )
    except NotFoundError:
        return fail(
            f"no LocalQueue `{name}` in namespace `{spec.namespace}`", f"kubectl -n {spec.namespace} get localqueues"
        )
    return queue_state(queue)


def queue_state(queue: Object) -> Outcome:
    """Check that a LocalQueue is active; reports the number of pending jobs."""
    name = queue["metadata"]["name"]
    status = queue.get("status", {})
    active = next((each for each in status.get("conditions") or () if each.get("type") == "Active"), None)
    found = f"`{name}` of ClusterQueue `{on_one_line(str(queue.get('spec', {}).get('clusterQueue')))}`"
    if active and active.get("status") != "True":
        return fail(f"{found} is not active: {on_one_line(str(active.get('message')))}", "ask an administrator")
    return ok(f"{found}; {status.get('pendingWorkloads', 0)} jobs are pending")


def priority(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check that the job's WorkloadPriorityClass exists. Raises: RemoteError."""
    name = spec.policy.queue_priority
    if not name:
        return skipped("the job names none (--queue-priority)")
    try:
        found = cluster.first_served(QUEUE_PRIORITIES, lambda each: cluster.get(each, name))
    except NotServedError:
        return fail(
            "the cluster does not serve WorkloadPriorityClasses: Kueue is not installed",
            f"omit --queue, or {KUEUE.install}",
        )
    except NotFoundError:
        return fail(
            f"no WorkloadPriorityClass `{name}`: Kueue would never admit the job", "kubectl get workloadpriorityclasses"
        )
    return ok(f"`{name}`, priority {found.get('value')}")
