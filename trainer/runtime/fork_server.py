"""A process that has imported what workers need, and forks each worker, so that workers import nothing when they start.

The entrypoint forks it from itself after it has loaded torch, and it loads the rest while the workers' rendezvous goes on. torchrun
starts a `worker_proxy` for each worker, which asks this server for the worker itself. What holds for a process that was started as
`python -m MODULE` holds for the fork: environment, directory, standard streams, session, signals, exit code (docs/decisions/0040).

No thread but the main one may run in the server, and no device may be initialised in it: neither survives a fork.
"""

import fcntl
import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn, TextIO

from trainer.loading import uncollected
from trainer.runtime import parent_watch, worker_proxy

REQUEST_S: Final = 10.0
"""Longest time in which a proxy sends its request, all at once and from the same machine."""

END_S: Final = 5.0
"""Longest wait for the server's end, which waits for its last workers; one that the kernel cannot kill must not hold the job."""

_DESCRIPTORS: Final = 5
"""A proxy passes its standard streams, its directory, and the pipe from which the worker reads START."""


@contextmanager
def fork_server(folder: Path, modules: Sequence[str]) -> Iterator[None]:
    """For the block, a server in `folder` that has imported `modules`, or has none of them if one does not load.

    Call it while this process has no other threads. At the end of the block, the server kills its workers.
    """
    parent, block = os.pipe()
    server = _started(folder, modules, parent, block)
    os.close(parent)
    try:
        yield
    finally:
        os.close(block)
        if server is not None:
            _await_end(server)


def command(folder: Path, argv: Sequence[str]) -> list[str]:
    """The program that torchrun starts instead of `python ARGV` for each worker."""
    return [sys.executable, "-IS", worker_proxy.__file__, str(folder), *argv]


def _started(folder: Path, modules: Sequence[str], parent: int, block: int) -> int | None:
    """The server's process ID; None where no process or no socket can be made: then each proxy runs its program itself."""
    try:
        with _listening(folder) as listener:
            sys.stdout.flush()
            sys.stderr.flush()
            server = os.fork()
            if server == 0:
                os.close(block)
                _serve(listener, parent, modules)
            return server
    except OSError:
        return None


@contextmanager
def _listening(folder: Path) -> Iterator[socket.socket]:
    here = os.open(".", worker_proxy.HERE)
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            os.chdir(folder)  # the path of a socket is limited to 107 bytes
            listener.bind(worker_proxy.SOCKET)
        finally:
            os.fchdir(here)
            os.close(here)
        listener.listen(64)
        yield listener


def _await_end(server: int) -> None:
    until_s = time.monotonic() + END_S
    with suppress(ChildProcessError):
        while os.waitpid(server, os.WNOHANG)[0] == 0:
            if time.monotonic() > until_s:
                os.kill(server, signal.SIGKILL)
                return
            time.sleep(0.01)


def _serve(listener: socket.socket, parent: int, modules: Sequence[str]) -> NoReturn:
    """Import, then fork a worker for each request until the parent's block ends."""
    try:
        os.setsid()  # Ctrl-C is the parent's to handle
        _name_process("fork-server")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        with uncollected():
            for module in modules:
                importlib.import_module(module)
        gc.freeze()  # a collection in a worker would copy the pages of all these modules
        _Server(listener, parent, interrupt).run()
    finally:
        os._exit(0)  # connections are closed, so proxies run their programs themselves


