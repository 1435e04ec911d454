"""The API server and the training operator: there, of the right version, at work."""

import re
from collections.abc import Iterable
from typing import Final

from launcher.cluster.client import Cluster
from launcher.cluster.errors import ConflictError, ForbiddenError, NotFoundError
from launcher.cluster.resources import JOBS, NAMESPACES, PODS, Object, Resource
from launcher.doctor.runner import fail, ok, skipped, warn
from trainer.errors import on_one_line
from trainer.runs.probe import Outcome, refused

OLDEST: Final = 27
NEWEST: Final = 36
"""Minor versions of Kubernetes. Source: 1.27 has strict field validation for good; the operator 1.9.4 is built against 1.36."""

OPERATOR: Final = (1, 9)
"""Version of the training operator that the manifests were measured on."""

RELEASES: Final = {
    "v1-855e096": "v1.7.0",
    "v1-9e52eb7": "v1.8.0",
    "v1-04f9f13": "v1.8.1",
    "v1-5170a36": "v1.9.0",
    "v1-5c0e763": "v1.9.1",
    "v1-3f15cb8": "v1.9.2",
    "v1-d6eb98e": "v1.9.3",
    "v1-93c5489": "v1.9.4",
}
"""Releases by their image's tag. Source: kubeflow/trainer, manifests/overlays/standalone, at each release's tag."""

TRAIN_JOBS: Final = Resource("trainer.kubeflow.org/v1alpha1", "trainjobs", "TrainJob")
WEBHOOKS: Final = Resource(
    "admissionregistration.k8s.io/v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
    namespaced=False,
)

INSTALL: Final = "install the training operator: k8s/operator says how"

ADMISSION: Final = "change what it names, by flags or --overlay, or use another namespace"
"""What helps when the API server refuses what the user has the right to create."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)")


def api_server(version: str, server: str) -> Outcome:
    """Whether the server's version is one that the launcher knows."""
    found = f"Kubernetes {on_one_line(version)} at `{server}`"
    match = _VERSION.match(version)
    if match and (1, OLDEST) <= (int(match[1]), int(match[2])) <= (1, NEWEST):
        return ok(found)
    return warn(f"{found}; known to work are 1.{OLDEST} to 1.{NEWEST}")


def namespace(cluster: Cluster, name: str) -> Outcome:
    """Whether the job's namespace is there. Raises: RemoteError."""
    try:
        there = cluster.get(NAMESPACES, name)
    except NotFoundError:
        return fail(f"the cluster has no namespace `{name}`", f"-n NAME, or kubectl create namespace {name}")
    if there.get("status", {}).get("phase") == "Terminating":
        return fail(f"the namespace `{name}` is being deleted", "-n names another")
    level = (there["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce")
    return ok(f"`{name}`" + (f", Pod Security `{on_one_line(level)}`" if level else ""))


def job_api(cluster: Cluster) -> Outcome:
    """Whether PyTorchJobs are served; says whether the next generation's TrainJobs are too. Raises: RemoteError."""
    newer = "Trainer v2 is there too (not used)" if cluster.serves(TRAIN_JOBS) else "Trainer v2 is not there"
    if cluster.serves(JOBS):
        return ok(f"{JOBS.group_version} serves {JOBS.plural}; {newer}")
    return fail(f"the cluster does not know {JOBS.plural} of {JOBS.group_version}; {newer}", INSTALL)


def operator(deployments: Iterable[Object], volcano_queue: str | None) -> Outcome:
    """Whether the training operator is at work, and of which version."""
    found = [each for each in deployments if "training-operator" in each["metadata"]["name"]]
    if not found:
        return warn("no Deployment named training-operator in any namespace; does another run it?", INSTALL)
    deployment = found[0]
    place = f"{deployment['metadata']['namespace']}/{deployment['metadata']['name']}"
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    image = on_one_line(str(container.get("image", "")))
    if not deployment.get("status", {}).get("readyReplicas"):
        wanted = deployment["spec"].get("replicas", 1)
        return fail(
            f"`{place}` has no pod that is ready (of {wanted} wanted): jobs would stay without pods",
            f"kubectl -n {deployment['metadata']['namespace']} "
            + (
                f"describe deployment {deployment['metadata']['name']}"
                if wanted
                else f"scale deployment {deployment['metadata']['name']} --replicas=1"
            ),
        )
    if volcano_queue and not _schedules_gangs(container):
        return fail(
            f"`{place}` runs without --gang-scheduler-name=volcano, so --volcano-queue does nothing",
            "leave --volcano-queue out, or ask an administrator",
        )
    tag = image.rpartition(":")[2]
    tag = RELEASES.get(tag, tag)
    version = _VERSION.match(tag)
    if not version:
        return warn(f"`{place}` is ready; its image `{image}` does not tell a version", "v1.9.4 is known to work")
    if (int(version[1]), int(version[2])) != OPERATOR:
        return warn(f"`{place}` is ready, {tag}; v1.9 is known to work", INSTALL)
    return ok(f"`{place}` is ready, {tag}")


def _schedules_gangs(container: Object) -> bool:
    arguments = " ".join([*(container.get("command") or ()), *(container.get("args") or ())])
    return bool(re.search(r"--gang-scheduler-name[= ]volcano", arguments))


def webhook(configurations: Iterable[Object]) -> Outcome:
    """Whether something checks jobs when they are created."""
    for each in configurations:
        for hook in each.get("webhooks") or ():
            if any(_is_about_jobs(rule) for rule in hook.get("rules") or ()):
                return ok(f"`{each['metadata']['name']}` checks jobs when they are created")
    return warn("no webhook checks PyTorchJobs: a wrong job is only found once it is there", INSTALL)


def _is_about_jobs(rule: Object) -> bool:
    groups, kinds = rule.get("apiGroups") or (), rule.get("resources") or ()
    return JOBS.group in groups and bool({JOBS.plural, "*"} & set(kinds))


def job_dry_run(cluster: Cluster, job: Object) -> Outcome:
    """Whether the server and the operator's webhook would take the job. Raises: RemoteError."""
    if not cluster.may("create", JOBS, namespace=job["metadata"]["namespace"]):
        return skipped("not permitted to create jobs")
    try:
        cluster.create(JOBS, job, namespace=job["metadata"]["namespace"], dry_run=True)
    except ConflictError:
        return warn(f"a job named `{job['metadata']['name']}` is there already", "another --name, or launcher delete")
    except ForbiddenError as problem:
        return fail(refused(problem).found, ADMISSION)
    return ok("the server would take the job")


def pod_dry_run(cluster: Cluster, pod: Object) -> Outcome:
    """Whether the namespace would take the job's pods: Pod Security, limits, priority class, account. Raises: RemoteError."""
    space = pod["metadata"]["namespace"]
    if not cluster.may("create", PODS, namespace=space):
        return skipped("not permitted to create pods, which the operator does for you", "an administrator can tell")
    try:
        cluster.create(PODS, pod, namespace=space, dry_run=True)
    except ConflictError:
        return skipped("a pod of that name is there")
    except ForbiddenError as problem:  # admission's word, since the user has the right
        outcome = refused(problem)
        if "exceeded quota" in outcome.found:
            return warn(outcome.found, "see `quota`")
        return fail(outcome.found, ADMISSION)
    return ok("the namespace would take the job's pods")
