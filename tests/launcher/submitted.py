"""A job for tests of what is done with jobs, and what the API server double holds of it."""

from launcher.spec.job import JobSpec

JOB_PATH = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs"

POD_PATH = "/api/v1/namespaces/team-a/pods"


def spec(**changes):
    given = {"accelerator": "cpu", "image": "i", "data": "s3://cxr/nih", "output": "s3://cxr/runs", "name": "t1"}
    return JobSpec(**given | {"namespace": "team-a"} | changes)


def set_state(api, name, *conditions):
    body = dict(api.state.objects[f"{JOB_PATH}/{name}"])
    api.state.put(
        f"{JOB_PATH}/{name}", body | {"status": {"conditions": [{"type": c, "status": "True"} for c in conditions]}}
    )


def paths(api):
    return sorted(path.partition("/namespaces/team-a/")[2] or path for path in api.state.objects)
