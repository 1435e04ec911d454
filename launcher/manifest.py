"""From a job to the Kubernetes objects that run it; pure, and what `render` prints is what `submit` runs.

One node is a PyTorchJob with a Master. Several nodes are Workers without an elasticPolicy: with that every pod ends by
itself and keeps its log. Both get their rendezvous by PET_* variables (measured: docs/decisions/0006).
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import yaml

from launcher.spec import CACHE_MOUNT, DATA_MOUNT, OUTPUT_MOUNT, JobSpec, bucket_and_prefix, is_s3
from trainer.config import to_argv

Object = dict[str, Any]

CONTAINER: Final = "pytorch"
"""The container's name. Source: the operator's webhook refuses any other."""

PORT_NAME: Final = "pytorchjob-port"
PORT: Final = 23456

RESTARTS: Final = 3
"""How often torchrun starts its workers again, and how many incidents a job survives."""

GRACE_PERIOD_S: Final = 120
"""From SIGTERM to SIGKILL: longer than torchrun's own 30 s, within which the last checkpoint is written."""

USER_ID: Final = 1000

RENDEZVOUS: Final = {
    "join_timeout": 1800,  # nodes come one by one, each may pull the image first
    "read_timeout": 900,  # likewise for worker-0, which keeps the store; at torchrun's 60 s the others would use up the backoff limit
}

OWN_ENDPOINT: Final = "127.0.0.1:0"
"""A rendezvous that a node holds with itself, on a port that is free."""

VOLUME_NAME_LENGTH: Final = 63
"""Mountpoint's driver makes the volume's name a label."""


def render(spec: JobSpec) -> list[Object]:
    """The objects of a job in the order to create them, the PyTorchJob last."""
    return [*_bucket_volume(spec), _job(spec)]


def to_yaml(objects: Sequence[Object]) -> str:
    """One document per object, keys in the order they were built."""
    return yaml.dump_all(
        objects, Dumper=_Dumper, sort_keys=False, default_flow_style=False, explicit_start=len(objects) > 1, width=4096
    )


def to_json(objects: Sequence[Object]) -> str:
    """As kubectl prints it: one object as itself, several as a List."""
    shown = objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return json.dumps(shown, indent=2) + "\n"


def to_name(objects: Sequence[Object]) -> str:
    """The job as kubectl names it."""
    return f"pytorchjob.kubeflow.org/{objects[-1]['metadata']['name']}\n"


def _job(spec: JobSpec) -> Object:
    role = "Worker" if spec.nodes > 1 else "Master"
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": spec.name, "namespace": spec.namespace, "labels": _labels(spec)},
        "spec": {
            "nprocPerNode": str(spec.per_node),
            "runPolicy": {
                "cleanPodPolicy": "Running",
                # The operator adds up container restarts, and one incident restarts the container of every node.
                "backoffLimit": RESTARTS * spec.nodes + 1,
            },
            "pytorchReplicaSpecs": {
                role: {"replicas": spec.nodes, "restartPolicy": "OnFailure", "template": _pod_template(spec)}
            },
        },
    }


def _pod_template(spec: JobSpec) -> Object:
    no_sidecar = {"sidecar.istio.io/inject": "false"}  # a sidecar never ends, nor would the job
    return {
        "metadata": {"labels": _labels(spec) | no_sidecar, "annotations": dict(no_sidecar)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,  # a Service called `master` would set MASTER_PORT
            "terminationGracePeriodSeconds": GRACE_PERIOD_S,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(spec)],
            "volumes": [volume for volume, _ in _volumes(spec)],
        },
    }


def _container(spec: JobSpec) -> Object:
    return {
        "name": CONTAINER,
        "image": spec.image,
        "command": ["python", "-m", "trainer.gang"],
        "args": _args(spec),
        "env": [{"name": name, "value": value} for name, value in _environment(spec).items()],
        "ports": [{"name": PORT_NAME, "containerPort": PORT}],
        "resources": _resources(spec),
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": _capabilities(spec)},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [mount for _, mount in _volumes(spec)],
    }


def _args(spec: JobSpec) -> list[str]:
    # The operator sets PET_NNODES after ours, to the number of pods; only a flag is stronger (docs/decisions/0006).
    nodes = [f"--nnodes={spec.elastic}"] if spec.elastic else []
    return [f"--max-restarts={RESTARTS}", *nodes, "-m", "trainer", "train", *to_argv(spec.train)]


def _environment(spec: JobSpec) -> dict[str, str]:
    environment = dict(spec.hardware.env)
    if spec.nodes > 1:
        environment |= spec.hardware.multi_node_env
        environment |= {"PET_NNODES": spec.elastic or str(spec.nodes), "PET_NPROC_PER_NODE": str(spec.per_node)}
    return environment | _rendezvous(spec)


