"""What a job does when something of it is lost, and when it can't go on, on a real cluster."""

import os
import re
import time
from datetime import datetime

import pytest
from cluster_site import TINY, wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

LOG_RUNS = int(os.environ.get("E2E_LOG_RUNS", "3"))
"""How many jobs must keep their last lines; `make e2e-full` asks for 20."""

DIVERGES = (
    *("--optimizer", "adamw", "--lr", "1000", "--weight-decay", "1000"),
    *("--schedule", "constant", "--warmup-epochs", "0"),
)

TWO_NODES = ["--accelerator", "cpu", "--workers", "2", "--workers-per-node", "1", "--data-access", "api"]


STEPS_AN_EPOCH = 3
"""Of two workers with 8 images each: 56 of the 90 phantoms are for training."""


def submit(site, data, name, *flags):
    site.launcher("submit", *TWO_NODES, "--data", data, "--name", name, "--", *TINY, *flags)


def epochs_in(text):
    return [int(epoch) for epoch in re.findall(r"epoch=(\d+) step", text)]


def trained(site, name):
    """Epochs that any pod's log tells of now."""
    return max([0, *(epoch for pod in site.pods(name) for epoch in epochs_in(site.log(pod["metadata"]["name"])))])


def uid(site, name, index):
    """Of the pod of an index, if it has one now."""
    labels = {site.api.job_label: name, site.api.index_label: str(index)}
    return next(
        (pod["metadata"]["uid"] for pod in site.pods(name) if labels.items() <= pod["metadata"]["labels"].items()), None
    )


def nothing_runs(site, name):
    return all(pod["status"]["phase"] in {"Succeeded", "Failed"} for pod in site.pods(name))


@pytest.mark.parametrize("index", [0, 1])
def test_deleted_pod_is_recreated_and_training_continues(of_api, phantoms, index):
    """A node is taken away; what was trained before is not lost and nobody has to do anything."""
    name = f"{of_api.api.name[:2]}-lose-{index}"
    submit(of_api, phantoms, name, "--epochs", "60")
    wait_until("two epochs", lambda: trained(of_api, name) >= 2)
    before, first = trained(of_api, name), uid(of_api, name, index)
    of_api.kubectl("delete", "pod", of_api.pod(name, index)["metadata"]["name"], "--wait=false")
    wait_until("the pod is made anew", lambda: uid(of_api, name, index) not in {None, first})
    wait_until("it runs", lambda: _started(of_api, name, index))
    started = _started(of_api, name, index)
    wait_until("training goes on", lambda: resumed_at(of_api, name))
    assert min(resumed_at(of_api, name)) >= before * STEPS_AN_EPOCH
    wait_until("both train", lambda: trained(of_api, name) > before)
    soon = (datetime.now(started.tzinfo) - started).total_seconds()
    print(f"{of_api.api.name}, pod {index}: trains again {soon:.0f} s after the new pod's start")
    of_api.launcher("delete", name, "-y")


def everything(site, name):
    return "".join(site.log(pod["metadata"]["name"]) for pod in site.pods(name))


def resumed_at(site, name):
    return [int(step) for step in re.findall(r"continuing from step (\d+)", everything(site, name))]


def _started(site, name, index):
    """When the container of an index's pod started, if it runs."""
    for pod in site.pods(name):
        for status in pod["status"].get("containerStatuses", []):
            if pod["metadata"]["labels"][site.api.index_label] == str(index) and "running" in status["state"]:
                return datetime.fromisoformat(status["state"]["running"]["startedAt"].replace("Z", "+00:00"))
    return None


def test_killed_process_is_restarted_and_training_continues(of_api, phantoms):
    """A worker dies of SIGKILL inside its pod: the pod stays, the gang starts again from the newest checkpoint."""
    name = f"{of_api.api.name[:2]}-lose-process"
    submit(of_api, phantoms, name, "--epochs", "60")
    wait_until("two epochs", lambda: trained(of_api, name) >= 2)
    before = trained(of_api, name)
    kill = (
        "import os, pathlib, signal\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*/environ'):\n"
        "    try: mine = b'LOCAL_RANK=' in p.read_bytes()\n"
        "    except OSError: continue\n"
        "    if mine: os.kill(int(p.parent.name), signal.SIGKILL)\n"
    )
    pod = of_api.pod(name, 1)["metadata"]["name"]
    of_api.kubectl("exec", pod, "-c", of_api.api.container, "--", "python", "-c", kill)
    wait_until("training goes on", lambda: "continuing from step" in everything(of_api, name))
    wait_until("it trains", lambda: trained(of_api, name) > before)
    of_api.launcher("delete", name, "-y")


@pytest.mark.parametrize("run", range(LOG_RUNS))
def test_last_lines_are_there_after_the_end(of_api, phantoms, run):
    """With the obvious manifest the operator deletes a pod with its log nearly every time."""
    name = f"{of_api.api.name[:2]}-keeps-log-{run}"
    submit(of_api, phantoms, name, "--epochs", "1")
    of_api.launcher("wait", name)
    wait_until("no pod runs", lambda: nothing_runs(of_api, name), 60)
    logs = [of_api.log(pod["metadata"]["name"]) for pod in of_api.pods(name)]
    assert len(logs) == 2
    assert sum("results " in text.splitlines()[-1] for text in logs) == 1
    of_api.launcher("delete", name, "-y")


@pytest.mark.parametrize(
    ("name", "labels", "flags", "message"),
    [
        pytest.param("wrong-list", "not a list\n", (), "test_list.txt", id="label file"),
        pytest.param("bad-rate", None, DIVERGES, "non-finite gradient", id="nan"),
    ],
)
def test_permanent_error_fails_the_job_at_once(of_api, bucket, phantoms, name, labels, flags, message):
    """Bad input costs no second try: each would hold the accelerators again."""
    name = f"{of_api.api.name[:2]}-{name}"
    data = phantoms
    if labels is not None:
        folder = bucket.folder / bucket.name / name
        folder.mkdir()
        source = bucket.folder / bucket.name / "phantoms"
        for path in source.iterdir():
            if path.is_file():
                (folder / path.name).write_bytes(path.read_bytes())
        (folder / "test_list.txt").write_text(labels)
        data = f"s3://{bucket.name}/{name}"
    submit(of_api, data, name, *flags)
    wait_until(
        "a pod has started",
        lambda: any(_started(of_api, name, index) for index in range(2)) or of_api.over(name),
    )
    began = time.monotonic()
    failed = of_api.launcher("wait", name, code=3)
    print(f"{name}: Failed {time.monotonic() - began:.0f} s after a pod's start")
    assert message in everything(of_api, name)
    assert sum(s["restartCount"] for pod in of_api.pods(name) for s in pod["status"].get("containerStatuses", [])) == 0
    assert failed.stderr
    wait_until("no pod runs", lambda: nothing_runs(of_api, name), 60)
    of_api.launcher("delete", name, "-y")
