"""Nothing that was started outlives who started it, though that one is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.runtime import parent_watch
from trainer.runtime.parent_watch import LIFELINE, PARENT, end_with_parent, taken

SOON_S = 20.0


def is_running(pid):
    """Whether a process lives; what waits for its parent to look has no command line any more."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def soon(holds):
    end_s = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def pids(folder, names):
    """Process ids that processes have noted, once all have."""
    soon(lambda: all((folder / name).is_file() and (folder / name).read_text().endswith("\n") for name in names))
    return [int((folder / name).read_text()) for name in names]


WORKER = """
import os, pathlib, sys, time
from trainer.runtime.parent_watch import end_with_parent
end_with_parent()
pathlib.Path(sys.argv[1], "worker").write_text(f"{os.getpid()}\\n")
time.sleep(600)
"""

POD = f"""
import os, pathlib, subprocess, sys, time
from trainer.runtime import parent_watch
os.environ[parent_watch.PARENT] = str(os.getpid())
starter = parent_watch.taken()
parent_watch.watch(starter, lambda: os._exit(1))
subprocess.Popen([sys.executable, "-c", {WORKER!r}, sys.argv[1]], start_new_session=True)
pathlib.Path(sys.argv[1], "pod").write_text(f"{{os.getpid()}}\\n")
time.sleep(600)
"""

STARTER = f"""
import os, subprocess, sys
from trainer.runtime import parent_watch
shell = "{{python}} -c \\"$CODE\\" {{folder}}; true".format(python=sys.executable, folder=sys.argv[1])
with parent_watch.held() as life:
    environment = {{**os.environ, parent_watch.LIFELINE: str(life), "CODE": {POD!r}}}
    subprocess.run(["sh", "-c", shell], env=environment, pass_fds=[life], start_new_session=True)
"""


@pytest.mark.parametrize("killed", ["starter", "pod"])
def test_child_processes_end_when_their_starter_is_killed(tmp_path, killed):
    """Through a shell in between, and in sessions of their own, as torchrun's workers have."""
    starter = subprocess.Popen([sys.executable, "-c", STARTER, str(tmp_path)])
    try:
        pod, worker = pids(tmp_path, ["pod", "worker"])
        assert is_running(pod)
        assert is_running(worker)
        os.kill(starter.pid if killed == "starter" else pod, signal.SIGKILL)
        soon(lambda: not is_running(worker) and not is_running(pod))
    finally:
        starter.kill()
        starter.wait()


@pytest.mark.parametrize("given", [None, "", "x", "99999", "9" * 30, "-1", "0"])
def test_invalid_descriptor_is_ignored(monkeypatch, given):
    """The variable may come from somewhere else, or a process in between has closed the descriptor."""
    monkeypatch.delenv(LIFELINE, raising=False)
    if given is not None:
        monkeypatch.setenv(LIFELINE, given)
    with Path(os.devnull).open() as null:
        before = os.dup(0)
        os.dup2(null.fileno(), 0)
        try:
            assert taken() is None
        finally:
            os.dup2(before, 0)
            os.close(before)
    assert LIFELINE not in os.environ


def test_descriptor_survives_exec_and_is_not_inherited_otherwise(monkeypatch):
    """torchrun is started again in the same process, which still must end with its starter."""
    with parent_watch.held() as life:
        monkeypatch.setenv(LIFELINE, str(life))
        assert taken() == life
        assert not os.get_inheritable(life)
        parent_watch.handed_on(life)
        assert os.get_inheritable(life)
        assert os.environ[LIFELINE] == str(life)
        monkeypatch.delenv(LIFELINE)


def test_worker_whose_parent_has_already_ended_ends_at_once():
    """The parent may be killed between the start of the worker and its first line."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    code = "from trainer.runtime.parent_watch import end_with_parent; end_with_parent(); print('lives')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, PARENT: str(gone.pid)}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_worker_that_is_no_direct_child_of_a_living_parent_continues(monkeypatch):
    """A command that a worker starts inherits the variable."""
    monkeypatch.setenv(PARENT, str(os.getppid()))
    code = "from trainer.runtime.parent_watch import end_with_parent; end_with_parent(); print('lives')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"lives\n"
    monkeypatch.setenv(PARENT, "nobody")
    end_with_parent()
    assert PARENT not in os.environ
