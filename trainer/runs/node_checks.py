"""Checks of this node: shared memory and disks; and its name. Does not import torch."""

import os
import shutil
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from trainer.errors import on_one_line
from trainer.layout import POD_NODE
from trainer.limits import in_words
from trainer.runs.checks import Outcome

SHARED_MEMORY: Final = "shared memory"
DISK: Final = "disk"

USUAL_SHM_BYTES: Final = 64 << 20
"""Default size in a container, too small for communication between workers."""

STATES_BYTES: Final = 256 << 20
"""Room for checkpoints that are kept on the node while a bucket fails: a state of DenseNet-121 with Adam has 84 MiB, and the
newest two may lie there beside one that is being written."""

TEMPORARY_BYTES: Final = 64 << 20
"""Free space of the temporary directory below which a warning is due: kernels that are compiled are kept there."""

_SHM: Final = Path("/dev/shm")  # noqa: S108 - its size is checked


def node_name() -> str:
    """Name of the node that Kubernetes states, otherwise of this machine."""
    return on_one_line(os.environ.get(POD_NODE) or socket.gethostname())


def shared_memory() -> Outcome:
    """Check that /dev/shm is larger than a container's default."""
    try:
        stat = os.statvfs(_SHM)
    except FileNotFoundError:
        return Outcome("FAIL", "there is no /dev/shm", "an overlay must not change the volume `shm`")
    size = stat.f_frsize * stat.f_blocks
    found = f"{size >> 20} MiB of shared memory"
    if size <= USUAL_SHM_BYTES:
        fix = "an overlay must not change the volume `shm`; with docker: --shm-size"
        return Outcome("FAIL", f"{found}: too little for several workers", fix)
    return Outcome("OK", found)


def disk(cache: Path, added_bytes: int) -> Outcome:
    """Check that the cache has room for the data set that a run adds to it; without room for checkpoints it is a warning.

    Where the data set does not fit, the files that are there count as its own: only a cache that is certainly too small fails.
    """
    usage = shutil.disk_usage(_existing(cache))
    if not usage.total:
        return Outcome("skipped", f"the file system of `{cache}` does not report its size")
    needed = added_bytes if added_bytes <= usage.free else max(0, added_bytes - _size(cache))
    found = f"`{cache}` has {in_words(usage.free)} free; the run adds at most {in_words(needed)} of images"
    fix = "a larger volume for the cache, or another --cache-dir"
    if needed > usage.free:
        return Outcome("FAIL", found, fix)
    if needed + STATES_BYTES > usage.free:
        return Outcome("WARN", f"{found}, and {in_words(STATES_BYTES)} of checkpoints while a bucket fails", fix)
    temporary = Path(tempfile.gettempdir())
    if shutil.disk_usage(temporary).free < TEMPORARY_BYTES:
        return Outcome("WARN", f"{found}; `{temporary}` is nearly full", "free space there, or set TMPDIR")
    return Outcome("OK", found)


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next((each for each in (path, *path.parents) if each.is_dir()), Path("/"))


def _size(folder: Path) -> int:
    """Bytes of the files below a folder; 0 without one."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # removed meanwhile
                total += (Path(at) / name).lstat().st_size
    return total
