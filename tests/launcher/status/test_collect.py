"""One look at a job: what is read, in how many requests, and what is left out."""

import pytest
from apiserver import Fault
from dra_objects import RESOURCE, cards, claim, device_class, put, slice_of

from launcher.cluster.dra import DeviceObjects
from launcher.cluster.resources import PENDING_WORKLOADS, WORKLOADS
from launcher.kinds.pytorchjob import ROLE_LABEL, index_label, job_label
from launcher.status.collect import TAILED, collect_snapshot, progress

SPACE = "/namespaces/team-a"
UID = "uid-of-the-job"
BORN = "2026-01-01T00:00:00Z"


@pytest.fixture
def job(api):
    """Puts the job, with these conditions."""

    def put(*conditions, **metadata):
        found = [{"type": each, "status": "True"} for each in conditions]
        body = {
            "metadata": {"name": "t1", "namespace": "team-a", "uid": UID, "creationTimestamp": BORN, **metadata},
            "spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": 2, "template": {}}}},
        }
        api.state.put(f"/apis/kubeflow.org/v1{SPACE}/pytorchjobs/t1", body | {"status": {"conditions": found}})

    return put


@pytest.fixture
def pod(api):
    """Puts a pod of the job."""

    def put(index, phase="Running", node="n", container=None, **spec):
        labels = {job_label: "t1", ROLE_LABEL: "worker", index_label: str(index)}
        name = f"t1-worker-{index}"
        statuses = [{"name": "pytorch"} | container] if container else []
        body = {
            "metadata": {"name": name, "namespace": "team-a", "uid": f"uid-{name}", "labels": labels},
            "spec": {"nodeName": node} | spec,
            "status": {"phase": phase, "containerStatuses": statuses},
        }
        api.state.put(f"/api/v1{SPACE}/pods/{name}", body)

    return put


@pytest.fixture
def event(api):
    """Puts an event."""

    def put(name, about, last="2026-01-02T00:00:00Z"):
        api.state.put(
            f"/api/v1{SPACE}/events/{name}",
            {"metadata": {"name": name}, "involvedObject": about, "lastTimestamp": last},
        )

    return put


@pytest.fixture
def log(api):
    """Answers the next request for a pod's log."""

    def put(index, *lines):
        text = "".join(f"{BORN} {line}\n" for line in lines).encode()
        api.state.faults.append(Fault("GET", f"/t1-worker-{index}/log", lambda handler: handler._send(200, text, {})))

    return put


def names(things):
    return [each["metadata"]["name"] for each in things]


def test_healthy_job_takes_five_requests(cluster, api, job, pod, log):
    """`status` has to be about as fast as kubectl."""
    job("Created", "Running")
    pod(0)
    pod(1)
    log(0, "[rank 0] epoch 1/3 loss 0.5")
    progress(cluster, collect_snapshot(cluster, "t1"))
    assert len(api.state.requests) == 5


def test_pods_are_in_the_order_of_their_index(cluster, job, pod):
    """By name 10 would come before 2."""
    job("Running")
    for index in (10, 2, 0):
        pod(index)
    assert names(collect_snapshot(cluster, "t1").pods) == ["t1-worker-0", "t1-worker-2", "t1-worker-10"]


def test_events_are_those_of_the_job_its_pods_and_claims_since_it_was_made(cluster, job, pod, event):
    """Jobs of other names, and the last job of this one, have events in the namespace too."""
    job("Running")
    pod(0, volumes=[{"name": "data", "persistentVolumeClaim": {"claimName": "bucket"}}])
    event("of-the-job", {"kind": "PyTorchJob", "name": "t1", "uid": UID}, last="2026-01-03T00:00:00Z")
    event("of-a-pod", {"kind": "Pod", "name": "t1-worker-0", "uid": "uid-t1-worker-0"})
    event("of-a-pod-that-is-gone", {"kind": "Pod", "name": "t1-worker-1", "uid": "x"})
    event("of-its-claim", {"kind": "PersistentVolumeClaim", "name": "t1-data", "uid": "x"})
    event("of-an-admins-claim", {"kind": "PersistentVolumeClaim", "name": "bucket", "uid": "x"})
    event("in-the-same-second", {"kind": "Pod", "name": "t1-worker-0", "uid": "x"}, last="2026-01-01T00:00:00.5Z")
    event("of-another-job", {"kind": "Pod", "name": "t12-worker-0", "uid": "x"})
    event("of-a-job-named-like-a-pod", {"kind": "Pod", "name": "t1-worker-0-worker-1", "uid": "x"})
    event("of-another-claim", {"kind": "PersistentVolumeClaim", "name": "other", "uid": "x"})
    event("of-the-last-job", {"kind": "Pod", "name": "t1-worker-0", "uid": "x"}, last="2025-12-31T00:00:00Z")
    found = names(collect_snapshot(cluster, "t1").events)
    assert found[0] == "in-the-same-second"
    assert found[-1] == "of-the-job"
    assert sorted(found[1:-1]) == ["of-a-pod", "of-a-pod-that-is-gone", "of-an-admins-claim", "of-its-claim"]


