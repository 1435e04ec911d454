"""Whether Kueue holds a job that names a queue, against the API server double: by the answer to a dry run, and before anything starts."""

import pytest
from submitted import paths, spec

from launcher.cluster.resources import CLUSTER_RUNTIMES, PYTORCH_JOBS, TRAIN_JOBS
from launcher.jobs import submit
from launcher.jobs.choose import with_kind
from launcher.kinds.accept import check_accepted
from launcher.kinds.kueue import NotHeldError
from launcher.spec.manifest import render
from launcher.spec.options import PolicyOptions
from trainer.errors import InputError

KUEUE = {
    "metadata": {"name": "kueue-controller-manager", "namespace": "kueue-system"},
    "spec": {
        "template": {"spec": {"containers": [{"name": "manager", "image": "registry.k8s.io/kueue/kueue:v0.19.2"}]}}
    },
}
RUNTIME = {
    "metadata": {"name": "torch-distributed"},
    "spec": {"mlPolicy": {"torch": {}}, "template": {"spec": {"replicatedJobs": [{"name": "node"}]}}},
}


def queued(**changes):
    policy = {"queue": "research"} | changes.pop("policy", {})
    return spec(data="/data", output="/output", policy=PolicyOptions(**policy), **changes)


@pytest.fixture
def kueue(api):
    """Both kinds of jobs, and Kueue, which manages those that the test names."""
    api.state.serve_trainer()
    api.state.put("/apis/apps/v1/namespaces/kueue-system/deployments/kueue-controller-manager", KUEUE)
    api.state.put(f"{CLUSTER_RUNTIMES.path(None)}/torch-distributed", RUNTIME)
    return api.state.serve_kueue


def test_job_that_kueue_holds_is_created(cluster, api, kueue):
    kueue(PYTORCH_JOBS)
    assert submit.submit(cluster, render(queued())).outcome == "created"


def test_job_that_kueue_does_not_hold_is_refused_before_anything_is_created(cluster, api, kueue):
    """Kueue 0.19 as it ships: the operator would start the job at once, and no quota would count it."""
    kueue(TRAIN_JOBS)
    before = paths(api)
    for job in (queued(), queued(api="pytorchjob")):
        with pytest.raises(NotHeldError) as refused:
            submit.submit(cluster, render(job))
        assert refused.value.args[0] == (
            "cannot use --queue research: Kueue v0.19.2 (kueue-system/kueue-controller-manager) manages TrainJobs in namespace "
            "`team-a`, but not PyTorchJobs, so the job would start at once, outside of any quota (from `--queue`)"
        )
        assert refused.value.hint.startswith(
            "--api trainjob (`--set api=trainjob` of clone and resume); or ask an administrator"
        )
        assert "`kubeflow.org/pytorchjob`" in refused.value.hint
    assert paths(api) == before


def test_train_job_without_kueue_managing_it_is_refused(cluster, kueue):
    """The other way round: an older Kueue, or one that was configured so."""
    kueue(PYTORCH_JOBS)
    with pytest.raises(NotHeldError, match="manages PyTorchJobs in namespace `team-a`, but not TrainJobs") as refused:
        check_accepted(cluster, render(queued(api="trainjob")))
    assert "--api pytorchjob" in refused.value.hint


def test_own_runtime_is_removed_when_kueue_does_not_hold_its_job(cluster, api, kueue):
    """Without any runtime in the cluster, the first dry run of a TrainJob is that with its own."""
    kueue()
    del api.state.objects[f"{CLUSTER_RUNTIMES.path(None)}/torch-distributed"]
    before = paths(api)
    with pytest.raises(NotHeldError, match="does not manage TrainJobs in namespace `team-a`"):
        submit.submit(cluster, render(queued(api="trainjob")))
    assert any(path.endswith("trainingruntimes") for path in api.state.asked("POST"))
    assert paths(api) == before


def test_namespace_that_kueue_excludes_is_named(cluster, kueue):
    """Neither kind is held there; whether a kind or the namespace is left out can't be seen from outside."""
    kueue()
    with pytest.raises(
        NotHeldError, match=r"Kueue v0\.19\.2 .* does not manage PyTorchJobs in namespace `team-a`"
    ) as refused:
        check_accepted(cluster, render(queued()))
    assert "managedJobsNamespaceSelector" in refused.value.hint


def test_cluster_without_kueue_is_named(cluster):
    with pytest.raises(NotHeldError, match="Kueue is not installed") as refused:
        check_accepted(cluster, render(queued()))
    assert refused.value.hint.startswith("omit --queue")


def test_kueue_is_named_without_version_where_deployments_may_not_be_listed(cluster, api, kueue):
    kueue(TRAIN_JOBS)
    api.state.forbidden.add(("list", "deployments"))
    with pytest.raises(NotHeldError, match="cannot use --queue research: Kueue manages TrainJobs"):
        check_accepted(cluster, render(queued()))


def test_job_without_a_queue_needs_no_kueue(cluster, kueue):
    kueue()
    check_accepted(cluster, render(spec()))


@pytest.mark.parametrize(
    ("managed", "job", "chosen", "reason"),
    [
        pytest.param([TRAIN_JOBS], queued(), "trainjob", "Kueue manages TrainJobs, but not PyTorchJobs", id="only-v2"),
        pytest.param([PYTORCH_JOBS, TRAIN_JOBS], queued(), "pytorchjob", "the cluster serves it", id="both"),
        pytest.param([PYTORCH_JOBS], queued(), "pytorchjob", "the cluster serves it", id="only-v1"),
        pytest.param([], queued(), "pytorchjob", "the cluster serves it", id="none"),
        pytest.param([TRAIN_JOBS], spec(), "pytorchjob", "the cluster serves it", id="no-queue"),
        pytest.param([TRAIN_JOBS], queued(api="pytorchjob"), "pytorchjob", "", id="told"),
    ],
)
def test_kind_is_one_that_kueue_holds(cluster, kueue, managed, job, chosen, reason):
    kueue(*managed)
    reported = []
    assert with_kind(cluster, job, reported.append).kind.api == chosen
    assert reason in " ".join(reported)
    assert bool(reported) == bool(reason)


def test_reason_is_reported_before_a_flag_that_the_chosen_kind_lacks_is_refused(cluster, kueue):
    kueue(TRAIN_JOBS)
    reported = []
    with pytest.raises(InputError, match="cannot use --ttl 1h with a TrainJob"):
        with_kind(cluster, queued(policy={"ttl": "1h"}), reported.append)
    assert "Kueue manages TrainJobs" in reported[0]


def test_nothing_is_created_by_a_choice(cluster, api, kueue):
    kueue(TRAIN_JOBS)
    before = paths(api)
    with_kind(cluster, queued(), lambda _: None)
    assert paths(api) == before
