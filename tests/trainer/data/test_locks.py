"""Waiting for another process that makes what this one needs: said, watched, and with an end."""

import os
import subprocess
import sys

import pytest

from trainer.data.locks import is_free, locked
from trainer.errors import InputError, TryAgainError
from trainer.storage.waiting import LONGEST_S, REPORT_S, Waiting


class Clock:
    """Time that passes when somebody sleeps; at a moment of it something happens."""

    def __init__(self, at_s=None, act=None):
        self.now_s, self.at_s, self.act = 0.0, at_s, act
        self.told, self.beats = [], 0

    def waiting(self):
        return Waiting(self.told.append, self.beat, clock=lambda: self.now_s, sleep=self.sleep)

    def beat(self):
        self.beats += 1

    def sleep(self, seconds):
        self.now_s += seconds
        if self.at_s is not None and self.now_s >= self.at_s:
            self.at_s = None
            self.act()


@pytest.fixture
def other(tmp_path):
    """Another process that holds the lock of `packs/p`, until it is told to end."""
    code = (
        "import sys; from pathlib import Path; from trainer.data.locks import locked\n"
        "with locked(Path(sys.argv[1])): print('has it', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "packs/p")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "has it\n"
    yield process
    process.communicate()


def test_waiting_is_reported_each_minute_with_path_and_holder(tmp_path, other):
    """Whoever reads the log of a start that stands still must learn what for; its watchdog, that it is no hang."""
    clock = Clock(3.5 * REPORT_S, other.communicate)
    with locked(tmp_path / "packs/p", clock.waiting()):
        assert len(clock.told) == 4
        assert all(
            line.startswith(f"waiting: process {other.pid} is filling `{tmp_path}/packs/p`") for line in clock.told
        )
        assert clock.beats >= 3.5 * REPORT_S


def test_wait_has_an_end(tmp_path, other):
    """One that hangs must not hold all others for ever."""
    problem = f"process {other.pid} is filling .* has not finished within 100 minutes"
    with pytest.raises(TryAgainError, match=problem), locked(tmp_path / "packs/p", Clock().waiting()):
        pass
    assert not is_free(tmp_path / "packs/p")


def test_peers_wait_longer_than_the_worker_that_waits_for_a_lock():
    """Else they would leave before the reason is told."""
    from trainer.runtime.process_group import AGREEMENT_TIMEOUT

    assert AGREEMENT_TIMEOUT.total_seconds() > LONGEST_S


def test_lock_that_is_a_link_is_not_followed(tmp_path):
    """A planted one would empty, or make, the file that it leads to."""
    (tmp_path / "precious").write_text("mine")
    (tmp_path / ".p.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match=r"it is a link, at \.p\.lock"), locked(tmp_path / "p"):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_lock_file_with_content_keeps_it(tmp_path):
    """It may be somebody's."""
    (tmp_path / ".p.lock").write_text("mine")
    with locked(tmp_path / "p"):
        pass
    assert (tmp_path / ".p.lock").read_text() == "mine"


def test_pipe_in_the_place_of_a_lock_is_named(tmp_path):
    """Whoever opened it would wait for ever."""
    os.mkfifo(tmp_path / ".p.lock")
    with pytest.raises(InputError, match="it is not a regular file"), locked(tmp_path / "p"):
        pass


def test_lock_that_is_free_is_taken_without_a_message(tmp_path):
    """The usual case."""
    clock = Clock()
    with locked(tmp_path / "p", clock.waiting()):
        assert (clock.told, clock.beats) == ([], 0)
        assert not is_free(tmp_path / "p")
    assert is_free(tmp_path / "p")
