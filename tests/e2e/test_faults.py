"""What a job survives, fault by fault: it ends with the weights of a run that nothing befell, bit for bit, and can be pulled.

One fault is met in `make e2e`; the others need E2E_ALL=1, as in `make e2e-full`.
"""

import json
import os
import re
import secrets
import signal
import time
from datetime import datetime, timezone
from pathlib import Path

import pytest
from bucket_run import LAST_STEP, OFTEN, STANDING, STEPS_AN_EPOCH, Training, sha256
from cluster_site import Site, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]

ALL = os.environ.get("E2E_ALL") == "1"
FULL = pytest.mark.skipif(not ALL, reason="E2E_ALL=1 runs it: `make e2e-full`")

ONLY_EPOCHS = ("--checkpoint-every-steps", "100000")

DOWN_S = 30


def _now():
    return datetime.now(timezone.utc).replace(microsecond=0)


@pytest.fixture
def job(stored, bucket):
    """Makes a job of a name, whose run lies in the bucket."""

    def of(name, site=stored):
        return Training(site, name, bucket.folder / bucket.name / "runs" / name)

    return of


@pytest.fixture(scope="module")
def unbroken(stored, bucket, phantoms):
    """What the run comes to when nothing befalls it."""
    run = Training(stored, "unbroken", bucket.folder / bucket.name / "runs/unbroken")
    run.submit(phantoms, *OFTEN)
    stored.launcher("wait", run.name)
    assert not run.said("(continuing from)")
    moments = [moment for moment, text in run.lines() if text.startswith(("training 1/", "epoch="))]
    print(f"unbroken: {LAST_STEP} steps in {(moments[-1] - moments[0]).total_seconds():.0f} s")
    stored.launcher("delete", run.name, "-y")
    return run.outcome()


def ends_like(run, unbroken):
    """Wait for the end, which must be that of the unbroken run."""
    run.site.launcher("wait", run.name)
    assert run.outcome() == unbroken


def can_be_pulled(run, bucket, unbroken, folder):
    """By the job, and by the output once there is no job; at the end there is none."""
    run.site.launcher("pull", run.name, "--step", "last", "--to", folder / "by-job")
    run.site.launcher("delete", run.name, "-y")
    output = f"s3://{bucket.name}/runs"
    run.site.launcher("pull", run.name, "--output", output, "--step", "last", "--to", folder / "by-output")
    for place in ("by-job", "by-output"):
        assert {key: sha256(folder / place / key) for key in unbroken} == unbroken, place
        manifest = json.loads((folder / place / f"checkpoints/step-{LAST_STEP:08d}/manifest.json").read_text())
        assert manifest["sha256"] == sha256(folder / place / f"checkpoints/step-{LAST_STEP:08d}/state.pt"), place


def delete_pod(index):
    def fault(run):
        run.site.kubectl("delete", "pod", run.site.pod(run.name, index)["metadata"]["name"], "--wait=false")

    return fault


def kill_worker(run):
    """One worker, from within its pod."""
    kill = (
        "import os, pathlib, signal\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*/environ'):\n"
        "    try: mine = b'LOCAL_RANK=' in p.read_bytes()\n"
        "    except OSError: continue\n"
        "    if mine: os.kill(int(p.parent.name), signal.SIGKILL)\n"
    )
    pod = run.site.pod(run.name, 1)["metadata"]["name"]
    run.site.kubectl("exec", pod, "-c", run.site.api.container, "--", "python", "-c", kill)


def kill_pod(run):
    """The first process of a pod, as the kernel does for want of memory; nobody in the pod may do it."""
    pod = run.site.pod(run.name, 1)
    uid = pod["metadata"]["uid"]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            group, command = (folder / "cgroup").read_text(), (folder / "cmdline").read_bytes()
            ids = re.search(r"^NSpid:.*\t(\d+)$", (folder / "status").read_text(), re.MULTILINE)
        except OSError:
            continue
        if uid in group.replace("_", "-") and b"trainer.runtime.entrypoint" in command and ids and ids[1] == "1":
            os.kill(int(folder.name), signal.SIGKILL)
            return
    pytest.skip("the node's processes are not this machine's")


def drain(run):
    """What runs on the node leaves it: the operator and DNS too, where it is the only one."""
    node = run.site.pods(run.name)[0]["spec"]["nodeName"]
    try:
        run.site.kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force")
    finally:
        run.site.kubectl("uncordon", node)


def delete_and_resume(run):
    """The job's object goes, and with it all that the cluster knew."""
    run.site.launcher("delete", run.name, "-y")
    assert not run.site.pods(run.name)
    run.site.launcher("resume", run.name, "-y", **STANDING)


