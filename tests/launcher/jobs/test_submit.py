"""What is done with jobs, against the API server double: all or nothing, and nothing left."""

import dataclasses
import itertools
from datetime import datetime, timezone

import pytest
from apiserver import Fault

from launcher.cluster.connection import ATTEMPTS
from launcher.cluster.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError, ServerError
from launcher.cluster.resources import CLAIMS, JOB_LABEL, JOBS, VOLUMES
from launcher.jobs import submit
from launcher.jobs.delete import delete_job, sweep_volumes
from launcher.jobs.find import DATA, claim_for, get_job, list_jobs, settings_of
from launcher.jobs.wait import wait_for_job
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render
from launcher.spec.options import PodOptions, PolicyOptions
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
    assert submit.submit(cluster, render(spec())) == submit.Submitted("t1", "created")
    assert paths(api) == ["/api/v1/persistentvolumes/team-a.t1", "persistentvolumeclaims/t1-data", "pytorchjobs/t1"]
    claim = cluster.get(CLAIMS, "t1-data")
    assert [owner["uid"] for owner in claim["metadata"]["ownerReferences"]] == [
        cluster.get(JOBS, "t1")["metadata"]["uid"]
    ]


def test_volume_that_is_left_makes_room_once_its_claim_is_gone(cluster, api):
    """Somebody has deleted the job by kubectl, and it is submitted again at once."""
    labels = render(spec())[0]["metadata"]["labels"]
    volume = {"metadata": {"name": "team-a.t1", "labels": labels}, "spec": {}, "status": {"phase": "Bound"}}
    place = "/api/v1/persistentvolumes/team-a.t1"
    api.state.put(place, volume)

    def last_look(handler):
        handler.serve()
        api.state.put(place, volume | {"status": {"phase": "Released"}})

    api.state.faults.append(Fault("GET", place, last_look))
    assert submit.submit(cluster, render(spec())).outcome == "created"
    assert "status" not in api.state.objects[place]


def test_volume_of_somebody_else_is_not_removed(cluster, api):
    """It only has the name that ours would have."""
    place = "/api/v1/persistentvolumes/team-a.t1"
    api.state.put(place, {"metadata": {"name": "team-a.t1"}, "spec": {}, "status": {"phase": "Released"}})
    with pytest.raises(ConflictError, match="already exists"):
        submit.submit(cluster, render(spec()))
    assert paths(api) == [place]


def test_server_dry_run_asks_and_leaves_nothing(cluster, api):
    assert submit.submit(cluster, render(spec()), dry_run=True).outcome == "would be created"
    assert paths(api) == []
    assert len(api.state.asked("POST")) == 3


KINDS = ["persistentvolumes", "pytorchjobs", "persistentvolumeclaims"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("fault", "times"),
    [
        pytest.param(lambda handler: handler.refuse(422, "admission webhook denied the request"), 1, id="refused"),
        pytest.param(lambda handler: handler.refuse(500, "etcdserver: request timed out"), 1, id="failed"),
        pytest.param(lambda handler: handler.reset(), ATTEMPTS, id="broken"),
        pytest.param(lambda handler: handler.do_and_refuse(500, "request timed out"), 1, id="done-and-failed"),
    ],
)
def test_failed_submit_leaves_nothing_behind(cluster, api, kind, fault, times):
    """Half a job would hold a volume, or wait for a claim for ever."""
    api.state.faults.append(Fault("POST", kind, lambda handler: handler.answer({}, 201), query="dryRun=All"))
    api.state.faults.append(Fault("POST", kind, fault, times))
    with pytest.raises(RemoteError):
        submit.submit(cluster, render(spec()))
    assert paths(api) == []


@pytest.mark.parametrize("kind", KINDS)
def test_submit_whose_answer_is_lost_is_done_once(cluster, api, kind):
    """The second request finds what the first has made; it is neither refused nor made twice."""
    api.state.faults.append(Fault("POST", kind, lambda handler: handler.answer({}, 201), query="dryRun=All"))
    api.state.faults.append(Fault("POST", kind, lambda handler: handler.do_and_reset()))
    assert submit.submit(cluster, render(spec())).outcome == "created"
    assert paths(api) == ["/api/v1/persistentvolumes/team-a.t1", "persistentvolumeclaims/t1-data", "pytorchjobs/t1"]


