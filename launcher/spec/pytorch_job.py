"""PyTorchJob of a job; pure.

A single-node job has a Master. A multi-node job has Workers and no elasticPolicy: without an elasticPolicy every pod ends by itself
and its log stays (measured: docs/decisions/0006).
"""

from launcher.cluster.resources import Object
from launcher.kinds import pytorchjob
from launcher.spec.job import JobSpec
from launcher.spec.metadata import metadata
from launcher.spec.pod_template import pod_template
from trainer.config import parse_duration


def job(spec: JobSpec) -> Object:
    """The PyTorchJob."""
    role = "Worker" if spec.nodes > 1 else "Master"
    return {
        "apiVersion": pytorchjob.resource.group_version,
        "kind": pytorchjob.resource.kind,
        "metadata": metadata(spec),
        "spec": {
            "nprocPerNode": str(spec.per_node),
            "runPolicy": _run_policy(spec),
            "pytorchReplicaSpecs": {
                role: {"replicas": spec.nodes, "restartPolicy": "ExitCode", "template": pod_template(spec)}
            },
        },
    }


def _run_policy(spec: JobSpec) -> Object:
    policy: Object = {
        "cleanPodPolicy": "Running",
        # Not reached with restartPolicy ExitCode, unless a container of an overlay restarts: one for each node and incident.
        "backoffLimit": spec.policy.backoff * spec.nodes + 1,
    }
    if spec.policy.ttl:
        policy["ttlSecondsAfterFinished"] = parse_duration(spec.policy.ttl, "--ttl")
    if spec.policy.volcano_queue:
        policy["schedulingPolicy"] = {"queue": spec.policy.volcano_queue, "minAvailable": spec.fewest_nodes}
    return policy
