"""Several real processes that are told to stop, hang, or come back as others: nothing that was trained is lost."""

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import torch
from warm import forked

from launcher.spec.pod_template import RENDEZVOUS
from trainer.data.synthetic import write_phantoms
from trainer.runs.checkpoints import newest
from trainer.runs.manifest import committed
from trainer.storage import LocalStorage, open_storage
from trainer.training.snapshot import from_bytes

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.e2e

RECIPE = [
    *("--preset", "smoke", "--model", "densenet_tiny", "--pack-side", "36", "--crop-px", "32", "--device", "cpu"),
    *("--global-batch-size", "12", "--checkpoint-every-minutes", "60", "--no-report"),
]
"""Four steps an epoch, and checkpoints at the ends of epochs only: what lies between them is kept by stopping in order."""

ENTRYPOINT = ["-m", "trainer.runtime.entrypoint"]
PROGRAM = ["-m", "trainer"]

SOON_KILLED = """
import sys
from torch.distributed.elastic.multiprocessing.api import PContext
from trainer.runtime import entrypoint
assert PContext.close.__defaults__ == (None, 30)
PContext.close.__defaults__ = (None, 1)
sys.exit(entrypoint.main(sys.argv[1:]))
"""
"""An entrypoint whose torchrun gives a worker a second between SIGTERM and SIGKILL, not half a minute."""

OFTEN_BEATING = """
import sys
from trainer import __main__ as program
from trainer.storage import lease
assert lease.BEAT_S > 0.2
lease.BEAT_S = 0.2
sys.exit(program.main(sys.argv[1:]))
"""
"""A worker whose claim has a heartbeat as often as this."""


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Ninety small phantoms."""
    root = tmp_path_factory.mktemp("data")
    write_phantoms(root, images=90, side=48)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def group(phantoms, cache, warm):
    """Starts a pod's first process; with `forks` it forks its workers itself, as in a pod. A failed test's ends with the module."""
    started = []

    def start(output, *flags, workers=2, epochs=14, forks=False, entrypoint=ENTRYPOINT, program=PROGRAM, **environment):
        places = ["--data", phantoms, "--output", output, "--name", "r", "--cache-dir", cache]
        train = [*program, "train", *places, *RECIPE, "--epochs", epochs, *flags]
        command = [warm, *entrypoint, "--max-restarts=3", f"--nproc-per-node={workers}", *train]
        process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            env={"PET_RDZV_ENDPOINT": f"127.0.0.1:{free_port()}", "PET_RDZV_BACKEND": "c10d"}
            | os.environ
            | {"OMP_NUM_THREADS": "1"}  # sums over two threads are other sums
            | ({} if forks else {"PYTHON_EXEC": warm})
            | environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate()


@pytest.fixture(scope="module")
def unbroken(group, tmp_path_factory):
    """The state that an unbroken run of two workers ends with."""
    root = tmp_path_factory.mktemp("unbroken")
    done(group(root))
    return state_in(root)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def done(process, code=0):
    """What a gang has said, once it has ended with this code."""
    _, said = process.communicate(timeout=240)
    assert process.returncode == code, said
    assert "Traceback" not in said
    return said


def state_in(root):
    _, content = newest(LocalStorage(f"{root}/r"), print)
    return from_bytes(content)


def once_trained(root, process, checkpoints=1):
    """Wait until so many epochs are committed."""
    storage = LocalStorage(f"{root}/r")
    while len(committed(storage)) < checkpoints:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def workers_of(root):
    """Processes of the run's workers, by rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = (folder / "cmdline").read_text(), (folder / "environ").read_text()
        except OSError:
            continue
        rank = re.search(r"\0RANK=(\d+)\0", environment)
        if rank and f"\0{root}\0" in command and "LOCAL_RANK=" in environment:
            found[int(rank[1])] = int(folder.name)
    return found


def assert_same(state, other):
    assert state.step == other.step
    for name, tensor in state.model.items():
        assert torch.equal(tensor, other.model[name]), name


@pytest.fixture(scope="module", autouse=True)
def hung(group, tmp_path_factory):
    """A run one of whose workers hangs, and where: it takes seconds until that worker is ended, in which other tests run."""
    root = tmp_path_factory.mktemp("hung")
    process = group(root, "--hang-after", "6s", entrypoint=["-c", SOON_KILLED])
    once_trained(root, process)
    os.kill(forked(workers_of(root)[1]), signal.SIGSTOP)
    yield process, root
    process.kill()  # it has ended, unless the test that waits for it was not run
    for worker in workers_of(root).values():  # one is stopped, and would keep the output open
        os.kill(worker, signal.SIGKILL)
    process.communicate()


