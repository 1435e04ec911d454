"""Which kind a job becomes, and which runtime a TrainJob uses."""

import pytest
from submitted import spec

from launcher.cluster.errors import ForbiddenError, NotServedError
from launcher.jobs.choose import with_kind
from launcher.spec.options import PolicyOptions
from launcher.spec.train_job import OF_ADMINISTRATORS
from trainer.errors import InputError

RUNTIMES = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainingruntimes"


@pytest.fixture
def said():
    return []


def test_pytorch_job_is_chosen_where_it_is_served(cluster, api, said):
    api.state.serve_trainer()
    assert with_kind(cluster, spec(), said.append) == spec()
    assert said == ["PyTorchJob: the cluster serves it (from `--api auto`)"]


def test_train_job_is_chosen_where_only_that_is_served(cluster, api, said):
    api.state.serve_trainer()
    api.state.served.remove("kubeflow.org/v1")
    assert with_kind(cluster, spec(), said.append) == spec(api="trainjob")
    assert said == ["TrainJob: the cluster does not serve pytorchjobs (from `--api auto`)"]


def test_flags_that_the_chosen_kind_lacks_are_refused_by_name(cluster, api, said):
    api.state.serve_trainer()
    api.state.served.remove("kubeflow.org/v1")
    with pytest.raises(InputError, match=r"cannot use --ttl 1h with a TrainJob: .*again and again"):
        with_kind(cluster, spec(policy=PolicyOptions(ttl="1h")), said.append)


def test_cluster_that_serves_no_kind_is_an_error_with_both_names(cluster, api, said):
    api.state.served.remove("kubeflow.org/v1")
    with pytest.raises(NotServedError, match="serves neither pytorchjobs nor trainjobs") as problem:
        with_kind(cluster, spec(), said.append)
    assert "k8s/operator" in problem.value.hint


@pytest.mark.parametrize("api_flag", ["pytorchjob", "trainjob"])
def test_the_users_choice_is_not_reported(cluster, api, said, api_flag):
    assert with_kind(cluster, spec(api=api_flag), said.append) == spec(api=api_flag)
    assert said == []


def test_named_runtime_makes_a_train_job(cluster, api, said):
    api.state.serve_trainer()
    chosen = with_kind(cluster, spec(runtime="ours"), said.append)
    assert (chosen.kind.api, chosen.runtime) == ("trainjob", "ours")
    assert said == ["TrainJob: `--runtime` is for TrainJobs (from `--api auto`)"]


def test_without_the_right_to_create_a_runtime_that_of_an_administrator_is_used(cluster, api, said):
    api.state.serve_trainer()
    api.state.forbidden.add(("create", "trainingruntimes"))
    with pytest.raises(ForbiddenError, match="no administrator made one in namespace team-a"):
        with_kind(cluster, spec(api="trainjob"), said.append)
    api.state.put(f"{RUNTIMES}/foreign", {"metadata": {"name": "foreign"}})
    api.state.put(f"{RUNTIMES}/chexnet", {"metadata": {"name": "chexnet", "labels": dict(OF_ADMINISTRATORS)}})
    assert with_kind(cluster, spec(api="trainjob"), said.append).runtime == "chexnet"
    assert said == ["the runtime chexnet of an administrator is used: you may not create trainingruntimes"]


def test_kind_of_an_existing_job_of_the_name_is_kept(cluster, api, said):
    """The same command a second time must find its job, whatever the cluster serves by now."""
    api.state.serve_trainer()
    place = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainjobs/t1"
    api.state.put(place, {"metadata": {"name": "t1"}, "spec": {}})
    assert with_kind(cluster, spec(), said.append).api == "trainjob"
    assert said == ["TrainJob: a job of this name exists (from `--api auto`)"]


def test_train_job_is_tried_where_kueue_does_not_hold_the_other_and_nothing_can_be_tried_with(cluster, api, said):
    """Without any runtime only the creation shows it, and Trainer's own runtimes are not needed."""
    api.state.serve_trainer()
    queued = spec(policy=PolicyOptions(queue="team"))
    assert with_kind(cluster, queued, said.append).api == "trainjob"
    assert said == ["TrainJob: Kueue does not manage PyTorchJobs (from `--api auto`)"]
