"""What the pods of every job have in common, whatever their container does; pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from launcher.cluster.resources import Object
from launcher.kinds import pytorchjob
from launcher.spec.options import PodOptions, pair, toleration_parts
from launcher.spec.overlay import merged

USER_ID: Final = 1000

NO_SIDECAR: Final = {"sidecar.istio.io/inject": "false"}
"""Label and annotation: a sidecar does not end by itself, so the job would not finish."""

SAFE_POD: Final[Object] = {
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,  # a Service named `master` would set MASTER_PORT
}

FALLBACK: Final = "FallbackToLogsOnError"
"""If the container writes no message, as when it is killed, the last lines of the log are in the pod's status (docs/decisions/0027)."""


def framed(
    pod: PodOptions,
    *,
    container: Object,
    volumes: list[Object],
    labels: dict[str, str],
    priority_class: str | None,
    grace_period_s: int,
    container_name: str,
) -> Object:
    """The template of pods with this container, and with the overlay, in which the container is named `pytorch` for every kind of job."""
    template: Object = {
        "metadata": {"labels": labels | NO_SIDECAR, "annotations": dict(NO_SIDECAR)},
        "spec": {
            **SAFE_POD,
            "terminationGracePeriodSeconds": grace_period_s,
            **_pod_options(pod, priority_class),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": USER_ID,
                "runAsGroup": USER_ID,
                "fsGroup": USER_ID,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [container],
            "volumes": volumes,
        },
    }
    patched = merged(template, pod.overlay.patch) if pod.overlay else template
    for each in patched["spec"]["containers"]:
        if each["name"] == pytorchjob.container:
            each["name"] = container_name
    return patched


def _pod_options(pod: PodOptions, priority_class: str | None) -> Object:
    fields: Object = {
        "serviceAccountName": pod.service_account,
        "imagePullSecrets": [{"name": name} for name in dict.fromkeys(pod.image_pull_secret)],
        "nodeSelector": dict(pair(entry) for entry in pod.node_selector),
        "tolerations": [_toleration(entry) for entry in pod.toleration],
        "priorityClassName": priority_class,
    }
    return {key: value for key, value in fields.items() if value}


def _toleration(entry: str) -> Object:
    key, value, effect = toleration_parts(entry)
    toleration = {"key": key} | ({"operator": "Exists"} if value is None else {"operator": "Equal", "value": value})
    return toleration | ({"effect": effect} if effect else {})


def security_context(*, read_only_root: bool) -> Object:
    """That of a container."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": read_only_root,
        "capabilities": {"drop": ["ALL"]},
    }


def variables(pod: PodOptions, ours: Iterable[Object]) -> Object:
    """The fields `env` and `envFrom` of a container: our variables, then those of the user, which have precedence."""
    sources = [{"secretRef": {"name": entry}} for entry in pod.env_from_secret if "=" not in entry]
    # Each name once, as the API server requires (strategic merge key).
    every = list({entry["name"]: entry for entry in (*ours, *_of_user(pod))}.values())
    return {"env": every, **({"envFrom": sources} if sources else {})}


def _of_user(pod: PodOptions) -> Iterator[Object]:
    yield from ({"name": name, "value": value} for name, value in map(pair, pod.env))
    for entry in pod.env_from_secret:
        name, source = pair(entry)
        if source:
            secret, _, key = source.partition(":")
            yield {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def host_path(path: str) -> Object:
    """Source of a volume: a directory that exists on every node."""
    return {"hostPath": {"path": path, "type": "Directory"}}


def claim(name: str) -> Object:
    """Source of a read-only volume: an existing claim."""
    return {"persistentVolumeClaim": {"claimName": name, "readOnly": True}}


def mebibytes(mib: int) -> str:
    """A quantity of Kubernetes."""
    return f"{mib}Mi" if mib % 1024 else f"{mib // 1024}Gi"
