"""Check what Kubeflow Trainer needs for a TrainJob: JobSet, and the TrainingRuntime of the job."""

from collections.abc import Iterable, Iterator
from typing import Final, TypeGuard

from launcher.cluster.client import Cluster
from launcher.cluster.errors import NotFoundError
from launcher.cluster.resources import JOB_SETS, RUNTIMES, Object
from launcher.doctor.runner import fail, ok, warn
from launcher.kinds import trainjob
from launcher.spec.job import JobSpec
from launcher.spec.train_job import administrators_runtime
from trainer.errors import on_one_line
from trainer.runs.checks import Outcome

DEPLOYMENT: Final = "jobset-controller-manager"
"""Source: kubernetes-sigs/jobset v0.11, config/components/manager."""

SHOWN: Final = 3
"""Number of differing fields in a row."""

INSTALL: Final = "install JobSet with Kubeflow Trainer: see k8s/operator"


def job_set(cluster: Cluster, deployments: Iterable[Object]) -> Outcome:
    """Check that JobSets are served and their controller is ready. Raises: RemoteError."""
    if not cluster.serves(JOB_SETS):
        return fail(f"the cluster does not serve {JOB_SETS.plural} of {JOB_SETS.group_version}", INSTALL)
    found = next((each for each in deployments if each["metadata"]["name"] == DEPLOYMENT), None)
    if found is None:
        return warn(f"no Deployment named {DEPLOYMENT} in any namespace; it may run under another name", INSTALL)
    place = f"{found['metadata']['namespace']}/{DEPLOYMENT}"
    if not found.get("status", {}).get("readyReplicas"):
        return fail(
            f"`{place}` has no ready pod: TrainJobs would get no pods",
            f"kubectl -n {found['metadata']['namespace']} describe deployment {DEPLOYMENT}",
        )
    return ok(f"`{place}` is ready")


def runtime(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check the job's runtime: that of an administrator exists, or the user may create one. Raises: RemoteError."""
    if spec.runtime is None:
        if cluster.may("create", RUNTIMES, namespace=spec.namespace):
            return ok(f"the job gets its own, `{spec.name}`")
        return fail(
            f"you may not create trainingruntimes in namespace `{spec.namespace}`, and the job names none",
            "--runtime NAME of an administrator (k8s/components/trainer-runtime), or ask for the permission (k8s/base)",
        )
    try:
        found = cluster.get(RUNTIMES, spec.runtime, namespace=spec.namespace)
    except NotFoundError:
        return fail(
            f"no TrainingRuntime `{spec.runtime}` in namespace `{spec.namespace}`",
            f"kubectl -n {spec.namespace} get trainingruntimes; k8s/components/trainer-runtime creates one",
        )
    return _usable(found)


def _usable(found: Object) -> Outcome:
    """Check that a runtime is for torch and has the trainer's container."""
    name, content = on_one_line(str(found["metadata"]["name"])), found.get("spec", {})
    jobs = {each.get("name"): each for each in content.get("template", {}).get("spec", {}).get("replicatedJobs") or ()}
    pod = jobs.get(trainjob.ROLE, {}).get("template", {}).get("spec", {}).get("template", {}).get("spec", {})
    containers = {each.get("name") for each in pod.get("containers") or ()}
    if "torch" not in (content.get("mlPolicy") or {}) or trainjob.container not in containers:
        return fail(
            f"`{name}` is not for torch, or has no container `{trainjob.container}`",
            "use the runtime of k8s/components/trainer-runtime",
        )
    if "failurePolicy" not in content["template"]["spec"]:
        return warn(
            f"`{name}` has no failurePolicy: a lost pod fails the job",
            "use the runtime of k8s/components/trainer-runtime",
        )
    other = list(_differing(administrators_runtime(name)["spec"], content, ""))
    if other:
        return warn(
            f"`{name}` is not that of this version of the launcher: {', '.join(other[:SHOWN])}{', …' * (len(other) > SHOWN)} differ",
            "ask an administrator to apply k8s/components/trainer-runtime of this version",
        )
    return ok(f"`{name}` is for torch and restarts lost pods")


def _differing(ours: object, theirs: object, path: str) -> Iterator[str]:
    """Paths of fields that `theirs` lacks or has with another value; its other fields, and other elements of named lists, may be any."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key, value in ours.items():
            yield from _differing(value, theirs.get(key), f"{path}.{key}".removeprefix("."))
    elif _are_named(ours) and _are_named(theirs):
        by_name = {each["name"]: each for each in theirs}
        for each in ours:
            yield from _differing(each, by_name.get(each["name"]), f"{path}[{each['name']}]")
    elif ours != theirs:
        yield path


def _are_named(value: object) -> TypeGuard[list[Object]]:
    return isinstance(value, list) and all(isinstance(each, dict) and "name" in each for each in value)
