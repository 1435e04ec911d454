"""A job, its pods and an event as the cluster holds them."""

from launcher.kinds.pytorchjob import ROLE_LABEL, index_label, job_label

BORN = "2026-01-01T11:55:00Z"


def job(name="t1", state="Running", replicas=2, created=BORN, namespace="team-a", **labels):
    limits = {"memory": "8Gi", "hugepages-2Mi": "1Gi", "vpc.amazonaws.com/efa": 4, "habana.ai/gaudi": 8}
    container = {"name": "pytorch", "image": "i:1", "resources": {"requests": limits, "limits": limits}}
    template = {"spec": {"containers": [container]}}
    condition = {"type": state, "status": "True", "lastTransitionTime": "2026-01-01T11:56:00Z", "reason": "Because"}
    return {
        "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created, "labels": labels},
        "spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": replicas, "template": template}}},
        "status": {"conditions": [condition]},
    }


def pod(index, name="t1", phase="Running", restarts=0, **status):
    labels = {job_label: name, ROLE_LABEL: "worker", index_label: str(index)}
    container = {"name": "pytorch", "restartCount": restarts, "state": {"running": {"startedAt": BORN}}, "ready": True}
    return {
        "metadata": {
            "name": f"{name}-worker-{index}",
            "namespace": "team-a",
            "labels": labels,
            "creationTimestamp": BORN,
            "uid": str(index),
        },
        "spec": {"nodeName": "node-a", "containers": [{"name": "pytorch"}]},
        "status": {"phase": phase, "containerStatuses": [container]} | status,
    }


def event(message, count=1, last="2026-01-01T11:59:00Z"):
    about = {"kind": "Pod", "name": "t1-worker-0"}
    metadata = {"name": f"e-{count}", "creationTimestamp": BORN}
    return {
        "metadata": metadata,
        "involvedObject": about,
        "lastTimestamp": last,
        "count": count,
        "type": "Warning",
        "reason": "BackOff",
        "message": message,
    }
