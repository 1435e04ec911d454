"""Jobs, nodes and other objects for tests of doctor's checks."""

from submitted import spec

from launcher.doctor import fit, preflight_pod

SPACE = "/api/v1/namespaces/team-a"

KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


def summary(rows):
    return {row.check: row.status for row in rows}


def node(name, *, free=True, labels=None, taints=(), cordoned=False, **resources):
    allocatable = {"cpu": "96", "memory": "1000Gi", "pods": "110"} | {
        key.replace("__", "/").replace("_", "."): value for key, value in resources.items()
    }
    return {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints), **({"unschedulable": True} if cordoned else {})},
        "status": {
            "allocatable": allocatable,
            "capacity": allocatable,
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def gaudi_node(name, count="8", pages="64Gi", **rest):
    made = node(name, **rest)
    made["status"]["allocatable"] |= {"habana.ai/gaudi": count, "hugepages-2Mi": pages}
    return made


def pod_set(job):
    return fit.PodSet(pod_spec=preflight_pod.job_pod(job)["spec"], pods=job.nodes, fewest=job.fewest_nodes)


def gaudi(workers, **changes):
    return spec(accelerator="gaudi", workers=workers, **changes)


def webhook_configuration(name, namespace, service, **rule):
    """A configuration with one webhook that the Service answers; by default it validates new PyTorchJobs."""
    about = {
        "apiGroups": ["kubeflow.org"],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pytorchjobs"],
    }
    where = {"service": {"namespace": namespace, "name": service, "path": "/validate-kubeflow-org-v1-pytorchjob"}}
    return {"metadata": {"name": name}, "webhooks": [{"clientConfig": where, "rules": [about | rule]}]}


def deployment(image="docker.io/kubeflow/training-operator:v1.9.4", ready=1, **container):
    return {
        "metadata": {"name": "training-operator", "namespace": "kubeflow"},
        "spec": {"replicas": ready, "template": {"spec": {"containers": [{"name": "o", "image": image, **container}]}}},
        "status": {"readyReplicas": ready},
    }
