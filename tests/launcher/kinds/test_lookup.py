"""A job is found by its name alone, of whichever kind it is."""

import pytest
from submitted import JOB_PATH

from launcher import kinds
from launcher.cluster.errors import ForbiddenError, NotFoundError, NotServedError
from launcher.kinds import lookup
from trainer.errors import InputError

TRAIN_JOB_PATH = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainjobs"


def put(api, path, name="t1"):
    api.state.put(f"{path}/{name}", {"metadata": {"name": name, "namespace": "team-a"}, "spec": {"trainer": {}}})


@pytest.mark.parametrize(("path", "kind"), [(JOB_PATH, "PyTorchJob"), (TRAIN_JOB_PATH, "TrainJob")])
def test_job_of_either_kind_is_found_by_its_name(cluster, api, path, kind):
    api.state.serve_trainer()
    put(api, path)
    assert lookup.get(cluster, "t1")["kind"] == kind
    assert lookup.find(cluster, "t2") is None
    assert [job["kind"] for job in lookup.list_all(cluster)] == [kind]


def test_two_jobs_of_a_name_are_told_apart_by_the_flag_only(cluster, api):
    """Guessing would follow, or delete, the wrong one."""
    api.state.serve_trainer()
    put(api, JOB_PATH)
    put(api, TRAIN_JOB_PATH)
    with pytest.raises(InputError, match="a PyTorchJob and a TrainJob of this name") as problem:
        lookup.get(cluster, "t1")
    assert problem.value.hint == "--api pytorchjob or --api trainjob"
    assert {api: kinds.of(lookup.get(cluster, "t1", api)).api for api in ("pytorchjob", "trainjob")} == {
        "pytorchjob": "pytorchjob",
        "trainjob": "trainjob",
    }


def test_a_kind_that_is_not_served_or_not_permitted_does_not_hide_the_other(cluster, api):
    """Most clusters have one of them; older roles know only PyTorchJobs."""
    put(api, JOB_PATH)
    assert lookup.get(cluster, "t1")["kind"] == "PyTorchJob"
    api.state.serve_trainer()
    api.state.forbidden |= {("get", "trainjobs"), ("list", "trainjobs")}
    assert lookup.get(cluster, "t1")["kind"] == "PyTorchJob"
    assert len(lookup.list_all(cluster)) == 1
    assert lookup.find(cluster, "t2") is None
    with pytest.raises(NotFoundError) as caught:
        lookup.get(cluster, "t2")
    assert caught.value.args[0] == (
        "cannot find the job `t2`: there is no PyTorchJob of this name in namespace team-a, and you may not read TrainJobs"
    )
    assert caught.value.hint == "launcher list"
    for read in (lookup.get, lookup.find):
        with pytest.raises(ForbiddenError, match="trainjobs"):
            read(cluster, "t2", "trainjob")
    api.state.forbidden |= {("get", "pytorchjobs")}
    for read in (lookup.get, lookup.find):
        with pytest.raises(ForbiddenError):
            read(cluster, "t1")


def test_absent_job_and_absent_api_are_different_errors(cluster, api):
    api.state.serve_trainer()
    with pytest.raises(NotFoundError, match="there is no PyTorchJob and no TrainJob of this name in namespace team-a"):
        lookup.get(cluster, "t1")
    api.state.served.clear()
    for read in (lookup.find, lookup.get):
        with pytest.raises(NotServedError, match=r"does not serve `kubeflow\.org/v1`"):
            read(cluster, "t1")
    with pytest.raises(NotServedError):
        lookup.list_all(cluster)
