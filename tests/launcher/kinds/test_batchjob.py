"""Jobs of `launcher prepare` among the Jobs of others: found, listed, followed and deleted like training jobs."""

import pytest
from submitted import JOB_PATH, POD_PATH, paths

from launcher import kinds
from launcher.cluster.errors import ForbiddenError, NotFoundError, UnreachableError
from launcher.jobs import submit
from launcher.jobs.delete import delete_job
from launcher.jobs.find import list_jobs, settings_of
from launcher.kinds import batchjob, lookup
from launcher.logs.printing import kubectl_logs_commands
from launcher.spec.prepare import PreparePolicy, PrepareSpec
from launcher.spec.prepare_job import job
from trainer.errors import InputError, RemoteError

PATH = "/apis/batch/v1/namespaces/team-a/jobs"


def spec(**changes):
    given = {"image": "i", "data": "s3://raw/nih", "out": "s3://packed/nih", "name": "p1", "namespace": "team-a"}
    return PrepareSpec(**given | changes)


def of(*conditions, **status):
    made = job(spec(pods=3))
    met = [{"type": each, "status": "True"} for each in conditions]
    return made | {"status": status | {"conditions": met}}


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (of(), "Pending"),
        (of(active=3), "Created"),
        (of(active=3, ready=1), "Running"),
        (of(active=1, succeeded=2), "Created"),
        (of("Suspended"), "Suspended"),
        (of("FailureTarget", active=1), "Running"),
        (of("FailureTarget", "Failed"), "Failed"),
        (of("SuccessCriteriaMet", "Complete", succeeded=3), "Succeeded"),
    ],
)
def test_state_of_a_job(made, state):
    assert kinds.of(made) is batchjob
    assert batchjob.outcome(made) == state


def test_pods_have_the_name_of_their_share():
    labels = {batchjob.job_label: "p1", batchjob.index_label: "2"}
    pod = {"metadata": {"name": "p1-2-abcde", "labels": labels}}
    assert (kinds.short_name(pod), kinds.job_of(pod)) == ("share-2", "p1")
    assert batchjob.pod_names(of()).fullmatch("p1-2-abcde")
    assert not batchjob.pod_names(of()).fullmatch("p1-x-2-abcde")


def test_pods_of_a_train_job_stay_those_of_a_train_job():
    """They are pods of a Job, too."""
    labels = {batchjob.job_label: "t1-node-0", kinds.KINDS[1].job_label: "t1", batchjob.index_label: "0"}
    pod = {"metadata": {"name": "t1-node-0-0-abcde", "labels": labels}}
    assert (kinds.of_pod(pod).api, kinds.job_of(pod)) == ("trainjob", "t1")


def test_job_is_created_found_listed_and_deleted(cluster, api):
    made = job(spec(pods=3))
    assert submit.submit(cluster, [made]).outcome == "created"
    assert paths(api) == ["jobs/p1"]
    assert submit.submit(cluster, [made]).outcome == "unchanged"
    assert kinds.of(lookup.get(cluster, "p1")) is batchjob
    assert kinds.of(lookup.get(cluster, "p1", "job")) is batchjob
    with pytest.raises(NotFoundError):
        lookup.get(cluster, "p1", "pytorchjob")
    pod = {"metadata": {"name": "p1-0-abcde", "labels": dict(made["metadata"]["labels"]) | {batchjob.job_label: "p1"}}}
    api.state.put(f"{POD_PATH}/p1-0-abcde", pod)
    found, pods = list_jobs(cluster, everywhere=False)
    assert ([each["metadata"]["name"] for each in found], len(pods)) == (["p1"], 1)
    api.state.remove(f"{POD_PATH}/p1-0-abcde")
    assert delete_job(cluster, "p1", timeout_s=5) == ["job.batch/p1"]
    assert paths(api) == []


def test_other_spec_under_the_name_is_refused_with_the_difference(cluster, api):
    submit.submit(cluster, [job(spec(pods=3))])
    with pytest.raises(InputError, match="another spec") as refusal:
        submit.submit(cluster, [job(spec(pods=4))])
    assert "completions: 4" in str(refusal.value)


def test_training_job_of_the_name_is_not_replaced(cluster, api):
    api.state.put(f"{JOB_PATH}/p1", {"metadata": {"name": "p1", "namespace": "team-a"}, "spec": {}})
    with pytest.raises(InputError, match="a PyTorchJob of that name exists"):
        submit.submit(cluster, [job(spec())])


def test_jobs_of_others_are_neither_listed_nor_found(cluster, api):
    """A namespace may hold Jobs of any program, and those of a JobSet."""
    api.state.put(
        f"{PATH}/other", {"metadata": {"name": "other", "namespace": "team-a", "labels": {"app": "x"}}, "spec": {}}
    )
    assert lookup.list_all(cluster) == []
    assert lookup.find(cluster, "other") is None
    for choice in ("auto", "job"):
        with pytest.raises(NotFoundError, match="other"):
            lookup.get(cluster, "other", choice)


def test_roles_without_jobs_see_training_jobs_as_before(cluster, api):
    api.state.forbidden |= {("get", "jobs"), ("list", "jobs")}
    api.state.put(f"{JOB_PATH}/t1", {"metadata": {"name": "t1", "namespace": "team-a"}, "spec": {}})
    assert len(lookup.list_all(cluster)) == 1
    assert lookup.find(cluster, "p1") is None


def test_jobs_that_may_not_be_read_are_not_reported_as_none(cluster, api):
    """Who asks for them by `--api job` must not be told that there are none."""
    api.state.forbidden |= {("get", "jobs"), ("list", "jobs")}
    with pytest.raises(ForbiddenError):
        lookup.list_all(cluster, "job")
    with pytest.raises(ForbiddenError):
        lookup.get(cluster, "p1", "job")


@pytest.mark.parametrize("choice", ["auto", "job"])
def test_server_that_fails_is_not_reported_as_no_jobs(cluster, monkeypatch, choice):
    real = {name: getattr(type(cluster), name) for name in ("get", "list")}

    def failing(name):
        def request(self, resource, *args, **more):
            if resource is batchjob.resource:
                raise UnreachableError("cannot reach the cluster")
            return real[name](self, resource, *args, **more)

        return request

    for name in real:
        monkeypatch.setattr(type(cluster), name, failing(name))
    with pytest.raises(UnreachableError):
        lookup.list_all(cluster, choice)
    with pytest.raises(UnreachableError):
        lookup.get(cluster, "p1", choice)


def test_settings_of_a_prepare_job_make_no_training_job(cluster, api):
    submit.submit(cluster, [job(spec())])
    with pytest.raises(InputError, match="it is no training job"):
        settings_of(lookup.get(cluster, "p1"))


def test_queue_that_does_not_hold_the_job_is_refused(cluster, api):
    """As for training jobs; the double has no Kueue."""
    with pytest.raises(RemoteError, match="Kueue is not installed"):
        submit.submit(cluster, [job(spec(policy=PreparePolicy(queue="team")))])
    assert paths(api) == []


def test_commands_of_kubectl_name_container_and_labels():
    first, everything = kubectl_logs_commands(job(spec(pods=3)), "team-a")
    assert "-c prepare" in first
    assert "batch.kubernetes.io/job-name=p1" in everything
