"""Talking to the API server: what comes back, and what each fault becomes."""

import socket
import time

import pytest
from apiserver import Fault

from launcher import cluster as cluster_module
from launcher.cluster import (
    ATTEMPTS,
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    UnreachableError,
    open_cluster,
)
from launcher.resources import JOBS, LOCAL_QUEUES, PODS
from launcher.target import Target
from trainer.errors import InputError, RemoteError

JOB_PATH = "/apis/kubeflow.org/v1/namespaces/team-a/pytorchjobs"


def job(name="t1", **spec):
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": {"name": name}, "spec": spec}


def test_namespace_and_context_come_from_the_kubeconfig_unless_they_are_named(kubeconfig):
    """As kubectl's users expect."""
    assert open_cluster(Target(kubeconfig=kubeconfig)).namespace == "team-a"
    assert open_cluster(Target(kubeconfig=kubeconfig, namespace="b", context="other")).namespace == "b"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        pytest.param({"context": "absent"}, "cannot use the context `absent`", id="context"),
        pytest.param({"kubeconfig": "/absent"}, "cannot find a cluster", id="kubeconfig"),
    ],
)
def test_cluster_that_cannot_be_found_is_bad_input(kubeconfig, target, message):
    """Nothing is asked of anybody."""
    with pytest.raises(InputError, match=message):
        open_cluster(Target(**{"kubeconfig": kubeconfig} | target))


def test_what_is_shown_of_a_connection_holds_no_token(cluster):
    """It may get into a message."""
    assert "token-of-the-test" not in repr(cluster)


def test_objects_are_created_strictly_listed_in_pages_and_deleted(cluster, api, monkeypatch):
    """The server must refuse fields it does not know, and a long list comes whole."""
    monkeypatch.setattr(cluster_module, "PAGE", 2)
    for number in range(5):
        cluster.create(JOBS, job(f"j{number}"))
    assert [each["metadata"]["name"] for each in cluster.list(JOBS)] == ["j0", "j1", "j2", "j3", "j4"]
    assert {each["kind"] for each in cluster.list(JOBS)} == {"PyTorchJob"}
    assert all(query["fieldValidation"] == "Strict" for method, _, query in api.state.requests if method == "POST")
    cluster.delete(JOBS, "j0")
    with pytest.raises(NotFoundError):
        cluster.get(JOBS, "j0")


def test_dry_run_leaves_nothing(cluster):
    cluster.create(JOBS, job(), dry_run=True)
    assert cluster.list(JOBS) == []


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        pytest.param(400, InvalidError, "strict decoding error: unknown field", id="400"),
        pytest.param(401, RemoteError, "Unauthorized", id="401"),
        pytest.param(403, ForbiddenError, 'User "u" cannot create', id="403"),
        pytest.param(409, ConflictError, "already exists", id="409"),
        pytest.param(410, GoneError, "too old resource version", id="410"),
        pytest.param(422, InvalidError, "admission webhook denied: spec is wrong", id="422"),
        pytest.param(500, RemoteError, "etcd is ill", id="500"),
    ],
)
def test_refusals_keep_the_servers_words_and_leave_with_4(cluster, api, status, kind, said):
    """The server knows best why; a create is not repeated, for it may have been done."""
    api.state.fail("POST", "pytorchjobs", status, said)
    with pytest.raises(kind) as caught:
        cluster.create(JOBS, job())
    assert said in str(caught.value)
    assert caught.value.exit_code == 4
    assert len(api.state.asked("POST")) == 1
    assert "token-of-the-test" not in str(caught.value)


def test_kind_that_the_cluster_does_not_serve_names_the_operator(cluster, api):
    """A bare 404 would look like a missing job."""
    api.state.served.remove("kubeflow.org/v1")
    with pytest.raises(NotFoundError, match="training operator is not installed"):
        cluster.list(JOBS)
    assert not cluster.serves(JOBS)
    assert not cluster.serves(LOCAL_QUEUES)
    assert cluster.serves(PODS)


