"""The API server's version and the training operator."""

import pytest
from doctor_samples import deployment

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
    outcome = operator.operator(deployments, volcano_queue)
    assert outcome.status == status, outcome
