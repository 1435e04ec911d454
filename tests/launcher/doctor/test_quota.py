"""Whether quotas leave room for the job."""

import pytest
from doctor_samples import gaudi, pod_set

from launcher.doctor.quota import quota


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
    outcome = quota(pod_set(gaudi(16)), quotas, priority_class="high", claims=1)
    assert outcome.status == status, outcome