def test_webhook_that_does_not_answer_names_the_operator(cluster, api):
    """The server speaks of a webhook only."""
    said = 'Internal error occurred: failed calling webhook "validator.pytorchjob": connection refused'
    api.state.fail("POST", "pytorchjobs", 500, said)
    with pytest.raises(RemoteError, match="is the training operator running"):
        cluster.create(JOBS, job())


def test_busy_server_is_asked_again_after_the_time_it_names(cluster, api, waits):
    """429 means that nothing was done, so a create may be repeated too."""
    api.state.fail("POST", "pytorchjobs", 429, "slow down", Retry_After="7")
    cluster.create(JOBS, job())
    assert waits == [7.0]


def test_server_that_asks_for_too_long_a_wait_is_not_waited_for(cluster, api, waits):
    api.state.fail("GET", "pytorchjobs", 429, "slow down", Retry_After="3600")
    with pytest.raises(RemoteError, match="slow down"):
        cluster.list(JOBS)
    assert waits == []


@pytest.mark.parametrize("status", [500, 503])
def test_reads_ride_out_a_passing_error(cluster, api, waits, status):
    api.state.fail("GET", "pytorchjobs", status, "away", times=ATTEMPTS - 1)
    assert cluster.list(JOBS) == []
    assert len(waits) == ATTEMPTS - 1
    assert waits == sorted(waits)


def test_reads_ride_out_broken_connections_and_then_say_so(cluster, api, waits):
    api.state.faults.append(Fault("GET", "pytorchjobs", lambda handler: handler.reset(), times=1))
    assert cluster.list(JOBS) == []
    api.state.faults.append(Fault("GET", "pytorchjobs", lambda handler: handler.reset(), times=ATTEMPTS))
    with pytest.raises(UnreachableError, match="no answer from"):
        cluster.list(JOBS)


def test_server_that_says_nothing_is_given_up(cluster, api, monkeypatch):
    """A command must not hang for ever."""
    monkeypatch.setattr(cluster_module, "READ_S", 0.2)
    api.state.faults.append(Fault("POST", "pytorchjobs", lambda handler: time.sleep(1)))
    with pytest.raises(UnreachableError):
        cluster.create(JOBS, job())


def test_server_that_is_not_there_is_named(tmp_path, api, waits):
    path = api.kubeconfig(tmp_path / "k")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        path.write_text(path.read_text().replace(api.url, f"http://127.0.0.1:{closed.getsockname()[1]}"))
        cluster = open_cluster(Target(kubeconfig=str(path)))
        object.__setattr__(cluster, "sleep", waits.append)
        with pytest.raises(UnreachableError, match="connection refused"):
            cluster.list(JOBS)


def test_something_else_than_an_api_server_is_called_that(cluster, api):
    """A proxy's login page, for example."""
    api.state.faults.append(Fault("GET", "pytorchjobs", lambda handler: handler._send(200, b"<html>", {})))
    with pytest.raises(RemoteError, match="did not answer as a Kubernetes API server"):
        cluster.list(JOBS)


def test_watch_tells_changes_and_passes_on_that_it_is_too_late(cluster, api):
    since = cluster.create(JOBS, job())["metadata"]["resourceVersion"]
    api.state.put(f"{JOB_PATH}/t1", job() | {"status": {"conditions": []}})
    seen = list(cluster.watch(JOBS, fields="metadata.name=t1", since=since, timeout_s=1))
    assert [kind for kind, _ in seen] == ["MODIFIED"]

    def gone(handler):
        handler.begin_stream()
        handler.chunk(
            b'{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old", "details": {}}}\n'
        )
        handler.chunk(b"")

    api.state.faults.append(Fault("GET", "pytorchjobs", gone, query="watch=true"))
    with pytest.raises(GoneError):
        list(cluster.watch(JOBS, fields="metadata.name=t1", timeout_s=1))


def test_rights_are_asked_for(cluster, api):
    api.state.forbidden.add(("create", "pytorchjobs"))
    assert not cluster.may("create", JOBS)
    assert cluster.may("get", JOBS)
