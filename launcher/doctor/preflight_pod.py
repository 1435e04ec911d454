"""Checks from inside the cluster: a short-lived pod with the job's image, account, secrets and volumes runs `trainer preflight`."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, get_args

from launcher import kinds
from launcher.cluster.client import Cluster
from launcher.cluster.errors import ForbiddenError, NotFoundError
from launcher.cluster.resources import CLAIMS, EVENTS, PODS, VOLUMES, Object, Resource
from launcher.doctor.operator import ADMISSION
from launcher.doctor.runner import Row
from launcher.spec import s3_volume
from launcher.spec.job import MAX_SERVICE_NAME, JobSpec, labels
from launcher.spec.pod_template import container_of, pod_template
from trainer.config import to_argv
from trainer.errors import JobFailedError, KnownError, RemoteError, on_one_line
from trainer.layout import MAX_NAME
from trainer.limits import parsed_json
from trainer.redaction import redacted
from trainer.runs.checks import Status

POD: Final = "pod"
"""Check name of the pod itself."""

SUFFIX: Final = "-doctor"

_KIND: Final = kinds.of_api("pytorchjob")
"""Kind of which the pod's specification is, whatever that of the job is."""

LIMIT_S: Final = 600.0
"""Time limit of the pod; large images take minutes to pull."""

GONE_S: Final = 60.0

PATIENCE_S: Final = 5.0
"""Time for which a container's problem is tolerated, as some are transient."""

PLACING_S: Final = 60.0
"""Time limit to schedule the pod and mount volumes: binding a claim takes up to 15 s."""

MOST_LINES: Final = 1000

REQUESTS: Final = {"cpu": "100m", "memory": "1Gi"}
LIMITS: Final = {"memory": "2Gi"}
"""The check `device` imports torch: 526 MB resident at most on the CPU, 697 MB with the stand-in for Gaudi's bridge in compile mode
(measured). Label lists of 112,120 images need 150 MiB more; a real bridge was not measured."""

_UNKNOWN: Final = 'unknown command "preflight"'
"""What the trainer of an earlier version answers."""

HOPELESS: Final = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
    }
)
"""Reasons that waiting does not resolve. Source: kubelet."""


@dataclass(frozen=True)
class PodResult:
    """Result and output of the pod."""

    trouble: str
    """Why it failed, empty when it succeeded."""

    lines: Sequence[str]


def objects(spec: JobSpec) -> list[Object]:
    """The pod, and first its volume and claim if the job creates such."""
    return [*s3_volume.volume(_own(spec)), pod(spec)]


def _own(spec: JobSpec) -> JobSpec:
    """The job under the pod's name; not a TrainJob, whose names must be shorter than those of a pod."""
    policy = replace(spec.policy, ttl=None)
    return replace(spec, name=_name(spec), api=kinds.training_api(_KIND), runtime=None, policy=policy)


def _name(spec: JobSpec) -> str:
    longest = min(MAX_NAME, MAX_SERVICE_NAME - len(_KIND.last_pod("", spec.nodes)))
    return f"{spec.name[: longest - len(SUFFIX)].rstrip('-')}{SUFFIX}"


def job_pod(spec: JobSpec) -> Object:
    """A pod as its controller would create it for the job; used for dry runs only."""
    template = pod_template(spec)
    metadata = template["metadata"] | {"name": _name(spec), "namespace": spec.namespace}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template["spec"] | {"restartPolicy": "Never"},
    }


def pod(spec: JobSpec) -> Object:
    """The job's pod with a single small container that runs the preflight, without accelerators."""
    body = job_pod(spec)
    container = container_of(body)
    container |= {
        "command": ["python", "-m", "trainer", "preflight", "--json"],
        "args": to_argv(spec.train),
        "resources": {"requests": REQUESTS, "limits": LIMITS},
    }
    container.pop("ports", None)
    body["metadata"]["labels"] = labels(spec) | {"app.kubernetes.io/component": "doctor"}
    claim = {"claimName": s3_volume.claim_name(_own(spec)), "readOnly": True}
    body["spec"] |= {
        "containers": [container],
        "activeDeadlineSeconds": int(LIMIT_S),  # ends the pod if the launcher is killed before it deletes it
        "terminationGracePeriodSeconds": 1,
        "volumes": [
            {"name": "data", "persistentVolumeClaim": claim} if each["name"] == "data" and spec.mounts_bucket else each
            for each in body["spec"]["volumes"]
        ],
    }
    body["spec"].pop("initContainers", None)
    return body


