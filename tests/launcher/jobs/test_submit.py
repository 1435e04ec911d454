"""Submitting against the API server double: all or nothing, and nothing left."""

import dataclasses
from datetime import datetime, timezone

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


@pytest.mark.parametrize(("api_flag", "hidden"), [("pytorchjob", "trainjobs"), ("trainjob", "pytorchjobs")])
def test_user_whose_role_knows_one_kind_can_submit_it(cluster, api, api_flag, hidden):
    """Roles of earlier versions know no TrainJobs, and must not fail on the day that Trainer is installed; Kubeflow has a role for each."""
    api.state.serve_trainer()
    api.state.forbidden |= {("get", hidden), ("list", hidden)}
    objects = render(spec(api=api_flag, data="/srv/cxr"))
    assert submit.submit(cluster, objects).outcome == "created"
    assert submit.submit(cluster, objects).outcome == "unchanged"


def test_user_who_may_read_no_kind_is_told(cluster, api):
    """A job of the name may exist."""
    api.state.serve_trainer()
    api.state.forbidden |= {("get", "pytorchjobs"), ("get", "trainjobs")}
    with pytest.raises(ForbiddenError, match="pytorchjobs is forbidden"):
        submit.submit(cluster, render(spec()))
    assert paths(api) == []


def test_repeated_submit_creates_the_claim_that_a_killed_one_did_not(cluster, api):
    """Its pods would wait for ever, and every later submit would call the job unchanged."""
    submit.submit(cluster, render(spec()))
    claim = "/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data"
    api.state.remove(claim)
    assert submit.submit(cluster, render(spec())).outcome == "unchanged"
    assert api.state.objects[claim]["metadata"]["ownerReferences"][0]["name"] == "t1"


TRAINER = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a"
TRAIN_JOB_KINDS = ["persistentvolumes", "trainingruntimes", "trainjobs", "persistentvolumeclaims"]


@pytest.fixture
def train_job(api):
    api.state.serve_trainer()
    return render(spec(api="trainjob"))


