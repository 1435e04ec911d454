"""Why a job failed, as a user learns it who may see pods and not their logs: from the pod's status."""

import json
import shutil

import pytest
import yaml
from cluster_site import ROOT, TINY, Site, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

ONE = ["--accelerator", "cpu", "--workers", "1", "--data-access", "api", "--backoff", "0"]
TWO_PODS = [*ONE[:3], "2", "--workers-per-node", "1", *ONE[4:]]
ENTRYPOINT = ["python", "-m", "trainer.runtime.entrypoint"]
DIVERGES = [
    *("--lr", "1000", "--optimizer", "adamw", "--weight-decay", "1000"),
    *("--schedule", "constant", "--warmup-epochs", "0"),
]
LOGS = {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]}


@pytest.fixture(scope="module")
def viewer(stored, tmp_path_factory):
    """The launcher of a user with the rights of `chexnet-reader` but `pods/log`, and with no key to the bucket."""
    roles = yaml.safe_load_all((ROOT / "k8s/base/roles.yaml").read_text(encoding="utf-8"))
    role = next(each for each in roles if each["metadata"]["name"] == "chexnet-reader")
    assert LOGS in role["rules"]
    role["rules"].remove(LOGS)
    stored.kubectl("create", "-f", "-", stdin=json.dumps(role))
    stored.kubectl("create", "serviceaccount", "viewer")
    account = f"--serviceaccount={stored.namespace}:viewer"
    stored.kubectl("create", "rolebinding", "viewer", "--role=chexnet-reader", account)
    config = json.loads(stored.kubectl("config", "view", "--raw", "--minify", "-o", "json"))
    config["users"][0]["user"] = {"token": stored.kubectl("create", "token", "viewer").strip()}
    path = tmp_path_factory.mktemp("viewer") / "kubeconfig"
    path.write_text(json.dumps(config))
    path.chmod(0o600)
    return Site(str(path), stored.namespace, stored.image)


@pytest.fixture
def submit(stored, tmp_path):
    """Creates a job that is gone after the test; `container` is merged into its pods' one."""
    made = []

    def create(name, *flags, data, container=None, train=()):
        overlay = tmp_path / f"{name}.yaml"
        overlay.write_text(json.dumps({"spec": {"containers": [{"name": "pytorch", **(container or {})}]}}))
        made.append(name)
        stored.launcher("submit", *flags, "--data", data, "--name", name, "--overlay", overlay, "--", *TINY, *train)

    yield create
    for name in made:
        stored.launcher("delete", name, "-y", code=None)


def told(viewer, name):
    """What `wait` and `status` say to the viewer of a job that fails, which must be the same."""
    waited = viewer.launcher("wait", name, "--timeout", "400s", code=3).stderr
    diagnosis = json.loads(viewer.launcher("status", name, "-o", "json").stdout)["diagnosis"]
    cause = diagnosis["sentence"].partition(": ")[2]  # before it stands how long ago
    assert cause in waited
    assert cause in viewer.launcher("status", name).stdout
    assert diagnosis["next_step"] in waited
    assert "forbidden" in viewer.kubectl("logs", viewer.pods(name)[0]["metadata"]["name"], check=False).lower()
    return diagnosis


def ended(viewer, pod):
    """How a pod's container ended; nothing while it runs, or when the operator has deleted it as it does with peers of one that failed."""
    found = viewer.objects("pods", "--field-selector", f"metadata.name={pod}")
    statuses = [status for each in found for status in each["status"].get("containerStatuses", ())]
    return next((status["state"]["terminated"] for status in statuses if "terminated" in status["state"]), {})


def message(viewer, pod):
    """The termination message that the kubelet read, empty without one."""
    return ended(viewer, pod).get("message", "")


def test_status_shows_bad_labels_as_the_cause(viewer, submit, bucket, phantoms):
    """The whole line is in `kubectl describe pod`, too."""
    folder = bucket.folder / bucket.name / "bad-labels"
    shutil.copytree(bucket.folder / phantoms.removeprefix("s3://"), folder)
    entries = next(folder.glob("*.csv"))
    header, _, rows = entries.read_text().partition("\n")
    entries.write_text(f"{header.replace('Finding Labels', 'Findings')}\n{rows}")
    submit("bad-labels", *ONE, data=f"s3://{bucket.name}/bad-labels")
    diagnosis = told(viewer, "bad-labels")
    assert diagnosis["code"] == "bad-input"
    assert "rank 0: " in diagnosis["sentence"]
    assert entries.name in diagnosis["sentence"]
    line = message(viewer, "bad-labels-master-0")
    assert line.startswith("failed: rank 0: ")
    assert f"Message:      {line}" in viewer.kubectl("describe", "pods")


