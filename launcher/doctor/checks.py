"""Checks of `launcher doctor`: one row for each known cause that prevents a job from running."""

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from threading import Lock
from typing import Final, TypeVar

from launcher.cluster.capacity import Devices, accelerator, extended, requests
from launcher.cluster.client import Cluster
from launcher.cluster.dra import read_devices, served_devices
from launcher.cluster.errors import ForbiddenError
from launcher.cluster.operator import KUEUE, controller_of
from launcher.cluster.resources import DEPLOYMENTS, NODES, PODS, QUOTAS, WEBHOOKS, Object
from launcher.doctor import (
    fit,
    from_here,
    operator,
    permissions,
    preflight_pod,
    queue,
    quota,
    references,
    trainer_parts,
)
from launcher.doctor.device_plugin import device_plugin
from launcher.doctor.runner import Check, Row, run
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render
from trainer.errors import RemoteError, on_one_line
from trainer.runs.checks import Outcome
from trainer.runs.preflight import skew

SCHEMA: Final = 1
"""Version of the JSON; it changes when a key changes its meaning or goes."""

API: Final = "API server"
NAMESPACE: Final = "namespace"

_Read = TypeVar("_Read")


def doctor(spec: JobSpec, cluster: Cluster | None, *, in_cluster: bool = False) -> list[Row]:
    """Run all checks; rows are in the order in which problems should be fixed.

    Without a cluster, only the checks from this machine run. With `in_cluster`, a short-lived pod checks buckets, labels and weights
    with the job's account. Errors are rows.

    Raises: InputError for an endpoint that this user's credentials must not be sent to, before any check.
    """
    of_cluster = _cluster_checks(spec, cluster, in_cluster=in_cluster) if cluster else []
    rows = run([*of_cluster, *([] if in_cluster else from_here.checks(spec))])
    if not (in_cluster and cluster):
        return rows
    failed = next((row.check for row in rows if row.check in {API, NAMESPACE} and row.status == "FAIL"), None)
    if failed:
        return [*rows, Row(preflight_pod.POD, "skipped", f"needs `{failed}`", "", "pod")]
    return [*rows, *preflight_pod.run_preflight_pod(spec, cluster)]


def check_passed(rows: Sequence[Row]) -> None:
    """Raises: RemoteError, exit code 4, when a row is FAIL."""
    failed = [row.check for row in rows if row.status == "FAIL"]
    if failed:
        raise RemoteError(
            f"cannot run the job: {len(failed)} of {len(rows)} checks failed: {', '.join(failed)}",
            hint="see the `fix:` line of each failed row",
        )


def as_table(rows: Sequence[Row]) -> str:
    """One line for each row, followed by a `fix:` line unless it is OK."""
    widths = [
        max(len(text) for text in column)
        for column in zip(*((row.status, row.check, row.where) for row in rows), strict=True)
    ]
    lines = []
    for row in rows:
        cells = (f"{text:<{width}}" for text, width in zip((row.status, row.check, row.where), widths, strict=True))
        lines.append("  ".join([*cells, on_one_line(row.found)]))
        if row.fix and row.status != "OK":
            lines.append(f"{' ' * (sum(widths) + 6)}fix: {on_one_line(row.fix)}")
    return "".join(f"{line.rstrip()}\n" for line in lines)


def as_json(rows: Sequence[Row]) -> str:
    """JSON with `schema`, and `checks` with check, status, found, fix and where."""
    checks = [
        {"check": row.check, "status": row.status, "found": row.found, "fix": row.fix, "where": row.where}
        for row in rows
    ]
    return json.dumps({"schema": SCHEMA, "checks": checks}, indent=2) + "\n"


def _cluster_checks(spec: JobSpec, cluster: Cluster, *, in_cluster: bool) -> list[Check]:
    job_api = _job_api(spec)
    return [
        Check(API, "cluster", lambda: operator.api_server(cluster.version(), cluster.server)),
        Check("API server's clock", "cluster", lambda: _clock(cluster), (API,)),
        Check(NAMESPACE, "cluster", lambda: operator.namespace(cluster, spec.namespace), (API,)),
        *_operator_checks(spec, cluster),
        Check("rights", "cluster", lambda: permissions.rights(cluster, spec, in_cluster=in_cluster), (API,)),
        *_room_checks(spec, cluster),
        *_object_checks(spec, cluster),
        Check(
            "pod admission",
            "cluster",
            lambda: operator.pod_dry_run(cluster, preflight_pod.job_pod(spec)),
            (NAMESPACE, "service account"),
        ),
        Check("job dry run", "cluster", lambda: operator.job_dry_run(cluster, render(spec)), (NAMESPACE, job_api)),
    ]


def _clock(cluster: Cluster) -> Outcome:
    return skew(cluster.server_time(), datetime.now(timezone.utc), f"`{cluster.server}`")


