"""Kubernetes objects of a job; pure, and `submit` creates exactly what `render` prints.

A single-node job is a PyTorchJob with a Master. A multi-node job has Workers and no elasticPolicy: without an elasticPolicy
every pod ends by itself and its log stays. Both get their rendezvous from PET_* variables (measured: docs/decisions/0006). The
exit code of a pod decides whether it is recreated or the job fails (docs/decisions/0009).
"""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from launcher.cluster.resources import CONTAINER, Object
from launcher.output import as_yaml
from launcher.spec import s3_volume
from launcher.spec.accelerators import EFA_RESOURCE, mode_env
from launcher.spec.fields import settings_of
from launcher.spec.job import CACHE_MOUNT, DATA_MOUNT, OUTPUT_MOUNT, JobSpec, labels
from launcher.spec.options import pair, toleration_parts
from launcher.spec.overlay import merged
from trainer.config import parse_duration, to_argv
from trainer.layout import POD_ADDRESS

SETTINGS: Final = "chexnet-launcher/settings"
"""Annotation with the settings of the job as JSON; `clone` and `resume` read it."""

PORT_NAME: Final = "pytorchjob-port"
PORT: Final = 23456

GRACE_PERIOD_S: Final = 120
"""Time from SIGTERM to SIGKILL: longer than torchrun's own 30 s, in which the last checkpoint is written."""

USER_ID: Final = 1000

RENDEZVOUS: Final = {
    "join_timeout": 1800,  # nodes join one by one, and each may first pull the image
    "read_timeout": 900,  # the same for worker-0, which hosts the store; with torchrun's 60 s the others would use up the restarts
}

THREADS: Final = "OMP_NUM_THREADS"
"""Set to the CPU request: otherwise OpenMP uses all cores of the node, and another thread count changes the last bits of the
results."""

OWN_ENDPOINT: Final = "127.0.0.1:0"
"""Rendezvous endpoint of a single node, on a free port."""


def render(spec: JobSpec) -> list[Object]:
    """The objects of a job in the order of creation, the PyTorchJob last."""
    return [*s3_volume.volume(spec), _job(spec)]


def to_yaml(objects: Sequence[Object]) -> str:
    """One YAML document per object, with the order of keys unchanged."""
    start = "---\n" if len(objects) > 1 else ""
    return "".join(start + as_yaml(each) for each in objects)


