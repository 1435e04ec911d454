"""Deleting a job with its pods and volume, and volumes whose job is gone."""

from datetime import datetime, timezone

import pytest
from apiserver import Fault
from submitted import POD_PATH, paths, spec

from launcher.cluster.errors import ConflictError, ForbiddenError, NotFoundError
from launcher.cluster.resources import PYTORCH_JOBS, VOLUMES
from launcher.jobs import submit
from launcher.jobs.delete import delete_job, sweep_runtimes, sweep_volumes
from launcher.kinds.pytorchjob import job_label
from launcher.spec.manifest import render
from trainer.errors import TimeLimitError


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


def test_delete_by_a_user_who_may_not_list_services_ends(cluster, api):
    """Kubeflow's own roles lack them; the job is gone all the same."""
    submit.submit(cluster, render(spec(data="/srv/cxr")))
    api.state.forbidden.add(("list", "services"))
    assert delete_job(cluster, "t1", timeout_s=5) == ["pytorchjob.kubeflow.org/t1"]


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


def test_delete_waits_for_pods_and_removes_the_volume(cluster, api):
    """A job of the same name must find room."""
    submit.submit(cluster, render(spec()))
    pod = {"metadata": {"name": "t1-master-0", "labels": {job_label: "t1"}}}
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


def test_volume_that_may_not_be_removed_is_reported_after_the_job_is_deleted(cluster, api):
    """Waiting for it until the time limit would help nobody."""
    submit.submit(cluster, render(spec()))
    api.state.remove("/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data")
    api.state.forbidden.add(("delete", "persistentvolumes"))
    with pytest.raises(ForbiddenError, match="delete PersistentVolume"):
        delete_job(cluster, "t1", timeout_s=60)
    assert paths(api) == ["/api/v1/persistentvolumes/team-a.t1"]


def test_delete_that_takes_too_long_names_what_is_left(cluster, api):
    submit.submit(cluster, render(spec(data="/d")))
    api.state.put(f"{POD_PATH}/t1-master-0", {"metadata": {"name": "t1-master-0", "labels": {job_label: "t1"}}})
    with pytest.raises(TimeLimitError, match="a pod of `t1` still exists"):
        delete_job(cluster, "t1", timeout_s=0)


def test_job_created_under_the_name_meanwhile_is_not_deleted(cluster, api):
    """`resume` asks before it deletes, and the answer may take an hour."""
    submit.submit(cluster, render(spec(data="/srv/cxr")))
    with pytest.raises(ConflictError):
        delete_job(cluster, "t1", timeout_s=5, uid="of-the-finished-job")
    uid = cluster.get(PYTORCH_JOBS, "t1")["metadata"]["uid"]
    assert delete_job(cluster, "t1", timeout_s=5, uid=uid)[0] == "pytorchjob.kubeflow.org/t1"


TRAINER = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a"
JOB_SET = "/apis/jobset.x-k8s.io/v1alpha2/namespaces/team-a/jobsets/t1"


@pytest.fixture
def train_job(cluster, api):
    api.state.serve_trainer()
    submit.submit(cluster, render(spec(api="trainjob")))


def test_train_job_is_deleted_in_the_background_with_its_job_set(cluster, api, train_job):
    """In the foreground its runtime would go first, and the webhooks refuse the end of the deletion."""
    api.state.put(JOB_SET, {"metadata": {"name": "t1"}})
    bodies = []

    def record(handler):
        bodies.append(handler.body)
        handler.serve()

    def last_look(handler):
        handler.serve()
        api.state.remove(JOB_SET)
        api.state.remove("/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data")

    api.state.faults.append(Fault("DELETE", "/trainjobs/t1", record))
    api.state.faults.append(Fault("GET", "/jobsets", last_look))
    removed = delete_job(cluster, "t1", timeout_s=9)
    assert removed == ["trainjob.trainer.kubeflow.org/t1", "persistentvolume/team-a.t1"]
    assert [body["propagationPolicy"] for body in bodies] == ["Background"]


