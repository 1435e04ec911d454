"""Pods of a job, the same for every kind but for the rendezvous; pure.

Pods get their rendezvous from PET_* variables (measured: docs/decisions/0006, docs/decisions/0031). The exit code of a pod decides
whether it is recreated or the job fails (docs/decisions/0009).
"""

from collections.abc import Iterator
from typing import Final

from launcher import kinds
from launcher.cluster.resources import Object
from launcher.kinds import pytorchjob
from launcher.spec import s3_volume
from launcher.spec.accelerators import EFA_RESOURCE, mode_env
from launcher.spec.job import CACHE_MOUNT, DATA_MOUNT, OUTPUT_MOUNT, JobSpec, labels
from launcher.spec.options import pair
from launcher.spec.pod_frame import FALLBACK, claim, framed, host_path, mebibytes, security_context, variables
from trainer.config import to_argv
from trainer.layout import POD_ADDRESS, POD_NODE

PORT_NAME: Final = "pytorchjob-port"
PORT: Final = 23456

GRACE_PERIOD_S: Final = 120
"""Time from SIGTERM to SIGKILL: longer than torchrun's own 30 s, in which the last checkpoint is written."""

RENDEZVOUS: Final = {
    "join_timeout": 1800,  # nodes join one by one, and each may first pull the image
    "read_timeout": 900,  # the same for worker-0, which hosts the store; with torchrun's 60 s the others would use up the restarts
}

THREADS: Final = "OMP_NUM_THREADS"
"""Set to the CPU request: otherwise OpenMP uses all cores of the node, and another thread count changes the last bits of the
results."""

OWN_ENDPOINT: Final = "127.0.0.1:0"
"""Rendezvous endpoint of a single node, on a free port."""


def pod_template(spec: JobSpec) -> Object:
    """The template of a job's pods, with the overlay."""
    return framed(
        spec.pod,
        container=_container(spec),
        volumes=[volume for volume, _ in _volumes(spec)],
        labels=all_labels(spec),
        priority_class=spec.policy.priority_class,
        grace_period_s=GRACE_PERIOD_S,
        container_name=spec.kind.container,
    )


def container_of(template: Object) -> Object:
    """The trainer's container in a pod template."""
    names = {kind.container for kind in kinds.TRAINING}
    containers: list[Object] = template["spec"]["containers"]
    return next(each for each in containers if each["name"] in names)


def shared_container(name: str) -> Object:
    """The fields of the trainer's container that are the same in every job."""
    return {
        "name": name,
        "ports": [{"name": PORT_NAME, "containerPort": PORT}],
        "terminationMessagePolicy": FALLBACK,
    }


def _container(spec: JobSpec) -> Object:
    shared = shared_container(pytorchjob.container)
    return {
        "name": shared["name"],
        "image": spec.image,
        "command": ["python", "-m", "trainer.runtime.entrypoint"],
        "args": _args(spec),
        "ports": shared["ports"],
        **variables(spec.pod, _environment(spec)),
        "resources": _resources(spec),
        "terminationMessagePolicy": shared["terminationMessagePolicy"],
        "securityContext": security_context(read_only_root=spec.hardware.read_only_root),
        "volumeMounts": [mount for _, mount in _volumes(spec)],
    }


def _args(spec: JobSpec) -> list[str]:
    # The controller sets PET_NNODES to the number of pods, whatever ours is; only a flag overrides it (docs/decisions/0006).
    nodes = [f"--nnodes={spec.elastic}"] if spec.elastic else []
    return [f"--max-restarts={spec.policy.backoff}", *nodes, "-m", "trainer", "train", *to_argv(spec.train)]


