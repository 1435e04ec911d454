"""Talking to the API server: what comes back, and what each fault becomes."""

import dataclasses
import socket
import threading

import pytest
from apiserver import Fault

from launcher.cluster import client, connection
from launcher.cluster.access import Target
from launcher.cluster.client import open_cluster
from launcher.cluster.connection import ATTEMPTS
from launcher.cluster.errors import (
    ConflictError,
    ForbiddenError,
    GoneError,
    InvalidError,
    NotFoundError,
    NotServedError,
    UnreachableError,
)
from launcher.cluster.resources import LOCAL_QUEUES, PODS, PYTORCH_JOBS
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
    monkeypatch.setattr(client, "PAGE", 2)
    for number in range(5):
        cluster.create(PYTORCH_JOBS, job(f"j{number}"))
    assert [each["metadata"]["name"] for each in cluster.list(PYTORCH_JOBS)] == ["j0", "j1", "j2", "j3", "j4"]
    assert {each["kind"] for each in cluster.list(PYTORCH_JOBS)} == {"PyTorchJob"}
    assert all(query["fieldValidation"] == "Strict" for method, _, query in api.state.requests if method == "POST")
    cluster.delete(PYTORCH_JOBS, "j0")
    with pytest.raises(NotFoundError):
        cluster.get(PYTORCH_JOBS, "j0")


def test_list_with_an_expired_continue_token_is_read_again_as_one_page(cluster, api, monkeypatch):
    """Each object must come once."""
    monkeypatch.setattr(client, "PAGE", 2)
    for number in range(5):
        cluster.create(PYTORCH_JOBS, job(f"j{number}"))
    too_old = "The provided continue parameter is too old"
    api.state.faults.append(
        Fault("GET", "pytorchjobs", lambda handler: handler.refuse(410, too_old), query="continue=")
    )
    assert [each["metadata"]["name"] for each in cluster.list(PYTORCH_JOBS)] == ["j0", "j1", "j2", "j3", "j4"]


def test_dry_run_leaves_nothing(cluster):
    cluster.create(PYTORCH_JOBS, job(), dry_run=True)
    assert cluster.list(PYTORCH_JOBS) == []


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
def test_refusals_quote_the_server_and_exit_with_4(cluster, api, status, kind, said):
    """The server knows best why; a create is not repeated, for it may have been done."""
    api.state.fail("POST", "pytorchjobs", status, said)
    with pytest.raises(kind) as caught:
        cluster.create(PYTORCH_JOBS, job())
    assert said in str(caught.value)
    assert caught.value.exit_code == 4
    assert len(api.state.asked("POST")) == 1
    assert "token-of-the-test" not in str(caught.value)


def test_kind_that_the_cluster_does_not_serve_names_the_operator(cluster, api):
    """A bare 404 would look like a missing job."""
    api.state.served.remove("kubeflow.org/v1")
    with pytest.raises(NotFoundError, match="install the training operator"):
        cluster.list(PYTORCH_JOBS)
    assert not cluster.serves(PYTORCH_JOBS)
    assert not cluster.serves(LOCAL_QUEUES[0])
    assert cluster.serves(PODS)


def test_webhook_that_does_not_answer_names_the_operator(cluster, api):
    """The server speaks of a webhook only."""
    said = 'Internal error occurred: failed calling webhook "validator.pytorchjob": connection refused'
    api.state.fail("POST", "pytorchjobs", 500, said)
    with pytest.raises(RemoteError, match="check that the training operator is running"):
        cluster.create(PYTORCH_JOBS, job())


def test_webhook_of_the_operator_in_any_namespace_is_named_as_the_operators(cluster, api):
    """The server names the Service, which need not be in kubeflow, and may carry a release's name."""
    url = "https://mlops-training-operator.mlops.svc:443/validate-kubeflow-org-v1-pytorchjob?timeout=10s"
    said = (
        f'Internal error occurred: failed calling webhook "v.kubeflow.org": failed to call webhook: Post "{url}": EOF'
    )
    api.state.fail("POST", "pytorchjobs", 500, said)
    with pytest.raises(RemoteError) as failed:
        cluster.create(PYTORCH_JOBS, job())
    assert "training operator is running: kubectl -n mlops get pods" in failed.value.hint


def test_webhook_of_another_program_that_does_not_answer_is_named_as_that(cluster, api):
    """Kueue's webhooks are called for PyTorchJobs too."""
    url = "https://kueue-webhook-service.kueue-system.svc:443/mutate-kubeflow-org-v1-pytorchjob?timeout=10s"
    said = f'Internal error occurred: failed calling webhook "mpytorchjob.kb.io": failed to call webhook: Post "{url}": EOF'
    api.state.fail("POST", "pytorchjobs", 500, said)
    with pytest.raises(RemoteError) as failed:
        cluster.create(PYTORCH_JOBS, job())
    assert "kubectl -n kueue-system get pods" in failed.value.hint
    assert "kueue-webhook-service" in failed.value.hint
    assert "training operator" not in failed.value.hint


