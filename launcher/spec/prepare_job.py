"""Job that prepares a data set: an index, and a share of the data set, for each pod; pure.

Who writes the index of the prepared set: docs/decisions/0035.
"""

from collections.abc import Iterator
from typing import Final

from launcher.cluster.resources import Object
from launcher.kinds import batchjob
from launcher.spec import s3_volume
from launcher.spec.job import DATA_MOUNT, OUTPUT_MOUNT, labels_of
from launcher.spec.metadata import queue_labels
from launcher.spec.options import pair
from launcher.spec.pod_frame import FALLBACK, claim, framed, host_path, security_context, variables
from launcher.spec.prepare import PrepareSpec
from trainer.config import parse_duration
from trainer.errors import InputError
from trainer.prepare_config import to_argv

GRACE_PERIOD_S: Final = 30
"""Nothing is saved at the end: parts that are done are there, and the others begin again."""

NAME_IN_OVERLAYS: Final = "pytorch"

_SHARE: Final = 'exec python -m trainer prepare "$@" --parts="$((JOB_COMPLETION_INDEX + 1))/{pods}"'
"""Kubernetes sets JOB_COMPLETION_INDEX in pods of an Indexed Job, from 0; shares count from 1."""


def job(spec: PrepareSpec) -> Object:
    """The Job. Bad input fails it at once; each share has new pods for other failures, up to `--backoff`."""
    return {
        "apiVersion": batchjob.resource.group_version,
        "kind": batchjob.resource.kind,
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": _labels(spec) | queue_labels(spec.policy.queue, spec.policy.queue_priority),
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": spec.pods,
            "parallelism": spec.pods,
            "backoffLimitPerIndex": spec.policy.backoff,
            "podFailurePolicy": {"rules": _rules()},
            **_limits(spec),
            "template": _template(spec),
        },
    }


def _rules() -> list[Object]:
    """What a failed pod means; without a rule it counts for `backoffLimitPerIndex`."""
    bad_input = {"containerName": batchjob.container, "operator": "In", "values": [InputError.exit_code]}
    disrupted = [{"type": "DisruptionTarget", "status": "True"}]
    return [{"action": "FailJob", "onExitCodes": bad_input}, {"action": "Ignore", "onPodConditions": disrupted}]


def _limits(spec: PrepareSpec) -> Object:
    given = {
        "ttlSecondsAfterFinished": ("--ttl", spec.policy.ttl),
        "activeDeadlineSeconds": ("--deadline", spec.policy.deadline),
    }
    return {key: parse_duration(text, flag) for key, (flag, text) in given.items() if text is not None}


def _template(spec: PrepareSpec) -> Object:
    template = framed(
        spec.pod,
        container=_container(spec),
        volumes=[volume for volume, _ in _volumes(spec)],
        labels=_labels(spec),
        priority_class=spec.policy.priority_class,
        grace_period_s=GRACE_PERIOD_S,
        container_name=batchjob.container,
    )
    template["spec"]["restartPolicy"] = "Never"  # required by podFailurePolicy
    return template


def _container(spec: PrepareSpec) -> Object:
    own = {"HOME": "/tmp"}  # noqa: S108 - the pod's own; programs keep caches there
    environment = [{"name": name, "value": value} for name, value in own.items()]
    if spec.reads_bucket or spec.writes_bucket:
        environment += s3_volume.variables(spec.s3)
    amounts = {"cpu": str(spec.cpus), "memory": spec.memory_limit}
    return {
        "name": NAME_IN_OVERLAYS,
        "image": spec.image,
        "command": ["sh", "-c", _SHARE.format(pods=spec.pods), "prepare"],
        "args": to_argv(spec.config),
        **variables(spec.pod, environment),
        # The limit is that of the cgroup, by which the trainer counts its processors.
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "terminationMessagePolicy": FALLBACK,
        "securityContext": security_context(read_only_root=True),
        "volumeMounts": [mount for _, mount in _volumes(spec)],
    }


def _volumes(spec: PrepareSpec) -> Iterator[tuple[Object, Object]]:
    """Volumes of the pod with their mounts."""
    shm = {"medium": "Memory", "sizeLimit": "1Gi"}
    yield {"name": "shm", "emptyDir": shm}, {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - the pod's own
    yield {"name": "tmp", "emptyDir": {}}, {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108 - as above
    if not spec.reads_bucket:
        source = claim(spec.s3.claim) if spec.s3.claim is not None else host_path(spec.data)
        yield {"name": "data"} | source, {"name": "data", "mountPath": DATA_MOUNT, "readOnly": True}
    if not spec.writes_bucket:
        yield {"name": "output"} | host_path(spec.out), {"name": "output", "mountPath": OUTPUT_MOUNT}


def _labels(spec: PrepareSpec) -> dict[str, str]:
    return labels_of(spec.name) | batchjob.COMPONENT | dict(pair(entry) for entry in spec.pod.label)