FAULTS = [
    pytest.param("lost-worker-1", delete_pod(1), id="pod of worker-1 deleted"),
    pytest.param("lost-worker-0", delete_pod(0), marks=FULL, id="pod of worker-0 deleted"),
    pytest.param("killed-worker", kill_worker, marks=FULL, id="worker killed"),
    pytest.param("killed-pod", kill_pod, marks=FULL, id="pod killed"),
    pytest.param("drained", drain, marks=FULL, id="node drained"),
    pytest.param("resumed", delete_and_resume, marks=FULL, id="job deleted and resumed"),
]


@pytest.mark.parametrize(("name", "fault"), FAULTS)
def test_job_ends_with_the_weights_of_the_unbroken_run(job, of_api, bucket, phantoms, unbroken, tmp_path, name, fault):
    """A fault costs time and nothing else: whoever reads the results need not know of it, nor of the kind of the job."""
    run = job(f"{of_api.api.name[:2]}-{name}", of_api)
    run.submit(phantoms, *OFTEN)
    run.trains()
    before, moment = run.step, _now()
    fault(run)
    ends_like(run, unbroken)
    steps = [int(step) for step in run.said(r"continuing from step (\d+)")]
    assert steps
    assert min(steps) >= before
    assert max(steps) < LAST_STEP, "the fault came too late"
    run.tell_how_soon(moment)
    can_be_pulled(run, bucket, unbroken, tmp_path)


@FULL
def test_deleted_pod_saves_what_it_has_trained(job, bucket, phantoms, unbroken, tmp_path):
    """Between two checkpoints lie minutes of many accelerators; whoever is told to stop has time to keep them."""
    run = job("sigterm")
    run.submit(phantoms, *ONLY_EPOCHS)
    run.trains()
    before, moment = run.step, _now()
    delete_pod(1)(run)
    ends_like(run, unbroken)
    stopped = int(run.said(r"stopped at step (\d+) after SIGTERM")[0])
    print(f"sigterm: step {before} was committed before, {stopped} by the signal")
    assert run.said(r"continuing from step (\d+)")[0] == str(stopped)
    assert stopped > before
    run.tell_how_soon(moment)
    can_be_pulled(run, bucket, unbroken, tmp_path)


@FULL
def test_training_continues_while_the_bucket_is_down(job, bucket, phantoms, unbroken, tmp_path):
    """A store that is restarted must not idle the accelerators, nor end the job."""
    run = job("bucket-down")
    run.submit(phantoms, *OFTEN)
    wait_until("it trains", lambda: run.step)
    bucket.server.stop()
    stopped = _now()
    time.sleep(DOWN_S)
    started = _now()
    bucket.server.start()
    ends_like(run, unbroken)
    assert not run.said("(continuing from)")
    assert run.said("(checkpoint upload failed)")
    assert run.said("(checkpoint upload works again)")
    epochs = [text for moment, text in run.lines() if text.startswith("epoch=") and stopped < moment < started]
    print(f"bucket-down: {len(epochs)} epochs of {STEPS_AN_EPOCH} steps ended within {DOWN_S} s without a bucket")
    assert epochs
    can_be_pulled(run, bucket, unbroken, tmp_path)


@pytest.fixture
def elsewhere(stored):
    """Another namespace with the same Secret, as another user has."""
    site = Site(stored.kubeconfig, f"e2e-{secrets.token_hex(3)}", stored.image, stored.environment)
    site.kubectl("create", "namespace", site.namespace)
    secret = json.loads(stored.kubectl("get", "secret", "s3", "-o", "json"))
    secret["metadata"] = {"name": "s3"}
    site.kubectl("create", "-f", "-", stdin=json.dumps(secret))
    yield site
    site.kubectl("delete", "namespace", site.namespace, "--wait=false")


@FULL
def test_second_job_on_a_run_is_refused(job, phantoms, elsewhere):
    """Two writers would mix their checkpoints; the one that was first must not even notice."""
    run, second = job("twice"), job("twice", elsewhere)
    run.submit(phantoms, *OFTEN, epochs=1000)  # so that it outlives the start of the second, however quick the machine
    wait_until("the first trains", lambda: run.step)
    second.submit(phantoms, *OFTEN, epochs=1000)
    elsewhere.launcher("wait", second.name, code=3)
    logs = elsewhere.kubectl(
        "logs", "-l", f"training.kubeflow.org/job-name={second.name}", "-c", "pytorch", "--tail=-1"
    )
    assert "another job is training it" in logs
    before = run.step
    wait_until("the first goes on", lambda: run.step > before)
    assert not run.said("(continuing from)")
    run.site.launcher("delete", run.name, "-y")
