"""Check the objects that a job refers to: Secrets, service accounts, claims and CSI drivers."""

import base64
from collections.abc import Sequence
from typing import Final

from launcher.cluster.client import Cluster
from launcher.cluster.errors import NotFoundError
from launcher.cluster.resources import (
    CLAIMS,
    CSI_DRIVERS,
    CSI_NODES,
    PRIORITY_CLASSES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Object,
)
from launcher.doctor.runner import fail, ok, skipped, warn
from launcher.spec.job import JobSpec
from launcher.spec.options import pair
from launcher.spec.s3_volume import KEYS, SCALITY
from trainer.errors import on_one_line
from trainer.limits import parsed_json
from trainer.location import Location
from trainer.runs.checks import Outcome

DRIVER_KEYS: Final = ("key_id", "access_key")
"""Source: Scality's driver, docs/configuration/volume-configuration.md."""

ROLE: Final = "eks.amazonaws.com/role-arn"
"""Annotation of a service account with an AWS role."""

DOCKER_HUB: Final = "docker.io"


def secrets_of(spec: JobSpec) -> dict[str, set[str]]:
    """The Secrets that pods read, with the required keys."""
    wanted: dict[str, set[str]] = {}
    if spec.s3.secret and (spec.output_at.is_bucket or spec.reads_bucket or Location(spec.train.weights).is_bucket):
        wanted.setdefault(spec.s3.secret, set()).update(KEYS)
    driver_secret = spec.s3.csi_secret or spec.s3.secret
    if spec.mounts_bucket and spec.s3.csi_driver == SCALITY and driver_secret:
        wanted.setdefault(driver_secret, set()).update(DRIVER_KEYS)
    for entry in spec.pod.env_from_secret:
        name, source = pair(entry)
        secret, _, key = (source or name).partition(":")
        wanted.setdefault(secret, set()).update({key} if key else ())
    return wanted


