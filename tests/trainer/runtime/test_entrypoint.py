"""torchrun with a readable end: exit codes, one line, permanent errors met once, and the pod's termination message."""

import errno
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import pytest

from trainer.errors import InputError
from trainer.layout import JOB, LOCAL_RUN
from trainer.runtime import entrypoint, failure_cause
from trainer.runtime.failure_cause import FailureCause
from trainer.runtime.failure_report import REPORT_FILE, FailureReport, earlier_report, report_failure
from trainer.runtime.parent_watch import PARENT

WORKER = """
import os, sys, pathlib
attempts = pathlib.Path(sys.argv[1]) / f"{os.environ['LOCAL_RANK']}-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
attempts.touch()
from trainer.runtime.failure_report import FailureReport, earlier_report, report_failure
if earlier_report() is not None:
    sys.exit(earlier_report().exit_code)
(attempts.parent / ("worked-" + attempts.name)).touch()
code = int(sys.argv[2]) if os.environ["LOCAL_RANK"] == "1" else 0
report_failure(FailureReport(int(os.environ['RANK']), code))
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def run_entrypoint(warm, tmp_path, code, *, restarts=1):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    command = [
        warm,
        "-m",
        "trainer.runtime.entrypoint",
        "--nproc-per-node=2",
        f"--max-restarts={restarts}",
        "--monitor-interval=0.1",
    ]
    done = subprocess.run(
        [*command, str(worker), str(tmp_path), str(code)],
        env={**os.environ, "PYTHON_EXEC": warm},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    worked = sorted(path.name for path in tmp_path.glob("worked-1-*"))
    return done, worked


@pytest.mark.e2e
@pytest.mark.parametrize(("code", "attempts"), [(0, 1), (2, 1), (75, 2)], ids=["success", "permanent", "try again"])
def test_entrypoint_exits_with_the_failed_workers_code_and_retries_no_permanent_error(warm, tmp_path, code, attempts):
    """torchrun makes every code 1 and repeats bad input as often as a lost peer."""
    done, worked = run_entrypoint(warm, tmp_path, code)
    assert done.returncode == code
    assert len(worked) == attempts
    assert "Traceback" not in done.stderr
    said = f"worker 1 failed with exit code {code}\n"
    again = "".join(f"starting the workers again ({number} of 3)\n{said}" for number in (1, 2, 3) if code == 75)
    assert done.stderr == ("" if code == 0 else said + again)


@pytest.mark.e2e
def test_killed_worker_is_named_with_its_signal(warm, tmp_path):
    """137 alone says little to whom it happens first, and the operator would take it for a reason to try again for ever."""
    done, _ = run_entrypoint(warm, tmp_path, -9, restarts=0)
    assert done.returncode == 3
    assert done.stderr == "worker 1 failed with signal 9 (killed, probably out of memory)\n"


@pytest.mark.e2e
def test_signal_reaches_the_workers_and_ends_them(tmp_path):
    """Kubernetes signals the first process of a pod and waits."""
    worker = tmp_path / "worker.py"
    worker.write_text("import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "trainer.runtime.entrypoint",
            "--nproc-per-node=1",
            str(worker),
            str(tmp_path / "started"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert said == "stopped by SIGTERM\n"


FAILED = """
import os, signal, sys, time
from types import SimpleNamespace
import torch.distributed.run
from torch.distributed.elastic.multiprocessing.api import _terminate_process_handler
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from trainer.runtime import entrypoint, failure_cause
from trainer.runtime.failure_cause import FailureCause
from trainer.runtime.failure_report import FailureReport, report_failure

class Failed(ChildFailedError):
    def __init__(self):
        self.failures = {1: SimpleNamespace(exitcode=int(sys.argv[4]), timestamp=0)}
    def get_first_failure(self):
        os.kill(os.getpid(), int(sys.argv[3]))
        print(time.monotonic())
        return 1, self.failures[1]

def run(arguments):
    signal.signal(int(sys.argv[3]) or signal.SIGTERM, _terminate_process_handler)
    report_failure(FailureReport(1, int(sys.argv[4]), explained=bool(int(sys.argv[2]))))
    raise Failed

