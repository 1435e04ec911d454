"""What is done with jobs, against the API server double: all or nothing, and nothing left."""

import pytest
from apiserver import Fault

from launcher import jobs
from launcher.cluster import ForbiddenError, InvalidError, NotFoundError
from launcher.manifest import render
from launcher.resources import CLAIMS, JOB_LABEL, JOBS, VOLUMES
from launcher.spec import JobSpec
from trainer.errors import InputError, JobFailedError, RemoteError, TimeLimitError

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


def test_submit_creates_volume_job_and_a_claim_that_the_job_owns(cluster, api):
    """The claim goes with the job; the volume can't be owned by it."""
    assert jobs.submit(cluster, render(spec())) == jobs.Submitted("t1", "created")
    assert paths(api) == ["/api/v1/persistentvolumes/team-a.t1", "persistentvolumeclaims/t1-data", "pytorchjobs/t1"]
    claim = cluster.get(CLAIMS, "t1-data")
    assert [owner["uid"] for owner in claim["metadata"]["ownerReferences"]] == [
        cluster.get(JOBS, "t1")["metadata"]["uid"]
    ]


def test_server_dry_run_asks_and_leaves_nothing(cluster, api):
    assert jobs.submit(cluster, render(spec()), dry_run=True).outcome == "would be created"
    assert paths(api) == []
    assert len(api.state.asked("POST")) == 3


@pytest.mark.parametrize("kind", ["persistentvolumes", "pytorchjobs", "persistentvolumeclaims"])
@pytest.mark.parametrize("fault", ["refused", "broken"])
def test_failed_submit_leaves_nothing_behind(cluster, api, kind, fault):
    """Half a job would hold a volume, or wait for a claim for ever."""

    def refuse(handler):
        handler.refuse(422, "admission webhook denied the request") if fault == "refused" else handler.reset()

    def let_pass(handler):
        handler.answer({}, 201)

    api.state.faults.append(Fault("POST", kind, let_pass, query="dryRun=All"))
    api.state.faults.append(Fault("POST", kind, refuse))
    with pytest.raises(RemoteError):
        jobs.submit(cluster, render(spec()))
    assert paths(api) == []


def test_what_the_server_refuses_in_a_dry_run_is_never_begun(cluster, api):
    api.state.fail("POST", "pytorchjobs", 422, "admission webhook denied the request")
    with pytest.raises(InvalidError, match="admission webhook denied"):
        jobs.submit(cluster, render(spec()))
    assert all(query.get("dryRun") for method, _, query in api.state.requests if method == "POST")