def test_status_shows_a_non_finite_gradient_as_the_cause(viewer, submit, phantoms):
    """Of two pods the one counts whose worker says what is wrong; the other says that it followed."""
    submit("no-number", *TWO_PODS, data=phantoms, train=DIVERGES)
    diagnosis = told(viewer, "no-number")
    assert "non-finite gradient at step" in diagnosis["sentence"]
    assert "worker-0" in diagnosis["sentence"]
    assert "rank 0: " in diagnosis["sentence"]
    assert message(viewer, "no-number-worker-0").startswith("failed: rank 0: ")
    assert message(viewer, "no-number-worker-1") in {"", "stopped: rank 1: rank 0 failed first, in another pod"}


def test_status_shows_the_memory_limit_of_a_container_as_the_cause(viewer, submit, phantoms):
    """Nobody in it can say anything; the kubelet does, and the operator starts it again and again."""
    resources = {"requests": {"memory": "64Mi"}, "limits": {"memory": "64Mi"}}
    submit("no-memory", *ONE, data=phantoms, container={"resources": resources})
    said = {}

    def is_known():
        status = json.loads(viewer.launcher("status", "no-memory", "-o", "json").stdout)
        said.update(status["diagnosis"] or {})
        return said.get("code") == "out-of-memory"

    wait_until("status says that memory ran out", is_known)
    assert "64Mi" in said["sentence"]


def test_status_shows_a_killed_worker_as_the_cause(viewer, submit, phantoms):
    """With cgroup v1, and where the kubelet is set so, the kernel kills one process of a container; else all, and the kubelet says so."""
    amount = {"memory": "1536Mi"}
    program = "x = []\nwhile True: x.append(bytearray(b'x' * 2**26))"
    args = ["--max-restarts=0", "--no-python", "python", "-c", program]
    container = {"resources": {"requests": amount, "limits": amount}, "command": ENTRYPOINT, "args": args}
    submit("hungry", *ONE, data=phantoms, container=container)
    said = {}

    def is_known():
        status = json.loads(viewer.launcher("status", "hungry", "-o", "json").stdout)
        said.update(status["diagnosis"] or {})
        return said.get("code") == "out-of-memory"

    wait_until("status says that memory ran out", is_known)
    assert "1536Mi" in said["sentence"]
    if ended(viewer, "hungry-master-0").get("exitCode") == 3:
        assert "rank 0: the worker was killed (SIGKILL) at its memory limit" in told(viewer, "hungry")["sentence"]
        assert message(viewer, "hungry-master-0").startswith("failed: rank 0: killed by SIGKILL, out of memory")


BUG = """
import os, sys, time
from trainer import __main__ as program
from trainer.runtime.failure_report import note_step
def bug(argv):
    note_step(7)
    import torch.distributed as dist
    from trainer.runtime.torch_errors import translated_torch_errors
    with translated_torch_errors():
        dist.init_process_group("gloo")
        if dist.get_rank() == 1:
            time.sleep(2)
            return {}["no such lung"]
        dist.barrier()
program._run = bug
code = program.main(["train"])
sys.stderr.flush()
os._exit(code)
"""


def test_status_shows_an_unexpected_exception_as_the_cause(viewer, submit, phantoms):
    """A traceback's last line, of the rank that raised it and not of those that lost it."""
    args = ["--max-restarts=0", "--no-python", "python", "-c", BUG]
    submit("bug", *TWO_PODS, data=phantoms, container={"command": ENTRYPOINT, "args": args})
    diagnosis = told(viewer, "bug")
    assert diagnosis["sentence"].startswith("worker-1 ")
    assert diagnosis["sentence"].endswith("exit code 1: rank 1: bug: KeyError: 'no such lung'")
    line = "failed: rank 1 at step 7: bug: KeyError: 'no such lung'; hint: "
    assert message(viewer, "bug-worker-1").startswith(line)
    assert not message(viewer, "bug-worker-0").startswith("failed: ")


def test_status_shows_a_traceback_as_the_cause_without_a_termination_message(viewer, submit, phantoms):
    """The kubelet puts the last lines of the log where the entrypoint leaves nothing."""
    program = "import no_such_module"
    args = ["--max-restarts=0", "--no-python", "python", "-c", program]
    submit("crash", *ONE, data=phantoms, container={"command": ENTRYPOINT, "args": args})
    diagnosis = told(viewer, "crash")
    assert "ModuleNotFoundError: No module named 'no_such_module'" in diagnosis["sentence"]
    assert message(viewer, "crash-master-0").endswith("worker 0 failed with exit code 1\n")


def test_success_leaves_no_message(viewer, submit, phantoms):
    """Neither an empty log nor a full one is a cause."""
    submit("fine", *ONE, data=phantoms, train=["--epochs", "1", "--max-steps", "2"])
    viewer.launcher("wait", "fine", "--timeout", "400s")
    assert ended(viewer, "fine-master-0")["exitCode"] == 0
    assert message(viewer, "fine-master-0") == ""