@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_submit_leaves_nothing_behind(cluster, api, kind):
    """Ctrl-C comes while the answer is awaited, and the object is made."""

    def interrupt(seconds):
        raise KeyboardInterrupt

    api.state.faults.append(Fault("POST", kind, lambda handler: handler.answer({}, 201), query="dryRun=All"))
    api.state.faults.append(Fault("POST", kind, lambda handler: handler.do_and_reset()))
    with pytest.raises(KeyboardInterrupt):
        submit.submit(
            dataclasses.replace(cluster, connection=dataclasses.replace(cluster.connection, sleep=interrupt)),
            render(spec()),
        )
    assert paths(api) == []


def test_what_could_not_be_taken_back_is_named(cluster, api):
    """The user must know what is left, and how it goes."""
    api.state.faults.append(Fault("POST", "pytorchjobs", lambda handler: handler.answer({}, 201), query="dryRun=All"))
    api.state.fail("POST", "pytorchjobs", 422, "admission webhook denied the request")
    api.state.forbidden.add(("delete", "persistentvolumes"))
    with pytest.raises(InvalidError, match="admission webhook denied") as caught:
        submit.submit(cluster, render(spec()))
    assert "persistentvolume/team-a.t1 could not be removed; launcher delete t1" in str(caught.value)


def test_job_of_another_hand_that_came_between_is_not_touched(cluster, api):
    """Only what this submit has made may be taken back."""
    there = {"metadata": {"name": "t1"}, "spec": {}}

    def too_late(handler):
        api.state.put(f"{JOB_PATH}/t1", there)
        handler.serve()

    api.state.faults.append(Fault("POST", "pytorchjobs", lambda handler: handler.answer({}, 201), query="dryRun=All"))
    api.state.faults.append(Fault("POST", "pytorchjobs", too_late))
    with pytest.raises(ConflictError, match="already exists"):
        submit.submit(cluster, render(spec()))
    assert paths(api) == ["pytorchjobs/t1"]


def test_what_the_server_refuses_in_a_dry_run_is_never_begun(cluster, api):
    api.state.fail("POST", "pytorchjobs", 422, "admission webhook denied the request")
    with pytest.raises(InvalidError, match="admission webhook denied"):
        submit.submit(cluster, render(spec()))
    assert all(query.get("dryRun") for method, _, query in api.state.requests if method == "POST")


def test_same_job_again_is_unchanged_whatever_the_server_filled_in(cluster, api):
    """Scripts submit again to be sure."""
    submit.submit(cluster, render(spec()))
    there = api.state.objects[f"{JOB_PATH}/t1"]
    there["spec"]["runPolicy"]["suspend"] = False
    there["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always"
    assert submit.submit(cluster, render(spec())).outcome == "unchanged"


def test_same_objects_by_other_settings_are_unchanged(cluster, api):
    """A default that is given is the same job."""
    submit.submit(cluster, render(spec(workers=2)))
    there = api.state.objects[f"{JOB_PATH}/t1"]
    there["spec"]["runPolicy"]["suspend"] = False
    assert submit.submit(cluster, render(spec(workers=2, workers_per_node=2))).outcome == "unchanged"


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param({}, {"image": "other"}, ["- image: i", "+ image: other"], id="changed"),
        pytest.param({}, {"policy": PolicyOptions(queue="q")}, ["+  kueue.x-k8s.io/queue-name: q"], id="label-added"),
        pytest.param(
            {"policy": PolicyOptions(priority_class="high")}, {}, ["-          priorityClassName: high"], id="removed"
        ),
        pytest.param(
            {"pod": PodOptions(label=("team=a", "x=y"))},
            {"pod": PodOptions(label=("x=y",))},
            ["-  team: a"],
            id="label",
        ),
    ],
)
def test_another_job_of_the_name_is_refused_with_the_difference(cluster, before, after, lines):
    """Two jobs under one name would write one run."""
    submit.submit(cluster, render(spec(**before)))
    with pytest.raises(InputError, match="with another spec") as caught:
        submit.submit(cluster, render(spec(**after)))
    told = {line.strip().replace(" ", "") for line in str(caught.value).splitlines()}
    assert {line.replace(" ", "") for line in lines} <= told


