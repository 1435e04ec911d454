"""Whether quotas leave room for the job."""

import pytest
from doctor_samples import gaudi, pod_set

from launcher.doctor.quota import made_for, quota


def judged(job, quotas):
    return quota(pod_set(job), quotas, priority_class="high", made=made_for(job))


def limited(hard, used=None, **rest):
    return {"metadata": {"name": "q"}, "spec": {"hard": hard, **rest}, "status": {"hard": hard, "used": used or {}}}


QUOTAS = {
    "none": ([], "OK"),
    "room": ([limited({"requests.habana.ai/gaudi": "16", "pods": "2"})], "OK"),
    "in use": ([limited({"requests.habana.ai/gaudi": "16"}, {"requests.habana.ai/gaudi": "4"})], "WARN"),
    "too small": ([limited({"requests.habana.ai/gaudi": "8"})], "FAIL"),
    "memory, by its short name": ([limited({"memory": "511Gi"})], "FAIL"),
    "memory limits": ([limited({"limits.memory": "511Gi"})], "FAIL"),
    "pods": ([limited({"pods": "1"})], "FAIL"),
    "claims": ([limited({"persistentvolumeclaims": "3"}, {"persistentvolumeclaims": "3"})], "WARN"),
    "jobs": ([limited({"count/pytorchjobs.kubeflow.org": "1"}, {"count/pytorchjobs.kubeflow.org": "1"})], "WARN"),
    "what it has too much of is not ours": ([limited({"secrets": "1"}, {"secrets": "2"})], "OK"),
    "counts limits that we do not set": ([limited({"limits.cpu": "1000"})], "WARN"),
    "of jobs with a deadline": ([limited({"pods": "0"}, scopes=["Terminating"])], "OK"),
    "of another priority": (
        [
            limited(
                {"pods": "0"},
                scopeSelector={
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["low"]}]
                },
            )
        ],
        "OK",
    ),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_quota_check_distinguishes_room_now_later_and_never(name):
    """The operator's pods are refused one by one, and only an event on the job says so."""
    quotas, status = QUOTAS[name]
    outcome = judged(gaudi(16), quotas)
    assert outcome.status == status, outcome


TRAIN_JOB = {
    "count/trainjobs.trainer.kubeflow.org": 1,
    "count/trainingruntimes.trainer.kubeflow.org": 1,
    "count/jobsets.jobset.x-k8s.io": 1,
    "count/jobs.batch": 1,
    "services": 1,
    "count/services": 1,
    "configmaps": 1,
    "count/configmaps": 1,
    "pods": 2,
    "count/pods": 2,
    "persistentvolumeclaims": 1,
}
PYTORCH_JOB = {
    "count/pytorchjobs.kubeflow.org": 1,
    "services": 2,
    "count/services": 2,
    "pods": 2,
    "persistentvolumeclaims": 1,
    "count/persistentvolumeclaims": 1,
}


@pytest.mark.parametrize(
    ("api", "resource", "need"),
    [("trainjob", *each) for each in TRAIN_JOB.items()] + [("pytorchjob", *each) for each in PYTORCH_JOB.items()],
)
def test_each_object_of_a_job_counts(api, resource, need):
    """Without one of them the controller makes no pods, and says so only in an event."""
    job = gaudi(16, api=api)
    assert judged(job, [limited({resource: str(need)})]).status == "OK"
    assert judged(job, [limited({resource: str(need - 1)})]).status == "FAIL"
    outcome = judged(job, [limited({resource: str(need)}, {resource: "1"})])
    assert outcome.status == "WARN"
    assert f"allows {need} {resource}, the job needs {need}, 1 are in use" in outcome.found


@pytest.mark.parametrize(
    ("api", "hard"),
    [
        ("trainjob", {"count/pytorchjobs.kubeflow.org": "0"}),
        ("pytorchjob", {"count/trainjobs.trainer.kubeflow.org": "0", "count/jobs.batch": "0", "configmaps": "0"}),
    ],
)
def test_objects_of_the_other_kind_do_not_count(api, hard):
    """An administrator closes one kind so that people take the other."""
    assert judged(gaudi(16, api=api), [limited(hard)]).status == "OK"


def test_administrators_runtime_counts_for_no_job():
    """It is there already."""
    full = [
        limited(
            {"count/trainingruntimes.trainer.kubeflow.org": "1"}, {"count/trainingruntimes.trainer.kubeflow.org": "1"}
        )
    ]
    assert judged(gaudi(16, api="trainjob", runtime="chexnet"), full).status == "OK"
    assert judged(gaudi(16, api="trainjob"), full).status == "WARN"
