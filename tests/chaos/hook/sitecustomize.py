"""On PYTHONPATH in all processes of a run: tells the test that a named moment has come, and waits for its word to go on.

The test kills whom it wants meanwhile, this process for one. The trainer knows nothing of it. CHAOS_SOCKET, where the test listens, is
read when a moment comes: the run's first process is a fork of one that has imported all (`tests/warm.py`), and its workers are forks of
that one, as the trainer's own fork server makes them. Workers that are started without that server import this file by themselves.
"""

import errno
import functools
import http.client
import importlib.abc
import importlib.machinery
import os
import socket
import sys
import threading
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

WRAPPED = {
    "tempfile": ["TemporaryDirectory.cleanup"],
    "torch.distributed.run": ["run"],
    "trainer.runtime.fork_server": [],
    "trainer.runs.checkpoints": ["prune"],
    "trainer.data.packs.decoding": ["decode"],
    "trainer.data.packs.building": ["build", "_tasks", "_write"],
    "trainer.training.claim": [],
    "trainer.runs.checkpoint_writer": [],
    "trainer.runs.fallback": ["Fallback.keep", "Fallback.clear", "Fallback.hand_over"],
    "trainer.runs.attempts": ["begin"],
    "trainer.storage.s3": [],
    "trainer.storage.files": ["write_flushed"],
    "trainer.storage.lease": ["Lease.take", "Lease.release"],
    "trainer.storage.multipart": ["_send", "_complete"],
    "trainer.training.loop": ["train_step", "take_checkpoint", "validate", "finish"],
    "trainer.training.state": ["begin", "ranks_of", "snapshot"],
}
"""Functions that are told of before and after each call, by module."""


class Upload(threading.local):
    """What this thread puts into the bucket."""

    kind = ""
    half_bytes = 0


UPLOAD = Upload()


def tell(moment):
    """Go on once the test has heard; at once where it no longer listens."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as line:
        line.connect(os.environ["CHAOS_SOCKET"])
        line.sendall(f"{moment} {os.environ.get('RANK', '-')}\n".encode())
        line.recv(1)


def around(function, name):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        tell(f"{name}:before")
        result = function(*args, **kwargs)
        tell(f"{name}:after")
        return result

    return wrapper


def wrap(module):
    for path in WRAPPED[module.__name__]:
        *owners, name = path.split(".")
        owner = functools.reduce(getattr, owners, module)
        setattr(owner, name, around(getattr(owner, name), f"{module.__name__.rpartition('.')[2]}.{path}"))
    SPECIAL.get(module.__name__, lambda _: None)(module)


def shorten(module, name, value):
    assert hasattr(module, name), name  # a setting under a new name would silently keep its value
    setattr(module, name, value)


def shorten_claim(module):
    shorten(module, "WRITER_RETRY_S", 2.0)


def shorten_writer(module):
    assert "retry_s" in module.CheckpointWriter.__init__.__kwdefaults__
    module.CheckpointWriter.__init__.__kwdefaults__["retry_s"] = 0.5
    shorten(module, "DISK_RETRY_S", 3.0)


def shorten_lease(module):
    shorten(module, "SETTLE_S", 0.1)


def hasten_multipart(module):
    shorten(module, "STALE", timedelta(0))


def fill_disk(module):
    """Write half of a file where there is no room for the whole."""
    write = module.write_flushed

    def write_in_room(path, chunks, *, folder=None):
        if not is_full(path, folder):
            write(path, chunks, folder=folder)
            return
        content = b"".join(chunks)
        write(path, [content[: len(content) // 2]], folder=folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    module.write_flushed = write_in_room


def is_full(path, folder):
    """Whether CHAOS_FULL is a file: it names the directory below which the disk has no room any more."""
    try:
        below = Path(os.environ["CHAOS_FULL"]).read_text()
    except (KeyError, OSError):
        return False
    where = Path(path).parent if folder is None else Path(f"/proc/self/fd/{folder}")
    return where.resolve().is_relative_to(Path(below).resolve())


def wrap_bucket(module):
    storage = module.S3Storage
    put, delete = storage._put_whole, storage.delete

    def told_put(self, key, content, arguments):
        kind = kind_of(key)
        tell(f"put {kind}:before")
        UPLOAD.kind, UPLOAD.half_bytes = kind, len(content) // 2
        try:
            put(self, key, content, arguments)
        finally:
            UPLOAD.kind = ""
        tell(f"put {kind}:after")
        if kind == "manifest":
            tell(f"committed {int(key.split('/')[-2].removeprefix('step-'))}")

    def told_delete(self, key):
        tell(f"delete {kind_of(key)}:before")
        delete(self, key)
        tell(f"delete {kind_of(key)}:after")

    storage._put_whole, storage.delete = told_put, told_delete
    http.client.HTTPConnection.send = functools.partialmethod(told_send, http.client.HTTPConnection.send)


def told_send(connection, send, data):
    """Send; a body that is being put with a word between its halves."""
    if not UPLOAD.kind or b"HTTP/1.1\r\n" in data[:2000]:
        send(connection, data)
    elif len(data) <= UPLOAD.half_bytes:
        UPLOAD.half_bytes -= len(data)
        send(connection, data)
    else:
        kind, UPLOAD.kind = UPLOAD.kind, ""
        send(connection, data[: UPLOAD.half_bytes])
        tell(f"put {kind}:middle")
        send(connection, data[UPLOAD.half_bytes :])


def tell_of_workers(module):
    """The fork server, which runs each worker by this function."""
    run = module._run

    def told_run(argv):
        begin_worker()
        return run(argv)

    module._run = told_run


def begin_worker():
    """In a worker, which has its variables by now: parts are so small, where it sends them, that a tiny state has several."""
    if "CHAOS_PARTS" in os.environ:
        shorten(sys.modules["trainer.storage.multipart"], "PART_BYTES", 300_000)
        shorten(sys.modules["trainer.storage.s3"], "WHOLE_BYTES", 100_000)
    tell("worker starts")


SPECIAL = {
    "trainer.runtime.fork_server": tell_of_workers,
    "trainer.training.claim": shorten_claim,
    "trainer.runs.checkpoint_writer": shorten_writer,
    "trainer.storage.s3": wrap_bucket,
    "trainer.storage.files": fill_disk,
    "trainer.storage.lease": shorten_lease,
    "trainer.storage.multipart": hasten_multipart,
}
"""What takes minutes or days takes seconds."""


def kind_of(key):
    """`state`, `manifest`, `rank`, `.excludes`: the key without folder, number and ending."""
    return key.rpartition("/")[2].partition(".")[0] if key[:1] != "." else key.partition("-")[0]


class Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module):
        super().exec_module(module)
        wrap(module)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path, target=None):
        if fullname not in WRAPPED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        spec.loader = Loader(fullname, spec.origin)
        return spec


if "CHAOS_SOCKET" in os.environ:
    sys.meta_path.insert(0, Finder())
    for name in WRAPPED.keys() & sys.modules.keys():
        wrap(sys.modules[name])
