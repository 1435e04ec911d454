"""The controllers of training jobs among the Deployments and webhooks of a cluster; pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from launcher.cluster.resources import PYTORCH_JOBS, TRAIN_JOBS, WORKLOADS, Object, Resource


@dataclass(frozen=True, kw_only=True)
class Controller:
    """A controller that a job needs: of its kind, or of queues."""

    title: str
    """Its name in messages."""

    short: str
    """The same in the name of a check."""

    jobs: Resource
    """What it reconciles."""

    name: str
    """Part of the names of its Deployment and Service."""

    image: str
    """Name of its image, without registry and tag."""

    label: tuple[str, str]
    """Label of its pods."""

    install: str
    """How to install it."""

    logs: str
    """Command that prints its log, as it is usually installed."""


TRAINING_OPERATOR: Final = Controller(
    title="training operator",
    short="operator",
    jobs=PYTORCH_JOBS,
    # Source: kubeflow/trainer v1.9.4, manifests/base.
    name="training-operator",
    image="training-operator",
    label=("control-plane", "kubeflow-training-operator"),
    install="install the training operator: see k8s/operator",
    logs="kubectl logs -n kubeflow deployment/training-operator --tail=20",
)

TRAINER: Final = Controller(
    title="Kubeflow Trainer",
    short="Trainer",
    jobs=TRAIN_JOBS,
    # Source: kubeflow/trainer v2.3.0, manifests/base/manager and manifests/overlays/manager.
    name="trainer-controller-manager",
    image="trainer-controller-manager",
    label=("app.kubernetes.io/name", "trainer"),
    install="install Kubeflow Trainer: see k8s/operator",
    logs="kubectl logs -n kubeflow-system deployment/kubeflow-trainer-controller-manager --tail=20",
)

KUEUE: Final = Controller(
    title="Kueue",
    short="Kueue",
    jobs=WORKLOADS[0],
    # Source: kubernetes-sigs/kueue v0.19.2, config/components/manager and charts/kueue.
    name="kueue-controller-manager",
    image="kueue",
    label=("app.kubernetes.io/name", "kueue"),
    logs="kubectl logs -n kueue-system deployment/kueue-controller-manager --tail=20",
    install="install Kueue: https://kueue.sigs.k8s.io/docs/installation",
)

CONTROLLERS: Final = (TRAINING_OPERATOR, TRAINER)
"""Those of kinds of jobs."""


def controller_of(jobs: Resource) -> Controller:
    """The controller of a kind of jobs."""
    return next(each for each in CONTROLLERS if each.jobs == jobs)


def deployments_of(controller: Controller, deployments: Iterable[Object]) -> list[Object]:
    """Deployments of a controller, those first that run its image or have its label; others have its name in theirs."""
    found = list(deployments)
    certain = [each for each in found if _is_of(controller, each)]
    return certain or [each for each in found if controller.name in each["metadata"]["name"]]


def container_of(controller: Controller, deployment: Object) -> Object:
    """The controller's own container in its Deployment, beside which there may be others."""
    containers: list[Object] = deployment["spec"]["template"]["spec"]["containers"]
    return next((each for each in containers if _runs(controller, each)), containers[0])


def _is_of(controller: Controller, deployment: Object) -> bool:
    template = deployment.get("spec", {}).get("template", {})
    key, value = controller.label
    labels = template.get("metadata", {}).get("labels") or {}
    containers = template.get("spec", {}).get("containers") or ()
    return labels.get(key) == value or any(_runs(controller, each) for each in containers)


def _runs(controller: Controller, container: Object) -> bool:
    return _repository(str(container.get("image", ""))).rpartition("/")[2] == controller.image


def _repository(image: str) -> str:
    """The image without digest and tag; a colon before the last slash belongs to the registry's port."""
    path, slash, name = image.partition("@")[0].rpartition("/")
    return f"{path}{slash}{name.partition(':')[0]}"


def hooks_of_jobs(jobs: Resource, configurations: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    """Webhooks that the server calls when a job of this kind is created, each with the name of its configuration."""
    for each in configurations:
        for hook in each.get("webhooks") or ():
            if any(_is_about_new_jobs(jobs, rule) for rule in hook.get("rules") or ()):
                yield str(each["metadata"]["name"]), hook


def _is_about_new_jobs(jobs: Resource, rule: Object) -> bool:
    version = jobs.group_version.rpartition("/")[2]
    wanted = {
        "apiGroups": {jobs.group, "*"},
        "apiVersions": {version, "*"},
        "resources": {jobs.plural, "*", "*/*"},
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
