"""What Kubeflow Trainer needs for a TrainJob: JobSet, and a runtime."""

from copy import deepcopy

import pytest
from submitted import spec

from launcher.doctor import trainer_parts
from launcher.spec.train_job import administrators_runtime

RUNTIMES = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainingruntimes"


def deployment(ready, name="jobset-controller-manager"):
    return {"metadata": {"name": name, "namespace": "kubeflow-system"}, "status": {"readyReplicas": ready}}


@pytest.mark.parametrize(
    ("deployments", "status", "words"),
    [
        ([deployment(1)], "OK", "`kubeflow-system/jobset-controller-manager` is ready"),
        ([deployment(0)], "FAIL", "TrainJobs would get no pods"),
        ([], "WARN", "no Deployment named jobset-controller-manager"),
        ([deployment(1, "other")], "WARN", "may run under another name"),
    ],
)
def test_job_set_must_run(cluster, api, deployments, status, words):
    """Without it a TrainJob is accepted and never gets a pod."""
    api.state.serve_trainer()
    outcome = trainer_parts.job_set(cluster, deployments)
    assert (outcome.status, words in outcome.found) == (status, True), outcome


def test_job_set_must_be_served(cluster, api):
    assert trainer_parts.job_set(cluster, [deployment(1)]).status == "FAIL"


def test_job_without_a_runtime_needs_the_right_to_create_one(cluster, api):
    api.state.serve_trainer()
    job = spec(api="trainjob")
    assert trainer_parts.runtime(cluster, job).found == "the job gets its own, `t1`"
    api.state.forbidden.add(("create", "trainingruntimes"))
    outcome = trainer_parts.runtime(cluster, job)
    assert outcome.status == "FAIL"
    assert "k8s/components/trainer-runtime" in outcome.fix


def outcome_of(cluster, api, runtime):
    """The row about a job that uses this runtime of an administrator."""
    api.state.serve_trainer()
    if runtime is not None:
        api.state.put(f"{RUNTIMES}/chexnet", runtime)
    return trainer_parts.runtime(cluster, spec(api="trainjob", runtime="chexnet"))


def pods_of(runtime):
    return runtime["spec"]["template"]["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]


def changed(change):
    runtime = deepcopy(administrators_runtime("chexnet"))
    change(runtime)
    return runtime


@pytest.mark.parametrize(
    "change",
    [
        lambda _: None,
        lambda runtime: runtime["spec"]["template"]["spec"]["failurePolicy"].update(restartStrategy="Recreate"),
        lambda runtime: runtime["spec"]["template"]["spec"]["replicatedJobs"][0].update(
            groupName="default", replicas=1
        ),
        lambda runtime: pods_of(runtime)["containers"][0]["ports"][0].update(protocol="TCP"),
        lambda runtime: pods_of(runtime).update(priorityClassName="of-the-team"),
        lambda runtime: pods_of(runtime)["containers"].insert(0, {"name": "metrics", "image": "r/m:1"}),
    ],
    ids=["as it is", "default of the policy", "defaults of the Job", "default of a port", "a priority", "a container"],
)
def test_runtime_of_an_administrator_may_have_more_than_ours(cluster, api, change):
    """Defaults of the server, and what the team wants for all its jobs."""
    assert outcome_of(cluster, api, changed(change)).status == "OK"


@pytest.mark.parametrize(
    ("change", "status", "words"),
    [
        (lambda runtime: runtime["spec"]["mlPolicy"].pop("torch"), "FAIL", "is not for torch"),
        (lambda runtime: pods_of(runtime)["containers"][0].update(name="pytorch"), "FAIL", "no container `node`"),
        (
            lambda runtime: runtime["spec"]["template"]["spec"].pop("failurePolicy"),
            "WARN",
            "a lost pod fails the job",
        ),
        (
            lambda runtime: runtime["spec"]["template"]["spec"]["failurePolicy"].update(maxRestarts=1),
            "WARN",
            "this version of the launcher: template.spec.failurePolicy.maxRestarts differ",
        ),
        (
            lambda runtime: [
                pods_of(runtime).pop(each) for each in ("enableServiceLinks", "automountServiceAccountToken")
            ],
            "WARN",
            "replicatedJobs[node].template.spec.template.spec.automountServiceAccountToken",
        ),
        (
            lambda runtime: pods_of(runtime)["containers"][0].pop("terminationMessagePolicy"),
            "WARN",
            "containers[node].terminationMessagePolicy differ",
        ),
    ],
    ids=["for what", "container", "no policy", "another policy", "less safe pods", "no message"],
)
def test_runtime_of_an_administrator_that_is_not_ours_is_said(cluster, api, change, status, words):
    """A job patches the rest, so that what is missing there is missing in its pods."""
    outcome = outcome_of(cluster, api, changed(change))
    assert (outcome.status, words in outcome.found) == (status, True), outcome
    assert "k8s/components/trainer-runtime" in outcome.fix


def test_runtime_that_does_not_exist_is_named(cluster, api):
    outcome = outcome_of(cluster, api, None)
    assert (outcome.status, outcome.found) == ("FAIL", "no TrainingRuntime `chexnet` in namespace `team-a`")
