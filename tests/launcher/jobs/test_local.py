"""A job on this machine: the operator's environment, paths, how it ends, and that nothing outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher.jobs.local import check, on_this_machine, operator_environment, run
from launcher.spec.job import JobSpec
from launcher.spec.manifest import render
from trainer.errors import InputError, InterruptedByUser, JobFailedError, TryAgainError
from trainer.layout import LOCAL_RUN
from trainer.runtime import cores

WRITE_ENVIRONMENT = (
    "import json, os, pathlib, sys;"
    "pathlib.Path(sys.argv[1], f'{os.getpid()}.json').write_text(json.dumps([sys.argv[2:], dict(os.environ)]))"
)


def job(workers=2, workers_per_node=None, command=None, grace_s=5, **changes):
    """The objects of a job in directories; its containers run `python -c COMMAND`."""
    fields = {"accelerator": "cpu", "image": "local", "data": "/srv/cxr", "output": "/srv/runs", "name": "t1"} | changes
    objects = render(JobSpec(workers=workers, workers_per_node=workers_per_node, **fields))
    for replica in objects[-1]["spec"]["pytorchReplicaSpecs"].values():
        replica["template"]["spec"]["terminationGracePeriodSeconds"] = grace_s
        if command:
            replica["template"]["spec"]["containers"][0] |= {"command": ["python", "-c", command], "args": []}
    return objects


def run_here(objects, scratch, settle_s=0.2):
    """Run a job; what the launcher said."""
    said = []
    run(objects, scratch=scratch, report=said.append, python=sys.executable, settle_s=settle_s)
    return said


def is_running(pid):
    """Whether a process lives; what waits for its parent to look has no command line any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


ONE_NODE = {
    "HOME": "/tmp",
    "PYTHONUNBUFFERED": "1",
    "MASTER_ADDR": "t1-master-0",
    "PET_MASTER_ADDR": "t1-master-0",
    "MASTER_PORT": "23456",
    "PET_MASTER_PORT": "23456",
    "WORLD_SIZE": "2",
    "RANK": "0",
    "PET_NODE_RANK": "0",
    "PET_NPROC_PER_NODE": "2",
    "PET_NNODES": "1",
    "PET_RDZV_BACKEND": "c10d",
    "PET_RDZV_ENDPOINT": "127.0.0.1:0",
    "PET_RDZV_ID": "t1",
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    "OMP_NUM_THREADS": "1",
}


def test_one_node_gets_the_operators_environment():
    """Exactly the variables of the operator for a Master without Workers, and our rendezvous."""
    assert operator_environment(job()[-1], "Master", 0) == ONE_NODE