def test_nodes_are_read_only_while_a_pod_has_none(cluster, api, job, pod):
    """They are many, and few may read them."""
    job("Created")
    api.state.put("/api/v1/nodes/n", {"metadata": {"name": "n"}})
    pod(0)
    assert collect_snapshot(cluster, "t1").nodes == ()
    pod(1, phase="Pending", node="")
    assert names(collect_snapshot(cluster, "t1").nodes) == ["n"]


def test_devices_of_dra_drivers_are_read_only_for_pods_without_a_node(cluster, api, job, pod):
    """One request more where no DeviceClass serves what they want, three where one does; a user without the right learns less."""
    job("Created")
    gpu = [{"name": "pytorch", "resources": {"requests": {RESOURCE: "8"}}}]
    put(api, classes=[device_class()], slices=[slice_of("n", cards(8))], claims=[claim("n", "gpu-0")])
    pod(0, containers=gpu)
    assert collect_snapshot(cluster, "t1").devices == DeviceObjects()
    pod(1, phase="Pending", node="", containers=[{"name": "pytorch"}])
    assert collect_snapshot(cluster, "t1").devices == DeviceObjects()
    pod(1, phase="Pending", node="", containers=gpu)
    found = collect_snapshot(cluster, "t1").devices
    assert [len(found.classes), len(found.slices), len(found.claims)] == [1, 1, 1]
    api.state.forbidden.add(("list", "resourceclaims"))
    assert collect_snapshot(cluster, "t1").devices.denied == {"resourceclaims"}
    api.state.served.discard("resource.k8s.io/v1")
    assert collect_snapshot(cluster, "t1").devices == DeviceObjects()
    assert names(collect_snapshot(cluster, "t1").node_pods) == ["t1-worker-0", "t1-worker-1"]
    job("Failed")
    assert collect_snapshot(cluster, "t1").nodes == ()


def test_operator_is_checked_when_the_job_has_no_conditions(cluster, api, job):
    job()
    api.state.put("/apis/apps/v1/namespaces/kubeflow/deployments/d", {"metadata": {"name": "training-operator"}})
    assert collect_snapshot(cluster, "t1").operator["metadata"]["name"] == "training-operator"
    job("Created")
    assert collect_snapshot(cluster, "t1").operator is None


def test_queue_that_the_cluster_does_not_serve_is_left_out(cluster, job):
    """The job has a queue, and Kueue is not installed."""
    job("Created", labels={"kueue.x-k8s.io/queue-name": "q"})
    snapshot = collect_snapshot(cluster, "t1")
    assert snapshot.workload is None
    assert "workloads" in snapshot.denied


QUEUED = {"kueue.x-k8s.io/queue-name": "q"}
WORKLOAD = {"metadata": {"name": "w", "ownerReferences": [{"uid": UID}]}, "spec": {"queueName": "q"}}
PLACES = [{"metadata": {"name": "w"}, "positionInLocalQueue": 0, "positionInClusterQueue": 2}]


@pytest.fixture
def queued(api, job):
    """The job waits in a queue of Kueue."""
    job("Suspended", labels=QUEUED)
    api.state.objects[f"/apis/kubeflow.org/v1{SPACE}/pytorchjobs/t1"]["spec"]["runPolicy"] = {"suspend": True}
    api.state.served.add(WORKLOADS[0].group_version)
    api.state.put(f"{WORKLOADS[0].path('team-a')}/w", WORKLOAD)


@pytest.mark.parametrize("resource", PENDING_WORKLOADS, ids=["v1beta2", "v1beta1"])
def test_kueues_own_count_is_read_where_it_is_served(cluster, api, queued, resource):
    """In the version that it serves."""
    api.state.served.add(resource.group_version)
    api.state.put(f"{resource.path('team-a')}/q/pendingworkloads", {"metadata": {}, "items": PLACES})
    snapshot = collect_snapshot(cluster, "t1")
    assert list(snapshot.waiting) == PLACES
    assert names(snapshot.workloads) == ["w"]


