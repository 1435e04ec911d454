"""Check the API server and the controller of the job's kind: presence, versions and readiness."""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from launcher.cluster.client import Cluster
from launcher.cluster.errors import ConflictError, ForbiddenError, NotFoundError
from launcher.cluster.operator import (
    CONTROLLERS,
    KUEUE,
    TRAINER,
    TRAINING_OPERATOR,
    Controller,
    container_of,
    deployments_of,
    hooks_of_jobs,
    selects,
    service_of,
)
from launcher.cluster.resources import CLAIMS, NAMESPACES, PODS, SERVICES, VOLUMES, Object
from launcher.doctor.runner import fail, ok, skipped, warn
from launcher.kinds.accept import RESOURCES, dry_run
from trainer.errors import on_one_line
from trainer.runs.checks import Outcome, refused

OLDEST: Final = 27
NEWEST: Final = 36
"""Minor versions of Kubernetes. Source: strict field validation is stable in 1.27; the operator 1.9.4 is built against 1.36."""

TESTED: Final = {TRAINING_OPERATOR: (1, 9, 4), TRAINER: (2, 3, 0), KUEUE: (0, 19, 2)}
"""Versions of the controllers with which the Kubernetes manifests were tested."""

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
"""Releases by image tag. Source: kubeflow/trainer, manifests/overlays/standalone, at each release's tag."""

ADMISSION: Final = "change the named fields with flags or --overlay, or use another namespace"
"""Fix for objects that admission refuses although the user has the permission."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)")


def api_server(version: str, server: str) -> Outcome:
    """Check that the server's version is supported."""
    found = f"Kubernetes {on_one_line(version)} at `{server}`"
    match = _VERSION.match(version)
    if match and (1, OLDEST) <= (int(match[1]), int(match[2])) <= (1, NEWEST):
        return ok(found)
    return warn(f"{found}; supported are 1.{OLDEST} to 1.{NEWEST}")