def _rendezvous(spec: JobSpec) -> dict[str, str]:
    # For one node too: else torchrun's is static, its store outlives the workers, and those that start again may read the
    # addresses of those that are gone (docs/decisions/0006).
    environment = {
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{spec.name}-worker-0:{PORT}" if spec.nodes > 1 else OWN_ENDPOINT,
        "PET_RDZV_ID": spec.name,
    }
    if spec.nodes > 1:
        environment["PET_RDZV_CONF"] = ",".join(f"{key}={value}" for key, value in RENDEZVOUS.items())
    return environment | {
        # Every round tells its store's address anew; else a node that comes back waits `read_timeout` for it (docs/decisions/0006).
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }


def _resources(spec: JobSpec) -> Object:
    """Requests and limits; extended resources and huge pages must be equal in both."""
    row = spec.hardware
    both: Object = {"memory": _mebibytes(row.memory_mib * spec.per_node)}
    if row.hugepages_mib:
        both["hugepages-2Mi"] = _mebibytes(row.hugepages_mib * spec.per_node)
    if row.resource:
        both[row.resource] = spec.per_node
    return {"requests": {"cpu": _cores(row.cpu_milli * spec.per_node)} | both, "limits": both}


def _cores(milli: int) -> str:
    return f"{milli}m" if milli % 1000 else f"{milli // 1000}"


def _mebibytes(mib: int) -> str:
    return f"{mib}Mi" if mib % 1024 else f"{mib // 1024}Gi"


def _capabilities(spec: JobSpec) -> Object:
    added = spec.hardware.capabilities
    return {"drop": ["ALL"]} | ({"add": list(added)} if added else {})


def _volumes(spec: JobSpec) -> Iterator[tuple[Object, Object]]:
    """Each volume of the pod with its mount."""
    shm: Object = {"medium": "Memory", "sizeLimit": _mebibytes(spec.hardware.shm_mib * spec.per_node)}
    yield {"name": "shm", "emptyDir": shm}, {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - the pod's own
    yield {"name": "cache", "emptyDir": {}}, {"name": "cache", "mountPath": CACHE_MOUNT}
    data = _claim(spec) if is_s3(spec.data) else _directory(spec.data)
    yield {"name": "data"} | data, {"name": "data", "mountPath": DATA_MOUNT, "readOnly": True}
    if not is_s3(spec.output):
        yield {"name": "output"} | _directory(spec.output), {"name": "output", "mountPath": OUTPUT_MOUNT}


def _directory(path: str) -> Object:
    return {"hostPath": {"path": path, "type": "Directory"}}


def _claim(spec: JobSpec) -> Object:
    return {"persistentVolumeClaim": {"claimName": _claim_name(spec), "readOnly": True}}


def _bucket_volume(spec: JobSpec) -> list[Object]:
    """The bucket as a volume, and the claim that only this job makes on it; nothing for a directory."""
    if not is_s3(spec.data):
        return []
    bucket, prefix = bucket_and_prefix(spec.data)
    name = _volume_name(spec)
    access = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    size = {"storage": "1Gi"}  # must be there, means nothing
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": _labels(spec)},
        "spec": {
            "capacity": size,
            **access,
            "persistentVolumeReclaimPolicy": "Retain",
            "claimRef": {"namespace": spec.namespace, "name": _claim_name(spec)},
            # Without allow-other only root may read.
            "mountOptions": ["allow-other", "read-only", *([f"prefix {prefix}"] if prefix else [])],
            "csi": {
                "driver": "s3.csi.aws.com",
                "volumeHandle": name,
                "volumeAttributes": {"bucketName": bucket},
            },
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": _claim_name(spec), "namespace": spec.namespace, "labels": _labels(spec)},
        "spec": {**access, "volumeName": name, "resources": {"requests": size}},
    }
    return [volume, claim]


def _claim_name(spec: JobSpec) -> str:
    return f"{spec.name}-data"


def _volume_name(spec: JobSpec) -> str:
    """Unique in the cluster; the dot, which neither part can hold, keeps `a-b`/`c` and `a`/`b-c` apart."""
    name = f"{spec.namespace}.{spec.name}"
    if len(name) <= VOLUME_NAME_LENGTH:
        return name
    return f"{name[: VOLUME_NAME_LENGTH - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _labels(spec: JobSpec) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "chexnet",
        "app.kubernetes.io/instance": spec.name,
        "app.kubernetes.io/managed-by": "chexnet-launcher",
    }


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]  # chosen by what PyYAML was built with
    """No anchors, and text that looks like a number in double quotes."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    node = dumper.represent_str(text)
    if dumper.resolve(yaml.ScalarNode, text, (True, False)) != node.tag:  # type: ignore[no-untyped-call]
        node.style = '"'
    return node


_Dumper.add_representer(str, _text)