def test_job_that_is_being_deleted_is_not_called_unchanged(cluster, api):
    """It is as good as gone."""
    submit.submit(cluster, render(spec()))
    api.state.objects[f"{JOB_PATH}/t1"]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(InputError, match="is being deleted"):
        submit.submit(cluster, render(spec()))


def test_job_that_is_over_makes_no_room_by_itself(cluster, api):
    """Its log and state are still wanted by somebody, perhaps."""
    submit.submit(cluster, render(spec()))
    set_state(api, "t1", "Failed")
    with pytest.raises(InputError, match="has failed") as caught:
        submit.submit(cluster, render(spec()))
    assert "launcher clone t1" in str(caught.value)
    assert "launcher delete t1" in str(caught.value)


def test_user_who_may_not_make_volumes_is_told_the_other_ways(cluster, api):
    """An administrator's claim and the S3 API need no such right."""
    api.state.forbidden.add(("create", "persistentvolumes"))
    with pytest.raises(ForbiddenError) as caught:
        submit.submit(cluster, render(spec()))
    assert "--data-pvc" in str(caught.value)
    assert "--data-access api" in str(caught.value)
    assert paths(api) == []


def test_claim_of_an_administrator_is_found_by_what_it_holds(cluster, api):
    """So that nobody has to know its name."""
    claim = {"metadata": {"name": "cxr", "annotations": {DATA: "s3://cxr/nih/"}}, "status": {"phase": "Bound"}}
    api.state.put("/api/v1/namespaces/team-a/persistentvolumeclaims/cxr", claim)
    assert claim_for(cluster, "s3://cxr/nih") == "cxr"
    assert claim_for(cluster, "s3://cxr/other") is None
    api.state.forbidden.add(("list", "persistentvolumeclaims"))
    assert claim_for(cluster, "s3://cxr/nih") is None


def test_volumes_whose_job_is_gone_are_swept_and_no_others(cluster, api):
    """They are cluster-wide and nothing else removes them."""
    own = {"app.kubernetes.io/managed-by": "chexnet-launcher"}
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    for name, labels, phase, namespace, born in [
        ("left", own, "Released", "team-a", now),
        ("never-claimed", own, "Available", "team-a", "2026-01-01T00:00:00Z"),
        ("about-to-be-claimed", own, "Available", "team-a", now),
        ("in-use", own, "Bound", "team-a", now),
        ("elsewhere", own, "Released", "team-b", now),
        ("foreign", {}, "Released", "team-a", now),
    ]:
        metadata = {"name": name, "labels": labels, "creationTimestamp": born}
        volume = {"metadata": metadata, "spec": {"claimRef": {"namespace": namespace}}, "status": {"phase": phase}}
        api.state.put(f"/api/v1/persistentvolumes/{name}", volume)
    assert sweep_volumes(cluster) == ["left", "never-claimed"]
    kept = ["about-to-be-claimed", "in-use", "elsewhere", "foreign"]
    assert [each["metadata"]["name"] for each in cluster.list(VOLUMES)] == kept


@pytest.mark.parametrize("verb", ["list", "delete"])
def test_sweep_by_a_user_without_rights_does_nothing(cluster, api, verb):
    """Most users may not touch volumes; their submit goes on."""
    volume = {
        "metadata": {"name": "left", "labels": {"app.kubernetes.io/managed-by": "chexnet-launcher"}},
        "spec": {"claimRef": {"namespace": "team-a"}},
        "status": {"phase": "Released"},
    }
    api.state.put("/api/v1/persistentvolumes/left", volume)
    api.state.forbidden.add((verb, "persistentvolumes"))
    assert sweep_volumes(cluster) == []
    assert paths(api) == ["/api/v1/persistentvolumes/left"]


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
def test_wait_goes_on_after_a_broken_watch(cluster, api, fault):
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
    assert cluster.get(JOBS, "t1")