def namespace(cluster: Cluster, name: str) -> Outcome:
    """Check that the job's namespace exists. Raises: RemoteError."""
    try:
        there = cluster.get(NAMESPACES, name)
    except NotFoundError:
        return fail(f"the cluster has no namespace `{name}`", f"-n NAME, or kubectl create namespace {name}")
    if there.get("status", {}).get("phase") == "Terminating":
        return fail(f"the namespace `{name}` is being deleted", "use another -n NAME")
    level = (there["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce")
    return ok(f"`{name}`" + (f", Pod Security `{on_one_line(level)}`" if level else ""))


def job_api(cluster: Cluster, controller: Controller) -> Outcome:
    """Check that the job's kind is served; reports whether the other kind is. Raises: RemoteError."""
    other = next(each for each in CONTROLLERS if each is not controller)
    served = f"{other.jobs.plural} are {'also' if cluster.serves(other.jobs) else 'not'} served"
    jobs = controller.jobs
    if cluster.serves(jobs):
        return ok(f"{jobs.group_version} serves {jobs.plural}; {served}")
    return fail(f"the cluster does not serve {jobs.plural} of {jobs.group_version}; {served}", controller.install)


def operator(controller: Controller, deployments: Iterable[Object], volcano_queue: str | None) -> Outcome:
    """Check that the controller is ready, and its version."""
    found = deployments_of(controller, deployments)
    if not found:
        return warn(
            f"no Deployment named {controller.name} in any namespace; it may run under another name", controller.install
        )
    deployment = found[0]
    place = f"{deployment['metadata']['namespace']}/{deployment['metadata']['name']}"
    container = container_of(controller, deployment)
    if not deployment.get("status", {}).get("readyReplicas"):
        return _unready(deployment, place)
    if controller is TRAINING_OPERATOR and volcano_queue and not _schedules_gangs(container):
        return fail(
            f"`{place}` runs without --gang-scheduler-name=volcano, so --volcano-queue has no effect",
            "omit --volcano-queue, or ask an administrator",
        )
    return _version(controller, place, on_one_line(str(container.get("image", ""))))


def _unready(deployment: Object, place: str) -> Outcome:
    wanted, name = deployment["spec"].get("replicas", 1), deployment["metadata"]["name"]
    change = f"describe deployment {name}" if wanted else f"scale deployment {name} --replicas=1"
    return fail(
        f"`{place}` has no ready pod (of {wanted}): jobs would get no pods",
        f"kubectl -n {deployment['metadata']['namespace']} {change}",
    )


def _version(controller: Controller, place: str, image: str) -> Outcome:
    """Compare the version of the image with the tested one."""
    tested = ".".join(map(str, TESTED[controller]))
    tag = image.rpartition(":")[2]
    tag = RELEASES.get(tag, tag)
    version = _VERSION.match(tag)
    if not version:
        return warn(f"`{place}` is ready; its image `{image}` has no known version", f"v{tested} is tested")
    if (int(version[1]), int(version[2])) != TESTED[controller][:2]:
        return warn(f"`{place}` is ready, {tag}; v{tested.rpartition('.')[0]} is tested", controller.install)
    return ok(f"`{place}` is ready, {tag}")


def _schedules_gangs(container: Object) -> bool:
    arguments = " ".join([*(container.get("command") or ()), *(container.get("args") or ())])
    return bool(re.search(r"--gang-scheduler-name[= ]volcano", arguments))


def webhook(
    cluster: Cluster, controller: Controller, configurations: Iterable[Object], deployments: Iterable[Object]
) -> Outcome:
    """Check that the controller's webhook validates jobs at creation; those of other programs, such as Kueue's, do not count.

    Raises: RemoteError.
    """
    found = deployments_of(controller, deployments)
    if not found:
        return skipped(f"no {controller.title} was found whose webhook it would be")
    others = []
    for configuration, hook in hooks_of_jobs(controller.jobs, configurations):
        service = service_of(hook)
        if service and any(_answers(cluster, service, each) for each in found):
            return ok(f"`{on_one_line(configuration)}` validates jobs at creation")
        others.append(on_one_line(configuration))
    known = f" (another program's does: {', '.join(f'`{name}`' for name in dict.fromkeys(others))})" if others else ""
    return warn(
        f"no webhook of the {controller.title} validates {controller.jobs.kind}s{known}: errors in a job are only found after its creation",
        controller.install,
    )


def _answers(cluster: Cluster, service: tuple[str, str], deployment: Object) -> bool:
    """Whether the Service belongs to the Deployment. Raises: ForbiddenError if that can't be seen."""
    namespace, name = service
    if namespace != deployment["metadata"]["namespace"]:
        return False
    if name == deployment["metadata"]["name"]:
        return True
    try:
        return selects(cluster.get(SERVICES, name, namespace=namespace), deployment)
    except NotFoundError:
        return False


def job_dry_run(cluster: Cluster, objects: Sequence[Object]) -> Outcome:
    """Validate the job with a dry run in the server and the controller's webhook. Raises: RemoteError."""
    job = objects[-1]
    tried = [each for each in objects if RESOURCES[each["kind"]] not in {VOLUMES, CLAIMS}]
    for resource in (RESOURCES[each["kind"]] for each in tried):
        if not cluster.may("create", resource, namespace=job["metadata"]["namespace"]):
            return skipped(f"not permitted to create {resource.plural}")
    try:
        answer = dry_run(cluster, tried)
    except ConflictError:
        return warn(f"a job named `{job['metadata']['name']}` already exists", "use another --name, or launcher delete")
    except ForbiddenError as problem:
        return fail(refused(problem).found, ADMISSION)
    if answer is None:
        return warn("the server accepts the runtime; the job was not validated, as no runtime exists yet")
    return ok("the server accepts the job")


def pod_dry_run(cluster: Cluster, pod: Object) -> Outcome:
    """Validate a pod of the job with a dry run: Pod Security, limits, priority class, account. Raises: RemoteError."""
    space = pod["metadata"]["namespace"]
    if not cluster.may("create", PODS, namespace=space):
        return skipped("not permitted to create pods, which the operator does for jobs", "ask an administrator")
    try:
        cluster.create(PODS, pod, namespace=space, dry_run=True)
    except ConflictError:
        return skipped("a pod of that name exists")
    except ForbiddenError as problem:  # refused by admission, as the user has the permission
        outcome = refused(problem)
        if "exceeded quota" in outcome.found:
            return warn(outcome.found, "see `quota`")
        return fail(outcome.found, ADMISSION)
    return ok("the namespace accepts the job's pods")