def run_preflight_pod(
    spec: JobSpec, cluster: Cluster, *, limit_s: float = LIMIT_S, clock: Callable[[], float] = time.monotonic
) -> list[Row]:
    """Run the pod and return its rows; the pod and its volume are always removed."""
    made: list[tuple[Resource, str]] = []
    try:
        for each in objects(spec):
            resource = {PODS.kind: PODS, CLAIMS.kind: CLAIMS, VOLUMES.kind: VOLUMES}[each["kind"]]
            if not cluster.may("create", resource, namespace=spec.namespace):
                return [Row(POD, "skipped", f"not permitted to create {resource.plural}", "omit --in-cluster", "pod")]
            _remove_old(cluster, resource, each, spec.namespace, clock)
            cluster.create(resource, each, namespace=spec.namespace)
            made.append((resource, each["metadata"]["name"]))
        result = _wait(cluster, spec, made[-1][1], limit_s, clock)
    except KnownError as problem:
        fix = ADMISSION if isinstance(problem, ForbiddenError) else problem.hint or ""
        return [Row(POD, "FAIL", on_one_line(str(problem.args[0])), fix, "pod")]
    finally:
        _remove(cluster, made, spec.namespace)
    return list(rows(result, _name(spec)))


def rows(result: PodResult, name: str) -> Iterator[Row]:
    """The row of the pod itself, and the rows in its log."""
    found = [row for line in result.lines if (row := _row(line))]
    if any(_UNKNOWN in line for line in result.lines):
        yield Row(
            POD,
            "FAIL",
            "the image's trainer is of an earlier version and has no command `preflight`",
            "use an image of this version, or the launcher of the image's version",
            "pod",
        )
    elif result.trouble:
        yield Row(POD, "FAIL", result.trouble, "fix this first: the job's pods would fail in the same way", "pod")
    elif not found:
        last = on_one_line(result.lines[-1]) if result.lines else "nothing"
        yield Row(
            POD,
            "FAIL",
            f"`{name}` ended without results; its last line: {redacted(last)[:300]}",
            "check that the image is of this version",
            "pod",
        )
    else:
        yield Row(POD, "OK", f"`{name}` ran with the job's image, account and secrets, and was removed", "", "pod")
    yield from found


def _row(line: str) -> Row | None:
    """Parse a row of the preflight's JSON; other lines, which any code in the pod may write, give None."""
    try:
        content = parsed_json(line.encode())
    except ValueError:
        return None
    if not isinstance(content, dict) or set(content) != {"check", "status", "found", "fix"}:
        return None
    if content["status"] not in get_args(Status) or not all(isinstance(text, str) for text in content.values()):
        return None
    text = {key: on_one_line(redacted(value))[:1000] for key, value in content.items()}
    return Row(text["check"], content["status"], text["found"], text["fix"], "pod")


def _remove_old(cluster: Cluster, resource: Resource, body: Object, namespace: str, clock: Callable[[], float]) -> None:
    """Remove objects left by an earlier doctor that was killed; with foreign objects, the create reports a conflict."""
    name = body["metadata"]["name"]
    try:
        existing = cluster.get(resource, name, namespace=namespace)
    except RemoteError:
        return
    if not (existing["metadata"].get("labels") or {}).items() >= body["metadata"]["labels"].items():
        return
    _remove(cluster, [(resource, name)], namespace)
    end_s = clock() + GONE_S
    while clock() < end_s:
        try:
            cluster.get(resource, name, namespace=namespace)
        except NotFoundError:
            return
        cluster.sleep(0.5)


def _remove(cluster: Cluster, made: Sequence[tuple[Resource, str]], namespace: str) -> None:
    """Remove the pod first: a claim in use is only marked for deletion."""
    for resource, name in reversed(made):
        try:
            cluster.delete(resource, name, namespace=namespace, propagation="Background")
        except RemoteError:
            continue