torch.distributed.run.run = run
entrypoint.LINGER_S = float(sys.argv[1])
sys.exit(entrypoint.main(["--nproc-per-node=2", "worker.py"]))
"""
"""An entrypoint whose torchrun has just failed when a signal comes: of the job's end, or of its own watch. 0 is no signal."""


def fail(warm, tmp_path, *, lingers_s=0.0, explained=True, number=signal.SIGTERM, code=2):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    words = map(str, (lingers_s, int(explained), int(number), code))
    return subprocess.run(
        [warm, "-c", FAILED, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_signal_after_the_failure_changes_neither_exit_code_nor_message(warm, tmp_path, number):
    """torchrun's handlers raise, and nobody takes their exception any more: a traceback, and exit code 1 for bad input."""
    done = fail(warm, tmp_path, number=number)
    assert done.returncode == 2
    assert done.stderr == "worker 1 failed with exit code 2\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.e2e
def test_entrypoint_stopped_after_torchrun_ended_does_not_restart_it(warm, tmp_path):
    """A job that is deleted loses its rendezvous, which alone would be a reason to try again."""
    done = fail(warm, tmp_path, code=75)
    assert done.returncode == 143
    assert done.stderr == "worker 1 failed with exit code 75\nstopped by SIGTERM\n"


@pytest.mark.e2e
def test_node_whose_workers_printed_nothing_stays_until_the_log_of_the_other_is_kept(warm, tmp_path):
    """The watch over the workers would end them a second after the report."""
    lingers_s = entrypoint.END_S + 1.5
    done = fail(warm, tmp_path, lingers_s=lingers_s, explained=False, number=0)
    assert time.monotonic() - float(done.stdout) >= lingers_s
    assert (done.returncode, done.stderr) == (2, "")


def lives(pid):
    """Whether there is such a process; what waits for its parent to look has no command line any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.e2e
@pytest.mark.parametrize("victim", ["starter", "entrypoint"])
def test_workers_end_with_an_entrypoint_or_a_starter_that_is_killed(tmp_path, victim):
    """torchrun's workers have sessions of their own, and would train on without anybody who could stop them."""
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, pathlib, sys, time\n"
        "from trainer.runtime.parent_watch import end_with_parent\n"
        "end_with_parent()\n"
        "pathlib.Path(sys.argv[1], f'{os.getpid()}.{os.getppid()}.pid').touch()\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "trainer.runtime.entrypoint", "--nproc-per-node=2", str(worker), str(tmp_path)]
    start = (
        "import os, subprocess, sys; from trainer.runtime import parent_watch\n"
        "with parent_watch.held() as life:\n"
        "    environment = {**os.environ, parent_watch.LIFELINE: str(life)}\n"
        "    subprocess.run(sys.argv[1:], env=environment, pass_fds=[life], start_new_session=True)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    starter = subprocess.Popen(
        [sys.executable, "-c", start, *command], env=environment, stderr=subprocess.PIPE, text=True
    )
    while len(started := [path.name.split(".") for path in tmp_path.glob("*.pid")]) < 2:
        assert starter.poll() is None
        time.sleep(0.05)
    os.kill(starter.pid if victim == "starter" else int(started[0][1]), signal.SIGKILL)
    _, said = starter.communicate(timeout=60)  # until nobody holds stderr any more
    assert not [pid for pid, _, _ in started if lives(pid)]
    assert said == ("the process that started this is gone: ending at once\n" if victim == "starter" else "")
    assert victim == "entrypoint" or not list(tmp_path.glob("entrypoint-*"))


def test_report_needs_no_room_on_a_disk_that_is_full_by_then(tmp_path, monkeypatch):
    """A full disk is one of the errors that no new start changes."""
    monkeypatch.setenv(REPORT_FILE, "")
    with entrypoint._folder() as folder:
        report = folder / "report"
        monkeypatch.setenv(REPORT_FILE, str(report))
        before = report.stat()
        assert earlier_report() is None
        report_failure(FailureReport(12, 2, explained=False))
        assert earlier_report() == FailureReport(12, 2, explained=False)
        assert (report.stat().st_size, report.stat().st_ino) == (before.st_size, before.st_ino)
        assert len(list(folder.iterdir())) == 1


def test_entrypoint_without_room_for_its_own_file_says_so(tmp_path, monkeypatch, capsys):
    """Not with a traceback, and not again and again."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for variable in ("TORCH_CPP_LOG_LEVEL", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE", JOB, PARENT, "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    assert entrypoint.main(["--nproc-per-node=1", "x.py"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: cannot start the workers: no temporary file can be written: no space left on device")
    assert "TMPDIR" in said


def cause(rank, error="x", **more):
    return FailureCause(rank=rank, error=error, **more)


START = """
import sys
import threading
from pathlib import Path
from trainer.runtime import entrypoint
entrypoint.LINGER_S = 0.0
sys.exit(entrypoint.main(sys.argv[2:], message=Path(sys.argv[1])))
"""

FAILING_WORKER = """
import os, signal, sys, time
from trainer import __main__ as program
from trainer.errors import InputError, PeerError, PeerLostError
from trainer.runtime.failure_report import note_step
from trainer.runtime.parent_watch import end_with_parent
end_with_parent()
rank = int(os.environ["RANK"])
note_step(7)

def lost(after_s=0.0):
    time.sleep(after_s)
    raise PeerLostError("cannot continue: a peer was lost (gloo)", hint="again")

def bug(): return {}[14]
def bad_input(): raise InputError("cannot read `labels.csv`: no column `x`, got `pass-4711-word`", hint="add it")
def silent(): raise PeerError(2, rank=0)
def silent_elsewhere(): raise PeerError(2, on_this_node=False, rank=5)
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def crashed(): os._exit(1)
def waits(): time.sleep(60)

program._run = lambda argv: eval(sys.argv[1].split(",")[rank])
sys.exit(program.main(["train"]))
"""


def termination_message(warm, tmp_path, *each_rank, **environment):
    """Exit code of a pod whose workers do this, and what its kubelet would read."""
    worker, message = tmp_path / "worker.py", tmp_path / "termination-log"
    worker.write_text(FAILING_WORKER)
    message.touch()
    command = [warm, "-c", START, str(message), f"--nproc-per-node={len(each_rank)}", "--max-restarts=0"]
    done = subprocess.run(
        [*command, "--monitor-interval=0.1", str(worker), ",".join(each_rank)],
        env={
            **os.environ,
            "PYTHON_EXEC": warm,
            "TMPDIR": str(tmp_path),
            entrypoint.STARTS: str(entrypoint.MOST_STARTS),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("entrypoint-*"))
    return done.returncode, message.read_text(encoding="utf-8")


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("workers", "exit_code", "message"),
    [
        pytest.param(
            ["lost(0.2)", "bug()"],
            1,
            "failed: rank 1 at step 7: bug: KeyError: 14; hint: run again with --debug for the traceback",
            id="traceback",
        ),
        pytest.param(
            ["bad_input()", "silent()"],
            2,
            "failed: rank 0 at step 7: cannot read `labels.csv`: no column `x`, got `***`; hint: add it",
            id="bad input",
        ),
        pytest.param(
            ["silent_elsewhere()", "silent_elsewhere()"],
            2,
            "stopped: rank {rank} at step 7: rank 5 failed first, in another pod",
            id="another pod",
        ),
        pytest.param(
            ["lost()", "waits()"],
            75,
            "stopped: rank 0 at step 7: cannot continue: a peer was lost (gloo); hint: again",
            id="lost peer",
        ),
        pytest.param(["crashed()", "waits()"], 1, "", id="no cause known"),
        pytest.param(["0", "0"], 0, "", id="success"),
    ],
)
def test_termination_message_names_the_first_failure_of_the_pod(warm, tmp_path, workers, exit_code, message):
    """What `kubectl describe pod` shows to users who may not read logs; an empty one has the kubelet show the log's end."""
    found = termination_message(warm, tmp_path, *workers, API_TOKEN="pass-4711-word")
    assert found in [(exit_code, message.format(rank=rank)) for rank in (0, 1)]


@pytest.mark.e2e
def test_termination_message_of_a_killed_worker(warm, tmp_path):
    """It could say nothing itself, and the pod lives on, so that Kubernetes knows of nothing."""
    code, message = termination_message(warm, tmp_path, "lost(0.2)", "killed()")
    assert code in {3, 75}  # torchrun takes whom it sees first
    assert message.startswith("failed: rank 1: killed by SIGKILL, ")
    assert "; hint: " in message


@pytest.mark.parametrize("is_local", [False, True], ids=["pod", "local run inside a pod"])
def test_termination_message_is_not_that_of_a_local_run(tmp_path, monkeypatch, is_local):
    """A run of `submit --local` in a notebook must not describe the notebook's pod."""
    message = tmp_path / "termination-log"
    message.touch()
    monkeypatch.setattr(entrypoint, "_run", lambda _argv, place: failure_cause.write_message(place, cause(0)) or 1)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.delenv(LOCAL_RUN, raising=False)
    if is_local:
        monkeypatch.setenv(LOCAL_RUN, "mark")
    assert entrypoint.main([], message) == 1
    assert message.read_text() == ("" if is_local else "failed: rank 0: x")


@pytest.mark.e2e
def test_termination_message_of_a_stopped_pod(warm, tmp_path):
    """Evicted and deleted pods did not fail by themselves."""
    worker, message = tmp_path / "worker.py", tmp_path / "termination-log"
    worker.write_text("import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\ntime.sleep(60)\n")
    message.write_text("of an earlier start, and longer than what comes" * 10)
    command = [warm, "-c", START, str(message), "--nproc-per-node=1", str(worker), str(tmp_path / "started")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "started").exists():
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert message.read_text() == "stopped: received SIGTERM, as in a deletion, an eviction or a preemption"


def test_termination_message_is_emptied_before_the_workers_are_started_again(tmp_path, monkeypatch, capsys):
    """The new start may succeed, and a pod that has succeeded must not name a failure."""
    message = tmp_path / "termination-log"
    message.touch()
    seen = []

    def run(argv, place):
        place.write_text("stopped: rank 0: cannot continue: a peer was lost")
        return 75

    monkeypatch.setattr(entrypoint, "_run", run)
    monkeypatch.setattr(entrypoint, "_start_again", lambda *_: seen.append(message.read_text()) or 0)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.delenv(LOCAL_RUN, raising=False)
    assert entrypoint.main([], message) == 0
    assert seen == [""]
    assert "starting the workers again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("causes", "exit_codes", "report", "chosen"),
    [
        pytest.param([cause(2, is_a_consequence=True), cause(1)], {2: 75, 1: 1}, FailureReport(2, 75), 1, id="its own"),
        pytest.param([cause(0), cause(1)], {0: 1, 1: 1}, FailureReport(1, 1), 0, id="the earlier"),
        pytest.param([cause(0), cause(1)], {1: 2}, FailureReport(1, 2), 1, id="the reported"),
        pytest.param([cause(0, "bug: RuntimeError")], {0: 1, 3: -9}, FailureReport(0, 1), 3, id="killed"),
        pytest.param([cause(0, is_a_consequence=True)], {0: 75, 3: 1}, FailureReport(0, 75), None, id="silent"),
        pytest.param([cause(0, is_a_consequence=True)], {0: 75}, FailureReport(0, 75), 0, id="a consequence alone"),
        pytest.param([], {0: -6}, FailureReport(0, -6), None, id="a signal whose cause only the log tells"),
    ],
)
def test_cause_of_a_pod_is_what_its_other_failures_followed(tmp_path, monkeypatch, causes, exit_codes, report, chosen):
    """A worker that lost a peer may leave, and be seen, before the peer."""
    monkeypatch.setenv(REPORT_FILE, str(tmp_path / "report"))
    for number, each in enumerate(causes):
        path = tmp_path / f"cause-{number}"
        failure_cause.leave(path, each)
        os.utime(path, (number, number))
    report_failure(report)
    found = entrypoint._cause(report, exit_codes, None)
    assert (found and found.rank) == chosen


def test_workers_of_one_node_meet_at_the_loopback_whatever_the_machines_name(monkeypatch):
    """torchrun publishes the machine's name, and workers wait 120 s for each other where it does not resolve."""

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(socket, "getfqdn", lambda: "laptop.invalid")
    assert entrypoint._own_address("1") == entrypoint._own_address("1:1") == "127.0.0.1"
    with pytest.raises(InputError, match=r"own name does not resolve, got `laptop\.invalid`"):
        entrypoint._own_address("2")
    monkeypatch.setenv("POD_IP", "10.1.2.3")
    assert entrypoint._own_address("2") == "10.1.2.3"
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    assert entrypoint._own_address("1:4") is None, "torchrun orders nodes by name: rank 0 is in the first pod"


@pytest.mark.e2e
def test_an_own_name_that_does_not_resolve_ends_several_nodes_with_exit_code_2(warm, tmp_path):
    """Before a rendezvous that the others could not join."""
    script = (
        "import socket, sys; from trainer.runtime import entrypoint\n"
        "def unknown(*_, **__): raise socket.gaierror(-2, 'unknown')\n"
        "socket.getaddrinfo = unknown\n"
        "sys.exit(entrypoint.main(['--nnodes=2', '--rdzv-backend=c10d', '--rdzv-endpoint=localhost:0', 'x.py']))"
    )
    done = subprocess.run([warm, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "this machine's own name does not resolve" in done.stderr
    assert "Traceback" not in done.stderr


C10D = {"PET_RDZV_BACKEND": "c10d", "PET_NNODES": "2"}


@pytest.mark.parametrize(
    ("environment", "conf", "expected"),
    [
        (C10D | {"PET_NODE_RANK": "0"}, "read_timeout=9", "read_timeout=9,is_host=true"),
        (C10D | {"PET_NODE_RANK": "1"}, "", "is_host=false"),
        (C10D | {"PET_NODE_RANK": "1"}, "is_host=true", "is_host=true"),
        (C10D, "read_timeout=9", "read_timeout=9"),
        ({"PET_NODE_RANK": "0", "PET_NNODES": "2"}, "", ""),
        (C10D | {"PET_NODE_RANK": "0", "PET_NNODES": "1"}, "", ""),
    ],
    ids=["first node", "another node", "given", "not numbered", "static", "one node"],
)
def test_numbered_nodes_know_which_one_hosts_the_store(environment, conf, expected):
    """By its name they could not tell: after a restart it may be that of a deleted pod for seconds."""
    assert entrypoint.with_store_host(conf, environment) == expected


def test_timer_of_a_rendezvous_is_not_collected_in_its_own_thread(monkeypatch):
    """It would wait for itself, and a traceback would be the last that a stopped pod prints."""
    from datetime import timedelta

    import torch.distributed.run
    from torch.distributed.elastic.rendezvous.utils import _PeriodicTimer

    collected_in, started = [], threading.Event()

    def collect_if_enabled():
        """As any allocation may, in this thread."""
        if gc.isenabled():
            gc.collect()
        started.set()

    def run(_):
        timer = _PeriodicTimer(timedelta(seconds=0.01), collect_if_enabled)
        timer.start()
        timer.itself = timer
        weakref.finalize(timer, lambda: collected_in.append(threading.current_thread()))
        del timer
        assert started.wait(60)

    monkeypatch.setattr(torch.distributed.run, "run", run)
    monkeypatch.setattr(entrypoint, "_note_signals", lambda: None)
    for variable in (
        "TORCH_CPP_LOG_LEVEL",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE",
        JOB,
        PARENT,
        "OMP_NUM_THREADS",
        REPORT_FILE,
    ):
        monkeypatch.setenv(variable, "1")
    assert entrypoint._run(["--nproc-per-node=1", "worker.py"], None) == 0
    assert collected_in == [threading.current_thread()]
