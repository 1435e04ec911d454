"""Submitting against the API server double: all or nothing, and nothing left."""

import dataclasses

import pytest
from apiserver import Fault
from submitted import JOB_PATH, paths, set_state, spec

from launcher.cluster.connection import ATTEMPTS
from launcher.cluster.errors import ConflictError, ForbiddenError, InvalidError
from launcher.cluster.resources import CLAIMS, PYTORCH_JOBS
from launcher.jobs import submit
from launcher.spec.manifest import render
from launcher.spec.options import PodOptions, PolicyOptions
from trainer.errors import InputError, RemoteError


def test_submit_creates_volume_job_and_a_claim_that_the_job_owns(cluster, api):
    """The claim goes with the job; the volume can't be owned by it."""
    assert submit.submit(cluster, render(spec())) == submit.Submitted("t1", "created")
    assert paths(api) == ["/api/v1/persistentvolumes/team-a.t1", "persistentvolumeclaims/t1-data", "pytorchjobs/t1"]
    claim = cluster.get(CLAIMS, "t1-data")
    assert [owner["uid"] for owner in claim["metadata"]["ownerReferences"]] == [
        cluster.get(PYTORCH_JOBS, "t1")["metadata"]["uid"]
    ]


def test_leftover_volume_is_replaced_once_its_claim_is_gone(cluster, api):
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


def test_server_dry_run_creates_nothing(cluster, api):
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


def test_objects_that_could_not_be_removed_again_are_named(cluster, api):
    """The user must know what is left, and how it goes."""
    api.state.faults.append(Fault("POST", "pytorchjobs", lambda handler: handler.answer({}, 201), query="dryRun=All"))
    api.state.fail("POST", "pytorchjobs", 422, "admission webhook denied the request")
    api.state.forbidden.add(("delete", "persistentvolumes"))
    with pytest.raises(InvalidError, match="admission webhook denied") as caught:
        submit.submit(cluster, render(spec()))
    assert "persistentvolume/team-a.t1 could not be removed; launcher delete t1" in str(caught.value)


def test_job_created_by_somebody_else_meanwhile_is_not_touched(cluster, api):
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


def test_job_refused_in_the_servers_dry_run_creates_nothing(cluster, api):
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


def test_finished_job_is_not_replaced_without_a_flag(cluster, api):
    """Its log and state are still wanted by somebody, perhaps."""
    submit.submit(cluster, render(spec()))
    set_state(api, "t1", "Failed")
    with pytest.raises(InputError, match="has failed") as caught:
        submit.submit(cluster, render(spec()))
    assert "launcher clone t1" in str(caught.value)
    assert "launcher delete t1" in str(caught.value)


def test_user_without_the_right_to_create_volumes_is_told_alternatives(cluster, api):
    """An administrator's claim and the S3 API need no such right."""
    api.state.forbidden.add(("create", "persistentvolumes"))
    with pytest.raises(ForbiddenError) as caught:
        submit.submit(cluster, render(spec()))
    assert "--data-pvc" in str(caught.value)
    assert "--data-access api" in str(caught.value)
    assert paths(api) == []


def test_repeated_submit_creates_the_claim_that_a_killed_one_did_not(cluster, api):
    """Its pods would wait for ever, and every later submit would call the job unchanged."""
    submit.submit(cluster, render(spec()))
    claim = "/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data"
    api.state.remove(claim)
    assert submit.submit(cluster, render(spec())).outcome == "unchanged"
    assert api.state.objects[claim]["metadata"]["ownerReferences"][0]["name"] == "t1"