def test_queue_count_that_cannot_be_read_is_left_out(cluster, api, queued):
    """Neither absent nor forbidden: the Workloads of the namespace can be counted."""
    assert collect_snapshot(cluster, "t1").waiting == ()
    api.state.served |= {each.group_version for each in PENDING_WORKLOADS}
    api.state.fail("GET", "/q/pendingworkloads", 403, "forbidden")
    snapshot = collect_snapshot(cluster, "t1")
    assert (snapshot.waiting, snapshot.denied) == ((), frozenset())


FAILED = {"state": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-01T00:00:09Z"}}}


def test_last_log_lines_are_read_of_failed_pods_only(cluster, api, job, pod, log):
    """Of a container that was started again, what it wrote before."""
    job("Running")
    pod(0, container=FAILED)
    pod(1, container={"state": {"running": {}}, "lastState": FAILED["state"]})
    pod(2, container={"state": {"terminated": {"exitCode": 0}}})
    pod(3, container={"state": {"running": {}}})
    log(0, "traceback", "ValueError: no")
    log(1, "Killed")
    assert collect_snapshot(cluster, "t1").tails == {
        "t1-worker-0": "traceback\nValueError: no",
        "t1-worker-1": "Killed",
    }
    asked = {path: query.get("previous") for _, path, query in api.state.requests if path.endswith("/log")}
    assert [asked[f"/api/v1{SPACE}/pods/t1-worker-{index}/log"] for index in (0, 1)] == [None, "true"]


def test_no_log_is_read_where_a_container_left_a_message(cluster, api, job, pod, log):
    """Most users may see pods, and not all of them logs; a log costs a request to a node."""
    job("Failed")
    told = {"terminated": FAILED["state"]["terminated"] | {"message": "failed: rank 0: no memory"}}
    pod(0, phase="Failed", container={"state": told})
    pod(1, container={"state": {"running": {}}, "lastState": told})
    pod(2, phase="Failed", container={"state": {"terminated": told["terminated"] | {"message": " \n"}}})
    log(2, "traceback")
    assert collect_snapshot(cluster, "t1").tails == {"t1-worker-2": "traceback"}
    assert [path for _, path, _ in api.state.requests if path.endswith("/log")] == [
        f"/api/v1{SPACE}/pods/t1-worker-2/log"
    ]


def test_last_log_lines_are_read_of_the_first_failed_pods(cluster, api, job, pod):
    """Of hundreds of pods the first ones tell why; the others lost their peers."""
    job("Failed")
    for index in range(2 * TAILED):
        ended = {"exitCode": 1, "finishedAt": f"2026-01-01T00:01:{59 - index:02}Z"}
        pod(index, phase="Failed", container={"state": {"terminated": ended}})
    found = collect_snapshot(cluster, "t1").tails
    assert set(found) == {f"t1-worker-{index}" for index in range(TAILED, 2 * TAILED)}


def test_resources_that_may_not_be_read_are_named(cluster, api, job, pod):
    """A user without the right to see events still gets a status."""
    job("Running")
    pod(0)
    api.state.forbidden |= {("list", "events"), ("list", "pods")}
    snapshot = collect_snapshot(cluster, "t1")
    assert snapshot.denied == {"events", "pods"}
    assert snapshot.pods == snapshot.events == ()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        pytest.param(["[rank 0] epoch 1/3 loss 0.5", "[rank 1] ready"], "epoch 1/3 loss 0.5", id="epoch"),
        pytest.param(["[rank 0] epoch 1/3", "[rank 0] epoch 2/3", "x"], "epoch 2/3", id="newest"),
        pytest.param(["[rank 0] decoding 10/20"], "decoding 10/20", id="decoding"),
        pytest.param(["[rank 1] epoch 1/3"], "", id="other-rank"),
    ],
)
def test_progress_is_the_newest_progress_line_of_rank_0(cluster, job, pod, log, lines, told):
    job("Running")
    pod(0)
    log(0, *lines)
    assert progress(cluster, collect_snapshot(cluster, "t1")) == told


def test_progress_is_searched_in_each_pod_until_a_log_cannot_be_read(cluster, api, job, pod, log):
    """Rank 0 may be in any pod; a node that is silent costs seconds."""
    job("Running")
    for index in range(3):
        pod(index)
    snapshot = collect_snapshot(cluster, "t1")
    log(0, "[rank 1] epoch 1/3")
    log(1, "[rank 0] epoch 1/3")
    assert progress(cluster, snapshot) == "epoch 1/3"
    api.state.fail("GET", "/log", 500, "cannot reach the node", times=9)
    before = len(api.state.requests)
    assert progress(cluster, snapshot) == ""
    assert len(api.state.requests) == before + 1
