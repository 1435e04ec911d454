"""The queue of a job: that Kueue holds it, its LocalQueue, and its priority there."""

import pytest
from doctor_samples import SPACE, summary
from submitted import spec

from launcher.cluster.resources import CLUSTER_RUNTIMES, LOCAL_QUEUES, PYTORCH_JOBS, QUEUE_PRIORITIES, TRAIN_JOBS
from launcher.doctor import checks, queue
from launcher.spec.options import PolicyOptions


def job(**policy):
    return spec(data="/data", output="/output", policy=PolicyOptions(**{"queue": "q"} | policy))


@pytest.mark.parametrize(("active", "status"), [("True", "OK"), ("False", "FAIL")])
def test_queue_must_admit_jobs(active, status):
    """A LocalQueue whose ClusterQueue is gone keeps jobs suspended for ever."""
    condition = {"type": "Active", "status": active, "message": "ClusterQueue is not there"}
    there = {"metadata": {"name": "q"}, "spec": {"clusterQueue": "all"}, "status": {"conditions": [condition]}}
    assert queue.queue_state(there).status == status


def test_a_queue_without_kueue_is_a_failure(cluster):
    assert queue.local_queue(cluster, job()).status == "FAIL"
    assert queue.held(cluster, job()).status == "FAIL"
    assert queue.priority(cluster, job(queue_priority="p")).status == "FAIL"


@pytest.mark.parametrize("version", [0, 1], ids=["v1beta2", "v1beta1"])
def test_queue_and_priority_are_read_in_the_served_version(cluster, api, version):
    api.state.serve_kueue(PYTORCH_JOBS, version=["v1beta2", "v1beta1"][version])
    there = {"metadata": {"name": "q"}, "spec": {"clusterQueue": "all"}, "status": {"pendingWorkloads": 3}}
    api.state.put(f"{LOCAL_QUEUES[version].path('team-a')}/q", there)
    api.state.put(f"{QUEUE_PRIORITIES[version].path(None)}/p", {"metadata": {"name": "p"}, "value": 1000})
    assert queue.local_queue(cluster, job()).found == "`q` of ClusterQueue `all`; 3 jobs are pending"
    assert queue.priority(cluster, job(queue_priority="p")).found == "`p`, priority 1000"


def test_absent_priority_is_a_failure(cluster, api):
    """Kueue creates no Workload of such a job, which then waits for ever."""
    api.state.serve_kueue(PYTORCH_JOBS)
    assert queue.priority(cluster, job()).status == "skipped"
    assert queue.priority(cluster, job(queue_priority="absent")).status == "FAIL"


def test_kind_that_kueue_does_not_hold_is_a_failure(cluster, api):
    """The row has the sentence of submit."""
    api.state.serve_trainer()
    api.state.serve_kueue(TRAIN_JOBS)
    runtime = {"metadata": {"name": "t"}, "spec": {"mlPolicy": {"torch": {}}}}
    runtime["spec"]["template"] = {"spec": {"replicatedJobs": [{"name": "node"}]}}
    api.state.put(f"{CLUSTER_RUNTIMES.path(None)}/t", runtime)
    outcome = queue.held(cluster, job())
    assert outcome.status == "FAIL"
    assert "manages TrainJobs in namespace `team-a`, but not PyTorchJobs" in outcome.found
    assert outcome.fix.startswith("--api trainjob")
    api.state.serve_kueue(PYTORCH_JOBS)
    assert queue.held(cluster, job()).status == "OK"


def test_kind_that_cannot_be_tried_is_a_warning(cluster, api):
    api.state.serve_kueue(PYTORCH_JOBS)
    api.state.fail("POST", "pytorchjobs", 403, "no")
    assert queue.held(cluster, job()).status == "WARN"


def test_doctor_has_rows_of_kueue_only_for_a_job_with_a_queue(cluster, api):
    """A job that Kueue does not hold fails in the row about it; the server accepts the job itself."""
    api.state.put("/api/v1/namespaces/team-a", {"metadata": {"name": "team-a"}})
    api.state.put(f"{SPACE}/serviceaccounts/default", {"metadata": {"name": "default"}})
    api.state.serve_kueue()
    rows = summary(checks.doctor(job(), cluster))
    assert (rows["held by Kueue"], rows["job dry run"], rows["Kueue queue"]) == ("FAIL", "OK", "FAIL")
    assert (
        not {"Kueue", "held by Kueue", "Kueue queue", "queue priority"} & summary(checks.doctor(spec(), cluster)).keys()
    )