@pytest.mark.parametrize(
    ("status", "said", "hint"),
    [
        pytest.param(401, "Unauthorized", "log in again", id="401"),
        pytest.param(403, 'User "u" cannot create resource "pytorchjobs"', "the roles in k8s/base", id="rights"),
        pytest.param(403, "exceeded quota: cards, requested: 8, used: 0, limited: 4", "resourcequota", id="quota"),
        pytest.param(404, 'namespaces "team-a" not found', "-n NAMESPACE", id="namespace"),
        pytest.param(404, 'pytorchjobs.kubeflow.org "t1" not found', "launcher list -A", id="job"),
        pytest.param(503, "etcd is away", "try again later", id="away"),
    ],
)
def test_refusals_have_hints(cluster, api, status, said, hint):
    """The same number means several things."""
    api.state.fail("POST", "pytorchjobs", status, said)
    with pytest.raises(RemoteError) as caught:
        cluster.create(PYTORCH_JOBS, job())
    assert said in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("served", LOCAL_QUEUES, ids=["v1beta2", "v1beta1"])
def test_first_served_version_is_read(cluster, api, served):
    api.state.served.add(served.group_version)
    api.state.put(f"{served.path('team-a')}/q", {"metadata": {"name": "q"}})
    assert cluster.first_served(LOCAL_QUEUES, lambda each: cluster.get(each, "q"))["metadata"]["name"] == "q"
    assert [each["apiVersion"] for each in cluster.first_served(LOCAL_QUEUES, cluster.list)] == [served.group_version]


def test_absent_object_of_a_served_version_is_not_looked_for_in_another(cluster, api):
    api.state.served.add(LOCAL_QUEUES[0].group_version)
    with pytest.raises(NotFoundError, match="not found"):
        cluster.first_served(LOCAL_QUEUES, lambda each: cluster.get(each, "q"))
    with pytest.raises(NotServedError):
        cluster.first_served(LOCAL_QUEUES[1:], cluster.list)


def test_group_that_is_not_served_is_named_without_the_operator(cluster):
    """Kueue has nothing to do with the training operator."""
    with pytest.raises(NotFoundError, match=r"does not serve `kueue.x-k8s.io/v1beta1`") as caught:
        cluster.list(LOCAL_QUEUES[1])
    assert caught.value.hint is None


def test_busy_server_is_asked_again_after_its_retry_after(cluster, api, waits):
    """429 means that nothing was done, so a create may be repeated too."""
    api.state.fail("POST", "pytorchjobs", 429, "slow down", Retry_After="7")
    cluster.create(PYTORCH_JOBS, job())
    assert waits == [7.0]


def test_too_long_retry_after_is_not_waited_for(cluster, api, waits):
    api.state.fail("GET", "pytorchjobs", 429, "slow down", Retry_After="3600")
    with pytest.raises(RemoteError, match="slow down"):
        cluster.list(PYTORCH_JOBS)
    assert waits == []


@pytest.mark.parametrize("status", [500, 503])
def test_reads_retry_transient_errors(cluster, api, waits, status):
    api.state.fail("GET", "pytorchjobs", status, "away", times=ATTEMPTS - 1)
    assert cluster.list(PYTORCH_JOBS) == []
    assert len(waits) == ATTEMPTS - 1
    assert waits == sorted(waits)


def test_reads_retry_broken_connections_and_then_fail(cluster, api, waits):
    api.state.faults.append(Fault("GET", "pytorchjobs", lambda handler: handler.reset(), times=1))
    assert cluster.list(PYTORCH_JOBS) == []
    api.state.faults.append(Fault("GET", "pytorchjobs", lambda handler: handler.reset(), times=ATTEMPTS))
    with pytest.raises(UnreachableError, match="no answer from"):
        cluster.list(PYTORCH_JOBS)


@pytest.fixture
def released():
    """Set at the end of a test, for handlers that hang."""
    event = threading.Event()
    yield event
    event.set()


def test_silent_server_times_out_once(cluster, api, monkeypatch, released, waits):
    """A command must not hang for ever; who is silent once will be silent again."""
    monkeypatch.setattr(connection, "READ_S", 0.2)
    api.state.faults.append(Fault("GET", "pytorchjobs", lambda handler: released.wait(), times=ATTEMPTS))
    with pytest.raises(UnreachableError, match="timed out"):
        cluster.list(PYTORCH_JOBS)
    assert waits == []