def _environment(spec: JobSpec) -> Iterator[Object]:
    """Variables of the launcher, then of the buckets."""
    values = {"HOME": "/tmp"} | dict(mode_env(spec.mode)) | dict(spec.hardware.env)  # noqa: S108 - the pod's own; programs keep caches there
    if spec.nodes > 1:
        values |= spec.hardware.multi_node_env
    if spec.nodes > 1 and spec.kind.api == "pytorchjob":  # Trainer sets these itself, and refuses ours
        values |= {"PET_NNODES": spec.elastic or str(spec.nodes), "PET_NPROC_PER_NODE": str(spec.per_node)}
    if spec.adapters:
        values |= spec.adapters.env
    values |= _rendezvous(spec)
    values[THREADS] = str(max(1, spec.hardware.cpu_milli // 1000))
    yield from ({"name": name, "value": value} for name, value in values.items())
    for name, path in ((POD_ADDRESS, "status.podIP"), (POD_NODE, "spec.nodeName")):
        yield {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}
    yield from s3_volume.environment(spec)


def _rendezvous(spec: JobSpec) -> dict[str, str]:
    # Also for one node: torchrun's default rendezvous is static, its store outlives the workers, and restarted workers may read
    # the addresses of ended ones (docs/decisions/0006).
    environment = {
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": f"{_first_pod(spec)}:{PORT}" if spec.nodes > 1 else OWN_ENDPOINT,
        "PET_RDZV_ID": spec.name,
    }
    if spec.nodes > 1:
        environment["PET_RDZV_CONF"] = ",".join(f"{key}={value}" for key, value in RENDEZVOUS.items())
    return environment | {
        # Each round publishes the address of its store; otherwise a node that returns waits `read_timeout` for it (docs/decisions/0006).
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }


def _first_pod(spec: JobSpec) -> str:
    """Host name of the first pod: that of its own Service, or that of its place in the Service of the JobSet."""
    return f"{spec.name}-worker-0" if spec.kind.api == "pytorchjob" else f"{spec.name}-node-0-0.{spec.name}"


def _resources(spec: JobSpec) -> Object:
    """Requests and limits; the API server requires equal values for extended resources and huge pages."""
    row = spec.hardware
    memory_mib = row.memory_of_mib.get(spec.train.model, row.memory_mib)
    both: Object = {"memory": mebibytes(memory_mib * spec.per_node)}
    pages_mib = (row.hugepages_mib or 0) * spec.per_node + (spec.adapters.hugepages_mib if spec.adapters else 0)
    if pages_mib:
        both["hugepages-2Mi"] = mebibytes(pages_mib)
    if row.resource:
        both[row.resource] = spec.per_node
    if spec.adapters:
        both[EFA_RESOURCE] = spec.efa
    return {"requests": {"cpu": _cores(row.cpu_milli * spec.per_node)} | both, "limits": both}


def _cores(milli: int) -> str:
    return f"{milli}m" if milli % 1000 else f"{milli // 1000}"


def _volumes(spec: JobSpec) -> Iterator[tuple[Object, Object]]:
    """Volumes of the pod with their mounts."""
    shm: Object = {"medium": "Memory", "sizeLimit": mebibytes(spec.hardware.shm_mib * spec.per_node)}
    yield {"name": "shm", "emptyDir": shm}, {"name": "shm", "mountPath": "/dev/shm"}  # noqa: S108 - the pod's own
    for name, path in (("cache", CACHE_MOUNT), ("tmp", "/tmp")):  # noqa: S108 - as above
        yield {"name": name, "emptyDir": {}}, {"name": name, "mountPath": path}
    if not spec.reads_bucket:
        on_claim = spec.mounts_bucket or spec.s3.claim is not None
        data = claim(s3_volume.claim_name(spec)) if on_claim else host_path(spec.data)
        yield {"name": "data"} | data, {"name": "data", "mountPath": DATA_MOUNT, "readOnly": True}
    if not spec.output_at.is_bucket:
        yield {"name": "output"} | host_path(spec.output), {"name": "output", "mountPath": OUTPUT_MOUNT}


def all_labels(spec: JobSpec) -> dict[str, str]:
    """Labels of the job and its pods, with those of the user."""
    return labels(spec) | dict(pair(entry) for entry in spec.pod.label)
