"""PyTorchJob of the training operator (Kubeflow Trainer v1)."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from launcher.cluster.resources import PYTORCH_JOBS, SERVICES, Object, Resource
from launcher.kinds.state import Propagation, State, true_conditions

api: Final = "pytorchjob"
resource: Final = PYTORCH_JOBS

container: Final = "pytorch"
"""Source: the operator's webhook refuses any other."""

job_label: Final = "training.kubeflow.org/job-name"
"""Source: kubeflow/trainer v1.9.4, pkg/apis/kubeflow.org/v1/common_types.go."""

selector: Final = ""

propagation: Final[Propagation] = "Foreground"

resumed: Final = '{"spec":{"runPolicy":{"suspend":false}}}'

ROLE_LABEL: Final = "training.kubeflow.org/replica-type"
index_label: Final = "training.kubeflow.org/replica-index"

_ORDER: Final[tuple[State, ...]] = ("Failed", "Succeeded", "Suspended", "Restarting", "Running", "Created")
"""Conditions by precedence. Source: the operator keeps old conditions with status False beside new ones."""


def outcome(job: Object) -> State:
    """The first condition that holds by precedence; Pending until the operator has set one."""
    conditions = true_conditions(job)
    return next((name for name in _ORDER if name in conditions), "Pending")


def is_seen(job: Object) -> bool:
    """The operator sets the first condition at once."""
    return bool(job.get("status", {}).get("conditions"))


def is_suspended(job: Object) -> bool:
    """Whether `runPolicy.suspend` is set."""
    return bool(job["spec"].get("runPolicy", {}).get("suspend"))


def smallest(name: str, labels: Mapping[str, str]) -> Object:
    """A Master with the operator's container."""
    pod = {"spec": {"containers": [{"name": container, "image": "none"}]}}
    return {
        "apiVersion": resource.group_version,
        "kind": resource.kind,
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"pytorchReplicaSpecs": {"Master": {"replicas": 1, "template": pod}}},
    }


def wanted_pods(job: Object) -> int:
    """Sum of all replicas."""
    return sum(replica.get("replicas", 1) for replica in _replicas(job).values())


def pod_spec(job: Object) -> Object:
    """That of the first replica type; jobs of the launcher have only one."""
    first: Object = next(iter(_replicas(job).values()), {})
    spec: Object = first.get("template", {}).get("spec", {})
    return spec


def variables(job: Object) -> Iterator[Object]:
    """The trainer's container in each replica type."""
    for replica in _replicas(job).values():
        containers = replica["template"]["spec"].get("containers", ())
        yield from (each for each in containers if each["name"] == container)


def pod_names(job: Object) -> "re.Pattern[str]":
    """`NAME-worker-3`; not those of a job named `NAME-worker-0`."""
    roles = "|".join(re.escape(role.lower()) for role in _replicas(job))
    return re.compile(rf"{re.escape(job['metadata']['name'])}-({roles})-\d+")


def last_pod(name: str, pods: int) -> str:
    """Name of the last pod and of its Service; the longer one of the two roles."""
    return f"{name}-worker-{pods - 1}"


def made(pods: int) -> Mapping[Resource, int]:
    """The job, and a Service for each pod."""
    return {resource: 1, SERVICES: pods}


def place(pod: Object) -> tuple[str, int]:
    """Replica type and index."""
    labels = pod["metadata"].get("labels") or {}
    if ROLE_LABEL not in labels or index_label not in labels:
        return "", 0
    return str(labels[ROLE_LABEL]), int(labels[index_label])


def owns(job: Object, pod: Object) -> bool:
    """By the owner's UID."""
    return job["metadata"]["uid"] in {owner["uid"] for owner in pod["metadata"].get("ownerReferences") or ()}


def _replicas(job: Object) -> dict[str, Object]:
    replicas: dict[str, Object] = job["spec"].get("pytorchReplicaSpecs") or {}
    return replicas
