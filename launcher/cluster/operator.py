"""The training operator among the Deployments and webhooks of a cluster; pure."""

from collections.abc import Iterable, Iterator
from typing import Final

from launcher.cluster.resources import JOBS, Object

NAME: Final = "training-operator"
"""Name of its Deployment, Service and image. Source: kubeflow/trainer v1.9.4, manifests/base."""

_LABEL: Final = ("control-plane", "kubeflow-training-operator")
"""Label of its pods. Source: as above."""


def operators(deployments: Iterable[Object]) -> list[Object]:
    """Deployments of the training operator, those first that run its image or have its label; others have its name in theirs."""
    found = list(deployments)
    certain = [each for each in found if _is_operator(each)]
    return certain or [each for each in found if NAME in each["metadata"]["name"]]


def container_of(operator: Object) -> Object:
    """The operator's own container in its Deployment, beside which there may be others."""
    containers: list[Object] = operator["spec"]["template"]["spec"]["containers"]
    return next((each for each in containers if _runs_operator(each)), containers[0])


def _is_operator(deployment: Object) -> bool:
    template = deployment.get("spec", {}).get("template", {})
    key, value = _LABEL
    labels = template.get("metadata", {}).get("labels") or {}
    return labels.get(key) == value or any(map(_runs_operator, template.get("spec", {}).get("containers") or ()))


def _runs_operator(container: Object) -> bool:
    return _repository(str(container.get("image", ""))).rpartition("/")[2] == NAME


def _repository(image: str) -> str:
    """The image without digest and tag; a colon before the last slash belongs to the registry's port."""
    path, slash, name = image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{name.partition(':')[0]}"


def hooks_of_jobs(configurations: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    """Webhooks that the server calls when a PyTorchJob is created, each with the name of its configuration."""
    for each in configurations:
        for hook in each.get("webhooks") or ():
            if any(_is_about_new_jobs(rule) for rule in hook.get("rules") or ()):
                yield str(each["metadata"]["name"]), hook


def _is_about_new_jobs(rule: Object) -> bool:
    version = JOBS.group_version.rpartition("/")[2]
    wanted = {
        "apiGroups": {JOBS.group, "*"},
        "apiVersions": {version, "*"},
        "resources": {JOBS.plural, "*", "*/*"},
        "operations": {"CREATE", "*"},
    }
    return all(names & set(rule.get(key) or ()) for key, names in wanted.items())


def service_of(hook: Object) -> tuple[str, str] | None:
    """Namespace and name of the Service that answers a webhook; None for one outside the cluster."""
    service = (hook.get("clientConfig") or {}).get("service")
    return (str(service.get("namespace")), str(service.get("name"))) if service else None


def selects(service: Object, deployment: Object) -> bool:
    """Whether the Service's requests go to pods of the Deployment."""
    selector = service.get("spec", {}).get("selector") or {}
    labels = deployment["spec"]["template"].get("metadata", {}).get("labels") or {}
    return bool(selector) and selector.items() <= labels.items()
