"""An interpreter that has its modules loaded: each process is a fork of one that imported them, and starts in milliseconds, not seconds.

`Warm.python` is a program that takes what `python` takes (`-u`; `-m MODULE`, `-c CODE` or a file; its arguments). The process has the
environment, the working directory and the output of its caller, and ends with its exit code or signal. Nothing has run in it before
but imports. It is a process beside the one that was started, which passes signals on and may be killed, but not stopped by SIGSTOP:
such tests, and those of how a process starts, take `sys.executable`.
"""

import array
import atexit
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).parents[1]

CALLER = """#!{python} -IS
import array, json, os, signal, socket, sys
line = socket.socket(socket.AF_UNIX)
line.connect({address!r})
call = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()], ensure_ascii=True).encode()
passed = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
signal.pthread_sigmask(signal.SIG_BLOCK, passed)
line.sendmsg([len(call).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1, 2]))])
line.sendall(call)
for number in passed:
    if signal.getsignal(number) is not signal.SIG_IGN:
        signal.signal(number, lambda number, _: line.sendall(bytes([number])))
signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
code = int(line.recv(8) or b"70")
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Warm:
    """A process that has imported these modules, in a folder of its own, until `close`."""

    def __init__(self, folder: Path, *modules: str) -> None:
        address = str(folder / "warm")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(address)
            listener.listen(64)
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(listener.fileno()), *modules],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},  # read when torch is loaded
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
    head, ancillary, *_ = line.recvmsg(8, socket.CMSG_SPACE(2 * array.array("i").itemsize))
    outputs = array.array("i", ancillary[0][2])
    call = b""
    while len(call) < int.from_bytes(head, "big"):
        call += line.recv(1 << 16)
    process = os.fork()
    if process == 0:
        line.close()
        become(*json.loads(call), outputs)
    for descriptor in outputs:
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


def become(argv: list[str], environment: dict[str, str], folder: str, outputs: "array.array[int]") -> NoReturn:
    """Make this process the one that was called."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in zip((nothing, *outputs), (0, 1, 2), strict=True):
        os.dup2(descriptor, target)
        os.close(descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # TMPDIR is the caller's
    run_and_leave(argv)


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
    serve(socket.socket(fileno=int(sys.argv[1])))