def _job_api(spec: JobSpec) -> str:
    """Name of the check that the job's kind is served."""
    return f"{spec.kind.resource.kind} API"


def _operator_checks(spec: JobSpec, cluster: Cluster) -> list[Check]:
    controller = controller_of(spec.kind.resource)
    deployments = _once(lambda: cluster.list(DEPLOYMENTS, everywhere=True))
    needs = (API, _job_api(spec))
    volcano_queue = spec.policy.volcano_queue
    return [
        Check(_job_api(spec), "cluster", lambda: operator.job_api(cluster, controller), (API,)),
        Check(controller.title, "cluster", lambda: operator.operator(controller, deployments(), volcano_queue), needs),
        Check(
            f"{controller.short}'s webhook",
            "cluster",
            lambda: operator.webhook(cluster, controller, cluster.list(WEBHOOKS), deployments()),
            needs,
        ),
        *_job_set_checks(spec, cluster, deployments),
        *_queue_checks(spec, cluster, deployments),
    ]


def _job_set_checks(spec: JobSpec, cluster: Cluster, deployments: Callable[[], list[Object]]) -> list[Check]:
    """Checks of what Trainer needs beside itself: JobSet, and a runtime."""
    if spec.kind.api != "trainjob":
        return []
    needs = (API, _job_api(spec))
    return [
        Check("JobSet", "cluster", lambda: trainer_parts.job_set(cluster, deployments()), needs),
        Check("runtime", "cluster", lambda: trainer_parts.runtime(cluster, spec), (NAMESPACE, *needs)),
    ]


def _queue_checks(spec: JobSpec, cluster: Cluster, deployments: Callable[[], list[Object]]) -> list[Check]:
    """Checks of Kueue, which holds the job until its queue admits it."""
    if not spec.policy.queue:
        return []
    needs = (NAMESPACE, _job_api(spec))
    return [
        Check(KUEUE.title, "cluster", lambda: operator.operator(KUEUE, deployments(), None), (API,)),
        Check("held by Kueue", "cluster", lambda: queue.held(cluster, spec), needs),
        Check("Kueue queue", "cluster", lambda: queue.local_queue(cluster, spec), (NAMESPACE,)),
        Check("queue priority", "cluster", lambda: queue.priority(cluster, spec), (API,)),
    ]


def _room_checks(spec: JobSpec, cluster: Cluster) -> list[Check]:
    pod_set = fit.PodSet(pod_spec=preflight_pod.job_pod(spec)["spec"], pods=spec.nodes, fewest=spec.fewest_nodes)
    wanted = requests(pod_set.pod_spec)
    resource = accelerator(wanted)
    nodes = _once(lambda: cluster.list(NODES))
    objects = _once(lambda: read_devices(cluster, extended(wanted)))

    def devices() -> Devices:
        return served_devices(objects(), nodes(), extended(wanted))

    def plugin_outcome() -> Outcome:
        return device_plugin(
            resource, nodes(), objects=objects(), devices=devices(), per_pod=int(wanted[resource]) if resource else 0
        )

    def quota_outcome() -> Outcome:
        return quota.quota(
            pod_set,
            cluster.list(QUOTAS, namespace=spec.namespace),
            priority_class=spec.policy.priority_class,
            made=quota.made_for(spec),
        )

    return [
        Check("quota", "cluster", quota_outcome, (NAMESPACE,)),
        Check("device plugin", "cluster", plugin_outcome, (API,)),
        Check(
            "huge pages", "cluster", lambda: fit.huge_pages(pod_set.pod_spec, nodes(), devices()), ("device plugin",)
        ),
        Check(
            "room on nodes", "cluster", lambda: fit.fit(pod_set, nodes(), _pods(cluster), devices()), ("device plugin",)
        ),
    ]


def _pods(cluster: Cluster) -> list[Object] | None:
    """All unfinished pods of the cluster; None if the user may not list them."""
    try:
        return cluster.list(PODS, everywhere=True, fields="status.phase!=Succeeded,status.phase!=Failed")
    except ForbiddenError:
        return None


def _object_checks(spec: JobSpec, cluster: Cluster) -> list[Check]:
    named: dict[str, Callable[[Cluster, JobSpec], Outcome]] = {
        "service account": references.service_account,
        "secret": references.secret,
        "image pull secret": references.pull_secret,
        "claim": references.claim,
        "CSI driver": references.csi_driver,
        "priority class": references.priority_class,
    }
    return [Check(name, "cluster", partial(look, cluster, spec), (NAMESPACE,)) for name, look in named.items()]


def _once(read: Callable[[], _Read]) -> Callable[[], _Read]:
    """A function that calls `read` once for several checks at the same time."""
    lock = Lock()
    kept: list[_Read] = []

    def reading() -> _Read:
        with lock:
            if not kept:
                kept.append(read())
            return kept[0]

    return reading