@pytest.mark.parametrize("index", [0, 1])
def test_workers_without_a_master_get_no_rank(index):
    """No MASTER_*, no RANK: the rendezvous is what the manifest says."""
    environment = operator_environment(job(workers_per_node=1)[-1], "Worker", index)
    assert environment == {
        "HOME": "/tmp",
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": "t1-worker-0:23456",
        "PET_RDZV_ID": "t1",
        "PET_RDZV_CONF": "join_timeout=1800,read_timeout=900",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


@pytest.mark.parametrize(
    ("role", "index", "per_node", "expected"),
    [
        ("Master", 0, "4", {"RANK": "0", "PET_NODE_RANK": "0", "WORLD_SIZE": "12", "PET_NNODES": "3"}),
        ("Worker", 1, "4", {"RANK": "2", "PET_NODE_RANK": "2", "WORLD_SIZE": "12", "MASTER_ADDR": "t1-master-0"}),
        ("Worker", 0, "auto", {"RANK": "1", "WORLD_SIZE": "3", "PET_NPROC_PER_NODE": "auto"}),
    ],
)
def test_a_master_with_workers_counts_nodes_from_the_master(role, index, per_node, expected):
    """RANK is the node's, WORLD_SIZE counts processes where their number is known."""
    [one_node] = job()
    replicas = one_node["spec"]["pytorchReplicaSpecs"]
    replicas["Worker"] = replicas["Master"] | {"replicas": 2}
    one_node["spec"]["nprocPerNode"] = per_node
    assert expected.items() <= operator_environment(one_node, role, index).items()


def test_variables_of_the_operator_override_those_of_the_manifest():
    """They are appended, and the last of a name counts; that is why --elastic is a flag too."""
    [elastic] = job(
        workers=3, workers_per_node=1, elastic="1:3", train_flags=("--global-batch-size", "6"), accelerator="gaudi"
    )
    environment = operator_environment(elastic, "Worker", 0)
    assert environment["PET_NNODES"] == "3"
    assert environment["PT_HPU_LAZY_MODE"] == "1"


@pytest.mark.parametrize(
    ("value", "here"),
    [
        ("/data", "/srv/cxr"),
        ("/data/lists/val.txt", "/srv/cxr/lists/val.txt"),
        ("--data=/data", "--data=/srv/cxr"),
        ("--val-list=/data/v.txt", "--val-list=/srv/cxr/v.txt"),
        ("--output=/output", "--output=/data/runs"),
        ("/database", "/database"),
        ("--split=given", "--split=given"),
        ("--weights=imagenet", "--weights=imagenet"),
        ("a=/data", "a=/data"),
    ],
)
def test_paths_below_a_mount_are_mapped_to_this_machine(value, here):
    """Alone and in a flag, once, and nothing that only looks alike."""
    assert on_this_machine(value, {"/data": "/srv/cxr", "/output": "/data/runs"}) == here


@pytest.mark.parametrize(("workers_per_node", "pods"), [(2, 1), (1, 2)])
def test_each_pod_is_a_process_with_the_operators_environment(tmp_path, monkeypatch, workers_per_node, pods):
    """Host names are 127.0.0.1, the port is one for all and free, paths are real, caches its own, the shell's RANK gone."""
    monkeypatch.setenv("RANK", "7")
    monkeypatch.setenv("PET_STANDALONE", "")
    monkeypatch.setenv("RANKING", "kept")
    objects = job(workers_per_node=workers_per_node, command=WRITE_ENVIRONMENT)
    for replica in objects[-1]["spec"]["pytorchReplicaSpecs"].values():
        replica["template"]["spec"]["containers"][0]["args"] = [str(tmp_path), "--data=/data", "--cache-dir=/cache"]
    assert run_here(objects, tmp_path / "cache") == []
    seen = [json.loads(path.read_text()) for path in tmp_path.glob("*.json")]
    assert len(seen) == pods
    for arguments, environment in seen:
        assert arguments[0] == "--data=/srv/cxr"
        assert "PET_STANDALONE" not in environment
        assert environment["RANKING"] == "kept"
        assert environment["PET_NNODES"] == str(pods)
        assert environment["PET_LOCAL_ADDR"] == "127.0.0.1"  # this machine's name may not resolve
        assert environment[LOCAL_RUN]  # no kubelet reads a termination message of it
    caches = [f"--cache-dir={tmp_path}/cache", f"--cache-dir={tmp_path}/cache/pod-1"]
    assert sorted(arguments[1] for arguments, _ in seen) == caches[:pods]
    [endpoint] = {environment["PET_RDZV_ENDPOINT"] for _, environment in seen}
    master = f"{seen[0][1].get('MASTER_ADDR')}:{seen[0][1].get('MASTER_PORT')}"
    for address in {endpoint, master} - {"None:None"}:
        assert address.startswith("127.0.0.1:")
        assert not address.endswith(":23456")
    assert (endpoint == "127.0.0.1:0") == (pods == 1)  # torchrun finds its own port where it meets nobody else
    assert {environment.get("RANK") for _, environment in seen} == ({"0"} if pods == 1 else {None})


@pytest.mark.parametrize(("workers_per_node", "given", "threads"), [(1, None, "3"), (2, None, "3"), (1, "5", "5")])
def test_workers_of_all_pods_share_the_processors_of_this_machine(
    tmp_path, monkeypatch, workers_per_node, given, threads
):
    """Each pod would else take all of them, and the workers would wait for each other; the user's value is kept."""
    monkeypatch.setattr(cores, "usable_cores", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    objects = job(workers_per_node=workers_per_node, command=WRITE_ENVIRONMENT)
    for replica in objects[-1]["spec"]["pytorchReplicaSpecs"].values():
        replica["template"]["spec"]["containers"][0]["args"] = [str(tmp_path)]
    run_here(objects, tmp_path / "cache")
    seen = [json.loads(path.read_text())[1]["OMP_NUM_THREADS"] for path in tmp_path.glob("*.json")]
    assert set(seen) == {threads}


def test_network_interfaces_of_pods_are_not_looked_for_on_this_machine(tmp_path):
    """A laptop has no `eth0`; what the user gives stays."""
    objects = job(accelerator="cuda", workers_per_node=1, command=WRITE_ENVIRONMENT)
    container = objects[-1]["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
    assert {"name": "NCCL_SOCKET_IFNAME", "value": "eth0"} in container["env"]
    container |= {"args": [str(tmp_path)], "env": [*container["env"], {"name": "GLOO_SOCKET_IFNAME", "value": "lo"}]}
    run_here(objects, tmp_path / "cache")
    for path in tmp_path.glob("*.json"):
        _, environment = json.loads(path.read_text())
        assert "NCCL_SOCKET_IFNAME" not in environment
        assert environment["GLOO_SOCKET_IFNAME"] == "lo"


@pytest.mark.parametrize(
    ("command", "error", "words"),
    [
        ("raise SystemExit(2)", JobFailedError, "pod `t1-master-0` ended with exit code 2"),
        ("raise SystemExit(75)", TryAgainError, "exit code 75"),
        ("import os; os.kill(os.getpid(), 9)", JobFailedError, "pod `t1-master-0` was killed by SIGKILL"),
    ],
)
def test_outcome_of_a_job_follows_from_its_pods_exit_codes(tmp_path, command, error, words):
    """A failed job is no failed launcher, and one that was preempted may be tried again."""
    with pytest.raises(error, match=words):
        run_here(job(command=command), tmp_path)


def test_permanent_failure_outranks_a_lost_peer(tmp_path):
    """The pod that lost its peer says 75; the reason is the other one's."""
    command = f"""
import os, sys
try: os.mkdir({str(tmp_path / "first")!r})
except FileExistsError: sys.exit(2)
sys.exit(75)
"""
    with pytest.raises(JobFailedError, match="exit code 2"):
        run_here(job(workers_per_node=1, command=command), tmp_path, settle_s=5)


def test_when_a_pod_fails_the_others_get_sigterm(tmp_path):
    """When one worker is missing the others only wait; they get SIGTERM, and time to save."""
    command = f"""
import os, pathlib, signal, sys, time
folder = pathlib.Path({str(tmp_path)!r})
def stopped(*_):
    (folder / "stopped").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, stopped)
try: os.mkdir(folder / "first")
except FileExistsError: sys.exit(3)
while True: time.sleep(0.02)  # a signal just before signal.pause() would be heard after it, that is never
"""
    with pytest.raises(JobFailedError, match="exit code 3"):
        run_here(job(workers_per_node=1, command=command), tmp_path)
    assert (tmp_path / "stopped").exists()


def test_nothing_outlives_a_job_that_failed(tmp_path):
    """torchrun's workers have sessions of their own and would train on without their agent."""
    command = f"""
import os, pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
pathlib.Path({str(tmp_path)!r}, "child").write_text(str(child.pid))
os.kill(os.getpid(), 9)
"""
    with pytest.raises(JobFailedError):
        run_here(job(command=command), tmp_path)
    assert not is_running(int((tmp_path / "child").read_text()))


LAUNCHER = """
import sys
from pathlib import Path
from launcher.jobs.local import run
sys.path.insert(0, sys.argv[1])
from test_local import job
command = '''
import os, pathlib, subprocess, sys, time
from trainer.runtime import parent_watch
parent_watch.watch(parent_watch.taken(), lambda: os._exit(1))
folder = pathlib.Path(sys.argv[1])
(folder / f"{os.getpid()}.pod").touch()
time.sleep(600)
'''
objects = job(workers_per_node=1, command=command)
for replica in objects[-1]["spec"]["pytorchReplicaSpecs"].values():
    replica["template"]["spec"]["containers"][0]["args"] = [sys.argv[2]]
run(objects, scratch=Path(sys.argv[2]), report=print, python=sys.executable)
"""


def test_nothing_outlives_a_launcher_that_is_killed(tmp_path):
    """SIGKILL leaves it no time to stop anything; the pods read the end of its parent_watch."""
    launcher = subprocess.Popen([sys.executable, "-c", LAUNCHER, str(Path(__file__).parent), str(tmp_path)])
    end_s = time.monotonic() + 30
    while len(pods := [int(path.stem) for path in tmp_path.glob("*.pod")]) < 2:
        assert launcher.poll() is None
        assert time.monotonic() < end_s
        time.sleep(0.02)
    assert all(is_running(pod) for pod in pods)
    launcher.kill()
    launcher.wait()
    while any(is_running(pod) for pod in pods):
        assert time.monotonic() < end_s
        time.sleep(0.02)


def until_stopped(folder, deed):
    """A pod's program: does something, then waits for SIGTERM, of which it leaves a file."""
    return f"""
import os, pathlib, signal, sys, time
folder = pathlib.Path({str(folder)!r})
def stopped(*_):
    (folder / f"{{os.getpid()}}.stopped").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, stopped)
{deed}
while True: time.sleep(0.02)  # a signal just before signal.pause() would be heard after it, that is never
"""


@pytest.mark.parametrize(
    ("sent", "error", "said"),
    [
        ("SIGINT", InterruptedByUser, ["stopping; press Ctrl-C again to kill the job at once"]),
        ("SIGTERM", TryAgainError, []),
        ("SIGHUP", TryAgainError, []),
    ],
)
def test_a_signal_to_the_launcher_stops_every_pod(tmp_path, sent, error, said):
    """Pods hear SIGTERM, whichever signal the launcher got, and may save before they leave."""
    command = until_stopped(
        tmp_path,
        f"""
try: os.mkdir(folder / "first")
except FileExistsError: os.kill(os.getppid(), signal.{sent})
""",
    )
    heard = []
    with pytest.raises(error):
        run(
            job(workers_per_node=1, command=command),
            scratch=tmp_path,
            report=heard.append,
            python=sys.executable,
            settle_s=5,
        )
    assert heard == said
    assert len(list(tmp_path.glob("*.stopped"))) == 2


@pytest.mark.parametrize(
    ("sent", "error"), [("SIGINT", InterruptedByUser), ("SIGTERM", TryAgainError), ("SIGHUP", TryAgainError)]
)
def test_a_signal_while_pods_are_started_stops_them(tmp_path, monkeypatch, sent, error):
    """It may arrive when a pod runs already, but `Popen` has not returned its process: that pod would be killed instead."""
    command = until_stopped(tmp_path, '(folder / f"{os.getpid()}.ready").touch()')

    class Started(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            while not (tmp_path / f"{self.pid}.ready").exists():
                time.sleep(0.01)
            os.kill(os.getpid(), getattr(signal, sent))

    monkeypatch.setattr(subprocess, "Popen", Started)
    with pytest.raises(error):
        run_here(job(workers_per_node=1, command=command), tmp_path)
    assert len(list(tmp_path.glob("*.stopped"))) == 2


def test_job_that_is_started_by_nohup_outlives_its_terminal(tmp_path):
    """nohup ignores SIGHUP; a handler of ours would end hours of training all the same."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run_here(job(command="import os, signal; os.kill(os.getppid(), signal.SIGHUP)"), tmp_path)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_pod_that_does_not_stop_is_killed_after_its_grace_period(tmp_path):
    """As kubelet does; and the launcher does not hang."""
    command = f"""
import os, pathlib, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({str(tmp_path)!r}, "pid").write_text(str(os.getpid()))
os.kill(os.getppid(), signal.SIGINT)
while True: signal.pause()
"""
    with pytest.raises(InterruptedByUser):
        run_here(job(command=command, grace_s=0.3), tmp_path)
    assert not is_running(int((tmp_path / "pid").read_text()))


def spec_here(tmp_path, **changes):
    """A job on a small data set of folders."""
    for part in ("train/normal", "train/pneumonia", "test/normal", "test/pneumonia"):
        folder = tmp_path / "cxr" / part
        folder.mkdir(parents=True)
        for patient in range(10):
            (folder / f"person{patient}_{part.replace('/', '_')}.png").touch()
    fields = {"data": str(tmp_path / "cxr"), "output": str(tmp_path / "runs")} | changes
    return JobSpec(accelerator="cpu", workers=2, image="local", name="t1", **fields)


def test_job_that_can_run_here_is_accepted(tmp_path):
    """And finds its output directory made."""
    check(spec_here(tmp_path))
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": "s3://b/cxr"}, "cannot use `s3://b/cxr` with --local"),
        ({"output": "s3://b/runs"}, "cannot use `s3://b/runs` with --local"),
        ({"data": "/nowhere"}, "/nowhere"),
        ({"train_flags": ("--layout", "nih")}, "nih"),
        ({"train_flags": ("--split", "patients:0/0/100")}, "patients:0/0/100"),
        ({"train_flags": ("--findings", "Gout")}, "cannot choose findings"),
        ({"train_flags": ("--uncertain", "ones")}, "layout folders has no uncertain labels"),
        ({"output": "/proc/runs"}, "cannot write to `/proc/runs`"),
        ({"train_flags": ("--weights", "/nowhere/w.pt")}, "no such file, got `/nowhere/w.pt` (from `--weights`)"),
        ({"train_flags": ("--weights", "/data/w.pt")}, "cxr/w.pt` (from `--weights`)"),
    ],
)
def test_what_cannot_run_here_is_refused_before_any_process_starts(tmp_path, changes, words):
    """A typing error should cost a second, not a training."""
    with pytest.raises(InputError) as refusal:
        check(spec_here(tmp_path, **changes))
    assert words in str(refusal.value)
    assert refusal.value.hint


@pytest.mark.parametrize("weights", ["imagenet", "none", "/data/train/normal/person0_train_normal.png"])
def test_available_weights_are_accepted(tmp_path, weights):
    """A file below a mount is looked for where it is here, and ImageNet's weights are left to the trainer."""
    check(spec_here(tmp_path, train_flags=("--weights", weights)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_directory_of_somebody_else_is_refused(tmp_path):
    """Before the first epoch, not after it."""
    (tmp_path / "runs").mkdir(mode=0o500)
    with pytest.raises(InputError, match="Permission denied"):
        check(spec_here(tmp_path))
