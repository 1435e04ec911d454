"""Several real processes over gloo: gradients, agreement, whole runs, faults."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from gradient_worker import gradients
from recipes import tiny

from trainer.data.synthetic import write_phantoms
from trainer.devices import cuda
from trainer.models.architectures import build
from trainer.runs.checkpoints import newest
from trainer.runs.manifest import committed
from trainer.storage import LocalStorage, open_storage
from trainer.training.snapshot import from_bytes

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def workers_environment(monkeypatch, warm):
    """One thread in each worker: two workers of two pods would take turns on the same cores, and wait for each other. How a worker
    starts from nothing is seen in `test_stopping`, and how a pod does in the main job here.
    """
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHON_EXEC", warm)


RECIPE = tiny(3, "--no-report")


@pytest.fixture(scope="module")
def torchrun(warm):
    """Runs workers as a pod does."""

    def run(workers, *command, check=True):
        group = [warm, "-m", "trainer.runtime.entrypoint", f"--nproc-per-node={workers}", *map(str, command)]
        environment = os.environ | {"PYTHON_EXEC": warm}
        done = subprocess.run(
            group, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Ninety small phantoms."""
    root = tmp_path_factory.mktemp("data")
    write_phantoms(root, images=90, side=48)
    return root


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, phantoms, torchrun):
    """The output of a run `r` of two workers that nothing has stopped."""
    root = tmp_path_factory.mktemp("unbroken")
    torchrun(2, "-m", "trainer", "train", "--data", phantoms, "--output", root, "--name", "r", *RECIPE)
    return root


def state_in(storage):
    """The newest checkpoint's."""
    _, content = newest(storage, print)
    return from_bytes(content)


def weights(folder):
    return state_in(LocalStorage(str(folder)))


def test_run_in_a_bucket_is_resumed_as_in_a_directory(tmp_path, phantoms, unbroken, s3, torchrun):
    """The prefix is the same wherever it lies; no secret enters it."""

    def train(*flags):
        places = ["--data", phantoms, "--output", "s3://cxr/runs", "--cache-dir", tmp_path / "cache", "--name", "r"]
        return torchrun(2, "-m", "trainer", "train", *places, *RECIPE, *flags)

    begun = train("--max-steps", 4).stderr
    assert re.search(r"preflight of node .*disk, .*clock, .*workers, .*all-reduce", begun.replace("\n", ", "))
    resumed = train().stderr
    assert "continuing from step 4" in resumed
    assert "preflight" not in resumed
    bucket, directory = open_storage("s3://cxr/runs/r"), LocalStorage(str(unbroken / "r"))
    there, here = state_in(bucket), weights(unbroken / "r")
    for name, tensor in here.model.items():
        assert torch.equal(tensor, there.model[name]), name
    of_its_own = ("checkpoints/", "tensorboard/")  # their names tell steps and times
    there, here = ([key for key in one.keys("") if not key.startswith(of_its_own)] for one in (bucket, directory))
    assert there == here
    for key in bucket.keys(""):
        assert b"secret-of-the-test" not in bucket.read(key), key


def test_preflight_of_two_workers_compares_them(tmp_path, phantoms, torchrun):
    """A table of rank 0, without a run."""
    places = ["--data", phantoms, "--output", tmp_path / "runs", "--cache-dir", tmp_path / "cache", "--name", "r"]
    done = torchrun(2, "-m", "trainer", "preflight", *places, *RECIPE, "--json")
    rows = {row["check"]: row for row in map(json.loads, done.stdout.splitlines())}
    assert [*rows][-3:] == ["device", "workers", "all-reduce"]
    assert {row["status"] for row in rows.values()} <= {"OK", "WARN"}
    assert re.match(r"26\.6 MiB in \d+\.\d ms \(\d+\.\d\d GB/s\), one value in ", rows["all-reduce"]["found"])
    assert not (tmp_path / "runs/r").exists()


@pytest.mark.parametrize("workers", [2, 4])
def test_ranks_together_have_the_gradient_of_one_on_the_joint_batch(tmp_path, workers, torchrun):
    """What data parallelism promises, with a frozen backbone too; BatchNorm rests because its statistics are each rank's own."""
    torchrun(workers, HERE / "gradient_worker.py", tmp_path / "gradients.pt")
    reduced = torch.load(tmp_path / "gradients.pt", weights_only=True)
    joint = gradients(0, 1)
    assert {name.partition(".")[0] for name in joint["frozen"]} == {"classifier"}
    assert joint["freed"].keys() == joint["whole"].keys()
    for step, of_joint in joint.items():
        assert reduced[step].keys() == of_joint.keys()
        for name, expected in of_joint.items():
            torch.testing.assert_close(reduced[step][name], expected, rtol=1e-4, atol=1e-6, msg=f"{step} {name}")