def test_wait_for_a_job_that_is_deleted_meanwhile_says_so(cluster, api):
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


def test_delete_waits_for_pods_and_removes_the_volume(cluster, api):
    """A job of the same name must find room."""
    submit.submit(cluster, render(spec()))
    pod = {"metadata": {"name": "t1-master-0", "labels": {JOB_LABEL: "t1"}}}
    api.state.put(f"{POD_PATH}/t1-master-0", pod)

    def last_look(handler):
        with api.state.lock:
            api.state.remove(f"{POD_PATH}/t1-master-0")
            api.state.remove("/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data")
        handler.answer({"metadata": {}, "items": [pod]})

    api.state.faults.append(Fault("GET", "/pods", last_look))
    removed = delete_job(cluster, "t1", timeout_s=60)
    assert removed == ["pytorchjob.kubeflow.org/t1", "persistentvolume/team-a.t1"]
    assert paths(api) == []
    with pytest.raises(NotFoundError):
        delete_job(cluster, "t1", timeout_s=60)


def test_volume_that_may_not_be_removed_is_told_after_the_job_is_gone(cluster, api):
    """Waiting for it until the time limit would help nobody."""
    submit.submit(cluster, render(spec()))
    api.state.remove("/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data")
    api.state.forbidden.add(("delete", "persistentvolumes"))
    with pytest.raises(ForbiddenError, match="delete PersistentVolume"):
        delete_job(cluster, "t1", timeout_s=60)
    assert paths(api) == ["/api/v1/persistentvolumes/team-a.t1"]


def test_delete_that_takes_too_long_names_what_is_left(cluster, api):
    submit.submit(cluster, render(spec(data="/d")))
    api.state.put(f"{POD_PATH}/t1-master-0", {"metadata": {"name": "t1-master-0", "labels": {JOB_LABEL: "t1"}}})
    with pytest.raises(TimeLimitError, match="a pod of `t1` still exists"):
        delete_job(cluster, "t1", timeout_s=0)


def test_settings_of_a_job_make_it_again(cluster):
    """What `clone` starts from; without the name, and without secrets because there are none."""
    made = spec(train_flags=("--epochs", "3"), workers=2)
    submit.submit(cluster, render(made))
    settings = settings_of(get_job(cluster, "t1"))
    assert settings == {
        "accelerator": "cpu",
        "workers": "2",
        "image": "i",
        "data": "s3://cxr/nih",
        "output": "s3://cxr/runs",
        "train_flags": ["--epochs", "3"],
    }
    with pytest.raises(InputError, match="the launcher did not create it"):
        settings_of({"metadata": {"name": "x"}})


def test_list_takes_two_requests_however_many_jobs_there_are(cluster, api):
    """A request for each would take minutes with hundreds."""
    for number in range(30):
        api.state.put(f"{JOB_PATH}/j{number}", {"metadata": {"name": f"j{number}", "namespace": "team-a"}})
        labels = {JOB_LABEL: f"j{number}"}
        api.state.put(f"{POD_PATH}/p{number}", {"metadata": {"name": f"p{number}", "labels": labels}})
    found, pods = list_jobs(cluster, everywhere=False)
    assert (len(found), len(pods)) == (30, 30)
    assert len(api.state.requests) == 2


def test_submit_again_makes_the_claim_that_a_killed_submit_did_not(cluster, api):
    """Its pods would wait for ever, and every later submit would call the job unchanged."""
    submit.submit(cluster, render(spec()))
    claim = "/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data"
    api.state.remove(claim)
    assert submit.submit(cluster, render(spec())).outcome == "unchanged"
    assert api.state.objects[claim]["metadata"]["ownerReferences"][0]["name"] == "t1"