def test_same_job_again_is_unchanged_whatever_the_server_filled_in(cluster, api):
    """Scripts submit again to be sure."""
    jobs.submit(cluster, render(spec()))
    there = api.state.objects[f"{JOB_PATH}/t1"]
    there["spec"]["runPolicy"]["suspend"] = False
    there["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    assert jobs.submit(cluster, render(spec())).outcome == "unchanged"


def test_another_job_of_the_name_is_refused_with_the_difference(cluster):
    """Two jobs under one name would write one run."""
    jobs.submit(cluster, render(spec()))
    with pytest.raises(InputError) as caught:
        jobs.submit(cluster, render(spec(image="other")))
    assert "-" in str(caught.value)
    assert "image: other" in str(caught.value)
    assert "image: i" in str(caught.value)


def test_job_that_is_over_makes_no_room_by_itself(cluster, api):
    """Its log and state are still wanted by somebody, perhaps."""
    jobs.submit(cluster, render(spec()))
    set_state(api, "t1", "Failed")
    with pytest.raises(InputError, match="has failed"):
        jobs.submit(cluster, render(spec()))


def test_user_who_may_not_make_volumes_is_told_the_other_ways(cluster, api):
    """An administrator's claim and the S3 API need no such right."""
    api.state.forbidden.add(("create", "persistentvolumes"))
    with pytest.raises(ForbiddenError) as caught:
        jobs.submit(cluster, render(spec()))
    assert "--data-pvc" in str(caught.value)
    assert "--data-access api" in str(caught.value)
    assert paths(api) == []


def test_claim_of_an_administrator_is_found_by_what_it_holds(cluster, api):
    """So that nobody has to know its name."""
    claim = {"metadata": {"name": "cxr", "annotations": {jobs.DATA: "s3://cxr/nih/"}}, "status": {"phase": "Bound"}}
    api.state.put("/api/v1/namespaces/team-a/persistentvolumeclaims/cxr", claim)
    assert jobs.claim_for(cluster, "s3://cxr/nih") == "cxr"
    assert jobs.claim_for(cluster, "s3://cxr/other") is None
    api.state.forbidden.add(("list", "persistentvolumeclaims"))
    assert jobs.claim_for(cluster, "s3://cxr/nih") is None


def test_volumes_whose_job_is_gone_are_swept_and_no_others(cluster, api):
    """They are cluster-wide and nothing else removes them."""
    own = {"app.kubernetes.io/managed-by": "chexnet-launcher"}
    for name, labels, phase, namespace in [
        ("left", own, "Released", "team-a"),
        ("in-use", own, "Bound", "team-a"),
        ("elsewhere", own, "Released", "team-b"),
        ("foreign", {}, "Released", "team-a"),
    ]:
        volume = {"metadata": {"name": name, "labels": labels}, "spec": {"claimRef": {"namespace": namespace}}}
        api.state.put(f"/api/v1/persistentvolumes/{name}", volume | {"status": {"phase": phase}})
    assert jobs.sweep(cluster) == ["left"]
    assert [each["metadata"]["name"] for each in cluster.list(VOLUMES)] == ["in-use", "elsewhere", "foreign"]


def test_wait_returns_when_the_job_has_succeeded_though_the_watch_is_silent(cluster, api):
    """A watch that stalls must not be believed."""
    jobs.submit(cluster, render(spec()))

    def silent(handler):
        set_state(api, "t1", "Succeeded")
        handler.begin_stream()
        handler.chunk(b"")

    api.state.faults.append(Fault("GET", "pytorchjobs", silent, query="watch=true"))
    assert jobs.wait(cluster, "t1") == "Succeeded"


@pytest.mark.parametrize("fault", ["reset", "gone"])
def test_wait_goes_on_after_a_broken_watch(cluster, api, fault):
    jobs.submit(cluster, render(spec()))

    def broken(handler):
        set_state(api, "t1", "Succeeded")
        handler.reset() if fault == "reset" else handler.refuse(410, "too old resource version")

    api.state.faults.append(Fault("GET", "pytorchjobs", broken, query="watch=true"))
    assert jobs.wait(cluster, "t1") == "Succeeded"


def test_wait_ends_early_when_the_job_fails(cluster, api):
    """`kubectl wait` for success sits until its time-out."""
    jobs.submit(cluster, render(spec()))
    set_state(api, "t1", "Failed")
    with pytest.raises(JobFailedError) as caught:
        jobs.wait(cluster, "t1", timeout_s=60)
    assert caught.value.exit_code == 3
    assert jobs.wait(cluster, "t1", until="Failed") == "Failed"


def test_wait_that_lasts_too_long_leaves_the_job_alone(cluster, api):
    jobs.submit(cluster, render(spec()))
    times = iter([0.0, 100.0])
    with pytest.raises(TimeLimitError) as caught:
        jobs.wait(cluster, "t1", timeout_s=60, clock=lambda: next(times))
    assert caught.value.exit_code == 124
    assert cluster.get(JOBS, "t1")


def test_wait_for_a_job_that_is_deleted_meanwhile_says_so(cluster, api):
    jobs.submit(cluster, render(spec()))

    def deleted(handler):
        api.state.remove(f"{JOB_PATH}/t1")
        handler.begin_stream()
        handler.chunk(b"")

    api.state.faults.append(Fault("GET", "pytorchjobs", deleted, query="watch=true"))
    with pytest.raises(NotFoundError):
        jobs.wait(cluster, "t1")


def test_delete_waits_for_pods_and_removes_the_volume(cluster, api):
    """A job of the same name must find room."""
    jobs.submit(cluster, render(spec()))
    pod = {"metadata": {"name": "t1-master-0", "labels": {JOB_LABEL: "t1"}}}
    api.state.put(f"{POD_PATH}/t1-master-0", pod)

    def last_look(handler):
        with api.state.lock:
            api.state.remove(f"{POD_PATH}/t1-master-0")
            api.state.remove("/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data")
        handler.answer({"metadata": {}, "items": [pod]})

    api.state.faults.append(Fault("GET", "/pods", last_look))
    removed = jobs.delete(cluster, "t1", timeout_s=60)
    assert removed == ["pytorchjob.kubeflow.org/t1", "persistentvolume/team-a.t1"]
    assert paths(api) == []
    with pytest.raises(NotFoundError):
        jobs.delete(cluster, "t1", timeout_s=60)


def test_delete_that_takes_too_long_names_what_is_left(cluster, api):
    jobs.submit(cluster, render(spec(data="/d")))
    api.state.put(f"{POD_PATH}/t1-master-0", {"metadata": {"name": "t1-master-0", "labels": {JOB_LABEL: "t1"}}})
    with pytest.raises(TimeLimitError, match="a pod of `t1` is still there"):
        jobs.delete(cluster, "t1", timeout_s=0)


def test_settings_of_a_job_make_it_again(cluster):
    """What `clone` starts from; without the name, and without secrets because there are none."""
    made = spec(train_flags=("--epochs", "3"), workers=2)
    jobs.submit(cluster, render(made))
    settings = jobs.settings_of(jobs.get(cluster, "t1"))
    assert settings == {
        "accelerator": "cpu",
        "workers": "2",
        "image": "i",
        "data": "s3://cxr/nih",
        "output": "s3://cxr/runs",
        "train_flags": ["--epochs", "3"],
    }
    with pytest.raises(InputError, match="the launcher did not make it"):
        jobs.settings_of({"metadata": {"name": "x"}})


def test_snapshot_holds_what_may_be_read_and_names_the_rest(cluster, api):
    """A user without the right to see events still gets a status."""
    jobs.submit(cluster, render(spec(data="/d")))
    set_state(api, "t1", "Running")
    uid = cluster.get(JOBS, "t1")["metadata"]["uid"]
    terminated = {"state": {"terminated": {"exitCode": 1}}, "name": "pytorch"}
    pod = {
        "metadata": {"name": "t1-master-0", "labels": {JOB_LABEL: "t1"}, "uid": "p"},
        "spec": {"nodeName": "n"},
        "status": {"phase": "Failed", "containerStatuses": [terminated]},
    }
    api.state.put(f"{POD_PATH}/t1-master-0", pod)
    log = b"2026-01-01T00:00:00Z last words\n"
    api.state.faults.append(Fault("GET", "/t1-master-0/log", lambda handler: handler._send(200, log, {})))
    event = {
        "involvedObject": {"kind": "PyTorchJob", "uid": uid},
        "lastTimestamp": "2026-01-02T00:00:00Z",
        "metadata": {"name": "e"},
    }
    api.state.put("/api/v1/namespaces/team-a/events/e", event)
    snapshot = jobs.observe(cluster, "t1")
    assert [each["metadata"]["name"] for each in snapshot.pods] == ["t1-master-0"]
    assert [each["metadata"]["name"] for each in snapshot.events] == ["e"]
    assert snapshot.tails == {"t1-master-0": "last words"}
    api.state.forbidden |= {("list", "events"), ("list", "pods")}
    assert jobs.observe(cluster, "t1").denied == {"events", "pods"}


def test_list_takes_two_requests_however_many_jobs_there_are(cluster, api):
    """A request for each would take minutes with hundreds."""
    for number in range(30):
        api.state.put(f"{JOB_PATH}/j{number}", {"metadata": {"name": f"j{number}", "namespace": "team-a"}})
        labels = {JOB_LABEL: f"j{number}"}
        api.state.put(f"{POD_PATH}/p{number}", {"metadata": {"name": f"p{number}", "labels": labels}})
    found, pods = jobs.all_jobs(cluster, everywhere=False)
    assert (len(found), len(pods)) == (30, 30)
    assert len(api.state.requests) == 2
