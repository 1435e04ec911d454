"""Why a job does not run, said in one sentence by `launcher status`, for causes that a real cluster has."""

import json
import re
import secrets

import pytest
from cluster_site import TINY, Site, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

ONE = ["--accelerator", "cpu", "--workers", "1"]
GAUDI = ["--accelerator", "gaudi"]
OPERATOR = "control-plane=kubeflow-training-operator"


@pytest.fixture(scope="module")
def open_site(stored):
    """A namespace without Pod Security, where jobs may ask for what Gaudi needs, with the same Secret."""
    site = Site(stored.kubeconfig, f"e2e-{secrets.token_hex(3)}", stored.image, stored.environment)
    site.kubectl("create", "namespace", site.namespace)
    secret = json.loads(stored.kubectl("get", "secret", "s3", "-o", "json"))
    secret["metadata"] = {"name": "s3"}
    site.kubectl("create", "-f", "-", stdin=json.dumps(secret))
    yield site
    site.kubectl("delete", "namespace", site.namespace, "--wait=false")


def submit(site, name, *flags, **environment):
    site.launcher("submit", *flags, "--name", name, "--", *TINY, **environment)


def why(site, name):
    """What `status` says, and what to do."""
    status = json.loads(site.launcher("status", name, "-o", "json").stdout)
    return (status.get("diagnosis") or {}) if status else {}


def sentence_with(site, name, code):
    """The sentence, once the cluster has come to the point where `code` is the cause."""
    said = {}

    def is_it():
        said.update(why(site, name))
        return said.get("code") == code

    wait_until(f"{name} is {code}", is_it)
    assert said["next_step"]
    return said["sentence"]


def by_api(data):
    return ["--data", data, "--data-access", "api"]


def test_reason_of_an_image_that_cannot_be_pulled(stored, phantoms):
    submit(stored, "bad-image", *ONE, *by_api(phantoms), LAUNCHER_IMAGE="localhost/absent:1")
    sentence = sentence_with(stored, "bad-image", "image-pull")
    assert "localhost/absent:1" in sentence
    shown = stored.launcher("status", "bad-image").stdout
    assert sentence.partition(": ")[2] in shown  # before it stands how long
    assert "\nnext: " in shown
    stored.launcher("delete", "bad-image", "-y")


@pytest.mark.parametrize(
    ("name", "data", "keys"),
    [
        pytest.param("no-bucket", "s3://absent/cxr", {}, id="bucket"),
        pytest.param("no-secret", None, {"key_id": "nobody-knows-me"}, id="secret"),
    ],
)
def test_reason_of_a_bucket_that_cannot_be_mounted(mounts, stored, bucket, phantoms, name, data, keys):
    """The pod stays in ContainerCreating, and only an event of the kubelet tells."""
    mounts("s3.csi.scality.com")
    literals = {"key_id": bucket.key, "access_key": bucket.secret} | keys
    stored.kubectl(
        "create", "secret", "generic", name, *(f"--from-literal={key}={value}" for key, value in literals.items())
    )
    submit(stored, name, *ONE, "--data", data or phantoms, "--csi-driver", "s3.csi.scality.com", "--csi-secret", name)
    assert "mount" in sentence_with(stored, name, "mount-failed")
    stored.launcher("delete", name, "-y")


