"""Check the user's permissions for the launcher's commands."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from launcher.cluster.client import Cluster
from launcher.cluster.resources import (
    BATCH_JOBS,
    CLAIMS,
    EVENTS,
    JOB_SETS,
    NODES,
    PODS,
    RUNTIMES,
    SERVICES,
    VOLUMES,
    Resource,
)
from launcher.doctor.runner import fail, ok, warn
from launcher.spec.job import JobSpec
from trainer.runs.checks import Outcome


@dataclass(frozen=True)
class Right:
    """A permission, and the commands that need it."""

    verb: str
    resource: Resource
    commands: str
    subresource: str = ""
    vital: bool = True
    """Whether the commands fail without it; otherwise they print less."""

    @property
    def what(self) -> str:
        """The resource as in RBAC rules, such as `pods/log`."""
        return f"{self.resource.plural}{'/' * bool(self.subresource)}{self.subresource}"


def needed(spec: JobSpec, *, in_cluster: bool) -> list[Right]:
    """The permissions to submit, follow and delete this job."""
    rights = [
        *_each(("create", "get", "list", "watch"), spec.kind.resource, "submit, status, list, wait"),
        Right("delete", spec.kind.resource, "delete"),
        *_each(("get", "list", "watch"), PODS, "status, logs"),
        Right("get", PODS, "logs", "log"),
        Right("list", SERVICES, "delete", vital=False),
        Right("list", EVENTS, "status, events", vital=False),
        Right("list", CLAIMS, "submit, status", vital=False),
        Right("list", NODES, "status, doctor", vital=False),
    ]
    if spec.kind.api == "trainjob":
        rights += [Right("list", each, "status, delete", vital=False) for each in (JOB_SETS, BATCH_JOBS)]
        rights += (
            _each(("create", "get", "list", "patch", "delete"), RUNTIMES, "submit, delete") if not spec.runtime else []
        )
    if spec.mounts_bucket:
        rights += _each(("create", "get", "list", "delete"), VOLUMES, "submit, delete")
        rights += _each(("create", "get", "delete"), CLAIMS, "submit, delete")
    if in_cluster:
        rights += [Right(verb, PODS, "doctor --in-cluster", vital=False) for verb in ("create", "delete")]
    return rights


def _each(verbs: Iterable[str], resource: Resource, commands: str) -> Iterator[Right]:
    return (Right(verb, resource, commands) for verb in verbs)


def rights(cluster: Cluster, spec: JobSpec, *, in_cluster: bool) -> Outcome:
    """Check which permissions the user lacks. Raises: RemoteError."""
    wanted = needed(spec, in_cluster=in_cluster)
    missing = [
        right
        for right in wanted
        if not cluster.may(right.verb, right.resource, namespace=spec.namespace, subresource=right.subresource)
    ]
    vital = [right for right in missing if right.vital]
    if not vital and not missing:
        return ok(f"all {len(wanted)} that submit, status, logs and delete use in `{spec.namespace}`")
    found = f"you may not {_listed(vital or missing)}"
    if not vital:
        return warn(
            f"{found}; these commands print less", "ask an administrator for the permission: k8s/base has the roles"
        )
    if all(right.resource in {VOLUMES, CLAIMS} for right in vital):
        return fail(
            found,
            "--data-pvc NAME with a claim from an administrator (k8s/components/s3-data), or --data-access api",
        )
    return fail(found, "ask an administrator for the permission: k8s/base has the roles")


def _listed(missing: Iterable[Right]) -> str:
    """Permissions grouped by resource and commands: `get, list pods (status, logs)`."""
    verbs: dict[tuple[str, str], list[str]] = {}
    for right in missing:
        verbs.setdefault((right.what, right.commands), []).append(right.verb)
    return "; ".join(f"{', '.join(each)} {what} ({commands})" for (what, commands), each in verbs.items())