def to_json(objects: Sequence[Object]) -> str:
    """JSON as kubectl prints it: a single object, or a List of several."""
    shown = objects[0] if len(objects) == 1 else {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return json.dumps(shown, indent=2) + "\n"


def to_name(objects: Sequence[Object]) -> str:
    """Name of the job as kubectl prints it."""
    return f"pytorchjob.kubeflow.org/{objects[-1]['metadata']['name']}\n"


def _job(spec: JobSpec) -> Object:
    role = "Worker" if spec.nodes > 1 else "Master"
    queue = {"kueue.x-k8s.io/queue-name": spec.policy.queue} if spec.policy.queue else {}
    return {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {
            "name": spec.name,
            "namespace": spec.namespace,
            "labels": _labels(spec) | queue,
            "annotations": {SETTINGS: json.dumps(settings_of(spec), sort_keys=True)},
        },
        "spec": {
            "nprocPerNode": str(spec.per_node),
            "runPolicy": _run_policy(spec),
            "pytorchReplicaSpecs": {
                role: {"replicas": spec.nodes, "restartPolicy": "ExitCode", "template": _pod_template(spec)}
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


def _pod_template(spec: JobSpec) -> Object:
    no_sidecar = {"sidecar.istio.io/inject": "false"}  # a sidecar does not end by itself, so the job would not finish
    template: Object = {
        "metadata": {"labels": _labels(spec) | no_sidecar, "annotations": dict(no_sidecar)},
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,  # a Service named `master` would set MASTER_PORT
            "terminationGracePeriodSeconds": GRACE_PERIOD_S,
            **_pod_options(spec),
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
    return merged(template, spec.pod.overlay.patch) if spec.pod.overlay else template


def _pod_options(spec: JobSpec) -> Object:
    pod = spec.pod
    fields: Object = {
        "serviceAccountName": pod.service_account,
        "imagePullSecrets": [{"name": name} for name in dict.fromkeys(pod.image_pull_secret)],
        "nodeSelector": dict(pair(entry) for entry in pod.node_selector),
        "tolerations": [_toleration(entry) for entry in pod.toleration],
        "priorityClassName": spec.policy.priority_class,
    }
    return {key: value for key, value in fields.items() if value}


def _toleration(entry: str) -> Object:
    key, value, effect = toleration_parts(entry)
    toleration = {"key": key} | ({"operator": "Exists"} if value is None else {"operator": "Equal", "value": value})
    return toleration | ({"effect": effect} if effect else {})


def _container(spec: JobSpec) -> Object:
    sources = [{"secretRef": {"name": entry}} for entry in spec.pod.env_from_secret if "=" not in entry]
    return {
        "name": CONTAINER,
        "image": spec.image,
        "command": ["python", "-m", "trainer.runtime.entrypoint"],
        "args": _args(spec),
        "ports": [{"name": PORT_NAME, "containerPort": PORT}],
        # Each name once, as the API server requires (strategic merge key); the user's value has precedence.
        "env": list({entry["name"]: entry for entry in _environment(spec)}.values()),
        **({"envFrom": sources} if sources else {}),
        "resources": _resources(spec),
        # If the entrypoint writes no message, as when it is killed, the last lines of the log are in the pod's status (docs/decisions/0027).
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": spec.hardware.read_only_root,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [mount for _, mount in _volumes(spec)],
    }


def _args(spec: JobSpec) -> list[str]:
    # The operator appends PET_NNODES with the number of pods after ours; only a flag overrides it (docs/decisions/0006).
    nodes = [f"--nnodes={spec.elastic}"] if spec.elastic else []
    return [f"--max-restarts={spec.policy.backoff}", *nodes, "-m", "trainer", "train", *to_argv(spec.train)]


def _environment(spec: JobSpec) -> Iterator[Object]:
    """Variables of the launcher, then of the buckets, then of the user; later ones have precedence."""
    variables = {"HOME": "/tmp"} | dict(mode_env(spec.mode)) | dict(spec.hardware.env)  # noqa: S108 - the pod's own; programs keep caches there
    if spec.nodes > 1:
        variables |= spec.hardware.multi_node_env
        variables |= {"PET_NNODES": spec.elastic or str(spec.nodes), "PET_NPROC_PER_NODE": str(spec.per_node)}
    if spec.adapters:
        variables |= spec.adapters.env
    variables |= _rendezvous(spec)
    variables[THREADS] = str(max(1, spec.hardware.cpu_milli // 1000))
    yield from ({"name": name, "value": value} for name, value in variables.items())
    yield {"name": POD_ADDRESS, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    yield from s3_volume.environment(spec)
    yield from ({"name": name, "value": value} for name, value in map(pair, spec.pod.env))
    for entry in spec.pod.env_from_secret:
        name, source = pair(entry)
        if source:
            secret, _, key = source.partition(":")
            yield {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def _rendezvous(spec: JobSpec) -> dict[str, str]:
    # Also for one node: torchrun's default rendezvous is static, its store outlives the workers, and restarted workers may read
    # the addresses of ended ones (docs/decisions/0006).
    environment = {
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{spec.name}-worker-0:{PORT}" if spec.nodes > 1 else OWN_ENDPOINT,
        "PET_RDZV_ID": spec.name,
    }
    if spec.nodes > 1:
        environment["PET_RDZV_CONF"] = ",".join(f"{key}={value}" for key, value in RENDEZVOUS.items())
    return environment | {
        # Each round publishes the address of its store; otherwise a node that returns waits `read_timeout` for it (docs/decisions/0006).
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }


def _resources(spec: JobSpec) -> Object:
    """Requests and limits; the API server requires equal values for extended resources and huge pages."""
    row = spec.hardware
    memory_mib = row.memory_of_mib.get(spec.train.model, row.memory_mib)
    both: Object = {"memory": _mebibytes(memory_mib * spec.per_node)}
    pages_mib = (row.hugepages_mib or 0) * spec.per_node + (spec.adapters.hugepages_mib if spec.adapters else 0)
    if pages_mib:
        both["hugepages-2Mi"] = _mebibytes(pages_mib)
    if row.resource:
        both[row.resource] = spec.per_node
    if spec.adapters:
        both[EFA_RESOURCE] = spec.efa
    return {"requests": {"cpu": _cores(row.cpu_milli * spec.per_node)} | both, "limits": both}


def _cores(milli: int) -> str:
    return f"{milli}m" if milli % 1000 else f"{milli // 1000}"


def _mebibytes(mib: int) -> str:
    return f"{mib}Mi" if mib % 1024 else f"{mib // 1024}Gi"


def _volumes(spec: JobSpec) -> Iterator[tuple[Object, Object]]:
    """Volumes of the pod with their mounts."""
    shm: Object = {"medium": "Memory", "sizeLimit": _mebibytes(spec.hardware.shm_mib * spec.per_node)}
    yield {"name": "shm", "emptyDir": shm}, {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - the pod's own
    for name, path in (("cache", CACHE_MOUNT), ("tmp", "/tmp")):  # noqa: S108 - as above
        yield {"name": name, "emptyDir": {}}, {"name": name, "mountPath": path}
    if not spec.reads_bucket:
        on_claim = spec.mounts_bucket or spec.s3.claim is not None
        data = _claim(spec) if on_claim else _host_path(spec.data)
        yield {"name": "data"} | data, {"name": "data", "mountPath": DATA_MOUNT, "readOnly": True}
    if not spec.output_at.is_bucket:
        yield {"name": "output"} | _host_path(spec.output), {"name": "output", "mountPath": OUTPUT_MOUNT}


def _host_path(path: str) -> Object:
    return {"hostPath": {"path": path, "type": "Directory"}}


def _claim(spec: JobSpec) -> Object:
    return {"persistentVolumeClaim": {"claimName": s3_volume.claim_name(spec), "readOnly": True}}


def _labels(spec: JobSpec) -> dict[str, str]:
    return labels(spec) | dict(pair(entry) for entry in spec.pod.label)
