"""TrainJob of a job, and the TrainingRuntime that it refers to; pure.

The TrainJob has what it can carry: image, command, variables, resources and numbers. The other fields of the pods and the rules for
restarts are in a TrainingRuntime with the job's own name, or in one that an administrator made, which the TrainJob then patches. The
rules are measured in docs/decisions/0031.
"""

from collections.abc import Iterator
from typing import Final

from launcher.cluster.resources import RUNTIMES, Object
from launcher.kinds import trainjob
from launcher.spec.job import JobSpec, labels
from launcher.spec.metadata import metadata
from launcher.spec.pod_frame import NO_SIDECAR, SAFE_POD
from launcher.spec.pod_template import container_of, pod_template, shared_container
from trainer.config import parse_duration
from trainer.errors import InputError

OF_TRAINER: Final = {
    "image": "image",
    "command": "command",
    "args": "args",
    "env": "env",
    "resources": "resourcesPerNode",
}
"""Fields of the container that the TrainJob carries, with their names there."""

OF_ADMINISTRATORS: Final = {"app.kubernetes.io/name": "chexnet", "app.kubernetes.io/component": "trainer-runtime"}
"""Labels by which the launcher finds the runtime of an administrator."""

FRAMEWORK: Final = {"trainer.kubeflow.org/framework": "torch"}

VOLCANO_QUEUE: Final = "scheduling.volcano.sh/queue-name"
"""Annotation with the queue of the PodGroup. Source: kubeflow/trainer v2.3.0, pkg/runtime/framework/plugins/volcano."""

KILLED: Final = [*range(129, 144)]
"""Exit codes 128 + SIGHUP to 128 + SIGTERM: the container was stopped or killed, and a later start may succeed."""

MOST_RESTARTS: Final = 500
"""Limit of restarts after lost pods: far more than a run loses, but a container that is killed before the trainer starts, which
counts its own starts, must not restart for ever. JobSet restarts without a delay."""

FENCE_S: Final = 600
"""Seconds after `--deadline`, which the trainer itself keeps, until Trainer ends the job; the pods' logs are then lost."""

PATCHED: Final = frozenset(
    {
        *("affinity", "imagePullSecrets", "nodeSelector", "schedulingGates", "securityContext", "serviceAccountName"),
        *("terminationGracePeriodSeconds", "tolerations", "volumes"),
    }
)
"""Fields of a pod that a TrainJob can patch. Source: kubeflow/trainer v2.3.0, CRD of TrainJob, `runtimePatches`."""

PATCHED_IN_CONTAINER: Final = frozenset({"securityContext", "volumeMounts"})
"""The same for the trainer's container."""

POD_GROUP: Final = "podGroupPolicy"
"""Field of a runtime that makes Trainer create a PodGroup."""

MANAGER: Final = "chexnet-launcher/job"
"""Author of a patch. Source: the webhook of Trainer 2.3.0 requires a domain and a path."""


def job(spec: JobSpec) -> Object:
    """The TrainJob. Raises: InputError for a job that an administrator's runtime cannot run."""
    template = pod_template(spec)
    container = container_of(template)
    body: Object = {
        "runtimeRef": {"apiGroup": RUNTIMES.group, "kind": RUNTIMES.kind, "name": spec.runtime or spec.name},
        "trainer": {
            "numNodes": spec.nodes,
            "numProcPerNode": spec.per_node,
            **{ours: container[field] for field, ours in OF_TRAINER.items() if field in container},
        },
    }
    if spec.policy.deadline:
        body["activeDeadlineSeconds"] = parse_duration(spec.policy.deadline, "--deadline") + FENCE_S
    if spec.runtime:
        body["runtimePatches"] = [{"manager": MANAGER, "trainingRuntimeSpec": _in_node(_patch(spec, template))}]
    return {
        "apiVersion": trainjob.resource.group_version,
        "kind": trainjob.resource.kind,
        "metadata": metadata(spec),
        "spec": body,
    }


def runtime(spec: JobSpec) -> list[Object]:
    """The job's own TrainingRuntime; none if the job uses that of an administrator."""
    if spec.runtime:
        return []
    template = pod_template(spec)
    container = container_of(template)
    for field in OF_TRAINER:
        container.pop(field, None)
    queue = spec.policy.volcano_queue
    if queue:
        template["spec"].setdefault("schedulerName", "volcano")  # the plugin adds none
    made = _runtime({"name": spec.name, "namespace": spec.namespace, "labels": labels(spec)}, template)
    if queue:
        made["spec"][POD_GROUP] = {"volcano": {}}
        made["spec"]["template"]["metadata"] = {"annotations": {VOLCANO_QUEUE: queue}}
    return [made]


