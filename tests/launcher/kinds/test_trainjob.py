"""What a TrainJob and its pods say in the words of all jobs."""

import pytest

from launcher import kinds
from launcher.kinds import trainjob


def job(status=None, **spec):
    return {
        "kind": "TrainJob",
        "metadata": {"name": "t1", "namespace": "team-a", "creationTimestamp": "2026-01-01T10:00:00Z"},
        "spec": {"trainer": {"numNodes": 2, "image": "i:1"}} | spec,
        "status": status or {},
    }


def condition(kind, status="True"):
    return {"conditions": [{"type": kind, "status": status}]}


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, "Pending"),
        ({"jobsStatus": [{"name": "node", "active": 1, "ready": 0}]}, "Created"),
        ({"jobsStatus": [{"name": "node", "active": 1, "ready": 1}]}, "Running"),
        (condition("Suspended") | {"jobsStatus": [{"suspended": 1}]}, "Suspended"),
        (condition("Suspended", "False") | {"jobsStatus": [{"active": 1, "ready": 1}]}, "Running"),
        (condition("Complete"), "Succeeded"),
        (condition("Failed") | {"jobsStatus": [{"active": 1, "ready": 1}]}, "Failed"),
    ],
)
def test_state_from_sparse_conditions(status, state):
    """There is neither Created nor Running among its conditions."""
    assert kinds.of(job(status)).outcome(job(status)) == state


def test_suspended_before_the_controller_says_so():
    """Kueue suspends it at creation."""
    assert trainjob.outcome(job(suspend=True)) == "Suspended"
    assert trainjob.is_suspended(job(suspend=True))
    assert not trainjob.is_suspended(job())


def pod(name, index, created="2026-01-01T10:01:00Z", phase="Running"):
    labels = {trainjob.job_label: "t1", trainjob.index_label: str(index)}
    metadata = {"name": name, "labels": labels, "creationTimestamp": created}
    return {"metadata": metadata, "spec": {}, "status": {"phase": phase}}


def test_after_a_restart_the_newest_pod_of_each_index_counts():
    """Those before it may still be there, with the same labels."""
    pods = [
        pod("t1-node-0-10-aaaaa", 10),
        pod("t1-node-0-0-aaaaa", 0, phase="Failed"),
        pod("t1-node-0-0-bbbbb", 0, created="2026-01-01T10:02:00Z"),
        pod("t1-node-0-2-aaaaa", 2),
    ]
    newest = kinds.newest(job(), pods)
    assert [each["metadata"]["name"] for each in newest] == [
        "t1-node-0-0-bbbbb",
        "t1-node-0-2-aaaaa",
        "t1-node-0-10-aaaaa",
    ]
    assert [kinds.short_name(each) for each in newest] == ["node-0", "node-2", "node-10"]
    assert {kinds.job_of(each) for each in newest} == {"t1"}


def test_pods_of_an_earlier_job_of_the_name_are_not_its_own():
    assert trainjob.owns(job(), pod("t1-node-0-0-aaaaa", 0))
    assert not trainjob.owns(job(), pod("t1-node-0-0-aaaaa", 0, created="2026-01-01T09:59:59Z"))


def test_names_of_its_pods_are_not_those_of_a_job_with_a_longer_name():
    names = trainjob.pod_names(job())
    assert names.fullmatch("t1-node-0-3-x7k2p")
    assert not names.fullmatch("t1-node-0-0-node-0-3-x7k2p")
    assert not names.fullmatch("t1-worker-0")