def test_all_ranks_gather_and_fail_together(tmp_path, torchrun):
    """A rank that leaves alone lets the others wait; an error that all meet is told once."""
    torchrun(3, HERE / "agreement_worker.py", tmp_path)
    seen = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    for rank, mine in enumerate(seen):
        assert mine["gathered"] == ["", "x", "xx"]
        assert mine["mean"] == [1.0, 1.0]
        assert mine["together"] == rank
        assert mine["on_primary"] == {"from": 0}
        assert mine["prepared"] == (1 if rank == 0 else 0)
        assert mine["one"] == ["InputError" if rank == 1 else "PeerError", 2]
        assert mine["all"] == ["InputError" if rank == 0 else "PeerError", 2]


def test_two_workers_stopped_and_resumed_end_with_the_same_weights(tmp_path, phantoms, unbroken, torchrun):
    """Each rank has BatchNorm statistics of its own, which must come back to it."""

    def train(*flags):
        common = ["--data", phantoms, "--output", tmp_path, "--name", "r", *RECIPE]
        return torchrun(2, "-m", "trainer", "train", *common, *flags)

    train("--max-steps", 5)
    assert weights(tmp_path / "r").step == 5
    assert "continuing from step 5" in train().stderr
    whole, parts = weights(unbroken / "r"), weights(tmp_path / "r")
    assert whole.step == parts.step
    for name, tensor in whole.model.items():
        assert torch.equal(tensor, parts.model[name]), name
    per_rank = [rank.buffers for rank in whole.ranks]
    assert not torch.equal(per_rank[0]["features.norm5.running_mean"], per_rank[1]["features.norm5.running_mean"])


def test_features_of_a_frozen_backbone_are_the_same_bits_with_and_without_decoding(tmp_path, phantoms, torchrun):
    """The first worker computes some of them while it decodes, both the rest; a start that finds the images decoded shares all of them."""
    still = ["--backbone", "frozen", "--crop", "center", "--no-flip"]
    models = []
    for folder in ("beside", "cached"):
        places = ["--data", phantoms, "--output", tmp_path / folder, "--cache-dir", tmp_path / "cache", "--name", "r"]
        done = torchrun(2, "-m", "trainer", "train", *places, *RECIPE, *still)
        assert ("decoding 90 images" in done.stderr) == (folder == "beside")
        models.append((tmp_path / folder / "r/model/model.safetensors").read_bytes())
    assert models[0] == models[1]


def test_predictions_of_one_checkpoint_are_the_same_with_any_number_of_workers(tmp_path, phantoms, torchrun):
    """Padding that counts twice, or samples in another order, would show here."""
    recipe = tiny(3, "--no-report", "--max-steps", 1, batch="--global-batch-size 12")
    predictions = []
    for workers in (1, 2, 3):  # started again, the run trains nothing and scores its checkpoint
        torchrun(workers, "-m", "trainer", "train", "--data", phantoms, "--output", tmp_path, "--name", "one", *recipe)
        lines = (tmp_path / "one/predictions/test.csv").read_text().splitlines()
        predictions.append({line.split(",")[0]: [float(cell) for cell in line.split(",")[1:]] for line in lines[1:]})
    assert len(predictions[0]) > 10
    for other in predictions[1:]:
        assert list(other) == list(predictions[0])
        for image, row in other.items():
            assert row == pytest.approx(predictions[0][image], abs=2e-5)


def test_all_ranks_start_from_the_weights_that_rank_0_was_given(tmp_path, phantoms, torchrun):
    """Parameters and BatchNorm statistics; what torch copies by itself differs between releases."""
    network = build("densenet_tiny", "linear", 14)
    network.features.norm5.running_mean.fill_(3.0)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    flags = ["--weights", tmp_path / "weights.pt", "--max-steps", 1, "--lr", 1e-9]
    torchrun(2, "-m", "trainer", "train", "--data", phantoms, "--output", tmp_path, "--name", "w", *RECIPE, *flags)
    state = weights(tmp_path / "w")
    torch.testing.assert_close(state.model["classifier.weight"], network.classifier.weight.detach(), atol=1e-6, rtol=0)
    means = [rank.buffers["features.norm5.running_mean"] for rank in state.ranks]
    assert len(means) == 2
    for mean in means:  # one step moves them by a tenth
        assert bool((mean > 2.5).all())


