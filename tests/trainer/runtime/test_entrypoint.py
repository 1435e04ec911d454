"""torchrun with a readable end: exit codes, one message, permanent errors met once."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from trainer.layout import JOB
from trainer.runtime import entrypoint
from trainer.runtime.entrypoint import VERDICT, FailureReport, await_report, earlier_report, report_failure
from trainer.runtime.parent_watch import PARENT

WORKER = """
import os, sys, pathlib
attempts = pathlib.Path(sys.argv[1]) / f"{os.environ['LOCAL_RANK']}-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
attempts.touch()
from trainer.runtime.entrypoint import FailureReport, earlier_report, report_failure
if earlier_report() is not None:
    sys.exit(earlier_report().exit_code)
(attempts.parent / ("worked-" + attempts.name)).touch()
code = int(sys.argv[2]) if os.environ["LOCAL_RANK"] == "1" else 0
report_failure(FailureReport(int(os.environ["RANK"]), code))
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


def run_gang(tmp_path, code, *, restarts=1):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    command = [
        sys.executable,
        "-m",
        "trainer.runtime.entrypoint",
        "--nproc-per-node=2",
        f"--max-restarts={restarts}",
        "--monitor-interval=0.1",
    ]
    done = subprocess.run(
        [*command, str(worker), str(tmp_path), str(code)], capture_output=True, text=True, timeout=120, check=False
    )
    worked = sorted(path.name for path in tmp_path.glob("worked-1-*"))
    return done, worked


@pytest.mark.e2e
@pytest.mark.parametrize(("code", "attempts"), [(0, 1), (2, 1), (75, 2)], ids=["success", "permanent", "try again"])
def test_exit_code_of_the_failed_worker_comes_out_and_permanent_errors_are_met_once(tmp_path, code, attempts):
    """torchrun makes every code 1 and repeats bad input as often as a lost peer."""
    done, worked = run_gang(tmp_path, code)
    assert done.returncode == code
    assert len(worked) == attempts
    assert "Traceback" not in done.stderr
    said = f"worker 1 failed with exit code {code}\n"
    again = "".join(f"starting the workers again ({number} of 3)\n{said}" for number in (1, 2, 3) if code == 75)
    assert done.stderr == ("" if code == 0 else said + again)


@pytest.mark.e2e
def test_killed_worker_is_named_with_its_signal(tmp_path):
    """137 alone says little to whom it happens first, and the operator would take it for a reason to try again for ever."""
    done, _ = run_gang(tmp_path, -9, restarts=0)
    assert done.returncode == 3
    assert done.stderr == "worker 1 failed with signal 9 (killed, as for want of memory)\n"


@pytest.mark.e2e
def test_signal_reaches_the_workers_and_ends_the_gang(tmp_path):
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
from trainer.runtime import entrypoint

class Failed(ChildFailedError):
    def __init__(self): pass
    def get_first_failure(self):
        os.kill(os.getpid(), int(sys.argv[3]))
        print(time.monotonic())
        return 1, SimpleNamespace(exitcode=int(sys.argv[4]))

def run(arguments):
    signal.signal(int(sys.argv[3]) or signal.SIGTERM, _terminate_process_handler)
    entrypoint.report_failure(entrypoint.FailureReport(1, int(sys.argv[4]), told=bool(int(sys.argv[2]))))
    raise Failed

torch.distributed.run.run = run
entrypoint.LINGER_S = float(sys.argv[1])
sys.exit(entrypoint.main(["--nproc-per-node=2", "worker.py"]))
"""
"""A gang whose torchrun has just failed when a signal comes: of the job's end, or of the watch over the gang. 0 is no signal."""