def test_stopped_workers_commit_their_step_and_resume_exactly(group, tmp_path, unbroken):
    """Preemption in the middle of an epoch costs nothing but the start."""
    process = group(tmp_path, forks=True)
    once_trained(tmp_path, process, 2)
    process.terminate()
    said = done(process, 143)
    step = int(re.search(r"stopped at step (\d+) after SIGTERM", said)[1])
    assert said.count("after SIGTERM") == 1
    assert committed(LocalStorage(f"{tmp_path}/r"))[-1].step == step
    assert f"continuing from step {step}" in done(group(tmp_path))
    assert_same(unbroken, state_in(tmp_path))


def test_killed_worker_is_forked_again_and_the_run_continues(group, tmp_path, unbroken):
    """The server has imported all, and lives on."""
    process = group(tmp_path, forks=True)
    once_trained(tmp_path, process)
    os.kill(workers_of(tmp_path)[1], signal.SIGKILL)
    assert "continuing from step" in done(process)
    assert_same(unbroken, state_in(tmp_path))


def test_second_signal_ends_all_workers_at_once(group, tmp_path):
    """Whoever asks twice does not want to wait for a checkpoint; what is committed stays."""
    process = group(tmp_path, forks=True)
    once_trained(tmp_path, process)
    os.kill(workers_of(tmp_path)[1], signal.SIGSTOP)  # so that stopping in order would take half a minute
    process.terminate()
    time.sleep(0.5)
    process.terminate()
    assert "ending at once" in done(process, 143)
    assert not workers_of(tmp_path)
    assert committed(LocalStorage(f"{tmp_path}/r"))


def test_sigterm_to_one_node_stops_all_workers_at_one_step(group, tmp_path, unbroken):
    """SIGTERM reaches the pod that is to go; the other has to hear of it from its peer."""
    nodes = {
        "PET_RDZV_ENDPOINT": f"127.0.0.1:{free_port()}",
        "PET_NNODES": "2",
        "PET_RDZV_ID": "r",
        "PET_RDZV_CONF": ",".join(f"{key}={value}" for key, value in RENDEZVOUS.items()),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    pods = [group(tmp_path, workers=1, **nodes) for _ in range(2)]
    once_trained(tmp_path, pods[0], 2)
    pods[1].terminate()
    done(pods[1], 143)
    step = committed(LocalStorage(f"{tmp_path}/r"))[-1].step
    comes_back = group(tmp_path, workers=1, **nodes)
    said = done(pods[0]) + done(comes_back)
    assert f"continuing from step {step}" in said
    assert_same(unbroken, state_in(tmp_path))


def test_run_is_resumed_by_fewer_workers(group, tmp_path, unbroken):
    """A node is gone for good; the run ends at the same step. That the images are the same ones test_loader shows."""
    process = group(tmp_path)
    once_trained(tmp_path, process)
    process.terminate()
    done(process, 143)
    step = committed(LocalStorage(f"{tmp_path}/r"))[-1].step
    assert f"continuing from step {step}" in done(group(tmp_path, workers=1))
    assert state_in(tmp_path).step == unbroken.step


def test_second_run_on_a_bucket_prefix_is_refused_and_the_first_continues(group, s3, tmp_path):
    """Two jobs of one name and output, as of two clusters."""
    output, worker = "s3://cxr/runs", tmp_path / "worker.py"
    worker.write_text(OFTEN_BEATING)
    first = group(output, epochs=3000, program=[worker], TRAINER_JOB="a")
    storage = open_storage(f"{output}/r")
    while not committed(storage):
        assert first.poll() is None, first.communicate()
        time.sleep(0.1)
    peer = forked(workers_of(output)[1])
    os.kill(
        peer, signal.SIGSTOP
    )  # rank 0 waits, and its claim is kept beside training, which would only take the cores
    said = done(group(output, epochs=3000, workers=1, TRAINER_JOB="b"), 2)
    os.kill(peer, signal.SIGCONT)
    assert "another job is training it" in said
    before = committed(storage)[-1].step
    while committed(storage)[-1].step == before:
        assert first.poll() is None, first.communicate()
        time.sleep(0.1)
    first.terminate()
    assert "after SIGTERM" in done(first, 143)
    assert "owner.json" not in storage.keys("")
    assert not any("another job" in line for line in storage.read("logs/rank-00000.log").decode().splitlines())


def test_hanging_worker_is_killed_and_all_workers_are_restarted(hung, unbroken):
    """Nothing else ends a collective that waits for a process which is there and does nothing."""
    process, root = hung
    said = done(process)
    assert "no progress for" in said
    assert_same(unbroken, state_in(root))