def test_missing_device_is_reported_once(tmp_path, phantoms, torchrun):
    """All workers miss it alike."""
    if cuda.missing() is None:
        pytest.skip("a GPU is here")
    recipe = tiny(3, "--no-report", device="")
    done = torchrun(
        2,
        "-m",
        "trainer",
        "train",
        "--data",
        phantoms,
        "--output",
        tmp_path,
        "--name",
        "d",
        *recipe,
        "--device",
        "cuda",
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.count("cannot use cuda") == 1


def test_job_with_a_killed_worker_ends_with_the_weights_of_an_unbroken_one(tmp_path, phantoms):
    """torchrun starts all workers again; they must find each other, and the newest checkpoint."""
    places = ["--data", phantoms, "--output", tmp_path / "runs"]
    recipe = tiny(12, "--no-report", device="")  # epochs: long enough to be killed in
    assert launcher(*places, "--name", "whole", "--", *recipe).returncode == 0
    job = launcher_process(*places, "--name", "killed", "--", *recipe)
    storage = LocalStorage(str(tmp_path / "runs/killed"))
    while not committed(storage):
        assert job.poll() is None, job.communicate()
        time.sleep(0.02)
    os.kill(worker_pid("killed", rank=1), signal.SIGKILL)
    _, said = job.communicate(timeout=200)
    assert job.returncode == 0, said
    assert "continuing from step" in said
    whole, killed = weights(tmp_path / "runs/whole"), weights(tmp_path / "runs/killed")
    assert whole.step == killed.step
    for name, tensor in whole.model.items():
        assert torch.equal(tensor, killed.model[name]), name


def worker_pid(name, rank):
    """The process of one worker of this job; torchrun's variables tell."""
    mark = f"\0--name={name}\0"
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (folder / "cmdline").read_text(), (folder / "environ").read_text()
        except OSError:
            continue
        if mark in command and f"\0RANK={rank}\0" in environment and "LOCAL_RANK=" in environment:
            return int(folder.name)
    raise AssertionError("no such worker")


def launcher_process(*words, python=None):
    """Submit, and go on while it runs."""
    python = python or os.environ["PYTHON_EXEC"]
    command = [python, "-m", "launcher", "submit", "--local", "--accelerator", "cpu", "--workers", "2"]
    return subprocess.Popen(
        [*command, *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def launcher(*words, python=None):
    """Submit as a user does."""
    job = launcher_process(*words, python=python)
    out, said = job.communicate(timeout=240)
    return subprocess.CompletedProcess(job.args, job.returncode, out, said)


@pytest.mark.parametrize("per_node", [2, 1], ids=["one pod", "two pods"])
def test_job_submitted_locally_trains_and_leaves_results(tmp_path, phantoms, per_node):
    """The main job, end to end: the rendered objects, run on this machine."""
    done = launcher(
        "--data",
        phantoms,
        "--output",
        tmp_path / "runs",
        "--name",
        "main",
        "--workers-per-node",
        per_node,
        "--",
        *tiny(3, device=""),
        python=sys.executable if per_node == 2 else None,
    )
    assert done.returncode == 0, done.stderr
    assert "mean AUROC" in done.stdout
    assert (tmp_path / "runs/main/report/index.html").is_file()
    assert "Not for clinical use" in (tmp_path / "runs/main/model/card.md").read_text()
    results = json.loads((tmp_path / "runs/main/results.json").read_text())
    assert results["world_size"] == 2
    assert 0 <= results["test"]["mean_auroc"] <= 1
    assert any(line.startswith("[rank 0] ") for line in done.stderr.splitlines())
    manifest = committed(LocalStorage(str(tmp_path / "runs/main")))[-1]
    assert manifest.step == results["last_step"]


def test_truncated_image_fails_the_job_once_with_its_name(tmp_path, phantoms):
    """Before the first step, in one message, whatever the number of workers and restarts."""
    broken = tmp_path / "data"
    (broken / "images").mkdir(parents=True)
    for path in (phantoms / "images").iterdir():
        (broken / "images" / path.name).symlink_to(path)
    for name in ("Data_Entry_2017.csv", "train_val_list.txt", "test_list.txt"):
        (broken / name).symlink_to(phantoms / name)
    victim = sorted((broken / "images").iterdir())[3]
    content = victim.read_bytes()[:700]
    victim.unlink()
    victim.write_bytes(content)
    done = launcher("--data", broken, "--output", tmp_path / "runs", "--name", "bad", "--", *tiny(3, device=""))
    assert done.returncode == 3
    assert done.stderr.count(victim.name) == 1
    assert "hint: replace them, or use --on-bad-image skip" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs/bad/checkpoints").exists()
