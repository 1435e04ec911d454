"""Jobs, their status and events as tables and documents; pure."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal

from launcher import kinds
from launcher.cluster.capacity import accelerator, requests
from launcher.cluster.resources import Object
from launcher.output import Record, Row, age, document, table
from launcher.status.collect import event_time
from launcher.status.diagnose import Diagnosis, reason
from launcher.status.snapshot import Snapshot, state
from trainer.errors import on_one_line

Form = Literal["table", "wide", "json", "yaml", "name"]

SHOWN_EVENTS: Final = 5


def job_list(jobs: Sequence[Object], pods: Iterable[Object], form: Form, *, everywhere: bool, now: datetime) -> str:
    """All jobs, newest first."""
    by_job: dict[tuple[str, str, str], list[Object]] = {}
    for pod in pods:
        key = (kinds.of_pod(pod).api, pod["metadata"]["namespace"], kinds.job_of(pod))
        by_job.setdefault(key, []).append(pod)
    newest_first = sorted(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]), reverse=True)
    records = [
        _job_record(job, by_job.get((kinds.of(job).api, job["metadata"]["namespace"], job["metadata"]["name"]), ()))
        for job in newest_first
    ]
    if form == "name":
        return "".join(_name(job) for job in newest_first)
    if form in {"json", "yaml"}:
        return document({"jobs": records}, form)
    rows = [_job_row(record, now, everywhere=everywhere, wide=form == "wide") for record in records]
    return table(rows, empty="no jobs")


def _name(job: Object) -> str:
    return f"{kinds.of(job).resource.named(on_one_line(job['metadata']['name']))}\n"


def _job_record(job: Object, pods: Sequence[Object]) -> Record:
    metadata, kind = job["metadata"], kinds.of(job)
    pods = kinds.newest(job, pods)
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "api": kind.api,
        "state": state(job),
        "pods": kind.wanted_pods(job),
        "running": sum(pod.get("status", {}).get("phase") == "Running" for pod in pods),
        "restarts": sum(map(_restarts, pods)),
        "accelerators": _accelerators(job),
        "queue": (metadata.get("labels") or {}).get("kueue.x-k8s.io/queue-name"),
        "image": _image(job),
        "created": metadata["creationTimestamp"],
    }


def _restarts(pod: Object) -> int:
    return sum(each.get("restartCount", 0) for each in pod.get("status", {}).get("containerStatuses") or ())


def _accelerators(job: Object) -> dict[str, int]:
    """Number of accelerators of all pods, by resource."""
    kind = kinds.of(job)
    wanted = requests(kind.pod_spec(job))
    name = accelerator(wanted)
    return {name: int(wanted[name]) * kind.wanted_pods(job)} if name else {}


def _image(job: Object) -> str:
    containers = kinds.of(job).pod_spec(job).get("containers") or [{}]
    return str(containers[0].get("image", ""))


def _job_row(record: Record, now: datetime, *, everywhere: bool, wide: bool) -> Row:
    row = {"namespace": record["namespace"]} if everywhere else {}
    row |= {
        "name": record["name"],
        "state": record["state"],
        "running": f"{record['running']}/{record['pods']}",
        "accelerators": " ".join(f"{amount} {name}" for name, amount in record["accelerators"].items()) or "none",
        "age": age(record["created"], now),
    }
    return row | ({key: str(record[key] or "") for key in ("api", "restarts", "queue", "image")} if wide else {})


def job_status(snapshot: Snapshot, diagnosis: Diagnosis | None, progress: str, form: Form) -> str:
    """One job: conditions, pods, recent events, progress, and why it does not run."""
    if form == "name":
        return _name(snapshot.job)
    if form in {"json", "yaml"}:
        return document(_status_record(snapshot, diagnosis, progress), form)
    now = snapshot.now
    pods = [_pod_row(record, now, wide=form == "wide") for record in map(_pod_record, snapshot.pods)]
    events = [_event_row(_event_record(event), now) for event in snapshot.events[-SHOWN_EVENTS:]]
    conditions = [_condition_row(record, now, wide=form == "wide") for record in _conditions(snapshot)]
    parts = [
        _header(snapshot, progress),
        f"{on_one_line(diagnosis.sentence)}\nnext: {on_one_line(diagnosis.next_step)}\n" if diagnosis else "",
        table(conditions, empty="no conditions yet"),
        table(pods, empty="no pods"),
        table(events, empty="no events"),
        f"not permitted to read: {', '.join(sorted(snapshot.denied))}\n" if snapshot.denied else "",
    ]
    return "\n".join(filter(None, parts))


def _header(snapshot: Snapshot, progress: str) -> str:
    job = snapshot.job
    lines = {
        "job": f"{job['metadata']['namespace']}/{job['metadata']['name']}",
        "state": f"{state(job)}, {age(job['metadata']['creationTimestamp'], snapshot.now)} old",
        "progress": progress,
    }
    return "".join(f"{name:<9} {on_one_line(value)}\n" for name, value in lines.items() if value)


def _status_record(snapshot: Snapshot, diagnosis: Diagnosis | None, progress: str) -> Record:
    job = snapshot.job
    return {
        "name": job["metadata"]["name"],
        "namespace": job["metadata"]["namespace"],
        "api": kinds.of(job).api,
        "state": state(job),
        "created": job["metadata"]["creationTimestamp"],
        "progress": progress or None,
        "diagnosis": None
        if diagnosis is None
        else {"code": diagnosis.code, "sentence": diagnosis.sentence, "next_step": diagnosis.next_step},
        "conditions": _conditions(snapshot),
        "pods": [_pod_record(pod) for pod in snapshot.pods],
        "events": [_event_record(event) for event in snapshot.events],
        "denied": sorted(snapshot.denied),
    }


def _conditions(snapshot: Snapshot) -> list[Record]:
    return [
        {
            "condition": each["type"],
            "is": each["status"] == "True",
            "since": each.get("lastTransitionTime"),
            "reason": each.get("reason", ""),
            "message": each.get("message", ""),
        }
        for each in snapshot.job.get("status", {}).get("conditions") or ()
    ]


def _condition_row(record: Record, now: datetime, *, wide: bool) -> Row:
    row = {
        "condition": record["condition"],
        "is": str(record["is"]),
        "since": age(record["since"], now),
        "reason": record["reason"],
    }
    return row | ({"message": record["message"]} if wide else {})


def _pod_record(pod: Object) -> Record:
    return {
        "pod": kinds.short_name(pod),
        "name": pod["metadata"]["name"],
        "status": reason(pod),
        "restarts": _restarts(pod),
        "created": pod["metadata"].get("creationTimestamp"),
        "node": pod["spec"].get("nodeName"),
        "ip": pod.get("status", {}).get("podIP"),
    }


def _pod_row(record: Record, now: datetime, *, wide: bool) -> Row:
    row = {
        "pod": record["pod"],
        "status": record["status"],
        "restarts": str(record["restarts"]),
        "age": age(record["created"], now),
        "node": record["node"] or "",
    }
    return row | ({"name": record["name"], "ip": record["ip"] or ""} if wide else {})


def events(snapshot: Snapshot, form: Form) -> str:
    """Events of the job, oldest first."""
    records = [_event_record(event) for event in snapshot.events]
    if form in {"json", "yaml"}:
        return document({"events": records}, form)
    if form == "name":
        return "".join(f"event/{on_one_line(event['metadata']['name'])}\n" for event in snapshot.events)
    return table([_event_row(record, snapshot.now) for record in records], empty="no events")


def _event_record(event: Object) -> Record:
    about = event.get("involvedObject", {})
    return {
        "last": event_time(event),
        "count": event.get("count") or 1,
        "type": event.get("type", ""),
        "reason": event.get("reason", ""),
        "about": f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        "message": event.get("message", ""),
    }


def _event_row(record: Record, now: datetime) -> Row:
    times = f" (x{record['count']})" if record["count"] > 1 else ""
    return {
        "ago": age(record["last"], now) + times,
        **{key: str(record[key]) for key in ("type", "reason", "about")},
        "message": " ".join(str(record["message"]).split()),
    }