def _wait(cluster: Cluster, spec: JobSpec, name: str, limit_s: float, clock: Callable[[], float]) -> PodResult:
    """Wait until the pod ends, or until it is clear that it won't."""
    namespace = spec.namespace
    start_s = clock()
    trouble, since_s = "", start_s
    while True:
        current = cluster.get(PODS, name, namespace=namespace)
        phase = current.get("status", {}).get("phase", "Pending")
        before, trouble = trouble, _waiting(current)
        since_s = since_s if trouble and before else clock()
        if phase in {"Succeeded", "Failed"} or (trouble and clock() >= since_s + PATIENCE_S):
            break
        if phase == "Pending" and clock() >= start_s + PLACING_S:
            trouble = _unscheduled(current) or _newest_event(cluster, namespace, name, only="FailedMount")
        if trouble and clock() >= start_s + PLACING_S:
            break
        if clock() >= start_s + limit_s:
            trouble = trouble or _newest_event(cluster, namespace, name) or phase.lower()
            break
        cluster.sleep(1.0)
    lines = _log(cluster, namespace, name, spec.kind.container) if phase != "Pending" else []
    if phase == "Succeeded" or (phase == "Failed" and _only_found_failures(current, lines)):
        return PodResult("", lines)
    if phase == "Failed":
        return PodResult(_failure(current, name, lines), lines)
    return PodResult(f"`{name}` did not finish: {trouble}", lines)


def _waiting(pod_: Object) -> str:
    """The problem for which its container waits, empty without one."""
    for status in pod_.get("status", {}).get("containerStatuses") or ():
        waiting = status.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in HOPELESS:
            return on_one_line(redacted(f"{waiting['reason']}: {waiting.get('message', '')}"))[:400].rstrip(": ")
    return ""


def _unscheduled(pod_: Object) -> str:
    for condition in pod_.get("status", {}).get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return on_one_line(f"no node can run it: {condition.get('message', '')}")[:400]
    return ""


def _newest_event(cluster: Cluster, namespace: str, name: str, *, only: str | None = None) -> str:
    """The pod's newest event, such as an image pull; with `only`, empty unless it has this reason."""
    try:
        events = cluster.list(EVENTS, namespace=namespace, fields=f"involvedObject.name={name}")
    except RemoteError:
        return ""
    newest = max(events, key=_event_time, default=None)
    if newest is None or only not in {None, newest.get("reason")}:
        return ""
    return on_one_line(redacted(f"{newest.get('reason')}: {newest.get('message')}"))[:400]


def _event_time(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _only_found_failures(pod_: Object, lines: Iterable[str]) -> bool:
    """Whether the container failed only because a check has failed, which its row says."""
    failed = any(row.status == "FAIL" for row in map(_row, lines) if row)
    return failed and _ended(pod_).get("exitCode") == JobFailedError.exit_code


def _ended(pod_: Object) -> Object:
    """How the container ended; empty if it has not."""
    return next(
        (
            status["state"]["terminated"]
            for status in pod_.get("status", {}).get("containerStatuses") or ()
            if status.get("state", {}).get("terminated")
        ),
        {},
    )


def _failure(pod_: Object, name: str, lines: Iterable[str]) -> str:
    """How a container failed, and its last line."""
    ended = _ended(pod_)
    reason = pod_.get("status", {}).get("reason") or ended.get("reason") or "Error"
    messages = [line for line in lines if line and _row(line) is None]
    last = f"; its last line: {on_one_line(redacted(messages[-1]))[:300]}" if messages else ""
    return f"`{name}` failed: {on_one_line(reason)}, exit code {ended.get('exitCode', 'unknown')}{last}"


def _log(cluster: Cluster, namespace: str, name: str, container: str) -> list[str]:
    """The pod's log without timestamps."""
    try:
        lines = deque(cluster.log(name, container=container, namespace=namespace, tail=MOST_LINES), MOST_LINES)
    except RemoteError:
        return []
    return [line.partition(b" ")[2].decode(errors="replace").strip() for line in lines]
