"""Whether Kueue holds the jobs of a queue.

Kueue suspends a job when it is created, if it manages its kind and namespace. A job with a queue that it does not manage starts at
once, outside of the quota, and no object reports it: only the answer to a dry run shows whether a job is held.
"""

import secrets

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.operator import KUEUE, container_of, deployments_of
from launcher.cluster.resources import DEPLOYMENTS, LOCAL_QUEUES, QUEUE_LABEL, Object
from launcher.kinds.runtimes import with_existing_runtime
from trainer.errors import RemoteError, on_one_line


class NotHeldError(RemoteError):
    """Kueue does not hold a job that names a queue."""


def check_held(cluster: Cluster, job: Object, answer: Object) -> None:
    """Check that Kueue holds a job with a queue, by the server's answer to a dry run. Raises: NotHeldError."""
    kind, queue = kinds.of(job), (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    if queue is not None and not kind.is_suspended(answer):
        why, advice = explain(cluster, kind, queue)
        raise NotHeldError(
            f"cannot use --queue {queue}: {why}, so the job would start at once, outside of any quota (from `--queue`)",
            hint=advice,
        )


def manages(cluster: Cluster, kind: kinds.JobKind, queue: str) -> bool | None:
    """Whether Kueue holds jobs of a kind in the client's namespace; None if that can't be tried."""
    smallest = kind.smallest(f"try-{secrets.token_hex(2)}", {QUEUE_LABEL: queue})
    try:
        tried = with_existing_runtime(cluster, smallest) if kind.api == "trainjob" else smallest
        return None if tried is None else kind.is_suspended(cluster.create(kind.resource, tried, dry_run=True))
    except RemoteError:
        return None


def explain(cluster: Cluster, kind: kinds.JobKind, queue: str) -> tuple[str, str]:
    """Why Kueue does not hold jobs of a kind, and what helps. Raises: RemoteError."""
    if not any(cluster.serves(each) for each in LOCAL_QUEUES):
        return "Kueue is not installed (the cluster serves no LocalQueues)", f"omit --queue; or {KUEUE.install}"
    ours, place = f"{kind.resource.kind}s", f"in namespace `{cluster.namespace}`"
    framework = f"{kind.resource.group}/{kind.resource.kind.lower()}"
    change = f"ask an administrator to add `{framework}` to `integrations.frameworks` of Kueue's configuration"
    others = [each for each in kinds.TRAINING if each is not kind] if kind in kinds.TRAINING else []
    states = {each.api: manages(cluster, each, queue) for each in others}
    other = next((each for each in others if states.get(each.api)), None)
    untried = next((each for each in others if each.api in states and states[each.api] is None), None)
    if other is not None:
        return (
            f"{installed(cluster)} manages {other.resource.kind}s {place}, but not {ours}",
            f"--api {other.api} (`--set api={other.api}` of clone and resume); or {change}",
        )
    advice = f"{change}, or the namespace to its `managedJobsNamespaceSelector`; or omit --queue"
    if untried is not None and cluster.serves(untried.resource):
        advice = f"--api {untried.api}, if Kueue manages that; or {advice}"
    return f"{installed(cluster)} does not manage {ours} {place}", advice


def installed(cluster: Cluster) -> str:
    """`Kueue v0.19.2 (kueue-system/kueue-controller-manager)`; `Kueue` where Deployments can't be listed."""
    try:
        found = deployments_of(KUEUE, cluster.list(DEPLOYMENTS, everywhere=True))
    except RemoteError:
        found = []
    if not found:
        return KUEUE.title
    image, metadata = str(container_of(KUEUE, found[0]).get("image", "")), found[0]["metadata"]
    return on_one_line(f"Kueue {image.rpartition(':')[2]} ({metadata['namespace']}/{metadata['name']})")
