"""Waiting for a job: its end, its failure, a server that is away, and a job that is deleted or replaced."""

import itertools

import pytest
from apiserver import Fault
from submitted import JOB_PATH, set_state, spec

from launcher.cluster.connection import ATTEMPTS
from launcher.cluster.errors import NotFoundError, ServerError
from launcher.cluster.resources import PYTORCH_JOBS
from launcher.jobs import submit
from launcher.jobs.wait import wait_for_job
from launcher.spec.manifest import render
from trainer.errors import JobFailedError, TimeLimitError


def test_wait_returns_when_the_job_has_succeeded_though_the_watch_is_silent(cluster, api):
    """A watch that stalls must not be believed."""
    submit.submit(cluster, render(spec()))

    def silent(handler):
        set_state(api, "t1", "Succeeded")
        handler.begin_stream()
        handler.chunk(b"")

    api.state.faults.append(Fault("GET", "pytorchjobs", silent, query="watch=true"))
    assert wait_for_job(cluster, "t1") == "Succeeded"


def half_an_event(handler):
    handler.begin_stream()
    handler.chunk(b'{"type": "MODIFIED", "obj')
    handler.chunk(b"")


def too_old(handler):
    handler.begin_stream()
    handler.chunk(b'{"type": "ERROR", "object": {"code": 410, "message": "too old resource version", "details": {}}}\n')
    handler.chunk(b"")


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda handler: handler.reset(), id="reset"),
        pytest.param(lambda handler: handler.refuse(410, "too old resource version"), id="gone"),
        pytest.param(too_old, id="gone-in-the-stream"),
        pytest.param(half_an_event, id="cut-in-an-event"),
        pytest.param(lambda handler: handler.refuse(500, "etcd is ill"), id="failed"),
        pytest.param(lambda handler: handler.refuse(429, "too many requests"), id="busy"),
        pytest.param(lambda handler: handler.refuse(403, "u cannot watch"), id="forbidden"),
    ],
)
def test_wait_continues_after_a_broken_watch(cluster, api, fault):
    """Only the job itself says that it is over."""
    submit.submit(cluster, render(spec()))

    def broken(handler):
        set_state(api, "t1", "Succeeded")
        fault(handler)

    api.state.faults.append(Fault("GET", "pytorchjobs", broken, query="watch=true"))
    assert wait_for_job(cluster, "t1") == "Succeeded"


def test_wait_outlasts_a_server_that_is_away_for_minutes(cluster, api):
    """An upgrade of the control plane does not stop a training."""
    submit.submit(cluster, render(spec()))
    api.state.faults.append(Fault("GET", "pytorchjobs", lambda handler: handler.reset(), query="watch=true"))
    api.state.faults.append(Fault("GET", "/t1", lambda handler: handler.serve()))
    api.state.faults.append(Fault("GET", "/t1", lambda handler: handler.refuse(503, "away"), 20 * ATTEMPTS))
    times = itertools.count(step=10.0)
    api.state.faults.append(Fault("GET", "/t1", lambda handler: (set_state(api, "t1", "Succeeded"), handler.serve())))
    assert wait_for_job(cluster, "t1", clock=lambda: next(times)) == "Succeeded"


def test_wait_gives_up_on_a_server_that_stays_away(cluster, api):
    """Whoever waits in a script wants to know."""
    submit.submit(cluster, render(spec()))
    api.state.faults.append(Fault("GET", "pytorchjobs", lambda handler: handler.reset(), query="watch=true"))
    api.state.faults.append(Fault("GET", "pytorchjobs/t1", lambda handler: handler.serve()))
    api.state.faults.append(Fault("GET", "pytorchjobs/t1", lambda handler: handler.refuse(503, "away"), 10_000))
    times = itertools.count(step=50.0)
    with pytest.raises(ServerError, match="away"):
        wait_for_job(cluster, "t1", clock=lambda: next(times))


def test_wait_ends_early_when_the_job_fails(cluster, api):
    """`kubectl wait` for success sits until its time-out."""
    submit.submit(cluster, render(spec()))
    set_state(api, "t1", "Failed")
    with pytest.raises(JobFailedError) as caught:
        wait_for_job(cluster, "t1", timeout_s=60)
    assert caught.value.exit_code == 3
    assert wait_for_job(cluster, "t1", until="Failed") == "Failed"