def test_deletion_in_the_foreground_is_completed(cluster, api, train_job):
    """As `kubectl delete --cascade=foreground` leaves it: no runtime, and a finalizer that nobody can remove."""
    place = f"{TRAINER}/trainjobs/t1"
    api.state.objects[place]["metadata"] |= {"deletionTimestamp": "now", "finalizers": ["foregroundDeletion"]}
    api.state.remove(f"{TRAINER}/trainingruntimes/t1")
    api.state.remove("/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data")
    seen = []

    def collect_garbage(handler):
        seen.append(f"{TRAINER}/trainingruntimes/t1" in api.state.objects)
        handler.serve()

    api.state.faults.append(Fault("GET", "/trainjobs/t1", collect_garbage, times=9))
    delete_job(cluster, "t1", timeout_s=9)
    assert seen[-1], "the garbage collector finds a runtime when it finishes"
    assert paths(api) == []


def test_runtimes_of_killed_submits_are_swept_and_no_others(cluster, api, train_job):
    own = {"app.kubernetes.io/managed-by": "chexnet-launcher"}
    now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    old = "2026-01-01T00:00:00Z"
    for name, labels, born, owners in [
        ("left", own, old, []),
        ("about-to-be-used", own, now, []),
        ("owned", own, old, [{"kind": "TrainJob"}]),
        ("foreign", {}, old, []),
    ]:
        metadata = {"name": name, "labels": labels, "creationTimestamp": born, "ownerReferences": owners}
        api.state.put(f"{TRAINER}/trainingruntimes/{name}", {"metadata": metadata})
    api.state.objects[f"{TRAINER}/trainingruntimes/t1"]["metadata"] |= {"ownerReferences": [], "creationTimestamp": old}
    assert sweep_runtimes(cluster) == ["left"]
    kept = ["about-to-be-used", "foreign", "owned", "t1"]
    assert [name.partition("/")[2] for name in paths(api) if name.startswith("trainingruntimes/")] == kept


def test_clusters_without_trainer_have_no_runtimes_to_sweep(cluster):
    assert sweep_runtimes(cluster) == []


def test_only_parts_of_the_deleted_kind_are_waited_for(cluster, api):
    """A TrainJob of the same name stays, with its JobSet and pods."""
    api.state.serve_trainer()
    submit.submit(cluster, render(spec()))
    api.state.remove("/api/v1/namespaces/team-a/persistentvolumeclaims/t1-data")
    api.state.put(f"{TRAINER}/trainjobs/t1", {"metadata": {"name": "t1"}, "spec": {"trainer": {}}})
    api.state.put(JOB_SET, {"metadata": {"name": "t1"}})
    assert delete_job(cluster, "t1", api="pytorchjob", timeout_s=1)[0] == "pytorchjob.kubeflow.org/t1"
    assert {JOB_SET, f"{TRAINER}/trainjobs/t1"} <= api.state.objects.keys()


def test_what_an_orphaned_train_job_left_is_deleted_by_its_name(cluster, api, train_job):
    """`kubectl delete --cascade=orphan` takes the job and the references to it."""
    api.state.objects[f"{TRAINER}/trainingruntimes/t1"]["metadata"].pop("ownerReferences")
    api.state.remove(f"{TRAINER}/trainjobs/t1")
    api.state.put(JOB_SET, {"metadata": {"name": "t1"}})
    api.state.put("/api/v1/namespaces/team-a/configmaps/t1-runtime-snapshot", {"metadata": {"name": "x"}})
    assert delete_job(cluster, "t1", timeout_s=9) == [
        "jobset.jobset.x-k8s.io/t1",
        "configmap/t1-runtime-snapshot",
        "trainingruntime.trainer.kubeflow.org/t1",
        "persistentvolume/team-a.t1",
    ]
    assert paths(api) == []