def test_reason_of_a_volume_without_its_driver(stored):
    """As on a cluster where nobody installed the driver."""
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"{stored.namespace}-absent"},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "claimRef": {"namespace": stored.namespace, "name": "absent-driver"},
            "csi": {"driver": "s3.csi.absent", "volumeHandle": f"{stored.namespace}-absent"},
        },
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "absent-driver"},
        "spec": {
            "accessModes": ["ReadOnlyMany"],
            "storageClassName": "",
            "volumeName": volume["metadata"]["name"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    for each in (volume, claim):
        stored.kubectl("create", "-f", "-", stdin=json.dumps(each))
    submit(stored, "no-driver", *ONE, "--data-pvc", "absent-driver")
    assert "s3.csi.absent" in sentence_with(stored, "no-driver", "csi-driver-missing")
    stored.launcher("delete", "no-driver", "-y")
    stored.kubectl("delete", "pvc", "absent-driver", "--wait=false")
    stored.kubectl("delete", "pv", volume["metadata"]["name"], "--wait=false")


def test_reason_of_too_little_memory(stored, phantoms, tmp_path):
    """The sentence names the limit, which is what has to change."""
    overlay = tmp_path / "small.yaml"
    amount = {"memory": "64Mi"}
    resources = {"requests": amount, "limits": amount}
    overlay.write_text(json.dumps({"spec": {"containers": [{"name": "pytorch", "resources": resources}]}}))
    submit(stored, "no-memory", *ONE, *by_api(phantoms), "--overlay", overlay)
    assert "64Mi" in sentence_with(stored, "no-memory", "out-of-memory")
    stored.launcher("delete", "no-memory", "-y")


def test_reason_of_a_crashing_program(stored, phantoms, tmp_path):
    """The traceback's last line, and whose it is."""
    program = "import sys; sys.exit('[rank 3] error: bug: LookupError: no such lung')"
    overlay = tmp_path / "crash.yaml"
    container = {"name": "pytorch", "command": ["python", "-c", program]}
    overlay.write_text(json.dumps({"spec": {"containers": [container]}}))
    submit(stored, "crashes", *ONE, *by_api(phantoms), "--overlay", overlay)
    stored.launcher("wait", "crashes", code=3)
    wait_until("it is told", lambda: "no such lung" in why(stored, "crashes").get("sentence", ""))
    assert "rank 3" in why(stored, "crashes")["sentence"]
    stored.launcher("delete", "crashes", "-y")


def test_reason_of_an_exceeded_quota(open_site, phantoms):
    quota = "pods-and-memory"
    open_site.kubectl("create", "quota", quota, "--hard=requests.memory=1Gi")
    submit(open_site, "over-quota", *ONE, *by_api(phantoms))
    assert quota in sentence_with(open_site, "over-quota", "quota-exceeded")
    open_site.launcher("delete", "over-quota", "-y")
    open_site.kubectl("delete", "quota", quota)


def test_reason_of_a_namespace_that_forbids_a_capability(stored, phantoms):
    """The job is accepted and its pods are refused, which only an event reports. Gaudi jobs of earlier versions asked for SYS_NICE."""
    capability = "{spec: {containers: [{name: pytorch, securityContext: {capabilities: {add: [SYS_NICE]}}}]}}"
    submit(stored, "forbidden", *ONE, *by_api(phantoms), "--overlay", capability)
    sentence = sentence_with(stored, "forbidden", "pod-security")
    assert "PodSecurity" in sentence.replace(" ", "")
    assert "SYS_NICE" in sentence
    stored.launcher("delete", "forbidden", "-y")


@pytest.fixture
def three_nodes(tool, open_site):
    """Three simulated nodes with 8 Gaudi each; removed afterwards, because a pod of the next test could be placed there."""
    tool("nodes", "3", "8", "0")
    yield
    simulated = [n["metadata"]["name"] for n in open_site.objects("nodes") if "kwok" in json.dumps(n["metadata"])]
    open_site.kubectl("delete", "node", *simulated)


@pytest.mark.usefixtures("three_nodes")
def test_reason_of_occupied_accelerators(open_site, phantoms):
    """How many are wanted, how many are free, and where; three nodes with 8 hold three of four pods."""
    flags = [*GAUDI, "--workers", "32", "--toleration", "simulated", *by_api(phantoms)]
    submit(open_site, "four-nodes", *flags)
    sentence = sentence_with(open_site, "four-nodes", "unschedulable-accelerators")
    assert "8 habana.ai/gaudi" in sentence
    assert re.search(r"largest free 0 on sim-\d+ \(of 8\)", sentence)
    assert "the nodes it may use hold only 3 of the job's 4 pods" in sentence
    open_site.launcher("delete", "four-nodes", "-y")


@pytest.mark.usefixtures("tool")
def test_reason_of_huge_pages_that_no_node_has(open_site, phantoms):
    submit(open_site, "no-pages", *GAUDI, "--workers", "1", *by_api(phantoms))
    assert "hugepages-2Mi" in sentence_with(open_site, "no-pages", "hugepages")
    open_site.launcher("delete", "no-pages", "-y")


def test_reason_of_a_job_refused_by_the_webhook(stored, phantoms, tmp_path):
    """Its own words, and nothing is left behind."""
    overlay = tmp_path / "second.yaml"
    overlay.write_text(json.dumps({"spec": {"containers": [{"name": "second"}]}}))
    flags = [*ONE, *by_api(phantoms), "--name", "refused", "--overlay", overlay]
    refused = stored.launcher("submit", *flags, code=4)
    assert "denied the request" in refused.stderr
    assert "containers[1].image" in refused.stderr
    assert stored.objects("pytorchjob", "-l", "app.kubernetes.io/instance=refused") == []


def test_reason_of_a_missing_operator(stored, phantoms):
    """Its webhook can't be asked then, so the server refuses the job in words about a webhook; ours name the operator."""
    operator = Site(stored.kubeconfig, "kubeflow", stored.image)
    operator.kubectl("scale", "deployment", "training-operator", "--replicas=0")
    try:
        wait_until("the operator is gone", lambda: not operator.objects("pods", "-l", OPERATOR))
        refused = stored.launcher("submit", *ONE, *by_api(phantoms), "--name", "no-operator", "--", *TINY, code=4)
    finally:
        operator.kubectl("scale", "deployment", "training-operator", "--replicas=1")
        operator.kubectl("rollout", "status", "deployment/training-operator", "--timeout=200s")
    assert "training operator" in refused.stderr
    assert stored.objects("pytorchjob", "-l", "app.kubernetes.io/instance=no-operator") == []


def test_following_ends_when_the_job_is_deleted(stored, phantoms):
    """The follower ends and says so; it must not wait for ever."""
    stored.launcher("submit", *ONE, *by_api(phantoms), "--name", "deleted", "--", *TINY, "--epochs", "200")
    follower = stored.start_launcher("logs", "deleted", "-f")
    wait_until("it trains", lambda: "Running" in stored.conditions("deleted"))
    stored.kubectl("delete", "pytorchjob", "deleted")
    _, said = follower.communicate(timeout=200)
    assert follower.returncode == 4
    assert "deleted" in said