def administrators_runtime(name: str) -> Object:
    """The TrainingRuntime that an administrator makes for users who may not create one (k8s/components/trainer-runtime)."""
    return _runtime({"name": name, "labels": OF_ADMINISTRATORS}, _base())


def _runtime(named: Object, template: Object) -> Object:
    return {
        "apiVersion": RUNTIMES.group_version,
        "kind": RUNTIMES.kind,
        "metadata": named | {"labels": named["labels"] | FRAMEWORK},
        "spec": {
            "mlPolicy": {"numNodes": 1, "torch": {}},
            "template": {
                "spec": {
                    "failurePolicy": {
                        "maxRestarts": MOST_RESTARTS,
                        "rules": [
                            {"name": "permanent", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}
                        ],
                    },
                    "replicatedJobs": [_replicated_job(template)],
                }
            },
        },
    }


def _replicated_job(template: Object) -> Object:
    """The Job: the first pod that is lost ends it, so that the JobSet starts all pods again without a back-off delay."""
    return {
        "name": trainjob.ROLE,
        "template": {
            "metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}},
            "spec": {
                "backoffLimit": 0,
                "podFailurePolicy": {
                    "rules": [
                        {
                            "action": "FailJob",
                            "onExitCodes": {
                                "containerName": trainjob.container,
                                "operator": "NotIn",
                                "values": KILLED,
                            },
                        }
                    ]
                },
                "template": {**template, "spec": {"restartPolicy": "Never", **template["spec"]}},
            },
        },
    }


def _base() -> Object:
    """The part of the pods' template that no TrainJob can patch, and that all jobs share."""
    return {
        "metadata": {"labels": dict(NO_SIDECAR), "annotations": dict(NO_SIDECAR)},
        "spec": {**SAFE_POD, "containers": [shared_container(trainjob.container)]},
    }


def _patch(spec: JobSpec, template: Object) -> Object:
    """The template without what an administrator's runtime has. Raises: InputError for fields that no TrainJob can patch."""
    pod, container = template["spec"], container_of(template)
    beyond = list(_beyond_patches(spec, template))
    if beyond:
        flags = dict.fromkeys(_flag_of(spec, path) for path in beyond)
        origins = ", ".join(f"`{flag.split()[0]}`" for flag in flags)
        raise InputError(
            f"cannot use {', '.join(flags)} with the runtime `{spec.runtime}` of an administrator: a TrainJob cannot patch "
            f"{', '.join(beyond)} (from {origins})",
            hint=f"omit {', '.join(flags)}; or omit --runtime and have the permission to create trainingruntimes (k8s/base)",
        )
    return {
        "metadata": template["metadata"],
        "spec": {
            **{field: value for field, value in pod.items() if field in PATCHED},
            "containers": [
                {field: container[field] for field in ("name", *sorted(PATCHED_IN_CONTAINER)) if field in container}
            ],
        },
    }


def _beyond_patches(spec: JobSpec, template: Object) -> Iterator[str]:
    """Paths of fields that no TrainJob can patch and that differ from those of the runtime."""
    base, pod, container = _base(), template["spec"], container_of(template)
    yield from _differing(template["metadata"], {}, frozenset({"labels", "annotations"}), "metadata")
    yield from _differing(pod, base["spec"], PATCHED | {"containers"}, "spec")
    name = container["name"]
    allowed = PATCHED_IN_CONTAINER | OF_TRAINER.keys()
    yield from _differing(container, container_of(base), allowed, f"spec.containers[{name}]")
    yield from (f"spec.containers[{each['name']}]" for each in pod["containers"] if each is not container)
    if spec.policy.volcano_queue:
        yield POD_GROUP


def _differing(ours: Object, base: Object, allowed: frozenset[str], path: str) -> Iterator[str]:
    return (f"{path}.{field}" for field in sorted({*ours, *base} - allowed) if ours.get(field) != base.get(field))


def _flag_of(spec: JobSpec, path: str) -> str:
    """The flag that sets a field, with its value."""
    policy = spec.policy
    secrets = " --env-from-secret ".join(entry for entry in spec.pod.env_from_secret if "=" not in entry)
    given = {
        "spec.priorityClassName": ("--priority-class", policy.priority_class),
        f"spec.containers[{trainjob.container}].envFrom": ("--env-from-secret", secrets),
        POD_GROUP: ("--volcano-queue", policy.volcano_queue),
    }
    flag, value = given.get(path, ("", None))
    return f"{flag} {value}" if value else "--overlay"


def _in_node(template: Object) -> Object:
    """A patch of the pods' template at its place in a runtime."""
    return {
        "template": {
            "spec": {"replicatedJobs": [{"name": trainjob.ROLE, "template": {"spec": {"template": template}}}]}
        }
    }
