"""Job of Kubernetes with an index for each pod, as `launcher prepare` makes it; Jobs of other programs are none of this kind."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from launcher.cluster.resources import BATCH_JOBS, OURS, Object, Resource
from launcher.kinds.completion_index import COMPLETION_INDEX, role_and_index
from launcher.kinds.state import Propagation, State, true_conditions

api: Final = "job"
resource: Final = BATCH_JOBS

container: Final = "prepare"

COMPONENT: Final = {"app.kubernetes.io/component": "prepare"}
"""Label of these Jobs and their pods, which no other job has."""

selector: Final = ",".join([OURS, *(f"{key}={value}" for key, value in COMPONENT.items())])

job_label: Final = "batch.kubernetes.io/job-name"
"""Source: kubernetes, pkg/apis/batch/types.go."""

index_label: Final = COMPLETION_INDEX

propagation: Final[Propagation] = "Foreground"

resumed: Final = '{"spec":{"suspend":false}}'

ROLE: Final = "share"


def outcome(job: Object) -> State:
    """By the conditions, and before the end by the numbers of pods; Running when one is ready."""
    conditions, status = true_conditions(job), job.get("status", {})
    if conditions & {"Failed", "FailureTarget"}:
        return "Failed" if "Failed" in conditions else "Running"
    if "Complete" in conditions:
        return "Succeeded"
    if "Suspended" in conditions or is_suspended(job):
        return "Suspended"
    if status.get("ready"):
        return "Running"
    return "Created" if status.get("active") or status.get("succeeded") else "Pending"


def is_seen(job: Object) -> bool:  # noqa: ARG001 - interface of a kind
    """Kubernetes itself is the controller: none has to be installed."""
    return True


def is_suspended(job: Object) -> bool:
    """Whether `suspend` is set."""
    return bool(job["spec"].get("suspend"))


def smallest(name: str, labels: Mapping[str, str]) -> Object:
    """One pod."""
    pod = {"spec": {"restartPolicy": "Never", "containers": [{"name": container, "image": "none"}]}}
    return {
        "apiVersion": resource.group_version,
        "kind": resource.kind,
        "metadata": {"name": name, "labels": dict(labels)},
        "spec": {"template": pod},
    }


def wanted_pods(job: Object) -> int:
    """One for each index."""
    return int(job["spec"].get("completions") or 1)


def pod_spec(job: Object) -> Object:
    """That of the template."""
    spec: Object = job["spec"].get("template", {}).get("spec", {})
    return spec


def variables(job: Object) -> Iterator[Object]:  # noqa: ARG001 - interface of a kind
    """None: a share has no run of which it would need to recognise its own earlier starts."""
    yield from ()


def pod_names(job: Object) -> "re.Pattern[str]":
    """`NAME-3-x7k2p`."""
    return re.compile(rf"{re.escape(job['metadata']['name'])}-\d+-[a-z0-9]{{5}}")


def last_pod(name: str, pods: int) -> str:
    """Name of the last pod."""
    return f"{name}-{pods - 1}-xxxxx"


def made(pods: int) -> Mapping[Resource, int]:  # noqa: ARG001 - interface of a kind
    """The job."""
    return {resource: 1}


def place(pod: Object) -> tuple[str, int]:
    """Role and completion index; after a restart, several pods have the same."""
    return role_and_index(pod, ROLE)


def owns(job: Object, pod: Object) -> bool:
    """By the owner's UID."""
    return job["metadata"]["uid"] in {owner["uid"] for owner in pod["metadata"].get("ownerReferences") or ()}
