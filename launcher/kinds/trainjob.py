"""TrainJob of Kubeflow Trainer v2: the controller makes a JobSet of it, which makes a Job, which makes the pods."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from launcher.cluster.resources import BATCH_JOBS, CONFIG_MAPS, JOB_SETS, SERVICES, TRAIN_JOBS, Object, Resource
from launcher.kinds.completion_index import COMPLETION_INDEX, role_and_index
from launcher.kinds.state import Propagation, State, true_conditions

api: Final = "trainjob"
resource: Final = TRAIN_JOBS

container: Final = "node"
"""Source: kubeflow/trainer v2.3.0, pkg/constants/constants.go; Trainer patches only this container."""

job_label: Final = "jobset.sigs.k8s.io/jobset-name"
"""Source: kubernetes-sigs/jobset v0.11, api/jobset/v1alpha2/jobset_types.go; the JobSet has the name of the TrainJob."""

selector: Final = ""

propagation: Final[Propagation] = "Background"
"""In the foreground, the garbage collector deletes the TrainingRuntime of the job first, without which Trainer's webhook refuses to
remove the finalizer of the TrainJob (measured: docs/decisions/0031)."""

resumed: Final = '{"spec":{"suspend":false}}'

index_label: Final = COMPLETION_INDEX

ROLE: Final = "node"
"""Name of the replicated Job with the trainer's pods. Source: as `container`."""


def outcome(job: Object) -> State:
    """By the conditions, which are few, and before the end by the state of the JobSet's Jobs.

    Running when all pods are ready; Created while some are not; Pending until the JobSet exists.
    """
    conditions = true_conditions(job)
    if "Failed" in conditions:
        return "Failed"
    if "Complete" in conditions:
        return "Succeeded"
    if "Suspended" in conditions or is_suspended(job):
        return "Suspended"
    jobs = job.get("status", {}).get("jobsStatus") or ()
    if any(each.get("ready") for each in jobs):
        return "Running"
    return "Created" if any(each.get("active") for each in jobs) else "Pending"


def is_seen(job: Object) -> bool:
    """A running TrainJob has no conditions, but the state of its Jobs."""
    status = job.get("status", {})
    return bool(status.get("conditions") or status.get("jobsStatus"))


def is_suspended(job: Object) -> bool:
    """Whether `suspend` is set."""
    return bool(job["spec"].get("suspend"))


def smallest(name: str, labels: Mapping[str, str]) -> Object:
    """Without a runtime, which the caller adds."""
    return {
        "apiVersion": resource.group_version,
        "kind": resource.kind,
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {},
    }


def wanted_pods(job: Object) -> int:
    """Number of nodes; that of the runtime is not read."""
    return int(_trainer(job).get("numNodes") or 1)


def pod_spec(job: Object) -> Object:
    """The trainer's container; the rest is in the runtime."""
    trainer = _trainer(job)
    return {
        "containers": [
            {"name": container, "image": trainer.get("image", ""), "resources": trainer.get("resourcesPerNode") or {}}
        ]
    }


def variables(job: Object) -> Iterator[Object]:
    """The trainer."""
    if "trainer" in job["spec"]:
        yield job["spec"]["trainer"]


def pod_names(job: Object) -> "re.Pattern[str]":
    """`NAME-node-0-3-x7k2p`."""
    return re.compile(rf"{re.escape(job['metadata']['name'])}-{ROLE}-0-\d+-[a-z0-9]{{5}}")


def last_pod(name: str, pods: int) -> str:
    """Name of the last pod. Source: kubernetes-sigs/jobset v0.11, pkg/webhooks/jobset_webhook.go."""
    return f"{name}-{ROLE}-0-{pods - 1}-xxxxx"


def made(pods: int) -> Mapping[Resource, int]:  # noqa: ARG001 - interface of a kind
    """The job, its JobSet with one Job and one Service, and the snapshot of its runtime.

    Source: kubeflow/trainer v2.3.0, pkg/controller; measured: docs/decisions/0031.
    """
    return dict.fromkeys((resource, JOB_SETS, BATCH_JOBS, SERVICES, CONFIG_MAPS), 1)


def place(pod: Object) -> tuple[str, int]:
    """Name of the replicated Job and completion index; after a restart, several pods have the same."""
    return role_and_index(pod, ROLE)


def owns(job: Object, pod: Object) -> bool:
    """By age: the owner of a pod is a Job, and an earlier JobSet of this name is gone before a later one is created."""
    return str(pod["metadata"].get("creationTimestamp")) >= str(job["metadata"].get("creationTimestamp"))


def _trainer(job: Object) -> Object:
    trainer: Object = job["spec"].get("trainer") or {}
    return trainer
