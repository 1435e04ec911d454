"""What a job names and others have made: secrets, accounts, claims, queues, drivers."""

import base64
from collections.abc import Sequence
from typing import Final

from launcher.cluster.client import Cluster
from launcher.cluster.errors import NotFoundError
from launcher.cluster.resources import (
    CLAIMS,
    CSI_DRIVERS,
    CSI_NODES,
    LOCAL_QUEUES,
    SECRETS,
    SERVICE_ACCOUNTS,
    Object,
    Resource,
)
from launcher.doctor.runner import fail, ok, skipped, warn
from launcher.spec.job import JobSpec
from launcher.spec.options import pair
from launcher.spec.s3_volume import KEYS, SCALITY
from trainer.errors import on_one_line
from trainer.limits import parsed_json
from trainer.location import Location
from trainer.runs.probe import Outcome

PRIORITY_CLASSES: Final = Resource("scheduling.k8s.io/v1", "priorityclasses", "PriorityClass", namespaced=False)
NEW_LOCAL_QUEUES: Final = Resource("kueue.x-k8s.io/v1beta2", "localqueues", "LocalQueue")

DRIVER_KEYS: Final = ("key_id", "access_key")
"""Source: Scality's driver, docs/configuration/volume-configuration.md."""

ROLE: Final = "eks.amazonaws.com/role-arn"
"""Annotation of a service account that stands for a role of AWS."""

DOCKER_HUB: Final = "docker.io"


def secrets_of(spec: JobSpec) -> dict[str, set[str]]:
    """The Secrets that pods read, with the keys that they must have."""
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
    """Whether the Secrets that pods read are there, with their keys; never what is in them. Raises: RemoteError."""
    wanted = secrets_of(spec)
    if not wanted and spec.s3.endpoint and spec.output_at.is_bucket:
        return warn(f"no Secret is given: pods have no keys for `{spec.s3.endpoint}`", "--s3-secret NAME")
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
    """What is wrong with a Secret, empty when nothing is."""
    try:
        there = cluster.get(SECRETS, name, namespace=namespace).get("data") or {}
    except NotFoundError:
        return f"`{name}` is not in namespace `{namespace}`"
    absent = sorted(keys - there.keys())
    return f"`{name}` has no {', '.join(absent)}" if absent else ""


def service_account(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Whether the pods' account is there and, where it stands for a role, says which. Raises: RemoteError."""
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
        return ok(f"`{name}`, which stands for the role `{on_one_line(role)}`")
    if spec.output_at.is_bucket and not spec.s3.secret and not spec.s3.endpoint:
        return warn(
            f"`{name}` stands for no role ({ROLE}) and no Secret is given: pods have only what their node may do in S3",
            "--s3-secret NAME, or --service-account with a role",
        )
    return ok(f"`{name}`")


def pull_secret(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Whether the Secrets for the image's registry are there and are for that registry. Raises: RemoteError."""
    names = spec.pod.image_pull_secret
    if not names:
        return skipped("none is given; nodes pull without, or the service account has one")
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
    """The registry's host in an image's name."""
    first, slash, _ = image.partition("/")
    return first if slash and (set(first) & {".", ":"} or first == "localhost") else DOCKER_HUB


def _registries(there: Object) -> set[str]:
    """Hosts that a registry Secret is for; what else is in it is not looked at."""
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
    """Whether the claim with the data set is there and bound. Raises: RemoteError."""
    name = spec.s3.claim
    if not name:
        return skipped("the job names no claim (--data-pvc)")
    try:
        there = cluster.get(CLAIMS, name, namespace=spec.namespace)
    except NotFoundError:
        return fail(
            f"no claim `{name}` in namespace `{spec.namespace}`",
            f"kubectl -n {spec.namespace} get pvc; k8s/components/s3-data makes one",
        )
    phase = there.get("status", {}).get("phase", "Pending")
    modes = there.get("spec", {}).get("accessModes") or []
    if phase == "Lost":
        return fail(f"`{name}` has lost its volume", "make volume and claim anew: k8s/components/s3-data")
    if phase != "Bound":
        return warn(f"`{name}` is {phase}: it has no volume yet", f"kubectl -n {spec.namespace} describe pvc {name}")
    if spec.nodes > 1 and not {"ReadOnlyMany", "ReadWriteMany"} & set(modes):
        return fail(
            f"`{name}` can be mounted on one node at a time ({', '.join(modes)}), the job has {spec.nodes}",
            "a claim that is ReadOnlyMany or ReadWriteMany",
        )
    return ok(f"`{name}` is bound, {', '.join(modes)}")


def csi_driver(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Whether the driver that mounts buckets is installed, and on which nodes. Raises: RemoteError."""
    if not spec.mounts_bucket:
        return skipped("the job makes no volume on a bucket")
    name = spec.s3.csi_driver
    others = "another --csi-driver, --data-pvc, or --data-access api, which needs none"
    try:
        cluster.get(CSI_DRIVERS, name)
    except NotFoundError:
        return fail(f"the cluster has no CSI driver `{name}`", f"install it, or {others}")
    return registered(name, cluster.list(CSI_NODES), others)


def registered(name: str, nodes: Sequence[Object], others: str) -> Outcome:
    """On how many nodes a CSI driver is at work."""
    ready = [node for node in nodes if name in {driver["name"] for driver in node.get("spec", {}).get("drivers") or ()}]
    found = (
        f"`{name}` is installed; at work on {len(ready)} of {'1 node' if len(nodes) == 1 else f'{len(nodes)} nodes'}"
    )
    if not ready:
        return fail(found, f"kubectl get pods -A | grep csi says why; or {others}")
    return warn(found, "pods that land on the others do not start") if len(ready) < len(nodes) else ok(found)


def local_queue(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Whether Kueue has the queue, and takes jobs into it. Raises: RemoteError."""
    name = spec.policy.queue
    if not name:
        return skipped("the job names no queue (--queue)")
    resource = next((each for each in (NEW_LOCAL_QUEUES, LOCAL_QUEUES) if cluster.serves(each)), None)
    if resource is None:
        return fail(
            "the cluster does not know LocalQueues: Kueue is not installed", "leave --queue out, or install Kueue"
        )
    try:
        queue = cluster.get(resource, name, namespace=spec.namespace)
    except NotFoundError:
        return fail(
            f"no LocalQueue `{name}` in namespace `{spec.namespace}`", f"kubectl -n {spec.namespace} get localqueues"
        )
    return queue_state(queue)


def queue_state(queue: Object) -> Outcome:
    """Whether a LocalQueue takes jobs, and how many wait in it."""
    name = queue["metadata"]["name"]
    status = queue.get("status", {})
    active = next((each for each in status.get("conditions") or () if each.get("type") == "Active"), None)
    found = f"`{name}` of ClusterQueue `{on_one_line(str(queue.get('spec', {}).get('clusterQueue')))}`"
    if active and active.get("status") != "True":
        return fail(f"{found} takes no jobs: {on_one_line(str(active.get('message')))}", "an administrator can tell")
    return ok(f"{found}; {status.get('pendingWorkloads', 0)} jobs wait in it")


def priority_class(cluster: Cluster, spec: JobSpec) -> Outcome:
    """Whether the pods' PriorityClass is there. Raises: RemoteError."""
    name = spec.policy.priority_class
    if not name:
        return skipped("the job names none (--priority-class)")
    try:
        there = cluster.get(PRIORITY_CLASSES, name)
    except NotFoundError:
        return fail(f"no PriorityClass `{name}`", "kubectl get priorityclasses")
    return ok(f"`{name}`, priority {there.get('value')}")