def test_create_without_a_response_is_undone(cluster, api, monkeypatch, released):
    """Nobody would know of the object."""
    monkeypatch.setattr(connection, "READ_S", 0.2)

    def do_and_hang(handler):
        handler.do_silently()
        released.wait()

    api.state.faults.append(Fault("POST", "pytorchjobs", do_and_hang))
    with pytest.raises(UnreachableError):
        cluster.create(PYTORCH_JOBS, job())
    assert api.state.objects == {}


def test_delete_whose_response_is_lost_succeeds(cluster, api):
    """That the second request finds nothing means that the first has worked."""
    cluster.create(PYTORCH_JOBS, job())
    api.state.faults.append(Fault("DELETE", "pytorchjobs", lambda handler: handler.do_and_reset()))
    cluster.delete(PYTORCH_JOBS, "t1")
    with pytest.raises(NotFoundError):
        cluster.delete(PYTORCH_JOBS, "t1")


def test_patch_is_merged(cluster, api):
    cluster.create(PYTORCH_JOBS, job(nprocPerNode="1"))
    cluster.patch(PYTORCH_JOBS, "t1", {"spec": {"runPolicy": {"suspend": True}}})
    assert cluster.get(PYTORCH_JOBS, "t1")["spec"] == {"nprocPerNode": "1", "runPolicy": {"suspend": True}}


def test_server_that_is_not_there_is_named(tmp_path, api, waits):
    path = api.kubeconfig(tmp_path / "k")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        path.write_text(path.read_text().replace(api.url, f"http://127.0.0.1:{closed.getsockname()[1]}"))
        cluster = open_cluster(Target(kubeconfig=str(path)))
        cluster = dataclasses.replace(cluster, connection=dataclasses.replace(cluster.connection, sleep=waits.append))
        with pytest.raises(UnreachableError, match="connection refused"):
            cluster.list(PYTORCH_JOBS)


def test_server_that_is_no_api_server_is_reported(cluster, api):
    """A proxy's login page, for example."""
    api.state.faults.append(Fault("GET", "pytorchjobs", lambda handler: handler._send(200, b"<html>", {})))
    with pytest.raises(RemoteError, match="is not one of a Kubernetes API server"):
        cluster.list(PYTORCH_JOBS)


def test_watch_yields_changes_and_reports_expiry(cluster, api):
    since = cluster.create(PYTORCH_JOBS, job())["metadata"]["resourceVersion"]
    api.state.put(f"{JOB_PATH}/t1", job() | {"status": {"conditions": []}})
    seen = list(cluster.watch(PYTORCH_JOBS, fields="metadata.name=t1", since=since, timeout_s=1))
    assert [kind for kind, _ in seen] == ["MODIFIED"]

    def gone(handler):
        handler.begin_stream()
        handler.chunk(
            b'{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old", "details": {}}}\n'
        )
        handler.chunk(b"")

    api.state.faults.append(Fault("GET", "pytorchjobs", gone, query="watch=true"))
    with pytest.raises(GoneError):
        list(cluster.watch(PYTORCH_JOBS, fields="metadata.name=t1", timeout_s=1))


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda handler: handler.reset(), id="reset"),
        pytest.param(
            lambda handler: (handler.begin_stream(), handler.wfile.write(b"40\r\n{"), handler.reset()), id="cut"
        ),
        pytest.param(
            lambda handler: (handler.begin_stream(), handler.chunk(b'{"type": "MOD'), handler.chunk(b"")), id="half"
        ),
    ],
)
def test_broken_watch_is_a_known_error(cluster, api, fault):
    """Half an event is no event."""
    api.state.faults.append(Fault("GET", "pytorchjobs", fault, query="watch=true"))
    with pytest.raises(UnreachableError, match="cannot watch pytorchjobs"):
        list(cluster.watch(PYTORCH_JOBS, timeout_s=1))


def test_stalled_watch_ends(cluster, api, monkeypatch, released):
    """The server must end a watch in time; one that does not is given up."""
    monkeypatch.setattr(client, "CONNECT_S", 0.2)
    api.state.faults.append(
        Fault("GET", "pytorchjobs", lambda handler: (handler.begin_stream(), released.wait()), query="watch=true")
    )
    with pytest.raises(UnreachableError, match="timed out"):
        list(cluster.watch(PYTORCH_JOBS, timeout_s=0.1))


def test_requests_have_our_user_agent(cluster, api):
    """An administrator finds them in the audit log."""
    cluster.create(PYTORCH_JOBS, job())
    assert all(agent.startswith("chexnet-launcher/") for agent in api.state.agents)
    assert cluster.get(PYTORCH_JOBS, "t1")["metadata"]["managedFields"][0]["manager"].startswith("chexnet-launcher-")


def test_rights_are_checked_by_access_reviews(cluster, api):
    api.state.forbidden.add(("create", "pytorchjobs"))
    assert not cluster.may("create", PYTORCH_JOBS)
    assert cluster.may("get", PYTORCH_JOBS)
