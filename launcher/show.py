"""Jobs as tables and as documents; pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, Literal

from launcher.diagnose import Diagnosis, reason
from launcher.jobs import event_time
from launcher.resources import JOB_LABEL, Object
from launcher.snapshot import Snapshot, short_name, state, wanted_pods

Form = Literal["table", "wide", "json", "yaml", "name"]

SCHEMA: Final = 1
"""Version of the documents; it changes when a key changes its meaning or goes."""

SHOWN_EVENTS: Final = 5


def job_list(jobs: Sequence[Object], pods: Iterable[Object], form: Form, *, everywhere: bool, now: datetime) -> str:
    """All jobs, the newest first."""
    by_job: dict[tuple[str, str], list[Object]] = {}
    for pod in pods:
        key = (pod["metadata"]["namespace"], pod["metadata"]["labels"][JOB_LABEL])
        by_job.setdefault(key, []).append(pod)
    newest_first = sorted(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]), reverse=True)
    rows = [
        _job_row(job, by_job.get((job["metadata"]["namespace"], job["metadata"]["name"]), []), now)
        for job in newest_first
    ]
    if form == "name":
        return "".join(f"pytorchjob.kubeflow.org/{row['name']}\n" for row in rows)
    if form in {"json", "yaml"}:
        return document({"jobs": rows}, form)
    hidden = ({"namespace"} if not everywhere else set()) | ({"image", "created"} if form != "wide" else set())
    return table([{key: value for key, value in row.items() if key not in hidden} for row in rows], empty="no jobs")


def _job_row(job: Object, pods: Sequence[Object], now: datetime) -> dict[str, str]:
    running = sum(pod.get("status", {}).get("phase") == "Running" for pod in pods)
    template = next(iter(job["spec"]["pytorchReplicaSpecs"].values()))["template"]
    container = template["spec"]["containers"][0]
    limits = container.get("resources", {}).get("limits") or {}
    devices = next((f"{amount} {name}" for name, amount in limits.items() if "/" in name and "efa" not in name), "")
    return {
        "namespace": job["metadata"]["namespace"],
        "name": job["metadata"]["name"],
        "state": state(job),
        "pods": f"{running}/{wanted_pods(job)}",
        "each": devices,
        "age": age(job["metadata"]["creationTimestamp"], now),
        "image": str(container.get("image", "")),
        "created": job["metadata"]["creationTimestamp"],
    }


def job_status(snapshot: Snapshot, diagnosis: Diagnosis | None, progress: str, form: Form) -> str:
    """One job: its conditions, pods, last events, progress, and why it does not run."""
    job = snapshot.job
    if form == "name":
        return f"pytorchjob.kubeflow.org/{job['metadata']['name']}\n"
    if form in {"json", "yaml"}:
        return document(_status_document(snapshot, diagnosis, progress), form)
    parts = [_header(snapshot, progress)]
    if diagnosis:
        parts.append(f"{diagnosis.sentence}\nnext: {diagnosis.next_step}\n")
    parts.append(table(_conditions(snapshot), empty="no conditions: the operator has not seen the job"))
    parts.append(table([_pod_row(pod, snapshot.now, wide=form == "wide") for pod in snapshot.pods], empty="no pods"))
    events = snapshot.events[-SHOWN_EVENTS:]
    parts.append(table([_event_row(event, snapshot.now) for event in events], empty="no events"))
    if snapshot.denied:
        parts.append(f"not permitted to read: {', '.join(sorted(snapshot.denied))}\n")
    return "\n".join(parts)


def _header(snapshot: Snapshot, progress: str) -> str:
    job = snapshot.job
    lines = {
        "job": f"{job['metadata']['namespace']}/{job['metadata']['name']}",
        "state": f"{state(job)}, {age(job['metadata']['creationTimestamp'], snapshot.now)} old",
        "progress": progress,
    }
    return "".join(f"{name:<9} {value}\n" for name, value in lines.items() if value)


def _status_document(snapshot: Snapshot, diagnosis: Diagnosis | None, progress: str) -> dict[str, Any]:
    job = snapshot.job
    return {
        "name": job["metadata"]["name"],
        "namespace": job["metadata"]["namespace"],
        "state": state(job),
        "created": job["metadata"]["creationTimestamp"],
        "progress": progress or None,
        "diagnosis": None
        if diagnosis is None
        else {"code": diagnosis.code, "sentence": diagnosis.sentence, "next_step": diagnosis.next_step},
        "conditions": _conditions(snapshot),
        "pods": [_pod_row(pod, snapshot.now, wide=True) for pod in snapshot.pods],
        "events": [_event_row(event, snapshot.now) for event in snapshot.events],
        "denied": sorted(snapshot.denied),
    }


def _conditions(snapshot: Snapshot) -> list[dict[str, str]]:
    conditions = snapshot.job.get("status", {}).get("conditions") or ()
    return [
        {
            "condition": each["type"],
            "is": each["status"],
            "since": age(each.get("lastTransitionTime"), snapshot.now),
            "reason": each.get("reason", ""),
        }
        for each in conditions
    ]


def _pod_row(pod: Object, now: datetime, *, wide: bool) -> dict[str, str]:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    row = {
        "pod": short_name(pod),
        "status": reason(pod),
        "restarts": str(sum(status.get("restartCount", 0) for status in statuses)),
        "age": age(pod["metadata"].get("creationTimestamp"), now),
        "node": pod["spec"].get("nodeName") or "",
    }
    return row | ({"name": pod["metadata"]["name"], "ip": pod.get("status", {}).get("podIP", "")} if wide else {})


def events(snapshot: Snapshot, form: Form) -> str:
    """What the cluster noted about the job, the oldest first."""
    rows = [_event_row(event, snapshot.now) for event in snapshot.events]
    if form in {"json", "yaml"}:
        return document({"events": rows}, form)
    return table(rows, empty="no events")


def _event_row(event: Object, now: datetime) -> dict[str, str]:
    about = event.get("involvedObject", {})
    return {
        "ago": age(event_time(event), now),
        "type": str(event.get("type", "")),
        "reason": str(event.get("reason", "")),
        "about": f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        "message": " ".join(str(event.get("message", "")).split()),
    }


def table(rows: Sequence[Mapping[str, str]], *, empty: str) -> str:
    """Columns as kubectl prints them."""
    if not rows:
        return f"{empty}\n"
    lines = [{key: key.upper() for key in rows[0]}, *rows]
    widths = {key: max(len(line[key]) for line in lines) for key in rows[0]}
    return "".join("   ".join(f"{line[key]:<{widths[key]}}" for key in widths).rstrip() + "\n" for line in lines)


def document(content: Mapping[str, Any], form: str) -> str:
    """The same for programs."""
    whole = {"schema": SCHEMA, **content}
    if form == "json":
        return json.dumps(whole, indent=2) + "\n"
    import yaml  # noqa: PLC0415 - a fifth of the time that --help takes

    return yaml.safe_dump(whole, sort_keys=False)


def age(moment: str | None, now: datetime) -> str:
    """How long ago, in kubectl's short form: `45s`, `5m`, `3h10m`, `2d`."""
    if not moment:
        return ""
    then = datetime.fromisoformat(moment.replace("Z", "+00:00"))
    seconds = max(0, int((now - then.astimezone(timezone.utc)).total_seconds()))
    if seconds < 120:
        return f"{seconds}s"
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86_400
    if minutes < 120:
        return f"{minutes}m"
    if hours < 24:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    return f"{days}d"
