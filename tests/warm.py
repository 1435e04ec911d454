"""An interpreter that has its modules loaded: each process is a fork of one that imported them, and starts in milliseconds, not seconds.

`Warm.python` is a program that takes what `python` takes (`-u`; `-m MODULE`, `-c CODE` or a file; its arguments). The process has the
environment (in /proc, too), the working directory, the output and the inherited files of its caller, and ends with its exit code or
signal. Nothing has run in it before but imports. It is a process beside the one that was started, its caller, which passes signals on
and may be killed; what SIGSTOP is to stop is `forked(caller)`. If PYTHON_EXEC is set, it is the process's `sys.executable`: what the
process starts in turn is warm as well. Tests of how a process starts take `sys.executable`.
"""

import array
import atexit
import ctypes
import fcntl
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]

CALLER = """#!{python} -IS
import array, json, os, signal, socket, sys
inherited = [int(name) for name in os.listdir("/proc/self/fd")]
inherited = [number for number in inherited if number and os.path.lexists(f"/proc/self/fd/{{number}}")]
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
call = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd(), inherited], ensure_ascii=True).encode()
passed = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
signal.pthread_sigmask(signal.SIG_BLOCK, passed)
line.sendmsg([len(call).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", inherited))])
line.sendall(call)
for number in passed:
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, lambda number, _: line.sendall(bytes([number])))
signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
with open("/proc/self/comm", "wb") as name:
    name.write(line.recv(8))
code = int(line.recv(8) or b"70")
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


MOST_FILES = 250
"""So many the kernel passes on at once."""

ROOM_BYTES = 32768
"""For the environment of a process as /proc shows it."""


class Warm:
    """A process that has imported these modules, in a folder of its own, until `close`."""

    def __init__(self, folder: Path, *modules: str, **environment: str) -> None:
        address = str(folder / "warm")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno()), *modules],
                cwd=ROOT,
                env=os.environ
                | {"OMP_NUM_THREADS": "1"}
                | environment
                | {"WARM_ROOM": "." * ROOM_BYTES},  # torch reads it when it is loaded
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
            )
        self.python = folder / "python"
        self.python.write_text(CALLER.format(python=sys.executable, address=address))
        self.python.chmod(0o700)

    def close(self) -> None:
        """It ends with its standard input; so it does when this process is killed."""
        self._process.stdin.close()
        self._process.wait()


def forked(caller: int) -> int:
    """The process that this caller has started, once it is there."""
    until_s = time.monotonic() + 60
    while not (name := Path(f"/proc/{caller}/comm").read_text(encoding="ascii").strip()).isdigit():
        assert time.monotonic() < until_s, name
        time.sleep(0.01)
    return int(name)


def serve(listener: socket.socket) -> NoReturn:
    """Fork for each call, until nobody is there to call."""
    while True:
        ready = select.select([listener, 0], [], [])[0]
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if 0 in ready:
            os._exit(0)
        line, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            answer(line)
        line.close()


def answer(line: socket.socket) -> NoReturn:
    """Fork once more, and pass on signals and the exit code."""
    head, ancillary, *_ = line.recvmsg(8, socket.CMSG_SPACE(MOST_FILES * array.array("i").itemsize))
    files = array.array("i", ancillary[0][2])
    call = b""
    while len(call) < int.from_bytes(head, "big"):
        call += line.recv(1 << 16)
    process = os.fork()
    if process == 0:
        line.close()
        become(*json.loads(call), files)
    line.sendall(f"{process:<8}".encode())
    for descriptor in files:
        os.close(descriptor)
    for descriptor in (1, 2):  # else a reader of the output would wait for this process, too
        os.dup2(0, descriptor)
    ended = os.pidfd_open(process)
    while ended not in select.select([line, ended], [], [])[0]:
        number = line.recv(1)
        os.kill(process, number[0] if number else signal.SIGKILL)
        if not number:  # the caller was killed
            break
    _, status = os.waitpid(process, 0)
    try:
        line.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    finally:
        os._exit(0)


def become(
    argv: list[str], environment: dict[str, str], folder: str, numbers: list[int], files: "array.array[int]"
) -> NoReturn:
    """Make this process the one that was called."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    away = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 1 << 9) for descriptor in (nothing, *files)]
    for descriptor in (nothing, *files):
        os.close(descriptor)
    for descriptor, target in zip(away, (0, *numbers), strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(folder)
    enter(environment)
    sys.executable = environment.get("PYTHON_EXEC", sys.executable)
    tempfile.tempdir = None  # TMPDIR is the caller's
    run_and_leave(argv)


def enter(environment: dict[str, str]) -> None:
    """Take this environment for that of the process, and have /proc show it, which shows what a process was started with."""
    os.environ.clear()
    os.environ.update(environment)
    stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    start, end = map(int, stat[47:49])  # env_start and env_end of proc_pid_stat(5)
    content = b"".join(os.fsencode(f"{name}={value}\0") for name, value in environment.items())
    assert len(content) <= end - start, "ROOM_BYTES"
    ctypes.memmove(start, content.ljust(end - start, b"\0"), end - start)


def run_and_leave(argv: list[str]) -> NoReturn:
    """Do what `python ARGV` would do, and end this process."""
    sys.argv = [argument for argument in argv if argument != "-u"]
    code = run()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run() -> int:
    """What `python` would do with `sys.argv`; the exit code."""
    try:
        if sys.argv[0] == "-m":
            module, sys.argv = sys.argv[1], sys.argv[1:]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        elif sys.argv[0] == "-c":
            code, sys.argv = sys.argv[1], ["-c", *sys.argv[2:]]
            exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.path[0] = str(Path(sys.argv[0]).parent)
            runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - as the interpreter
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    from trainer.loading import uncollected

    with uncollected():
        for name in sys.argv[2:]:
            import_module(name)
    if (rendezvous := sys.modules.get("torch.distributed.elastic.rendezvous.dynamic_rendezvous")) is not None:
        # For events that nobody reads it seeks its callers' sources among all loaded modules: half a second for each start.
        assert hasattr(rendezvous, "get_method_name")
        rendezvous.get_method_name = lambda depth=2: ""
    serve(socket.socket(fileno=int(sys.argv[1])))