def failed_pod(message):
    labels = {
        "training.kubeflow.org/job-name": "t1",
        "training.kubeflow.org/replica-type": "worker",
        "training.kubeflow.org/replica-index": "0",
    }
    ended = {"exitCode": 2, "reason": "Error", "finishedAt": "2026-01-01T00:00:00Z", "message": message}
    return {
        "metadata": {"name": "t1-worker-0", "namespace": "team-a", "uid": "p", "labels": labels},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Failed", "containerStatuses": [{"name": "pytorch", "state": {"terminated": ended}}]},
    }


def test_wait_names_the_cause_of_a_failure_without_the_right_to_read_logs(cluster, api):
    """It stands in the pod's status, and is text of others all the same."""
    submit.submit(cluster, render(spec()))
    set_state(api, "t1", "Failed")
    api.state.put(
        "/api/v1/namespaces/team-a/pods/t1-worker-0",
        failed_pod("failed: rank 0: cannot read `\x1b[31mlabels.csv`; hint: add the column"),
    )
    api.state.fail("GET", "/log", 403, "u cannot get resource pods/log")
    with pytest.raises(JobFailedError) as caught:
        wait_for_job(cluster, "t1")
    assert str(caught.value).startswith("error: the job `t1` failed: worker-0 Error ")
    assert "rank 0: cannot read `\\x1b[31mlabels.csv`" in str(caught.value)
    assert caught.value.hint == "add the column"


def test_wait_fails_as_well_where_the_cause_can_not_be_had(cluster, api):
    """Neither pods nor events may be read, and the operator says nothing."""
    submit.submit(cluster, render(spec()))
    set_state(api, "t1", "Failed")
    api.state.forbidden |= {("list", "events"), ("list", "pods")}
    with pytest.raises(JobFailedError, match=r"^error: the job `t1` failed .* ago: ") as caught:
        wait_for_job(cluster, "t1")
    assert "the job failed" not in str(caught.value)


def test_a_job_that_is_being_deleted_is_not_over(cluster, api):
    """It may take its grace period; then it is gone, and that is no success."""
    submit.submit(cluster, render(spec()))
    set_state(api, "t1", "Running")
    api.state.objects[f"{JOB_PATH}/t1"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    times = iter([0.0, 100.0])
    with pytest.raises(TimeLimitError):
        wait_for_job(cluster, "t1", timeout_s=60, clock=lambda: next(times))
    set_state(api, "t1", "Succeeded")
    assert wait_for_job(cluster, "t1") == "Succeeded"  # it had succeeded before


def test_wait_that_lasts_too_long_leaves_the_job_alone(cluster, api):
    submit.submit(cluster, render(spec()))
    times = iter([0.0, 100.0])
    with pytest.raises(TimeLimitError) as caught:
        wait_for_job(cluster, "t1", timeout_s=60, clock=lambda: next(times))
    assert caught.value.exit_code == 124
    assert cluster.get(PYTORCH_JOBS, "t1")


def test_wait_reports_a_job_that_is_deleted_meanwhile(cluster, api):
    submit.submit(cluster, render(spec()))

    def deleted(handler):
        api.state.remove(f"{JOB_PATH}/t1")
        handler.begin_stream()
        handler.chunk(b"")

    api.state.faults.append(Fault("GET", "pytorchjobs", deleted, query="watch=true"))
    with pytest.raises(NotFoundError, match="was deleted meanwhile"):
        wait_for_job(cluster, "t1")


def test_wait_does_not_take_the_next_job_of_the_name_for_the_one_it_waits_for(cluster, api):
    """That it succeeds says nothing about ours."""
    submit.submit(cluster, render(spec()))

    def replaced(handler):
        body = api.state.objects[f"{JOB_PATH}/t1"]
        api.state.remove(f"{JOB_PATH}/t1")
        api.state.put(f"{JOB_PATH}/t1", body | {"metadata": {"name": "t1", "uid": "another"}}, "ADDED")
        set_state(api, "t1", "Succeeded")
        handler.begin_stream()
        handler.chunk(b"")

    api.state.faults.append(Fault("GET", "pytorchjobs", replaced, query="watch=true"))
    with pytest.raises(NotFoundError, match="another job has its name"):
        wait_for_job(cluster, "t1")