def test_runtime_is_created_before_its_train_job_and_then_owned_by_it(cluster, api, train_job):
    """Trainer refuses a TrainJob without its runtime; an owned one goes with its job."""
    assert submit.submit(cluster, train_job).outcome == "created"
    assert paths(api) == [
        "/api/v1/persistentvolumes/team-a.t1",
        "persistentvolumeclaims/t1-data",
        "trainingruntimes/t1",
        "trainjobs/t1",
    ]
    real = [
        path.rpartition("/")[2]
        for method, path, query in api.state.requests
        if method == "POST" and not query.get("dryRun")
    ]
    assert real == TRAIN_JOB_KINDS
    uid = api.state.objects[f"{TRAINER}/trainjobs/t1"]["metadata"]["uid"]
    [owner] = api.state.objects[f"{TRAINER}/trainingruntimes/t1"]["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("TrainJob", "t1", uid)
    environment = api.state.objects[f"{TRAINER}/trainjobs/t1"]["spec"]["trainer"]["env"]
    assert [entry["name"] for entry in environment].count("TRAINER_JOB") == 1
    assert submit.submit(cluster, render(spec(api="trainjob"))).outcome == "unchanged"


@pytest.mark.parametrize("kind", TRAIN_JOB_KINDS)
def test_train_job_that_cannot_be_created_whole_leaves_nothing(cluster, api, train_job, kind):
    def refuse(handler):
        handler.refuse(403, "exceeded quota") if "dryRun" not in handler.path else handler.serve()

    api.state.faults.append(Fault("POST", f"/{kind}", refuse, times=9))
    with pytest.raises(ForbiddenError, match="exceeded quota"):
        submit.submit(cluster, train_job)
    assert paths(api) == []


def test_train_job_whose_runtime_cannot_be_given_an_owner_is_not_left_running(cluster, api, train_job):
    """It would outlive its runtime's protection from being swept."""
    api.state.forbidden.add(("patch", "trainingruntimes"))
    with pytest.raises(ForbiddenError, match="trainingruntimes"):
        submit.submit(cluster, train_job)
    assert paths(api) == []


UNKNOWN = (
    "spec.runtimeRef: Invalid value: specified trainingRuntime must be created before the TrainJob is created",
    "admission webhook \"vtrainjob.kb.io\" denied the request: runtime 't1' not found",
)


@pytest.mark.parametrize("refusal", UNKNOWN)
def test_webhooks_that_do_not_know_the_runtime_yet_are_asked_again(cluster, api, train_job, waits, refusal):
    """They read it from caches, which lag behind by a second."""
    api.state.fail("POST", "/trainjobs", 403, refusal, times=3)
    assert submit.submit(cluster, train_job).outcome == "created"
    assert len(waits) == 3


def test_left_over_runtime_of_a_killed_submit_is_replaced(cluster, api, train_job):
    runtime = next(each for each in train_job if each["kind"] == "TrainingRuntime")
    place = f"{TRAINER}/trainingruntimes/t1"
    api.state.put(place, {"metadata": dict(runtime["metadata"]), "spec": {"mlPolicy": {"numNodes": 7}}})
    submit.submit(cluster, train_job)
    assert api.state.objects[place]["spec"]["mlPolicy"]["numNodes"] == 1


def test_runtime_of_somebody_else_is_not_replaced(cluster, api, train_job):
    place = f"{TRAINER}/trainingruntimes/t1"
    api.state.put(place, {"metadata": {"name": "t1"}, "spec": {}})
    for dry_run in (True, False):
        with pytest.raises(InputError, match="another TrainingRuntime has this name"):
            submit.submit(cluster, train_job, dry_run=dry_run)
    assert paths(api) == ["trainingruntimes/t1"]


def test_runtime_that_another_submit_has_just_created_is_left_alone(cluster, api, train_job):
    """Two submits at once: the second must not take the runtime from the TrainJob of the first."""
    runtime = next(each for each in train_job if each["kind"] == "TrainingRuntime")
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    place = f"{TRAINER}/trainingruntimes/t1"
    api.state.put(place, {"metadata": dict(runtime["metadata"]) | {"creationTimestamp": now}, "spec": {}})
    with pytest.raises(InputError, match=r"its TrainingRuntime was created \d+ s ago, by another submit"):
        submit.submit(cluster, train_job)
    assert place in api.state.objects


def test_train_job_of_another_submit_keeps_its_runtime(cluster, api, train_job):
    """It was created between the look and the creation; what is removed is only what this submit made."""
    place = f"{TRAINER}/trainingruntimes/t1"

    def other_first(handler):
        if "dryRun" not in handler.path:
            api.state.objects[place]["metadata"]["uid"] = "of-the-other"
            handler.refuse(409, '"t1" already exists')
        else:
            handler.serve()

    api.state.faults.append(Fault("POST", "/trainjobs", other_first, times=9))
    with pytest.raises(ConflictError):
        submit.submit(cluster, train_job)
    assert place in api.state.objects


def test_change_that_is_only_in_the_runtime_is_a_difference(cluster, api, train_job):
    """A priority class is no field of a TrainJob."""
    submit.submit(cluster, train_job)
    api.state.objects[f"{TRAINER}/trainjobs/t1"]["spec"]["managedBy"] = "trainer.kubeflow.org/trainjob-controller"
    changed = render(spec(api="trainjob", policy=PolicyOptions(priority_class="high")))
    with pytest.raises(InputError, match="exists with another spec") as problem:
        submit.submit(cluster, changed)
    assert "+  priority_class: high" in str(problem.value)
    assert "managedBy" not in str(problem.value)


def test_train_job_of_another_program_is_no_crash(cluster, api, train_job):
    api.state.put(f"{TRAINER}/trainjobs/t1", {"metadata": {"name": "t1"}, "spec": {"suspend": True}})
    with pytest.raises(InputError, match="exists with another spec"):
        submit.submit(cluster, train_job)


def test_dry_run_without_any_runtime_says_what_was_not_validated(cluster, api, train_job):
    assert submit.submit(cluster, train_job, dry_run=True).outcome.startswith("not validated, as no runtime exists yet")


def test_snapshot_that_an_orphaned_train_job_left_is_named(cluster, api, train_job):
    """Trainer refuses the new job's snapshot, and it would wait for ever."""
    api.state.put("/api/v1/namespaces/team-a/configmaps/t1-runtime-snapshot", {"metadata": {"name": "x"}})
    clock = iter(range(0, 9000, 60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("launcher.jobs.leftovers.time.monotonic", lambda: next(clock))
        with pytest.raises(InputError, match="configmap/t1-runtime-snapshot of an earlier TrainJob"):
            submit.submit(cluster, train_job, dry_run=True)


def test_killed_submit_is_completed_by_the_next(cluster, api, train_job):
    """Killed between the TrainJob and what follows it: without an owner its runtime would stay, its pods wait for the claim."""
    submit.submit(cluster, train_job)
    api.state.objects[f"{TRAINER}/trainingruntimes/t1"]["metadata"].pop("ownerReferences")
    api.state.remove("/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data")
    assert submit.submit(cluster, render(spec(api="trainjob"))).outcome == "unchanged"
    assert api.state.objects[f"{TRAINER}/trainingruntimes/t1"]["metadata"]["ownerReferences"]
    assert cluster.get(CLAIMS, "t1-data")["metadata"]["ownerReferences"][0]["kind"] == "TrainJob"


def test_patch_that_kueue_adds_is_no_difference(cluster, api):
    """It adds one to each TrainJob, beside those for the runtime of an administrator."""
    api.state.serve_trainer()
    objects = render(spec(api="trainjob", runtime="chexnet"))
    submit.submit(cluster, objects)
    patches = api.state.objects[f"{TRAINER}/trainjobs/t1"]["spec"]["runtimePatches"]
    patches[0]["time"] = "2026-01-01T00:00:00Z"
    patches.insert(0, {"manager": "kueue.x-k8s.io/manager", "time": "2026-01-01T00:00:00Z", "trainingRuntimeSpec": {}})
    assert submit.submit(cluster, render(spec(api="trainjob", runtime="chexnet"))).outcome == "unchanged"


def test_job_of_the_other_kind_with_the_name_is_refused(cluster, api, train_job):
    """Both would write to one run."""
    submit.submit(cluster, render(spec()))
    with pytest.raises(InputError, match="a PyTorchJob of that name exists, and they would share one run"):
        submit.submit(cluster, train_job)


def test_job_set_of_a_deleted_job_is_waited_for(cluster, api, train_job):
    """Trainer would take its end for that of the new job."""
    place = "/apis/jobset.x-k8s.io/v1alpha2/namespaces/team-a/jobsets/t1"
    api.state.put(place, {"metadata": {"name": "t1"}})

    def last_look(handler):
        handler.serve()
        api.state.remove(place)

    api.state.faults.append(Fault("GET", "/jobsets", last_look))
    assert submit.submit(cluster, train_job).outcome == "created"