def secret(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check that the Secrets exist with their keys; values are not read. Raises: RemoteError."""
    wanted = secrets_of(spec)
    if not wanted and spec.s3.endpoint and spec.output_at.is_bucket:
        return warn(f"no Secret is given: pods have no access keys for `{spec.s3.endpoint}`", "--s3-secret NAME")
    if not wanted:
        return skipped("the job reads no Secret")
    problems = {
        name: problem
        for name, keys in wanted.items()
        if (problem := _secret_problem(cluster, spec.namespace, name, keys))
    }
    if problems:
        first = next(iter(problems))
        lines = ", ".join(sorted(wanted[first])) or "each variable"
        return fail(
            "; ".join(problems.values()),
            f"kubectl -n {spec.namespace} create secret generic {first} --from-env-file=FILE, with a line NAME=… for {lines}",
        )
    return ok("; ".join(f"`{name}`{' has ' * bool(keys)}{', '.join(sorted(keys))}" for name, keys in wanted.items()))


def _secret_problem(cluster: Cluster, namespace: str, name: str, keys: set[str]) -> str:
    """Problem of a Secret, empty without one."""
    try:
        there = cluster.get(SECRETS, name, namespace=namespace).get("data") or {}
    except NotFoundError:
        return f"`{name}` is not in namespace `{namespace}`"
    absent = sorted(keys - there.keys())
    return f"`{name}` has no {', '.join(absent)}" if absent else ""


def service_account(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check that the pods' service account exists; reports its AWS role. Raises: RemoteError."""
    name = spec.pod.service_account or "default"
    try:
        account = cluster.get(SERVICE_ACCOUNTS, name, namespace=spec.namespace)
    except NotFoundError:
        return fail(
            f"no service account `{name}` in namespace `{spec.namespace}`",
            f"kubectl -n {spec.namespace} create serviceaccount {name}, or apply k8s/base",
        )
    role = (account["metadata"].get("annotations") or {}).get(ROLE)
    if role:
        return ok(f"`{name}`, with the role `{on_one_line(role)}`")
    if spec.output_at.is_bucket and not spec.s3.secret and not spec.s3.endpoint:
        return warn(
            f"`{name}` has no role ({ROLE}) and no Secret is given: pods have only their node's permissions in S3",
            "--s3-secret NAME, or --service-account with a role",
        )
    return ok(f"`{name}`")


def pull_secret(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check that the pull Secrets exist and are for the image's registry. Raises: RemoteError."""
    names = spec.pod.image_pull_secret
    if not names:
        return skipped("none is given; nodes pull without one, or with that of the service account")
    registry = registry_of(spec.image)
    hosts: set[str] = set()
    for name in names:
        try:
            there = cluster.get(SECRETS, name, namespace=spec.namespace)
        except NotFoundError:
            return fail(
                f"`{name}` is not in namespace `{spec.namespace}`",
                f"kubectl -n {spec.namespace} create secret docker-registry {name} --docker-server={registry} …",
            )
        if there.get("type") not in {"kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"}:
            return fail(
                f"`{name}` is of type `{there.get('type')}`, not for a registry",
                "kubectl create secret docker-registry",
            )
        hosts |= _registries(there)
    if registry not in hosts:
        return warn(
            f"{', '.join(names)}: for {', '.join(sorted(hosts)) or 'no registry'}, not for `{registry}` of the image"
        )
    return ok(f"{', '.join(names)}: for `{registry}`")


def registry_of(image: str) -> str:
    """The registry's host in an image name."""
    first, slash, _ = image.partition("/")
    return first if slash and (set(first) & {".", ":"} or first == "localhost") else DOCKER_HUB


def _registries(there: Object) -> set[str]:
    """Registry hosts in a Secret; its credentials are not read."""
    for key, nested in ((".dockerconfigjson", True), (".dockercfg", False)):
        try:
            content = parsed_json(base64.b64decode((there.get("data") or {})[key]))
            entries = (content.get("auths") or {}) if nested else content
            names = [str(name).partition("://")[2] or str(name) for name in entries]
        except (KeyError, ValueError, AttributeError, TypeError):
            continue
        return {_host(name.partition("/")[0]) for name in names}
    return set()


def _host(name: str) -> str:
    return DOCKER_HUB if name in {"index.docker.io", "registry-1.docker.io"} else on_one_line(name)


def claim(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check that the claim with the data set exists and is bound. Raises: RemoteError."""
    name = spec.s3.claim
    if not name:
        return skipped("the job names no claim (--data-pvc)")
    try:
        there = cluster.get(CLAIMS, name, namespace=spec.namespace)
    except NotFoundError:
        return fail(
            f"no claim `{name}` in namespace `{spec.namespace}`",
            f"kubectl -n {spec.namespace} get pvc; k8s/components/s3-data creates one",
        )
    phase = there.get("status", {}).get("phase", "Pending")
    modes = there.get("spec", {}).get("accessModes") or []
    if phase == "Lost":
        return fail(f"`{name}` has lost its volume", "recreate volume and claim: k8s/components/s3-data")
    if phase != "Bound":
        return warn(f"`{name}` is {phase}: it has no volume yet", f"kubectl -n {spec.namespace} describe pvc {name}")
    if spec.nodes > 1 and not {"ReadOnlyMany", "ReadWriteMany"} & set(modes):
        return fail(
            f"`{name}` can be mounted on one node at a time ({', '.join(modes)}), the job has {spec.nodes}",
            "use a claim with ReadOnlyMany or ReadWriteMany",
        )
    return ok(f"`{name}` is bound, {', '.join(modes)}")


def csi_driver(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check that the CSI driver for buckets is installed and runs on the nodes. Raises: RemoteError."""
    if not spec.mounts_bucket:
        return skipped("the job creates no volume for a bucket")
    name = spec.s3.csi_driver
    others = "another --csi-driver, --data-pvc, or --data-access api, which needs none"
    try:
        cluster.get(CSI_DRIVERS, name)
    except NotFoundError:
        return fail(f"the cluster has no CSI driver `{name}`", f"install it, or {others}")
    return registered(name, cluster.list(CSI_NODES), others)


def registered(name: str, nodes: Sequence[Object], others: str) -> Outcome:
    """Check on how many nodes a CSI driver is registered."""
    ready = [node for node in nodes if name in {driver["name"] for driver in node.get("spec", {}).get("drivers") or ()}]
    found = (
        f"`{name}` is installed; registered on {len(ready)} of {'1 node' if len(nodes) == 1 else f'{len(nodes)} nodes'}"
    )
    if not ready:
        return fail(found, f"check its pods: kubectl get pods -A | grep csi; or {others}")
    return warn(found, "pods on the other nodes do not start") if len(ready) < len(nodes) else ok(found)


def priority_class(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Check that the pods' PriorityClass exists. Raises: RemoteError."""
    name = spec.policy.priority_class
    if not name:
        return skipped("the job names none (--priority-class)")
    try:
        there = cluster.get(PRIORITY_CLASSES, name)
    except NotFoundError:
        return fail(f"no PriorityClass `{name}`", "kubectl get priorityclasses")
    return ok(f"`{name}`, priority {there.get('value')}")
