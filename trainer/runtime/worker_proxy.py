"""`python -IS worker_proxy.py FOLDER ARGUMENTS`: what torchrun starts for a worker that the fork server runs.

The server in FOLDER forks a process that has this one's environment, directory and standard streams, and runs `python ARGUMENTS`
there (`fork_server`). This process passes signals on to it, and ends with its exit code or signal; if it is killed, the server
kills the worker. Without a server it becomes `python ARGUMENTS` itself, unless torchrun is gone, too.

Runs without site-packages and imports little, to start in some 20 ms: hence no other module of this package.
"""

import json
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from typing import NoReturn

SOCKET = "workers"
"""Name of the server's socket in its folder."""

HEAD_BYTES = 8
"""The length of the request, a JSON array of arguments and environment, which follows."""

FORKED = b"+"
"""The server's first answer. Its second is the exit code in decimal digits, negative for a signal."""

START = b"+"
"""What the worker reads from the proxy's pipe before it begins: from then on, signals are passed on to it."""

HERE = os.O_PATH | os.O_DIRECTORY
"""How the working directory is opened, which need not be readable."""

PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main(folder: str, argv: list[str]) -> NoReturn:
    """Hand over to the server, or run the program in this process."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # Ctrl-C ends this process without a traceback
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = os.getppid()
    may_start, start = os.pipe()  # both ends stay open: a worker that was killed does not make the write fail
    line = _handed_over(folder, argv, may_start)
    if line is None:
        if os.getppid() != parent:  # torchrun was killed, and the server ended with it
            os._exit(1)
        os.execv(sys.executable, [sys.executable, *argv])  # noqa: S606 - this interpreter

    def pass_on(number: int, _: object) -> None:
        with suppress(OSError):  # the worker has just ended
            line.sendall(bytes([number]))

    for number in PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, pass_on)
    os.write(start, START)  # before it, a signal would end this process, and the worker by SIGKILL
    _end_as(_exit_code(line))


def _handed_over(folder: str, argv: list[str], may_start: int) -> socket.socket | None:
    """The connection to the server once it has forked the worker; None if it does not."""
    line, here = socket.socket(socket.AF_UNIX), os.open(".", HERE)
    request = json.dumps([argv, dict(os.environ)]).encode()
    try:
        os.chdir(folder)  # the path of a socket is limited to 107 bytes
        line.connect(SOCKET)
        socket.send_fds(line, [len(request).to_bytes(HEAD_BYTES, "big")], [0, 1, 2, here, may_start])
        line.sendall(request)
        is_forked = line.recv(1) == FORKED
    except OSError:
        is_forked = False
    if not is_forked:
        line.close()
        os.fchdir(here)
    os.close(here)
    return line if is_forked else None


def _exit_code(line: socket.socket) -> int:
    """The worker's exit code; that of SIGKILL when the server was killed, which ends its workers."""
    answer = b""
    with suppress(OSError):
        while part := line.recv(16):
            answer += part
    return int(answer or -signal.SIGKILL)


def _end_as(code: int) -> NoReturn:
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the worker has dumped its own
        with suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
