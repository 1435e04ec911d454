"""Workers as forks of torchrun, which has loaded what they need: a start takes a fraction of the processor time of three interpreters.

They are its children, have sessions, environment and files as torchrun would give them, and are killed as any process. How a worker starts from nothing, `tests/e2e/test_stopping.py` shows.
"""

import logging
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

TESTS = Path(__file__).parents[2]


class Fork:
    """What torchrun needs of `subprocess.Popen`."""

    def __init__(self, begin):
        self.returncode = None
        self.pid = os.fork()
        if self.pid == 0:
            begin()

    def poll(self):
        if self.returncode is None:
            process, status = os.waitpid(self.pid, os.WNOHANG)
            if process:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        until_s = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if until_s is not None and time.monotonic() > until_s:
                raise subprocess.TimeoutExpired("worker", timeout)
            time.sleep(0.02)
        return self.returncode


def fork_workers(begin):
    """Have torchrun do so, in this process."""
    import_module("trainer.commands.train")
    handlers = import_module("torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler")

    def start(handler, words, environment):
        assert handler._stdout is handler._stderr is None
        return Fork(lambda: work(words, environment, begin))

    assert hasattr(handlers.SubprocessHandler, "_popen")
    handlers.SubprocessHandler._popen = start


def work(words, environment, begin):
    """Be the worker: nothing of torchrun is left but what it has imported."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.setsid()
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.path.insert(0, str(TESTS))
    from warm import enter, run_and_leave

    enter(environment)
    logging.disable(logging.NOTSET)
    sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
    sys.stdout.reconfigure(write_through=True)
    begin()
    run_and_leave(list(words[1:]))
