"""Faults of the API server as a user meets them: a message, a documented exit code, no traceback, nothing half made."""

import pytest
from apiserver import Fault

from launcher.__main__ import main
from launcher.cluster import connection
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render

JOB_PATH = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs"

SUBMIT = [
    *("submit", "--accelerator", "cpu", "--image", "i", "--name", "t1", "--namespace", "team-a"),
    *("--data", "s3://cxr/nih", "--output", "s3://cxr/runs"),
]
COMMANDS = {
    "submit": SUBMIT,
    "dry-run": [*SUBMIT, "--dry-run", "server"],
    "list": ["list"],
    "status": ["status", "here"],
    "events": ["events", "here"],
    "wait": ["wait", "here", "--timeout", "1s"],
    "delete": ["delete", "here", "-y"],
    "clone": ["clone", "here"],
    "logs": ["logs", "here"],
}

FAULTS = {
    "401": lambda handler: handler.refuse(401, "Unauthorized"),
    "403": lambda handler: handler.refuse(403, 'User "u" cannot do this to resource "pytorchjobs"'),
    "404": lambda handler: handler.refuse(404, "404 page not found", plain=True),
    "429": lambda handler: handler.refuse(429, "too many requests", headers={"Retry-After": "1"}),
    "500": lambda handler: handler.refuse(500, "etcd is ill"),
    "503": lambda handler: handler.refuse(503, "not ready"),
    "reset": lambda handler: handler.reset(),
    "html": lambda handler: handler._send(200, b"<html>log in</html>", {}),
}
SAID = {
    "401": "Unauthorized",
    "403": "cannot do this",
    "404": "does not serve `kubeflow.org/v1`",
    "429": "too many requests",
    "500": "etcd is ill",
    "503": "not ready",
    "reset": "no answer from",
    "html": "is not one of a Kubernetes API server",
}


@pytest.fixture
def launcher(api, kubeconfig, monkeypatch, capfd):
    """Runs a command; its exit code, and what it says."""
    monkeypatch.setattr(connection, "ATTEMPTS", 1)  # that it asks again is another test's matter, and takes seconds
    here = JobSpec(accelerator="cpu", image="i", data="/d", output="s3://b/o", name="here", namespace="team-a")
    api.state.put(f"{JOB_PATH}/here", render(here)[-1])

    def run(argv):
        code = main([*argv, "--kubeconfig", kubeconfig])
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        assert "token-of-the-test" not in out + err
        return code, err

    return run


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_reports_every_api_failure_with_exit_code_4(launcher, api, command, fault):
    """In the server's words, where it has any."""
    api.state.faults.append(Fault("GET", "/pytorchjobs", FAULTS[fault], times=1000))
    api.state.faults.append(Fault("POST", "/pytorchjobs", FAULTS[fault], times=1000))
    api.state.faults.append(Fault("DELETE", "/pytorchjobs", FAULTS[fault], times=1000))
    before = sorted(api.state.objects)
    code, said = launcher(COMMANDS[command])
    assert code == 4
    assert said.count("error: cannot ") == 1
    assert SAID[fault] in said
    assert sorted(api.state.objects) == before


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        pytest.param(
            "/pytorchjobs", 422, 'admission webhook "validator" denied the request: no container', id="webhook"
        ),
        pytest.param("/pytorchjobs", 400, 'strict decoding error: unknown field "spec.typo"', id="unknown-field"),
        pytest.param("/pytorchjobs", 409, 'pytorchjobs.kubeflow.org "t1" already exists', id="exists"),
        pytest.param("/persistentvolumes", 403, 'User "u" cannot create resource "persistentvolumes"', id="volume"),
        pytest.param("/persistentvolumeclaims", 403, "exceeded quota: claims", id="quota"),
    ],
)
@pytest.mark.parametrize("dry_run", ["", "dryRun=All"], ids=["create", "dry-run"])
def test_submit_that_is_refused_shows_why_and_leaves_nothing(launcher, api, path, status, message, dry_run):
    """Whether the server refuses in the dry run or only then."""
    if not dry_run:
        api.state.faults.append(Fault("POST", path, lambda handler: handler.answer({}, 201), query="dryRun=All"))
    before = sorted(api.state.objects)
    api.state.fail("POST", path, status, message)
    code, said = launcher(SUBMIT)
    assert code == 4
    assert message in said
    assert sorted(api.state.objects) == before


def test_submit_retries_a_busy_server(launcher, api, monkeypatch):
    """429 with Retry-After is a request to wait, not a refusal."""
    monkeypatch.setattr(connection, "ATTEMPTS", 2)
    api.state.fail("POST", "/pytorchjobs", 429, "slow down", Retry_After="1")
    assert launcher(SUBMIT)[0] == 0


def test_status_is_shown_without_the_rights_for_its_details(launcher, api):
    """Who may see the job sees what he may see."""
    api.state.forbidden |= {("list", "pods"), ("list", "events")}
    code, _ = launcher(["status", "here"])
    assert code == 0