def fail(tmp_path, *, lingers_s=0.0, told=True, number=signal.SIGTERM, code=2):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    words = map(str, (lingers_s, int(told), int(number), code))
    return subprocess.run(
        [sys.executable, "-c", FAILED, *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
    )


@pytest.mark.e2e
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_signal_after_the_failure_changes_neither_exit_code_nor_message(tmp_path, number):
    """torchrun's handlers raise, and nobody takes their exception any more: a traceback, and exit code 1 for bad input."""
    done = fail(tmp_path, number=number)
    assert done.returncode == 2
    assert done.stderr == "worker 1 failed with exit code 2\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.e2e
def test_gang_that_is_told_to_stop_after_torchrun_does_not_start_again(tmp_path):
    """A job that is deleted loses its rendezvous, which alone would be a reason to try again."""
    done = fail(tmp_path, code=75)
    assert done.returncode == 143
    assert done.stderr == "worker 1 failed with exit code 75\nstopped by SIGTERM\n"


@pytest.mark.e2e
def test_node_without_a_teller_stays_until_the_log_of_the_other_is_kept(tmp_path):
    """The watch over the gang would end it a second after the verdict."""
    lingers_s = entrypoint.END_S + 1.5
    done = fail(tmp_path, lingers_s=lingers_s, told=False, number=0)
    assert time.monotonic() - float(done.stdout) >= lingers_s
    assert (done.returncode, done.stderr) == (2, "")


def lives(pid):
    """Whether there is such a process; what waits for its parent to look has no command line any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.mark.e2e
@pytest.mark.parametrize("victim", ["starter", "gang"])
def test_workers_end_with_a_gang_or_a_starter_that_is_killed(tmp_path, victim):
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
    assert said == ("who started this is gone: ending at once\n" if victim == "starter" else "")
    assert victim == "gang" or not list(tmp_path.glob("gang-*"))


def test_verdict_is_given_for_permanent_errors_only(tmp_path, monkeypatch):
    """A lost peer must be tried again."""
    monkeypatch.setenv(VERDICT, str(tmp_path / "verdict"))
    report_failure(FailureReport(0, 75))
    assert earlier_report() is None
    report_failure(FailureReport(1, 2))
    report_failure(FailureReport(0, 3))
    assert earlier_report() == FailureReport(1, 2)  # the first that failed is what is told


def test_verdict_is_not_written_through_a_link(tmp_path, monkeypatch):
    """The variable may name a file in a directory that others can write to."""
    (tmp_path / "theirs").write_text("theirs")
    for name in ("verdict", f"verdict.{os.getpid()}"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    monkeypatch.setenv(VERDICT, str(tmp_path / "verdict"))
    report_failure(FailureReport(1, 2))
    assert earlier_report() == FailureReport(1, 2)
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_verdict_needs_no_room_on_a_disk_that_is_full_by_then(tmp_path, monkeypatch):
    """A full disk is one of the errors that no new start changes."""
    monkeypatch.setenv(VERDICT, "")
    with entrypoint._folder() as folder:
        report = folder / "verdict"
        monkeypatch.setenv(VERDICT, str(report))
        before = report.stat()
        assert earlier_report() is None
        report_failure(FailureReport(12, 2, told=False))
        assert earlier_report() == FailureReport(12, 2, told=False)
        assert (report.stat().st_size, report.stat().st_ino) == (before.st_size, before.st_ino)
        assert len(list(folder.iterdir())) == 1


def test_gang_without_room_for_its_own_file_says_so(tmp_path, monkeypatch, capsys):
    """Not with a traceback, and not again and again."""

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for variable in ("TORCH_CPP_LOG_LEVEL", JOB, PARENT, "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "1")
    assert entrypoint.main(["--nproc-per-node=1", "x.py"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: cannot start the workers: no temporary file can be written: no space left on device")
    assert "TMPDIR" in said


def test_there_is_no_verdict_outside_a_gang(monkeypatch):
    """Plain `python -m trainer` has no file to write."""
    monkeypatch.delenv(VERDICT, raising=False)
    report_failure(FailureReport(0, 2))
    assert earlier_report() is None
    assert VERDICT not in os.environ


def test_silent_worker_waits_for_the_one_that_tells(tmp_path, monkeypatch):
    """torchrun ends the teller's process as soon as another has left, in the middle of its sentence."""
    monkeypatch.setenv(VERDICT, str(tmp_path / "verdict"))
    telling = threading.Timer(0.3, report_failure, [FailureReport(0, 2)])
    telling.start()
    await_report(2)
    assert earlier_report() == FailureReport(0, 2)
    telling.join()


@pytest.mark.parametrize("exit_code", [75, 1])
def test_nobody_waits_for_what_passes(tmp_path, monkeypatch, exit_code):
    """The others start again; each second of it costs accelerators."""
    monkeypatch.setenv(VERDICT, str(tmp_path / "verdict"))
    monkeypatch.setattr(entrypoint, "TELLING_S", 1e6)
    await_report(exit_code)


def test_verdict_of_a_node_without_a_teller_is_told_from_the_others(tmp_path, monkeypatch):
    """Its gang leaves later, so that the teller's log is kept."""
    monkeypatch.setenv(VERDICT, str(tmp_path / "verdict"))
    report_failure(FailureReport(3, 2, told=False))
    report = earlier_report()
    assert report == FailureReport(3, 2, told=False)