class _Server:
    """Forks workers, and relays signals to them and exit codes from them."""

    def __init__(self, listener: socket.socket, parent: int, interrupt: Any) -> None:  # noqa: ANN401 - a handler
        self._listener, self._parent, self._interrupt = listener, parent, interrupt
        self._lines: dict[int, socket.socket] = {}
        """Connections to the proxies of running workers, by the worker's process ID."""
        self._gone: set[int] = set()
        """Workers whose proxies have been killed."""
        self._child_ended, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        os.set_blocking(self._child_ended, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    def run(self) -> None:
        """Until the parent has ended, or its block; then without workers."""
        while True:
            lines = [line for worker, line in self._lines.items() if worker not in self._gone]
            watched: list[socket.socket | int] = [self._listener, self._parent, self._child_ended, *lines]
            ready = select.select(watched, [], [])[0]
            if self._child_ended in ready:
                with suppress(BlockingIOError):
                    os.read(self._child_ended, 1024)
            self._reap()
            for worker, line in self._lines.items():
                if line in ready and worker not in self._gone:
                    self._pass_on(worker, line)
            if self._parent in ready:
                break
            if self._listener in ready:
                self._answer()
        for worker in self._lines:
            os.kill(worker, signal.SIGKILL)
        with suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def _reap(self) -> None:
        """Send the exit codes of workers that have ended."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                line = self._lines.pop(ended[0], None)
                if line is None:  # not a worker: a process that an imported module has left
                    continue
                self._gone.discard(ended[0])
                with suppress(OSError), line:  # the proxy may have been killed
                    line.sendall(str(os.waitstatus_to_exitcode(ended[1])).encode())

    def _pass_on(self, worker: int, line: socket.socket) -> None:
        """Send the worker its proxy's signals, and SIGKILL when the proxy was killed."""
        try:
            numbers = line.recv(64)
        except OSError:
            numbers = b""
        if not numbers:
            self._gone.add(worker)
        for number in numbers or [signal.SIGKILL]:
            os.kill(worker, number)  # not waited for yet, so the number is still this worker's

    def _answer(self) -> None:
        """Fork the worker of one request; without success the connection is closed."""
        line, _ = self._listener.accept()
        descriptors: list[int] = []
        try:
            line.settimeout(REQUEST_S)
            (argv, environment), descriptors = _received(line)
            line.settimeout(None)
            server = os.getpid()
            worker = os.fork()
        except (OSError, ValueError):  # the proxy has gone, or there is no memory for a process
            _close(descriptors)
            line.close()
            return
        if worker == 0:
            self._leave_to_worker(line)
            _become(argv, environment, descriptors, server)
        _close(descriptors)
        self._lines[worker] = line
        with suppress(OSError):
            line.sendall(worker_proxy.FORKED)

    def _leave_to_worker(self, line: socket.socket) -> None:
        """Undo in the fork what is the server's alone."""
        wakeup = signal.set_wakeup_fd(-1)
        _close((self._parent, self._child_ended, wakeup))
        for each in (self._listener, line, *self._lines.values()):
            each.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, self._interrupt)


def _received(line: socket.socket) -> tuple[Any, list[int]]:
    """A proxy's request and the descriptors that came with it. Raises: OSError, ValueError."""
    head, descriptors, _, _ = socket.recv_fds(line, worker_proxy.HEAD_BYTES, _DESCRIPTORS)
    try:
        wanted, content = int.from_bytes(head, "big"), b""
        while len(content) < wanted and (part := line.recv(1 << 16)):
            content += part
        return json.loads(content), descriptors
    except (OSError, ValueError):
        _close(descriptors)
        raise


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _become(argv: Sequence[str], environment: Mapping[str, str], descriptors: Sequence[int], server: int) -> NoReturn:
    """Make this process the one that `python ARGV` would be: a session, streams, directory, environment; then run the module."""
    code = 1
    try:
        os.setsid()
        if not _may_start(descriptors[4], server):
            os._exit(code)
        _take(descriptors)
        os.environ.clear()
        os.environ.update(environment)
        os.environ[parent_watch.PARENT] = str(server)
        _name_process(f"worker-{environment.get('RANK', '')}")
        code = _run(list(argv))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)  # functions registered to run at exit are the entrypoint's


def _may_start(pipe: int, server: int) -> bool:
    """Wait for START; False when the proxy or the server, this worker's parent, has ended."""
    return os.read(pipe, 1) == worker_proxy.START and os.getppid() == server


def _take(descriptors: Sequence[int]) -> None:
    """Take the proxy's directory and its standard streams, unbuffered as those of torchrun's workers (`python -u`)."""
    os.fchdir(descriptors[3])
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 3) for descriptor in descriptors[:3]]  # none is a target
    for target, descriptor in enumerate(high):
        os.dup2(descriptor, target)
    _close({*high, *descriptors} - {0, 1, 2})
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - for as long as the process lives
    sys.stdout, sys.stderr = _unbuffered(1, sys.stdout), _unbuffered(2, sys.stderr)


def _name_process(name: str) -> None:
    """As `ps -o comm` shows it: the command line is the entrypoint's in all of its forks."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(name, encoding="ascii")


def _unbuffered(descriptor: int, before: TextIO) -> TextIO:
    encoding, errors = before.encoding, before.errors
    return io.TextIOWrapper(
        io.FileIO(descriptor, "wb", closefd=False), encoding=encoding, errors=errors, write_through=True
    )


def _run(argv: list[str]) -> int:
    """Run `python -m MODULE ...` in this process; its exit code."""
    module = argv.index("-m") + 1
    sys.argv = argv[module:]
    try:
        runpy.run_module(argv[module], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - as the interpreter
        traceback.print_exc()
        return 1
    return 0
