"""The API server's version and the training operator."""

import pytest
from doctor_samples import deployment, webhook_configuration

from launcher.cluster.operator import TRAINING_OPERATOR
from launcher.doctor import operator


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("v1.34.4", "OK"),
        ("v1.27.0-eks-1", "OK"),
        ("v1.26.9", "WARN"),
        ("v1.37.0", "WARN"),
        ("v2.1", "WARN"),
        ("?", "WARN"),
    ],
)
def test_untested_kubernetes_versions_are_warned_of(version, status):
    assert operator.api_server(version, "https://x").status == status


OPERATORS = {
    "good": ([deployment()], None, "OK"),
    "older": ([deployment("x/training-operator:v1.8.1")], None, "WARN"),
    "newer": ([deployment("x/training-operator:v1.10.0")], None, "WARN"),
    "digest": ([deployment("x/training-operator@sha256:1234")], None, "WARN"),
    "scaled to zero": ([deployment(ready=0)], None, "FAIL"),
    "absent": ([], None, "WARN"),
    "no gangs": ([deployment()], "team", "FAIL"),
    "gangs": ([deployment(args=["--gang-scheduler-name=volcano"])], "team", "OK"),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_must_be_installed_and_ready(name):
    """Without it a job stays without pods, and nothing says why."""
    deployments, volcano_queue, status = OPERATORS[name]
    outcome = operator.operator(TRAINING_OPERATOR, deployments, volcano_queue)
    assert outcome.status == status, outcome


KUEUE = webhook_configuration("kueue-validating-webhook-configuration", "kueue-system", "kueue-webhook-service")
OURS = webhook_configuration("validator.training-operator.kubeflow.org", "kubeflow", "training-operator")


def renamed(service):
    """The operator's Deployment with the label of its release, which the Service selects."""
    found = deployment()
    found["spec"]["template"]["metadata"] = {"labels": {"control-plane": "kubeflow-training-operator"}}
    return found, webhook_configuration("w", "kubeflow", service)


def test_kueues_webhook_is_not_taken_for_the_operators(cluster):
    """Both validate PyTorchJobs at the same path; only their Services differ."""
    outcome = operator.webhook(cluster, TRAINING_OPERATOR, [KUEUE], [deployment()])
    assert outcome.status == "WARN"
    assert "no webhook of the training operator validates PyTorchJobs" in outcome.found
    assert "`kueue-validating-webhook-configuration`" in outcome.found
    outcome = operator.webhook(cluster, TRAINING_OPERATOR, [KUEUE, OURS], [deployment()])
    assert (outcome.status, outcome.found) == (
        "OK",
        "`validator.training-operator.kubeflow.org` validates jobs at creation",
    )


@pytest.mark.parametrize(
    "rule",
    [{"resources": ["tfjobs"]}, {"apiGroups": ["batch"]}, {"operations": ["UPDATE"]}, {"apiVersions": ["v2"]}],
    ids=lambda rule: next(iter(rule)),
)
def test_an_operators_webhook_that_is_not_called_for_new_jobs_does_not_count(cluster, rule):
    hooks = [webhook_configuration("w", "kubeflow", "training-operator", **rule)]
    assert operator.webhook(cluster, TRAINING_OPERATOR, hooks, [deployment()]).status == "WARN"


def test_a_service_of_another_name_counts_if_it_selects_the_operators_pods(cluster, api):
    """Kueue may lie in the operator's namespace."""
    found, hooks = renamed("webhook-service")
    assert operator.webhook(cluster, TRAINING_OPERATOR, [hooks], [found]).status == "WARN"  # there is no such Service
    place = "/api/v1/namespaces/kubeflow/services/webhook-service"
    api.state.put(place, {"metadata": {"name": "webhook-service"}, "spec": {"selector": {"app": "kueue"}}})
    assert operator.webhook(cluster, TRAINING_OPERATOR, [hooks], [found]).status == "WARN"
    selector = {"control-plane": "kubeflow-training-operator"}
    api.state.put(place, {"metadata": {"name": "webhook-service"}, "spec": {"selector": selector}})
    assert operator.webhook(cluster, TRAINING_OPERATOR, [hooks], [found]).status == "OK"


def test_without_an_operator_there_is_no_webhook_of_it(cluster):
    assert operator.webhook(cluster, TRAINING_OPERATOR, [KUEUE, OURS], []).status == "skipped"


def test_the_operator_is_recognised_by_what_it_runs():
    """Other programs carry its name in theirs, and its container may stand behind another."""
    other = deployment("x/dashboard:v3")
    other["metadata"]["name"] = "training-operator-dashboard"
    real = deployment("registry.example:5000/mirror/training-operator:v1.9.4")
    real["metadata"]["name"] = "kubeflow-v1"
    real["spec"]["template"]["spec"]["containers"].insert(0, {"name": "proxy", "image": "x/proxy:v0.1"})
    outcome = operator.operator(TRAINING_OPERATOR, [other, real], None)
    assert (outcome.status, outcome.found) == ("OK", "`kubeflow/kubeflow-v1` is ready, v1.9.4")
